//! System calls that nix and rustix do not wrap; the only unsafe of this
//! package. Each wrapper is one call, typed, and decides nothing.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Executes the file behind `fd` (execveat(2), AT_EMPTY_PATH). Returns only if
/// the kernel refuses.
pub(crate) fn exec_descriptor(fd: impl AsFd, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and point to NUL-terminated
    // strings that live until the call returns or the image is replaced.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The path execve was given for this program, as the kernel noted it
/// (getauxval(3), AT_EXECFN): `/dev/fd/N` if it was a descriptor.
pub(crate) fn executed_path() -> Option<&'static CStr> {
    // SAFETY: takes an integer only.
    let address = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if address.is_null() {
        return None;
    }
    // SAFETY: the kernel put this NUL-terminated string on our stack's end at
    // execve, where it stays, unwritten, for the life of the process.
    Some(unsafe { CStr::from_ptr(address) })
}

/// pidfd_send_signal(2) without extra information. Any number is passed on;
/// the kernel refuses those that are no signal.
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
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A moment in the local time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// 0 to 60: 60 is a leap second.
    pub(crate) second: u8,
    /// Seconds east of Greenwich.
    pub(crate) offset: i64,
}

/// Converts seconds since the epoch to the time zone of `$TZ`, else of
/// `/etc/localtime`, else UTC (localtime(3)). `None` for a year beyond what the
/// C library can express.
pub(crate) fn local_time(seconds: i64) -> Option<LocalTime> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live values of the right type, and
    // localtime_r keeps neither. It may read the environment, which is sound
    // because nothing in this program changes it (clippy.toml forbids set_var).
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r returned the pointer it was given, so it has filled
    // every field of the structure.
    let parts = unsafe { parts.assume_init() };
    Some(LocalTime {
        year: i64::from(parts.tm_year) + 1900,
        month: u8::try_from(parts.tm_mon + 1).ok()?,
        day: u8::try_from(parts.tm_mday).ok()?,
        hour: u8::try_from(parts.tm_hour).ok()?,
        minute: u8::try_from(parts.tm_min).ok()?,
        second: u8::try_from(parts.tm_sec).ok()?,
        offset: parts.tm_gmtoff,
    })
}
