//! Runs from a sealed view of our own binary, so that a container that reaches
//! `/proc/PID/exe` of its init finds nothing it could write to
//! (CVE-2019-5736).
//!
//! The view is a read-only overlay of two lower directories and no upper one,
//! attached nowhere: its inodes cannot be written to and cost no copy. Where
//! there can be none, a sealed memfd with a copy serves.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use nix::fcntl::AtFlags;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::sys;

const EXE: &str = "/proc/self/exe";
const SEALS: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);
/// The overlay's other lower directory, of which it needs one: below the
/// binary's it cannot hide anything.
const BESIDE: &str = "/dev";

/// What this process runs from, if nobody can write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seal {
    View,
    Copy,
}

/// Starts again from a sealed view or copy if a word of the command line is a
/// command that a container's process comes of. The first thing in `main`, when
/// there is least to do twice; does not return where it succeeds.
pub(crate) fn start_sealed() {
    // A container of such a name costs a needless start.
    let reaches_a_container = |word: OsString| {
        let commands = ["create", "run", "exec", "restore"];
        commands.iter().any(|command| word == *command)
    };
    if seal().is_none() && std::env::args_os().skip(1).any(reaches_a_container) {
        // The command calls `ensure_sealed`, which fails the same way and when
        // there is a log to say so.
        let Err(_) = execute_sealed();
    }
}

/// Starts again from a sealed view or copy, unless this runs from one.
///
/// # Errors
/// No copy could be made, or executed.
pub(crate) fn ensure_sealed() -> Result<()> {
    match seal() {
        None => match execute_sealed()? {},
        Some(Seal::View) => debug("using overlayfs for sealed /proc/self/exe"),
        Some(Seal::Copy) => {}
    }
    debug("using /proc/self/exe clone");
    Ok(())
}

/// In runc's words, which its users look for, with our own name.
fn debug(what: &str) {
    let path = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&path).file_name().unwrap_or_default();
    log::debug!("{} exeseal: {what}", program.display());
}

fn execute_sealed() -> Result<Infallible> {
    let args = c_strings(std::env::args_os())?;
    let env = c_strings(std::env::vars_os().map(|(mut entry, value)| {
        entry.push("=");
        entry.push(value);
        entry
    }))?;
    let execute = |file: OwnedFd| {
        nix::unistd::execveat(file, c"", &args, &env, AtFlags::AT_EMPTY_PATH)
            .context("execute it by descriptor")
    };
    // What was executed by descriptor and is no view of ours may be anybody's:
    // only of a copy the kernel itself says that it is sealed.
    if !was_executed_by_descriptor() {
        // There is still the copy.
        let Err(_) = view().and_then(execute);
    }
    sealed_copy()
        .and_then(execute)
        .context("run from a sealed copy of our own binary")
}

fn c_strings(strings: impl Iterator<Item = OsString>) -> Result<Vec<CString>> {
    strings
        .map(|string| CString::new(string.into_vec()))
        .collect::<Result<_, _>>()
        .context("NUL in an argument")
}

fn seal() -> Option<Seal> {
    static SEAL: OnceLock<Option<Seal>> = OnceLock::new();
    *SEAL.get_or_init(|| {
        if !was_executed_by_descriptor() {
            return None;
        }
        if is_view().unwrap_or(false) {
            return Some(Seal::View);
        }
        is_sealed_copy().then_some(Seal::Copy)
    })
}

/// By the kernel's word, in a place that neither arguments nor environment reach.
fn was_executed_by_descriptor() -> bool {
    sys::executed_name().is_some_and(|name| name.to_bytes().starts_with(b"/dev/fd/"))
}

/// Whether this runs from a view as [`view`] makes it. An overlay that somebody
/// else mounted may have an upper directory, which can be written to; but that is
/// attached somewhere: what the kernel names as our path leads to our file then,
/// where that of a view starts at its own root.
fn is_view() -> io::Result<bool> {
    let flags = FsFlags::ST_RDONLY | FsFlags::ST_NOSUID | FsFlags::ST_NODEV;
    let filesystem = statfs(EXE)?;
    if filesystem.filesystem_type() != OVERLAYFS_SUPER_MAGIC || !filesystem.flags().contains(flags)
    {
        return Ok(false);
    }
    let (path, own) = (fs::read_link(EXE)?, fs::metadata(EXE)?);
    let is_at_root = path.parent() == Some(Path::new("/"));
    let leads_here = match fs::metadata(&path) {
        Ok(found) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => false,
        Err(err) => return Err(err),
    };
    Ok(is_at_root && !leads_here)
}

/// Whether this runs from a copy that nobody can write to.
fn is_sealed_copy() -> bool {
    let seals = File::open(EXE).map(|exe| rustix::fs::fcntl_get_seals(&exe));
    matches!(seals, Ok(Ok(seals)) if seals.contains(SEALS))
}

/// Our file in a detached, read-only overlay of its directory. A directory that
/// the option cannot name, or that `BESIDE` overlaps, has none.
fn view() -> Result<OwnedFd> {
    let path = fs::read_link(EXE)?;
    let (directory, name) = path.parent().zip(path.file_name()).context("no path")?;
    let mut layers = directory.as_os_str().to_owned();
    layers.push(OsStr::new(":"));
    layers.push(BESIDE);
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&overlay, "lowerdir", layers)?;
    // Keeps the kernel log quiet about layers on two filesystems; a kernel
    // without the option needs no silence.
    match rustix::mount::fsconfig_set_string(&overlay, "xino", "off") {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(err) => return Err(err.into()),
    }
    rustix::mount::fsconfig_create(&overlay)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = rustix::mount::fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(&mount, name, flags, Mode::empty())?);
    // An overlay shows what the directory holds: what a mount hides there, if
    // the binary is one, or what was put there since.
    ensure!(
        identity(&file.metadata()?) == identity(&fs::metadata(EXE)?),
        "it shows another file"
    );
    Ok(file.into())
}

/// What a file and its view have in common, and no other file has. The device is
/// the overlay's own; while a file runs it cannot be written to.
fn identity(file: &Metadata) -> [i64; 6] {
    [
        file.ino().cast_signed(),
        file.size().cast_signed(),
        file.ctime(),
        file.ctime_nsec(),
        file.mtime(),
        file.mtime_nsec(),
    ]
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
        assert_eq!(seal(), None);
    }
}
