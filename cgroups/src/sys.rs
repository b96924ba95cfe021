//! Wrappers of the system calls that nix does not have: bpf(2), pidfd_open(2), and kill(2)
//! with any signal number. All unsafe code of this crate is here.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::devices::bpf::Instruction;

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;
/// The program's licence. It calls no helper that is reserved for GPL programs.
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

/// `union bpf_attr` as bytes, which are set by offset. It is larger than any kernel needs for
/// the commands used here: on a query, kernels 6.17 to 7.1 write a field at offset 56 whatever
/// the given size.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Attributes {
        Attributes([0; 128])
    }

    fn word(mut self, offset: usize, value: u32) -> Attributes {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn descriptor(self, offset: usize, fd: BorrowedFd<'_>) -> Attributes {
        self.word(offset, fd.as_raw_fd().cast_unsigned())
    }

    fn address<T: ?Sized>(mut self, offset: usize, pointer: *const T) -> Attributes {
        let value = pointer.cast::<u8>() as u64;
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn read_word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(bytes)
    }
}

/// Calls bpf(2).
///
/// # Safety
/// Every address in `attributes` must be valid for the accesses of `command` until the
/// function returns.
unsafe fn bpf(command: libc::c_int, attributes: &mut Attributes) -> nix::Result<libc::c_long> {
    // SAFETY: `attributes` is 128 writable bytes, the size passed, and at least
    // what any kernel writes for these commands; the caller vouches for the
    // addresses inside.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    Errno::result(result)
}

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel returned `fd` just now as a new descriptor, so nothing
    // else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a program of type CGROUP_DEVICE. The verifier's messages are written to `log`. The
/// kernel makes the descriptor close-on-exec.
pub(crate) fn load_device_program(
    program: &[Instruction],
    log: Option<&mut Vec<u8>>,
) -> nix::Result<OwnedFd> {
    let count = u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    let mut attributes = Attributes::new()
        .word(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .word(4, count)
        .address(8, program.as_ptr())
        .address(16, LICENSE.as_ptr());
    if let Some(log) = log {
        let size = u32::try_from(log.len()).map_err(|_| Errno::E2BIG)?;
        attributes = attributes
            .word(24, 1)
            .word(28, size)
            .address(32, log.as_mut_ptr());
    }
    // SAFETY: the address at 8 is that of `count` instructions of eight bytes,
    // at 16 a NUL-terminated string, at 32 `size` writable bytes or nothing;
    // all outlive the call and the kernel keeps none.
    owned(unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?)
}

/// Attaches `program` to a cgroup, in addition to other programs or instead of `replaced`.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut attributes = Attributes::new()
        .descriptor(0, cgroup)
        .descriptor(4, program)
        .word(8, BPF_CGROUP_DEVICE)
        .word(12, BPF_F_ALLOW_MULTI);
    if let Some(replaced) = replaced {
        attributes = attributes
            .word(12, BPF_F_ALLOW_MULTI | BPF_F_REPLACE)
            .descriptor(16, replaced);
    }
    // SAFETY: this command's attributes hold descriptors and flags, no address.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

pub(crate) fn detach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> nix::Result<()> {
    let mut attributes = Attributes::new()
        .descriptor(0, cgroup)
        .descriptor(4, program)
        .word(8, BPF_CGROUP_DEVICE);
    // SAFETY: this command's attributes hold descriptors, no address.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(drop)
}

/// Returns the ids of the device programs that are attached to this cgroup itself, in the
/// order in which they were attached.
pub(crate) fn attached_device_programs(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    // The kernel allows 64 programs (BPF_CGROUP_MAX_PROGS).
    let mut ids = [0_u32; 64];
    let mut attributes = Attributes::new()
        .descriptor(0, cgroup)
        .word(4, BPF_CGROUP_DEVICE)
        .address(16, ids.as_mut_ptr())
        .word(24, 64);
    // SAFETY: the address at 16 is that of `ids`, 64 writable words as said at
    // 24, alive until after the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    let count = usize::try_from(attributes.read_word(24)).map_err(|_| Errno::E2BIG)?;
    Ok(ids.iter().take(count).copied().collect())
}

pub(crate) fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    let mut attributes = Attributes::new().word(0, id);
    // SAFETY: this command's attributes hold a number, no address.
    owned(unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes) }?)
}

/// Returns a descriptor that becomes readable when the process exits (pidfd_open(2), since
/// kernel 5.3). The kernel makes it close-on-exec.
pub(crate) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    owned(Errno::result(unsafe {
        libc::syscall(libc::SYS_pidfd_open, pid, 0)
    })?)
}

/// Calls kill(2) with any signal number, including real-time signals.
pub(crate) fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}
