//! Runs from a sealed view of our own binary, so that a container that reaches
//! `/proc/PID/exe` of its init finds nothing it could write to
//! (CVE-2019-5736).
//!
//! The view is an overlay of two lower directories and no upper one, never
//! attached anywhere: its inodes cannot be written through and cost no copy.
//! Where that is not allowed, a sealed memfd with a copy serves.

use std::ffi::{CStr, CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::{log, sys};

const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Re-executes this command from a sealed view, unless it runs from one. Does
/// not return where it re-executes. `beside` is a directory that exists and
/// is on no path to the binary (the overlay needs a second layer).
///
/// # Errors
/// Neither view could be made.
pub(crate) fn ensure_sealed(beside: &Path) -> Result<()> {
    if is_sealed() {
        debug("using /proc/self/exe clone");
        return Ok(());
    }
    let exe = fs::read_link("/proc/self/exe").context("read the link /proc/self/exe")?;
    let sealed = match overlay_view(&exe, beside) {
        Ok(view) => {
            debug("using overlayfs for sealed /proc/self/exe");
            view
        }
        Err(err) => {
            log::debug(&format!(
                "exeseal: no overlay ({err:#}), copying into a sealed memfd"
            ));
            sealed_copy().context("copy /proc/self/exe into a sealed memfd")?
        }
    };
    let args: Vec<OsString> = std::env::args_os().collect();
    let args = c_strings(args.iter().map(|arg| arg.as_bytes().to_vec()))?;
    let env = c_strings(std::env::vars_os().map(|(key, value)| {
        let mut entry = key.into_encoded_bytes();
        entry.push(b'=');
        entry.extend(value.into_encoded_bytes());
        entry
    }))?;
    let refused = sys::exec_descriptor(&sealed, &args, &env);
    Err(refused).context("execute the sealed view of our own binary")
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

/// A sealed view was started by descriptor, and the kernel tells so in a place
/// that neither arguments nor environment reach; what it runs from must be one
/// of ours all the same, since others may execute by descriptor too.
fn is_sealed() -> bool {
    if !sys::executed_path().is_some_and(|path| path.to_bytes().starts_with(b"/dev/fd/")) {
        return false;
    }
    let Ok(exe) = File::open("/proc/self/exe") else {
        return false;
    };
    let sealed_copy = rustix::fs::fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SEALS));
    sealed_copy || is_read_only_overlay(&exe)
}

fn is_read_only_overlay(exe: &File) -> bool {
    let overlay = rustix::fs::fstatfs(exe)
        .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|magic| magic == OVERLAYFS_SUPER_MAGIC));
    overlay
        && rustix::fs::fstatvfs(exe)
            .is_ok_and(|fs| fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The binary in a detached, read-only overlay of its directory and `beside`.
fn overlay_view(exe: &Path, beside: &Path) -> Result<OwnedFd> {
    let dir = exe.parent().context("it has no directory")?;
    let name = exe.file_name().context("it has no name")?;
    let fs =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen overlay")?;
    let mut lower = escaped(dir);
    lower.push(b':');
    lower.extend(escaped(beside));
    rustix::mount::fsconfig_set_string(fs.as_fd(), "lowerdir", lower).context("set lowerdir")?;
    // Keeps the kernel log quiet about layers on two filesystems; a kernel
    // without the option needs no silence.
    rustix::mount::fsconfig_set_string(fs.as_fd(), "xino", "off").ok();
    rustix::mount::fsconfig_create(fs.as_fd()).context("make the overlay")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .context("fsmount overlay")?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, name, flags, Mode::empty())
        .with_context(|| format!("open {name:?} in the overlay"))
}

/// A directory as an overlay option writes it.
fn escaped(dir: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in dir.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

fn sealed_copy() -> Result<OwnedFd> {
    let exe = File::open("/proc/self/exe")?;
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
    fn an_overlay_option_escapes_its_separators() {
        assert_eq!(escaped(Path::new("/a:b/c\\d,e")), b"/a\\:b/c\\\\d\\,e");
    }

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let copy = sealed_copy().expect("memfd");
        assert!(rustix::io::pwrite(&copy, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&copy, 0).is_err());
    }

    #[test]
    fn a_test_binary_is_not_sealed() {
        assert!(!is_sealed());
    }
}
