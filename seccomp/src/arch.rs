//! Architectures: their `AUDIT_ARCH` tokens, their word size, and the number
//! that each of them gives to a system call.
//!
//! [`find`] looks a name up in the table of `table.rs`; [`Arch::number`] and
//! [`Row::number`] give the number on one architecture. [`Arch::multiplexed`]
//! knows the calls that socketcall(2) and ipc(2) carry.
//!
//! Big-endian architectures are left out: a filter reads arguments in memory
//! order, and the instructions of `program.rs` assume that the lower half of a
//! word comes first.

use std::cmp::Ordering;
use std::fmt;

use crate::table::{COLUMNS, NONE, SYSCALLS};

/// A system call ABI. One machine may run several, such as x86_64, x86 and x32.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 32-bit x86 (i386).
    X86,
    /// 64-bit x86.
    X86_64,
    /// x86_64 with 32-bit pointers. It shares the token of x86_64; bit 30 of
    /// the call's number tells the two apart.
    X32,
    /// 32-bit ARM (EABI).
    Arm,
    /// 64-bit ARM.
    Aarch64,
    /// Little-endian MIPS, ABI o32.
    Mipsel,
    /// Little-endian MIPS, ABI n64.
    Mipsel64,
    /// Little-endian MIPS, ABI n32.
    Mipsel64N32,
    /// Little-endian 64-bit PowerPC.
    Ppc64le,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit LoongArch.
    Loongarch64,
}

/// The calls that socketcall(2) carries, each with the value of the first
/// argument that selects it (linux/net.h).
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
/// The calls that ipc(2) carries, each with the value of the first argument
/// that selects it (linux/ipc.h).
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

/// A call that is made through socketcall(2) or ipc(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Multiplexed {
    /// The number of socketcall or ipc.
    pub(crate) number: u32,
    /// The value of the first argument that selects the call.
    pub(crate) call: u32,
}

impl Arch {
    /// Every architecture, in the order of the table's columns.
    pub const ALL: [Arch; 11] = COLUMNS;

    /// Returns the token that the kernel puts into `seccomp_data.arch`
    /// (`AUDIT_ARCH_*` of linux/audit.h).
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

    /// Returns the number of the call `name`, or `None` if this architecture
    /// does not have the call.
    pub fn number(self, name: &str) -> Option<u32> {
        find(name)?.number(self)
    }

    /// Returns whether the architecture's words, and so its arguments, have 64
    /// bits.
    pub(crate) fn is_64_bit(self) -> bool {
        !matches!(
            self,
            Arch::X86 | Arch::X32 | Arch::Arm | Arch::Mipsel | Arch::Mipsel64N32
        )
    }

    /// Returns how socketcall(2) or ipc(2) carries the call `name` on this
    /// architecture. Some of these calls also have a number of their own.
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
        let through = |number| move |call| Multiplexed { number, call };
        find(&SOCKET_CALLS)
            .map(through(base + 102))
            .or_else(|| find(&IPC_CALLS).map(through(base + 117)))
    }
}

/// One row of the table: the numbers of one system call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row(&'static [u16; COLUMNS.len()]);

// At compile time, the table is split into numbers, names and offsets, because
// a pointer to each name would be relocated at every start of a
// position-independent program.

/// The numbers of each system call, in the order of the names.
static NUMBERS: [[u16; COLUMNS.len()]; SYSCALLS.len()] = {
    let mut numbers = [[NONE; COLUMNS.len()]; SYSCALLS.len()];
    let mut at = 0;
    while at < SYSCALLS.len() {
        numbers[at] = SYSCALLS[at].1;
        at += 1;
    }
    numbers
};

/// The offset of each name in [`NAMES`], and after the last the end of them.
static OFFSETS: [usize; SYSCALLS.len() + 1] = {
    let mut offsets = [0; SYSCALLS.len() + 1];
    let mut at = 0;
    while at < SYSCALLS.len() {
        offsets[at + 1] = offsets[at] + SYSCALLS[at].0.len();
        at += 1;
    }
    offsets
};

/// All names, joined without a separator.
static NAMES: [u8; OFFSETS[SYSCALLS.len()]] = {
    let mut names = [0; OFFSETS[SYSCALLS.len()]];
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
    let name = NAMES.get(OFFSETS[at]..OFFSETS[at + 1]);
    // The bytes are UTF-8: they were copied from a `&str`.
    name.and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or_default()
}

/// Returns all names, sorted.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    (0..SYSCALLS.len()).map(name)
}

/// Returns the numbers of the call `searched`, or `None` if no architecture has
/// it.
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
    /// Returns the call's number on `arch`.
    pub(crate) fn number(self, arch: Arch) -> Option<u32> {
        /// The table keeps arm's private calls from this number on; in the
        /// kernel they begin at 0x0f0000.
        const ARM_PRIVATE: u16 = 0xf000;
        match self.0[arch as usize] {
            NONE => None,
            number @ ARM_PRIVATE.. => Some(0x000f_0000 | u32::from(number & !ARM_PRIVATE)),
            number if arch == Arch::X32 => Some(X32_BIT | u32::from(number)),
            number => Some(number.into()),
        }
    }
}

/// The bit that is set in the numbers of x32 and clear in those of x86_64
/// (`__X32_SYSCALL_BIT` of asm/unistd.h).
pub(crate) const X32_BIT: u32 = 1 << 30;

/// Writes the name that libseccomp uses for the architecture.
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
