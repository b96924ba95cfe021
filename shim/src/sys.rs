//! System calls that rustix does not wrap, or not soundly for every caller. Only this
//! module of the crate has unsafe code. Each wrapper makes one call and decides nothing.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::os::fd::{AsFd, AsRawFd};

use linux_raw_sys::loop_device::{LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Converts a result of the C convention.
fn check<T: PartialOrd + From<i8>>(result: T) -> Result<T> {
    match result < T::from(0) {
        true => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        false => Ok(result),
    }
}

/// Maps the owners of the mounts in `tree` as a user namespace does (mount_setattr(2),
/// Linux 5.12).
pub(crate) fn map_owners(tree: impl AsFd, user_namespace: impl AsFd) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: user_namespace.as_fd().as_raw_fd().cast_unsigned().into(),
    };
    // SAFETY: the path is NUL-terminated and `attributes` is a valid mount_attr of the
    // size passed; the kernel reads both and keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    check(result).map(drop)
}

/// The flag of linux/fcntl.h, which libc lacks for some targets.
const AT_RECURSIVE: libc::c_int = 0x8000;

/// Moves this thread into a new mount namespace.
pub(crate) fn unshare_mounts() -> Result<()> {
    // SAFETY: descriptors stay shared with other threads; what the flag unshares, mounts
    // and the working directory, no memory safety rests on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
}

/// The number of an unused loop device (loop(4)).
pub(crate) fn free_loop_device(control: impl AsFd) -> Result<i32> {
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(control.as_fd().as_raw_fd(), ioctl_number(LOOP_CTL_GET_FREE)) })
}

/// Attaches `file` to a loop device, with flags LO_FLAGS_* (loop(4), Linux 5.8).
pub(crate) fn configure_loop_device(device: impl AsFd, file: impl AsFd, flags: u32) -> Result<()> {
    // SAFETY: the structure consists of numbers and arrays of numbers, for which zero is a
    // valid value.
    let mut config: loop_config = unsafe { std::mem::zeroed() };
    config.fd = file.as_fd().as_raw_fd().cast_unsigned();
    config.info.lo_flags = flags;
    let device = device.as_fd().as_raw_fd();
    // SAFETY: `config` is the structure this request reads; the kernel keeps no pointer to
    // it, and takes its own reference to the file.
    let result = unsafe { libc::ioctl(device, ioctl_number(LOOP_CONFIGURE), &raw const config) };
    check(result).map(drop)
}

/// Converts a request number, of which musl and glibc have different types.
fn ioctl_number(number: u32) -> libc::Ioctl {
    number as libc::Ioctl
}

/// Closes all descriptors from 3 to `end` - 1 (close_range(2), Linux 5.9). Only for a
/// process that ends by execve or _exit, because owners of the closed descriptors must not
/// be dropped.
pub(crate) fn close_low(end: u32) {
    // SAFETY: close_range(2) reads no memory. It fails only for an invalid range, and then
    // closes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3, end.saturating_sub(1), 0) };
}

/// Sends a process any signal, including real-time signals (kill(2)).
pub(crate) fn kill(pid: u32, signal: u32) -> Result<()> {
    // SAFETY: kill(2) reads no memory. The pid is positive and so not that of a group, or the
    // kernel finds no process.
    check(unsafe { libc::kill(pid.cast_signed(), signal.cast_signed()) }).map(drop)
}

/// Drops the pages of a file's mapping until they are touched again (madvise(2),
/// MADV_DONTNEED). The mapping must never have been writable, because written data would be
/// lost.
pub(crate) fn drop_pages(start: usize, length: usize) -> Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: only the time of reading pages changes, because the pages of a private mapping
    // that was never writable are read from the file again.
    check(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) }).map(drop)
}
