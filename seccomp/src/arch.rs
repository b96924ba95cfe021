//! The architectures a filter may be for. Only those of the byte order of the
//! machines teu runs on: a filter sees arguments in memory order.

use std::fmt;

use crate::table::{COLUMNS, NONE, SYSCALLS};

/// An architecture, as a system call sees it: one machine may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    X86,
    X86_64,
    /// x86_64 with pointers of 32 bits; told from it by a bit of the number.
    X32,
    Arm,
    Aarch64,
    Mipsel,
    Mipsel64,
    Mipsel64N32,
    Ppc64le,
    Riscv64,
    Loongarch64,
}

/// Calls that some architectures made through one number, socketcall(2) and
/// ipc(2), with what that takes as its first argument (linux/net.h and
/// linux/ipc.h).
const SOCKET_CALLS: [(&str, u32); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];
const IPC_CALLS: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// A call behind another's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Multiplexed {
    /// socketcall's number, or ipc's.
    pub(crate) number: u32,
    /// Its first argument.
    pub(crate) call: u32,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 11] = COLUMNS;

    /// What the kernel calls it (`AUDIT_ARCH_*` of linux/audit.h).
    pub fn token(self) -> u32 {
        match self {
            Arch::X86 => 0x4000_0003,
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::Arm => 0x4000_0028,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Mipsel => 0x4000_0008,
            Arch::Mipsel64 => 0xc000_0008,
            Arch::Mipsel64N32 => 0xe000_0008,
            Arch::Ppc64le => 0xc000_0015,
            Arch::Riscv64 => 0xc000_00f3,
            Arch::Loongarch64 => 0xc000_0102,
        }
    }

    /// The number of the call `name`, if it has one here.
    pub fn number(self, name: &str) -> Option<u32> {
        find(name)?.number(self)
    }

    /// Whether arguments have 64 bits.
    pub(crate) fn is_64_bit(self) -> bool {
        !matches!(
            self,
            Arch::X86 | Arch::X32 | Arch::Arm | Arch::Mipsel | Arch::Mipsel64N32
        )
    }

    /// The number that `name` is behind on this architecture, if it can be.
    /// Some of these calls also have a number of their own.
    pub(crate) fn multiplexed(self, name: &str) -> Option<Multiplexed> {
        let base = match self {
            Arch::X86 | Arch::Ppc64le => 0,
            Arch::Mipsel => 4000,
            _ => return None,
        };
        let find = |calls: &[(&str, u32)]| {
            let found = calls.iter().find(|(call, _)| *call == name);
            found.map(|(_, call)| *call)
        };
        let behind = |number| move |call| Multiplexed { number, call };
        find(&SOCKET_CALLS)
            .map(behind(base + 102))
            .or_else(|| find(&IPC_CALLS).map(behind(base + 117)))
    }
}

/// The numbers of one system call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row(&'static [u16; COLUMNS.len()]);

/// The numbers of the call `name`; `None` if no architecture has it.
pub(crate) fn find(name: &str) -> Option<Row> {
    let found = SYSCALLS
        .binary_search_by(|(known, _)| known.cmp(&name))
        .ok()?;
    Some(Row(&SYSCALLS[found].1))
}

impl Row {
    /// The number on this architecture.
    pub(crate) fn number(self, arch: Arch) -> Option<u32> {
        /// From here on the table's numbers are arm's own.
        const ARM_PRIVATE: u16 = 0xf000;
        match self.0[arch as usize] {
            NONE => None,
            number @ ARM_PRIVATE.. => Some(0x000f_0000 | u32::from(number & !ARM_PRIVATE)),
            number if arch == Arch::X32 => Some(X32_BIT | u32::from(number)),
            number => Some(number.into()),
        }
    }
}

/// What tells a call of x32 from one of x86_64 (asm/unistd.h,
/// `__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 1 << 30;

/// The name libseccomp's users know it by.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86 => "x86",
            Arch::X86_64 => "x86_64",
            Arch::X32 => "x32",
            Arch::Arm => "arm",
            Arch::Aarch64 => "aarch64",
            Arch::Mipsel => "mipsel",
            Arch::Mipsel64 => "mipsel64",
            Arch::Mipsel64N32 => "mipsel64n32",
            Arch::Ppc64le => "ppc64le",
            Arch::Riscv64 => "riscv64",
            Arch::Loongarch64 => "loongarch64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_the_order_of_the_type() {
        for (index, arch) in Arch::ALL.into_iter().enumerate() {
            assert_eq!(arch as usize, index, "{arch}");
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(SYSCALLS.is_sorted_by(|one, other| one.0 < other.0));
    }

    #[test]
    fn numbers_of_every_kind() {
        for (name, arch, number) in [
            ("read", Arch::X86_64, Some(0)),
            ("read", Arch::X32, Some(0x4000_0000)),
            ("ioctl", Arch::X32, Some(0x4000_0202)),
            ("open", Arch::Aarch64, None),
            ("set_tls", Arch::Arm, Some(0xf_0005)),
            ("read", Arch::Mipsel64N32, Some(6000)),
            ("send", Arch::X86_64, None),
        ] {
            let found = find(name).and_then(|row| row.number(arch));
            assert_eq!(found, number, "{name} {arch}");
        }
        assert!(find("nosuch").is_none());
        assert!(find("").is_none());
    }
}
