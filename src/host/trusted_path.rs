//! Decides whether a path on the host can be trusted. The links of another user could
//! lead a write to any file of this user, and another user's file could make this
//! process do anything.
//!
//! Not for paths in a container, where nothing is trusted: see `init/paths.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::process::geteuid;

/// Returns whether a component of `path` may be another user's, so that its links lead
/// to any file. If not, no other user can change that before the path is opened.
pub(crate) fn others_could_redirect(path: &Path) -> bool {
    /// The number of links that the kernel follows (path_resolution(7)).
    const LINKS: u32 = 40;
    let mut links = 0;
    let mut done = PathBuf::new();
    let mut left = parts(path);
    while let Some(part) = left.pop() {
        let next = done.join(&part);
        if !part.has_root() && others_can_replace(&done, &next) {
            return true;
        }
        // Links below /proc are the kernel's, and their text may not be the real
        // target.
        match fs::read_link(&next) {
            Ok(target) if !done.starts_with("/proc") => {
                links += 1;
                if links > LINKS {
                    return true;
                }
                left.extend(parts(&target));
            }
            _ => done = next,
        }
    }
    false
}

/// Returns whether other users can write to the file at `path`, or replace it.
pub(crate) fn others_could_write(path: &Path) -> bool {
    // A file that cannot be examined cannot be opened either.
    let is_others = fs::metadata(path).is_ok_and(|found| !is_ours(found.uid()) || is_open(&found));
    is_others || others_could_redirect(path)
}

/// Returns the components of a path, the last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.iter().rev().map(PathBuf::from).collect()
}

/// Returns whether other users can write to the directory and replace `entry` with a
/// link. They cannot if the directory is sticky and `entry` is trusted.
fn others_can_replace(directory: &Path, entry: &Path) -> bool {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    // A directory that cannot be examined cannot be opened either.
    let Ok(directory) = fs::metadata(directory) else {
        return false;
    };
    if !is_ours(directory.uid()) {
        return true;
    }
    let sticky = 0o1000;
    // In a user namespace, files of all unmapped users have the overflow uid, those of the
    // host's root among them, so it does not prove whose the entry is. A mountpoint is trusted
    // all the same, because only root of this namespace can have mounted something there.
    let is_surely_ours = |user| [0, geteuid().as_raw()].contains(&user);
    let stays = || {
        fs::symlink_metadata(entry).is_ok_and(|found| {
            is_surely_ours(found.uid()) || is_ours(found.uid()) && is_mount(entry)
        })
    };
    is_open(&directory) && !(directory.mode() & sticky != 0 && stays())
}

/// Returns whether `path` is the root of a mount (statx(2), Linux 5.8).
fn is_mount(path: &Path) -> bool {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Returns whether this user is trusted: root, the user of this process, or the owner
/// of "/".
fn is_ours(user: u32) -> bool {
    // The owner of "/" has all rights anyway. In a user namespace the owner is the
    // overflow uid, because root of the host has no number there.
    let owner_of_all = fs::metadata("/").map_or(0, |root| root.uid());
    [0, geteuid().as_raw(), owner_of_all].contains(&user)
}

/// Returns whether users other than the owner may write. Every group counts, because
/// its members, now and later, cannot be known.
fn is_open(found: &fs::Metadata) -> bool {
    found.mode() & 0o022 != 0
}
