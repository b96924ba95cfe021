//! System calls nix does not wrap; the only unsafe of this crate.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// Where clone3 returned.
#[derive(Debug)]
pub(crate) enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process and a descriptor for it.
    Parent(Pid, OwnedFd),
}

/// Whose child the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    Caller,
    /// The caller's own parent (`CLONE_PARENT`).
    CallersParent,
}

/// clone3(2) without shared memory: a fork into new namespaces and, if given,
/// into the v2 cgroup whose directory is `cgroup`. The pidfd is close-on-exec.
///
/// The caller must be single-threaded, since the child goes on using the
/// allocator and other state that another thread might have been changing.
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
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel opened `pidfd` just now for this call
            // (CLONE_PIDFD), so nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent(pid_from(pid)?, pidfd))
        }
    }
}

/// linux/sched.h; too wide for libc's c_int constants.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn pid_from(pid: libc::c_long) -> io::Result<Pid> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
}

/// Ends the process without running anything at exit: a forked child must not
/// run its parent's handlers or flush its buffers (exit_group(2)).
///
/// A system call filter may forbid that. musl's _exit(3) would try for ever; abort
/// then executes what no process may, which ends it.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: the call takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    std::process::abort()
}

/// pidfd_open(2); close-on-exec by itself.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    owned(fd)
}

/// pidfd_send_signal(2) without extra information.
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

/// The `CLONE_NEW*` flag of the namespace behind `fd` (ioctl_ns(2),
/// NS_GET_NSTYPE); ENOTTY if it is no namespace.
pub(crate) fn namespace_type(fd: impl AsFd) -> io::Result<CloneFlags> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: this request takes no argument and returns an integer.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(CloneFlags::from_bits_retain(result))
}

/// Whether others of the same user may look into this process (prctl(2),
/// PR_SET_DUMPABLE). Inherited over fork, reset by execve.
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

/// setgroups(2) to no groups at all.
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
