//! DO, outside: device nodes for a container whose user namespace may not make
//! any (config-linux.md, "Devices"), where the host's own will not do.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, XattrFlags, lsetxattr, mknodat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use crate::init::devices::kind_and_number;
use crate::plan::rootfs::RootfsPlan;
use crate::sys::{self, MountChange};

/// Below the state directory, and for root alone: a node here has the mode and
/// owner of the container's, and others may enter the state directory.
const DIRECTORY: &str = "devices";

/// Makes device `index` of the plan below `state_dir`, and returns a detached
/// mount of it. It stays there until [`remove`]: a mount of what has no name any
/// more cannot be attached (ENOENT, as seen on Linux 6.18).
///
/// # Errors
/// The caller has not the privileges, or the kernel cannot take the directory's
/// `nodev` from the mount (before Linux 5.12).
pub(crate) fn make(plan: &RootfsPlan, index: usize, state_dir: &Path) -> Result<OwnedFd> {
    let devices = plan.devices.as_ref();
    let node = devices.and_then(|devices| devices.nodes.get(index));
    let node = node.with_context(|| format!("the plan has no device {index}"))?;
    let (uid, gid) = node.made_by_host.context("init may make it itself")?;
    let path = make_directory(state_dir)?.join(index.to_string());
    let (kind, number) = kind_and_number(node.kind);
    mknodat(CWD, &path, kind, Mode::empty(), number).with_context(|| format!("mknod {path:?}"))?;
    own(&path, (uid, gid), node.mode, plan.mask_context.as_deref())
        .and_then(|()| clone_usable(&path))
        .with_context(|| format!("{path:?}"))
}

/// Removes what [`make`] has made, once the container has it.
///
/// # Errors
/// A node is still there.
pub(crate) fn remove(plan: &RootfsPlan, state_dir: &Path) -> Result<()> {
    let mut nodes = plan.devices.iter().flat_map(|devices| &devices.nodes);
    if !nodes.any(|node| node.made_by_host.is_some()) {
        return Ok(());
    }
    let directory = state_dir.join(DIRECTORY);
    fs::remove_dir_all(&directory).with_context(|| format!("remove {directory:?}"))
}

fn make_directory(state_dir: &Path) -> Result<PathBuf> {
    let directory = state_dir.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(err).with_context(|| format!("make the directory {directory:?}"))
        }
        // Or for the device before this one.
        _ => Ok(directory),
    }
}

/// Owner first: a change of owner takes the set-id bits away.
fn own(path: &Path, owner: (u32, u32), mode: u32, label: Option<&str>) -> Result<()> {
    chown(path, Some(owner.0), Some(owner.1)).context("chown")?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("chmod")?;
    if let Some(label) = label {
        let name = "security.selinux";
        lsetxattr(path, name, label.as_bytes(), XattrFlags::empty())
            .with_context(|| format!("set label {label:?}"))?;
    }
    Ok(())
}

/// A detached mount of the node, by which it can be used.
fn clone_usable(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, path, flags).context("open_tree")?;
    let change = MountChange {
        set: (MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
            .bits()
            .into(),
        clear: MountAttrFlags::MOUNT_ATTR_NODEV.bits().into(),
        propagation: libc::MS_PRIVATE,
        ..MountChange::default()
    };
    sys::mount_setattr(&tree, &change, None).context("mount_setattr")?;
    Ok(tree)
}
