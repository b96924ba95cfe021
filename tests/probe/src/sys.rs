//! System calls that neither std nor nix wraps; the only unsafe code of the probe.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::ForkResult;

/// The result of sched_getattr(2): `struct sched_attr` in its first version.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// Makes any system call by number, with up to six integer arguments. For tests of seccomp
/// filters: only calls without pointers, or with invalid ones, belong here.
pub(crate) fn syscall(number: libc::c_long, args: [libc::c_long; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the arguments are integers from the command line. A call that
    // takes them for pointers may damage this process, which exists to try
    // that; nothing else shares its memory.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// Makes a system call without arguments through the entry point of 32-bit programs on x86,
/// `int 0x80`. The number is that of i386.
#[cfg(target_arch = "x86_64")]
pub(crate) fn syscall_32(number: i32) -> Result<i32, Errno> {
    let result: i32;
    // SAFETY: the call has no arguments that could be taken for pointers (they
    // are all zero); it changes eax only, and rbx, which is put back.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "xor ebx, ebx",
            "int 0x80",
            "pop rbx",
            inlateout("eax") number => result,
            in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
        );
    }
    if result < 0 {
        Err(Errno::from_raw(-result))
    } else {
        Ok(result)
    }
}

/// Other architectures have no such entry point.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn syscall_32(_number: i32) -> Result<i32, Errno> {
    Err(Errno::ENOSYS)
}

/// The calling thread's scheduling attributes (sched_getattr(2)).
pub(crate) fn scheduler_attributes() -> Result<SchedulerAttributes, Errno> {
    let mut attributes = SchedulerAttributes::default();
    let size = size_of::<SchedulerAttributes>();
    // SAFETY: `attributes` is writable for `size` bytes, which is the size the
    // kernel is told; it writes no more than that.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    Errno::result(result).map(|_| attributes)
}

/// The calling thread's I/O priority as ioprio_get(2) packs it: the class from bit 13 on, the level
/// below.
pub(crate) fn io_priority() -> Result<i64, Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    syscall(libc::SYS_ioprio_get, [IOPRIO_WHO_PROCESS, 0, 0, 0, 0, 0])
}

/// The execution domain: personality(2) with the value that changes nothing.
pub(crate) fn personality() -> Result<i64, Errno> {
    syscall(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0])
}

/// The mode, with its flags, and the nodes of the memory policy (get_mempolicy(2)).
pub(crate) fn memory_policy() -> Result<(i32, Vec<usize>), Errno> {
    // The kernel refuses a mask that is shorter than its number of possible nodes, which is 1024 at
    // most.
    const WORDS: usize = 1024 / 64;
    let mut mode: libc::c_int = 0;
    let mut mask = [0_u64; WORDS];
    // SAFETY: `mode` is one writable int and `mask` holds the 1024 bits that
    // the fourth argument names; the kernel writes within both. The address is
    // unused without MPOL_F_ADDR.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            mask.as_mut_ptr(),
            WORDS * 64,
            0,
            0,
        )
    };
    Errno::result(result)?;
    let is_set = |node: &usize| mask[node / 64] >> (node % 64) & 1 == 1;
    Ok((mode, (0..WORDS * 64).filter(is_set).collect()))
}

/// The session keyring's `type;uid;gid;permissions;description` (keyctl(2), KEYCTL_DESCRIBE).
pub(crate) fn session_keyring() -> Result<String, Errno> {
    ask_session_keyring(6)
}

/// The security label of the session keyring (keyctl(2), KEYCTL_GET_SECURITY).
pub(crate) fn session_keyring_label() -> Result<String, Errno> {
    ask_session_keyring(17)
}

/// An operation of keyctl(2) that returns a text about a key.
fn ask_session_keyring(operation: libc::c_long) -> Result<String, Errno> {
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    let mut buffer = [0_u8; 256];
    // SAFETY: `buffer` is writable for the length passed, and the kernel
    // writes at most that and a terminating NUL within it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            operation,
            KEY_SPEC_SESSION_KEYRING,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    Errno::result(result)?;
    let text = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::ENAMETOOLONG)?;
    Ok(text.to_string_lossy().into_owned())
}

/// The rows and columns of the terminal `fd` (ioctl_tty(2), TIOCGWINSZ).
pub(crate) fn window_size(fd: BorrowedFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which `size` is.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).map(|_| (size.ws_row, size.ws_col))
}

/// Whether the descriptor `number` is open. Works without /proc.
pub(crate) fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD takes no argument and changes nothing; a number that is
    // no descriptor is answered with EBADF.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Calls fork(2).
pub(crate) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the probe starts no threads, so the child has every lock free
    // and may allocate.
    unsafe { nix::unistd::fork() }
}
