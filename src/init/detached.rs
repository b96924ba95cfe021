//! Makes detached mounts, or clones them from a part of the tree, and attaches them
//! elsewhere, all by descriptor. Not for flags: see `mount_attributes.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libc::MS_RDONLY;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::mount_attributes::Kernel;
use super::paths::is_directory;

/// Makes a detached clone of the mount, or of the part of a mount, at `path`.
pub(crate) fn clone_tree(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// Makes a detached clone of the mount, or of the part of a mount, that `handle` is on.
pub(super) fn clone_handle(handle: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(
        handle,
        "",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// Moves the detached mount `tree` onto `onto`.
pub(super) fn attach(tree: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let moved = move_mount(tree, "", onto, "", flags).map_err(|err| match err {
        // A directory on a file, or a file on a directory: mount(2) reports this as
        // ENOTDIR, and engines look for that text.
        Errno::INVAL if is_directory(tree) != is_directory(onto) => Errno::NOTDIR,
        err => err,
    });
    moved.context("mount")
}

/// Makes a mount read-only. Tries again for a moment, because a file may still be open
/// for writing.
pub(super) fn make_readonly(kernel: &Kernel, mount: BorrowedFd<'_>) -> Result<()> {
    for _ in 1..5 {
        match kernel.add_flags(mount, MS_RDONLY) {
            Err(Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(100)),
            result => return Ok(result?),
        }
    }
    Ok(kernel.add_flags(mount, MS_RDONLY)?)
}

/// Covers the directory `target` with an empty read-only directory.
pub(super) fn cover(target: BorrowedFd<'_>) -> Result<OwnedFd> {
    let empty = empty_directory(None)?;
    attach(empty.as_fd(), target)?;
    Ok(empty)
}

/// Makes a detached read-only tmpfs without room for files.
pub(super) fn empty_directory(label: Option<&str>) -> Result<OwnedFd> {
    let options = [("nr_blocks", "1"), ("nr_inodes", "1")];
    tmpfs(&options, label, MountAttrFlags::MOUNT_ATTR_RDONLY).context("mount tmpfs")
}

/// Makes a detached tmpfs with these options. If `attributes` make the mount read-only,
/// the filesystem is read-only, too.
pub(super) fn tmpfs(
    options: &[(&str, &str)],
    label: Option<&str>,
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        fsconfig_set_flag(&context, "ro")?;
    }
    fsconfig_set_string(&context, "source", "tmpfs")?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, *value)?;
    }
    if let Some(label) = label {
        fsconfig_set_string(&context, "context", label)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
