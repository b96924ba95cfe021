//! Whether a path on the host is ours: the links of another user could lead what we
//! write to any file of ours, and another user's file could have us do anything.
//!
//! Not for paths in a container, where nothing is trusted: see `init/paths.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Whether a part of `path` may be another user's, so that its links lead to any
/// file of ours. Where none is, it stays so until the path is opened.
pub(crate) fn others_could_redirect(path: &Path) -> bool {
    /// As many as the kernel follows (path_resolution(7)).
    const LINKS: u32 = 40;
    let mut links = 0;
    let mut done = PathBuf::new();
    let mut left = parts(path);
    while let Some(part) = left.pop() {
        let next = done.join(&part);
        if !part.has_root() && others_can_replace(&done, &next) {
            return true;
        }
        // Links below /proc are the kernel's and need not say where they lead.
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

/// Whether others can write to what is at `path`, or put something else there.
pub(crate) fn others_could_write(path: &Path) -> bool {
    // What cannot be looked at cannot be opened either.
    let is_others = fs::metadata(path).is_ok_and(|found| !is_ours(found.uid()) || is_open(&found));
    is_others || others_could_redirect(path)
}

/// The components of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.iter().rev().map(PathBuf::from).collect()
}

/// Whether others can write to the directory and put a link in the place of
/// `entry`; they cannot if it is sticky and `entry` is not theirs.
fn others_can_replace(directory: &Path, entry: &Path) -> bool {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    // What cannot be looked at cannot be opened either.
    let Ok(directory) = fs::metadata(directory) else {
        return false;
    };
    if !is_ours(directory.uid()) {
        return true;
    }
    let sticky = 0o1000;
    let stays = || fs::symlink_metadata(entry).is_ok_and(|entry| is_ours(entry.uid()));
    is_open(&directory) && !(directory.mode() & sticky != 0 && stays())
}

/// Whether this user may do anything to what is ours.
fn is_ours(user: u32) -> bool {
    // Whoever owns "/" may do anything anyway. In a user namespace that is nobody:
    // the machine's root has no number there.
    let owner_of_all = fs::metadata("/").map_or(0, |root| root.uid());
    [0, geteuid().as_raw(), owner_of_all].contains(&user)
}

/// Whether others than the owner may write. Whatever the group is: who is in it, and
/// who will be, cannot be known.
fn is_open(found: &fs::Metadata) -> bool {
    found.mode() & 0o022 != 0
}
