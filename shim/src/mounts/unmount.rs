//! Unmounts a directory with everything mounted on and below it, by whomever.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use teu_mountinfo::Mount;

/// How often to retry a busy mount, for example until a killed process has ended.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Unmounts all mounts on and below `rootfs`. Succeeds if there are none.
///
/// # Errors
/// A mount is in use.
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

/// The mount points on and below `path`, the deepest first.
fn mount_points(path: &Path) -> Result<Vec<PathBuf>> {
    // /proc/thread-self, because each thread of the tests has its own namespace.
    let table = "/proc/thread-self/mountinfo";
    let table = fs::read(table).with_context(|| format!("read {table:?}"))?;
    let mounts = teu_mountinfo::mounts(&table)?;
    let points = mounts.iter().map(Mount::point);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(path)).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points.dedup();
    Ok(points)
}

/// Unmounts all mounts stacked on one mount point.
fn unmount_all(point: &Path) -> Result<(), Errno> {
    let mut patience = PATIENCE;
    loop {
        match unmount(point, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // The mount or the mount point is gone.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if patience > 0 => {
                patience -= 1;
                sleep(PAUSE);
            }
            Err(err) => return Err(err),
        }
    }
}
