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
