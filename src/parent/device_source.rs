//! Makes device nodes for a container whose user namespace may not make any
//! (config-linux.md, "Devices"), if the host's own nodes do not fit the plan. Not for
//! other nodes: `init/devices.rs` makes them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, XattrFlags, lsetxattr, mknodat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use teu_plan::devices::Devices;

use crate::errno;
use crate::init::detached::clone_tree;
use crate::init::devices::kind_and_number;
use crate::pipe::ToInit;
use crate::sys::{self, MountChange};

/// The directory of the nodes, below the state directory. Only root may enter it,
/// because a node here has the mode and owner of the container's node, while others may
/// enter the state directory.
const DIRECTORY: &str = "devices";

/// Makes node `index` of `devices` below `state_dir`, with an SELinux label if there is
/// one, and returns the answer for init: a detached mount of the node. The node stays
/// until [`remove`], because a mount of a file without a name cannot be attached
/// (ENOENT, seen on Linux 6.18).
///
/// # Errors
/// The node cannot be made. If this process may not make any node on this machine, that
/// is an answer and not an error.
pub(crate) fn make(
    devices: &Devices,
    label: Option<&str>,
    index: usize,
    state_dir: &Path,
) -> Result<ToInit> {
    let node = devices.nodes.get(index);
    let node = node.with_context(|| format!("the plan has no device {index}"))?;
    let owner = node.made_by_parent.context("init may make it itself")?;
    let path = make_directory(state_dir)?.join(index.to_string());
    let (kind, number) = kind_and_number(node.kind);
    match mknodat(CWD, &path, kind, Mode::empty(), number) {
        // This process lacks CAP_MKNOD, or the rules of its own cgroup forbid it.
        Err(Errno::PERM) => return Ok(impossible("mknod", Errno::PERM)),
        result => result.with_context(|| format!("mknod {path:?}"))?,
    }
    let context = || format!("{path:?}");
    own(&path, owner, node.mode, label).with_context(context)?;
    let tree = clone_tree(&path, false).context("open_tree");
    let tree = tree.with_context(context)?;
    match make_usable(&tree) {
        // Linux before 5.12 has no mount_setattr(2).
        Err(err) if err.raw_os_error() == Some(libc::ENOSYS) => {
            Ok(impossible("mount_setattr", Errno::NOSYS))
        }
        result => result
            .map(|()| ToInit::Tree(tree))
            .context("mount_setattr")
            .with_context(context),
    }
}

fn impossible(call: &str, err: Errno) -> ToInit {
    ToInit::NoDevices(format!("{call}: {}", errno::text(err)))
}

/// Removes the nodes that [`make`] has made, once the container has them.
///
/// # Errors
/// A node is still there.
pub(crate) fn remove(devices: &Devices, state_dir: &Path) -> Result<()> {
    if !devices
        .nodes
        .iter()
        .any(|node| node.made_by_parent.is_some())
    {
        return Ok(());
    }
    let directory = state_dir.join(DIRECTORY);
    match fs::remove_dir_all(&directory) {
        // Init asked for no node.
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {directory:?}")),
    }
}

fn make_directory(state_dir: &Path) -> Result<PathBuf> {
    let directory = state_dir.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
            Err(err).with_context(|| format!("make the directory {directory:?}"))
        }
        // The directory exists, from an earlier device.
        _ => Ok(directory),
    }
}

/// Sets the owner before the mode, because a change of owner clears the set-id bits.
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

/// Clears `nodev` of the mount, because the mount of the state directory may have it.
fn make_usable(tree: &OwnedFd) -> io::Result<()> {
    let change = MountChange {
        set: (MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
            .bits()
            .into(),
        clear: MountAttrFlags::MOUNT_ATTR_NODEV.bits().into(),
        propagation: libc::MS_PRIVATE,
        ..MountChange::default()
    };
    sys::mount_setattr(tree, &change, None)
}
