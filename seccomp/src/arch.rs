//! The architectures a filter may be for. Only those of the byte order of the
//! machines teu runs on: a filter sees arguments in memory order.

use std::cmp::Ordering;
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

// The table taken apart: with a pointer to each name in it, every start of a
// program that can be loaded anywhere would have to write all of them.

/// The numbers of each system call, in the order of their names.
static NUMBERS: [[u16; COLUMNS.len()]; SYSCALLS.len()] = {
    let mut numbers = [[NONE; COLUMNS.len()]; SYSCALLS.len()];
    let mut at = 0;
    while at < SYSCALLS.len() {
        numbers[at] = SYSCALLS[at].1;
        at += 1;
    }
    numbers
};

/// Where each name begins in [`NAMES`], and behind the last its end.
static BEGINNINGS: [usize; SYSCALLS.len() + 1] = {
    let mut beginnings = [0; SYSCALLS.len() + 1];
    let mut at = 0;
    while at < SYSCALLS.len() {
        beginnings[at + 1] = beginnings[at] + SYSCALLS[at].0.len();
        at += 1;
    }
    beginnings
};

/// All names, one behind the other.
static NAMES: [u8; BEGINNINGS[SYSCALLS.len()]] = {
    let mut names = [0; BEGINNINGS[SYSCALLS.len()]];
    let (mut at, mut end) = (0, 0);
    while at < SYSCALLS.len() {
        let name = SYSCALLS[at].0.as_bytes();
        let mut letter = 0;
        while letter < name.len() {
            names[end] = name[letter];
            letter += 1;
            end += 1;
        }
        at += 1;
    }
    names
};

fn name(at: usize) -> &'static str {
    let name = NAMES.get(BEGINNINGS[at]..BEGINNINGS[at + 1]);
    // They were words when they were put together.
    name.and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or_default()
}

/// All names, in their order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    (0..SYSCALLS.len()).map(name)
}

/// The numbers of the call `name`; `None` if no architecture has it.
pub(crate) fn find(searched: &str) -> Option<Row> {
    let (mut from, mut to) = (0, SYSCALLS.len());
    while from < to {
        let middle = from.midpoint(to);
        match name(middle).cmp(searched) {
            Ordering::Equal => return Some(Row(&NUMBERS[middle])),
            Ordering::Less => from = middle + 1,
            Ordering::Greater => to = middle,
        }
    }
    None
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
        assert!(names().eq(SYSCALLS.iter().map(|(name, _)| *name)));
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
