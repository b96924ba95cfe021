//! Runs this program from a sealed view of its own binary, so that a container that
//! reaches `/proc/PID/exe` of its init finds a file that cannot be written
//! (CVE-2019-5736).
//!
//! The view is a detached read-only overlay of two lower directories without an upper
//! directory. Its inodes cannot be written and it costs no copy. If an overlay is
//! impossible, a sealed memfd with a copy serves instead.

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
/// The bottom layer of the overlay. Without an upper directory an overlay needs two lower
/// layers. The binary's directory is the layer on top, so this one hides nothing of it.
const BESIDE: &str = "/dev";

/// The sealed file from which this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seal {
    View,
    Copy,
}

/// Executes this program again from a sealed view or copy, if a word of the command
/// line is a command that starts processes in containers. Must come first in `main`,
/// when the least work is repeated. Returns only if it fails or is not needed.
pub(crate) fn start_sealed() {
    // A container may be called like a command, as in `teu state run`. Then the program is
    // sealed without need, which does no harm.
    let reaches_a_container = |word: OsString| {
        let commands = ["create", "run", "exec", "restore"];
        commands.iter().any(|command| word == *command)
    };
    if seal().is_none() && std::env::args_os().skip(1).any(reaches_a_container) {
        // The command calls `ensure_sealed`, which fails the same way and can log it.
        let Err(_) = execute_sealed();
    }
}

/// Executes this program again from a sealed view or copy, unless it runs from one.
///
/// # Errors
/// The copy cannot be made or executed.
pub(crate) fn ensure_sealed() -> Result<()> {
    match seal() {
        None => match execute_sealed()? {},
        Some(Seal::View) => debug("using overlayfs for sealed /proc/self/exe"),
        Some(Seal::Copy) => {}
    }
    debug("using /proc/self/exe clone");
    Ok(())
}

/// Logs runc's message, which its users look for, with the name of this program.
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
    // If this program was executed by descriptor, but not from a view, somebody else may
    // have chosen the file. Then make a copy: the kernel reports the seals of a memfd, so
    // they can be checked.
    if !was_executed_by_descriptor() {
        // If this fails, use the copy.
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

/// Asks the kernel, in a place that neither arguments nor environment can change.
fn was_executed_by_descriptor() -> bool {
    sys::executed_name().is_some_and(|name| name.to_bytes().starts_with(b"/dev/fd/"))
}

/// Returns whether this process runs from a view in the form of [`view`]. A view is attached
/// nowhere, so the path that the kernel reports starts at the view's own root and does not
/// lead to the running file. If it leads there, the program runs from an attached overlay. That
/// is no view, because somebody may write to the overlay's upper directory.
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

/// Returns whether this process runs from a sealed copy.
fn is_sealed_copy() -> bool {
    let seals = File::open(EXE).map(|exe| rustix::fs::fcntl_get_seals(&exe));
    matches!(seals, Ok(Ok(seals)) if seals.contains(SEALS))
}

/// Opens this program in a detached, read-only overlay of its directory. Fails for a
/// directory that the option `lowerdir` cannot name, or that overlaps `BESIDE`.
fn view() -> Result<OwnedFd> {
    let path = fs::read_link(EXE)?;
    let (directory, name) = path.parent().zip(path.file_name()).context("no path")?;
    let mut layers = directory.as_os_str().to_owned();
    layers.push(OsStr::new(":"));
    layers.push(BESIDE);
    let overlay = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&overlay, "lowerdir", layers)?;
    // The option avoids a message in the kernel log about layers on two filesystems. A
    // kernel without the option writes no such message.
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
    // The overlay shows the files of the directory. If the running binary is hidden or
    // was replaced there, the overlay shows another file.
    ensure!(
        identity(&file.metadata()?) == identity(&fs::metadata(EXE)?),
        "it shows another file"
    );
    Ok(file.into())
}

/// Returns the attributes that a file shares with its view, and with no other file. The
/// device is not among them, because it is the overlay's own. The attributes are
/// stable, because a running file cannot be written.
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
    // Linux 6.3 may forbid executable memfds without this flag. Older kernels do not
    // know the flag.
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
