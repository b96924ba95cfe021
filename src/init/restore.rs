//! Prepares the root filesystem in which CRIU restores a container: makes the
//! mountpoints, and mounts the root filesystem. Runs in the mount namespace of criu,
//! which ends with criu, so the host sees nothing of this and nothing has to be undone.
//! Not for the container's mounts: CRIU restores them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libc::{MS_REC, MS_SLAVE};
use rustix::fs::{CWD, Mode, OFlags, openat};
use teu_plan::mounts::{Mount, MountKind};
use teu_plan::rootfs::RootfsPlan;

use super::detached::{attach, clone_handle, clone_tree, make_readonly};
use super::mount_attributes::Kernel;
use super::paths::{Root, is_directory};
use super::rootfs::{change_propagation, unmount};

/// Makes the mountpoints that the container needs, and mounts its root filesystem at
/// `place`, an empty directory, because CRIU requires a mount whose parents are not
/// covered.
///
/// # Errors
/// A mountpoint cannot be made, or the kernel refuses a mount.
pub(crate) fn prepare(plan: &RootfsPlan, place: &Path) -> Result<()> {
    // Receive later mounts of the host here, but do not propagate mounts to the host.
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

/// Makes the root of a restored container read-only, which a CRIU before 4.2 forgets.
/// Called in the container's mount namespace, before the container runs.
///
/// # Errors
/// The kernel refuses the change.
pub(crate) fn make_root_readonly() -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
    make_readonly(&Kernel::default(), root.as_fd()).context("error setting rootfs as readonly")
}

fn mount(rootfs: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let tree = clone_handle(rootfs, true).context("open_tree")?;
    attach(tree.as_fd(), onto)
}

/// Makes the mountpoints in a temporary mount of the root filesystem, with all bind
/// mounts, because a mountpoint inside of a bind mount has to be made in the bind's
/// source.
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
        // CRIU stores the directories of a tmpfs, so they need no mountpoint.
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

/// Returns whether the path is inside of a filesystem that CRIU mounts together with
/// its content, such as /dev and /proc.
fn is_in_a_filesystem(path: &Path, mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        matches!(mount.kind, MountKind::Filesystem(_))
            && path != mount.destination
            && path.starts_with(&mount.destination)
    })
}
