//! Runs from a sealed view of our own binary, so that a container that reaches
//! `/proc/PID/exe` of its init finds nothing it could write to
//! (CVE-2019-5736).
//!
//! `teu-seal` sees to that before this program has begun: the view is a
//! read-only overlay without an upper directory. Where that was not allowed, or
//! the path not to its liking, a sealed memfd with a copy serves.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, Mode, SealFlags};

use crate::{log, sys};

const EXE: &str = "/proc/self/exe";
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Re-executes this command from a sealed copy, unless it runs from a sealed view
/// or such a copy. Does not return where it re-executes.
///
/// # Errors
/// No copy could be made, or executed.
pub(crate) fn ensure_sealed() -> Result<()> {
    if teu_seal::is_sealed() {
        debug("using overlayfs for sealed /proc/self/exe");
        debug("using /proc/self/exe clone");
        return Ok(());
    }
    if is_sealed_copy() {
        debug("using /proc/self/exe clone");
        return Ok(());
    }
    let sealed = sealed_copy().context("copy /proc/self/exe into a sealed memfd")?;
    let args: Vec<OsString> = std::env::args_os().collect();
    let args = c_strings(args.iter().map(|arg| arg.as_bytes().to_vec()))?;
    let env = c_strings(std::env::vars_os().map(|(key, value)| {
        let mut entry = key.into_encoded_bytes();
        entry.push(b'=');
        entry.extend(value.into_encoded_bytes());
        entry
    }))?;
    let refused = sys::exec_descriptor(&sealed, &args, &env);
    Err(refused).context("execute the sealed copy of our own binary")
}

/// In runc's words, which its users look for, with our own name.
fn debug(what: &str) {
    if log::is_debug() {
        let path = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        log::debug(&format!("{program} exeseal: {what}"));
    }
}

fn c_strings(strings: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>> {
    strings
        .map(CString::new)
        .collect::<Result<_, _>>()
        .context("NUL in an argument")
}

/// Whether this runs from a copy that nobody can write to. An overlay that it was
/// executed from does not count, read-only or not: that may have an upper
/// directory, which can be written to.
fn is_sealed_copy() -> bool {
    let seals = File::open(EXE).map(|exe| rustix::fs::fcntl_get_seals(&exe));
    matches!(seals, Ok(Ok(seals)) if seals.contains(SEALS))
}

fn sealed_copy() -> Result<OwnedFd> {
    let exe = File::open(EXE)?;
    let copy = memfd(c"teu:sealed")?;
    let length = exe.metadata()?.len();
    let mut left = usize::try_from(length)?;
    while left > 0 {
        match rustix::fs::sendfile(&copy, &exe, None, left)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            sent => left -= sent,
        }
    }
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o511))?;
    rustix::fs::fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}

fn memfd(name: &CStr) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 may forbid executable memfds unless asked for; older kernels
    // do not know the flag.
    rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .context("memfd_create")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let copy = sealed_copy().expect("memfd");
        assert!(rustix::io::pwrite(&copy, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&copy, 0).is_err());
    }

    #[test]
    fn a_test_binary_is_not_sealed() {
        assert!(!is_sealed_copy());
    }
}
