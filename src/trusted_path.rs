//! Whether the links of a path on the host are ours: those of another user could
//! lead what we write to any file of ours.
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
    // Whoever owns "/" may do anything anyway. In a user namespace that is nobody:
    // the machine's root has no number there.
    let owner_of_all = fs::metadata("/").map_or(0, |root| root.uid());
    let is_ours = |user| [0, geteuid().as_raw(), owner_of_all].contains(&user);
    if !is_ours(directory.uid()) {
        return true;
    }
    // Whatever the group is: who is in it, and who will be, cannot be known.
    let (group_or_all, sticky) = (0o022, 0o1000);
    let has = |bits| directory.mode() & bits != 0;
    let stays = || fs::symlink_metadata(entry).is_ok_and(|entry| is_ours(entry.uid()));
    has(group_or_all) && !(has(sticky) && stays())
}
