//! DO: the root filesystem where CRIU restores a container, in the mount
//! namespace of criu, which ends with it: nothing of this is seen on the host,
//! and nothing is left to be undone.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libc::{MS_REC, MS_SLAVE};
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::detached::{attach, clone_handle, clone_tree, make_readonly};
use super::mount_attributes::Kernel;
use super::paths::{Root, is_directory};
use super::rootfs::{change_propagation, unmount};
use crate::plan::mounts::{Mount, MountKind};
use crate::plan::rootfs::RootfsPlan;

/// Makes the mountpoints that the container needs and mounts its root
/// filesystem at `place`, an empty directory: CRIU wants it to be a mount of
/// which no parent is covered.
///
/// # Errors
/// A mountpoint cannot be made, the kernel refuses a mount.
pub(crate) fn prepare(plan: &RootfsPlan, place: &Path) -> Result<()> {
    // What the host mounts meanwhile may be seen here, not the other way round.
    change_propagation("/", MS_SLAVE | MS_REC)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| {
        openat(CWD, path, flags, Mode::empty()).with_context(|| format!("open {path:?}"))
    };
    let (rootfs, onto) = (open(&plan.path)?, open(place)?);
    let mask = rustix::process::umask(Mode::empty());
    make_mountpoints(plan, rootfs.as_fd(), onto.as_fd())?;
    rustix::process::umask(mask);
    unmount(place).with_context(|| format!("unmount {place:?}"))?;
    mount(rootfs.as_fd(), onto.as_fd()).with_context(|| format!("mount {:?}", plan.path))
}

/// Called in the mount namespace of a restored container, before it runs:
/// makes its root read-only, which a CRIU before 4.2 forgets.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn make_root_readonly() -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
    make_readonly(&Kernel::default(), root.as_fd()).context("error setting rootfs as readonly")
}

fn mount(rootfs: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let tree = clone_handle(rootfs, true).context("open_tree")?;
    attach(tree.as_fd(), onto)
}

/// Makes the mountpoints in a mount of the root filesystem that is thrown away:
/// those inside of a bind mount are made in that.
fn make_mountpoints(plan: &RootfsPlan, rootfs: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let tree = clone_handle(rootfs, true).context("open_tree")?;
    attach(tree.as_fd(), onto)?;
    let root = Root::new(tree);
    for mount in &plan.mounts {
        make_mountpoint(&root, mount, &plan.mounts).with_context(|| {
            format!(
                "create criu restore mountpoint for {:?} mount",
                mount.destination
            )
        })?;
    }
    Ok(())
}

fn make_mountpoint(root: &Root, mount: &Mount, all: &[Mount]) -> Result<()> {
    let bind = match &mount.kind {
        MountKind::Bind(bind) => Some(bind),
        MountKind::Filesystem(_) | MountKind::CgroupV2(_) => None,
        // CRIU stores the directories of a tmpfs.
        MountKind::Remount(_) | MountKind::CgroupV1(_) => return Ok(()),
    };
    let place = root
        .locate(&mount.destination)
        .context("look up the mountpoint")?;
    if is_in_a_filesystem(&place.path, all) || is_in_a_filesystem(&mount.destination, all) {
        return Ok(());
    }
    let tree = match bind {
        Some(bind) => Some(
            clone_tree(&bind.source, bind.recursive)
                .with_context(|| format!("open {:?}", bind.source))?,
        ),
        None => None,
    };
    let found = match place.found {
        Some(found) => found,
        None => {
            let directory = match &tree {
                Some(tree) => is_directory(tree.as_fd()).context("stat the source")?,
                None => true,
            };
            root.make_mountpoint(&place.path, directory)
                .with_context(|| format!("make mountpoint {:?}", place.path))?
        }
    };
    match tree {
        Some(tree) => attach(tree.as_fd(), found.as_fd()),
        None => Ok(()),
    }
}

/// Whether the path is inside of a filesystem that CRIU mounts with what is in
/// it, as it does with /dev and /proc.
fn is_in_a_filesystem(path: &Path, mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        matches!(mount.kind, MountKind::Filesystem(_))
            && path != mount.destination
            && path.starts_with(&mount.destination)
    })
}
