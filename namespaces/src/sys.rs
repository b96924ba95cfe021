//! Wrappers of the system calls that nix does not have: all unsafe code of this crate.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// The two processes in which clone3 returns.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller, with the new process's pid and pidfd.
    Parent(Pid, OwnedFd),
}

/// The parent of the new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent (`CLONE_PARENT`).
    CallersParent,
}

static IS_CLONE: AtomicBool = AtomicBool::new(false);

/// Returns whether this process was cloned by a function of this crate, and has not executed
/// a program since. The pid does not show that: in a new pid namespace it may be the same.
pub fn is_clone() -> bool {
    IS_CLONE.load(Ordering::Relaxed)
}

/// Calls clone3(2) without shared memory: forks into new namespaces and, if given,
/// into the v2 cgroup whose directory is `cgroup`. The pidfd is close-on-exec.
///
/// The caller must be single-threaded, because the child uses the allocator and other
/// state that another thread may have been changing.
pub(crate) fn clone3(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.bits().cast_unsigned()) | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    match parent {
        Parent::Caller => args.exit_signal = libc::SIGCHLD as u64,
        // The kernel copies the exit signal and refuses one given here.
        Parent::CallersParent => args.flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `args` is a valid clone_args of the size passed and `pidfd`
    // outlives the call. Neither CLONE_VM nor a stack is given, so the child
    // runs on its own copy of this stack, as after fork; the process is
    // single-threaded, so no lock is held by a thread the child lacks.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            IS_CLONE.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: the kernel opened `pidfd` just now for this call
            // (CLONE_PIDFD), so nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(pid_from(pid)?, pidfd))
        }
    }
}

/// The flag of linux/sched.h. libc's constants are c_int, which is too small for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn pid_from(pid: libc::c_long) -> io::Result<Pid> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
}

/// Exits with exit_group(2). A forked child must not run its parent's exit handlers or
/// flush its buffers.
///
/// If a system call filter forbids exit_group(2), an illegal instruction kills the process.
/// musl's _exit(3) would loop forever. Its abort(3) would first send a signal to the thread id
/// that it remembers from before clone3(2): the parent's, or another process's by then.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: the call takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    // SAFETY: the instruction raises an exception at once, so nothing after it runs.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("ud2", options(noreturn));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("brk #1", options(noreturn));
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        std::process::abort()
    }
}

/// Calls pidfd_open(2). The kernel makes the descriptor close-on-exec.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    owned(fd)
}

/// Calls pidfd_send_signal(2) without a siginfo.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the `CLONE_NEW*` flag of the namespace `fd` (ioctl_ns(2), NS_GET_NSTYPE).
/// Fails with ENOTTY if `fd` is not a namespace.
pub(crate) fn namespace_type(fd: impl AsFd) -> io::Result<CloneFlags> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument and returns an integer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(CloneFlags::from_bits_retain(result))
}

/// Sets whether other processes of the same user may ptrace this process (prctl(2),
/// PR_SET_DUMPABLE). A fork inherits the attribute, execve resets it.
pub(crate) fn set_dumpable(dumpable: bool) -> io::Result<()> {
    // SAFETY: takes integers only.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_DUMPABLE,
            libc::c_ulong::from(dumpable),
            0,
            0,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Drops all supplementary groups (setgroups(2)).
pub(crate) fn clear_groups() -> io::Result<()> {
    // SAFETY: with a length of 0 the pointer is not read.
    let result = unsafe { libc::setgroups(0, std::ptr::null()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel returned `fd` just now, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
