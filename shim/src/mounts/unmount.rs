//! Undoing mounts, also those that others made on top.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// For how long something may be busy, such as by a process that has just been killed.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Unmounts all that is mounted on and below `rootfs`. Nothing to undo is no error.
///
/// # Errors
/// Something there is in use.
pub fn unmount_recursive(rootfs: &Path) -> Result<()> {
    let rootfs = match rootfs.canonicalize() {
        Ok(rootfs) => rootfs,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err).with_context(|| format!("find {rootfs:?}")),
    };
    for point in mount_points(&rootfs)? {
        unmount_all(&point).with_context(|| format!("unmount {point:?}"))?;
    }
    Ok(())
}

/// Those on and below `path`, the deepest first.
fn mount_points(path: &Path) -> Result<Vec<PathBuf>> {
    // A thread of the tests has its own.
    let table = "/proc/thread-self/mountinfo";
    let table = fs::read(table).with_context(|| format!("read {table:?}"))?;
    let points = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(path)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points.dedup();
    Ok(points)
}

/// All that is mounted at one place, one on the other.
fn unmount_all(point: &Path) -> Result<(), Errno> {
    let mut patience = PATIENCE;
    loop {
        match unmount(point, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or nothing is there, any more.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if patience > 0 => {
                patience -= 1;
                sleep(PAUSE);
            }
            Err(err) => return Err(err),
        }
    }
}

/// A path of mountinfo, in which spaces and the like are three octal digits
/// (proc_pid_mountinfo(5)).
fn unescape(path: &[u8]) -> PathBuf {
    let mut letters = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(letter) if *first == b'\\' => {
                letters.push(letter);
                rest = &tail[3..];
            }
            _ => {
                letters.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(letters).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mountinfo() {
        for (written, path) in [
            ("/a\\040b", "/a b"),
            ("/a\\134040", "/a\\040"),
            ("/\\0", "/\\0"),
        ] {
            assert_eq!(unescape(written.as_bytes()), Path::new(path));
        }
    }
}
