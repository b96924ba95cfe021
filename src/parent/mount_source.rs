//! Opens mount sources for init: a source that root of the container's user namespace
//! may not reach, and idmapped sources. Not for other sources: `init/mounts.rs` opens
//! them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::mount::MountAttrFlags;
use teu_namespaces::{Child, Kind, Namespace, NamespacePlan, user_namespace};
use teu_plan::mount_options::IdMapped;
use teu_plan::mounts::{Bind, BindIdMap, BindIdMapSource, Mount};
use teu_plan::rootfs::RootfsPlan;

use crate::init::detached::clone_tree;
use crate::pipe::{self, ParentEnd, ToInit};
use crate::sys::{self, MountChange};

/// Makes a detached clone of the source of mount `index` of the plan, in the mount
/// namespace of `child`, so that flags which the kernel has locked there stay locked.
/// This process must be single-threaded.
///
/// # Errors
/// The source does not exist, or its filesystem cannot be idmapped.
pub(crate) fn open(plan: &RootfsPlan, index: usize, child: &Child) -> Result<OwnedFd> {
    let mount = plan
        .mounts
        .get(index)
        .with_context(|| format!("there is no mount {index}"))?;
    let Some(bind) = mount.bind() else {
        bail!("mount {index} has no source on the host");
    };
    with_ids(clone_in(child, bind)?, bind, child)
}

/// Does the work of [`open`] for a running container, in this process's own mount
/// namespace, because the container's does not show the source.
///
/// # Errors
/// The errors of [`open`].
pub(crate) fn open_here(mounts: &[Mount], index: usize, child: &Child) -> Result<OwnedFd> {
    let bind = mounts.get(index).and_then(Mount::bind);
    let bind = bind.with_context(|| format!("mount {index} has no source on the host"))?;
    let context = || format!("open {:?}", bind.source);
    let tree = clone_source(bind).with_context(context)?;
    // Make the clone a slave, as mounts of the container are, so that later mounts on
    // it do not appear on the host.
    let change = MountChange {
        propagation: libc::MS_SLAVE,
        recursive: bind.recursive,
        ..MountChange::default()
    };
    sys::mount_setattr(&tree, &change, None)
        .context("mount_setattr")
        .with_context(context)?;
    with_ids(tree, bind, child)
}

fn with_ids(tree: OwnedFd, bind: &Bind, child: &Child) -> Result<OwnedFd> {
    if let Some(id_map) = &bind.id_map {
        map_ids(tree.as_fd(), id_map, child).with_context(|| {
            format!(
                "failed to set MOUNT_ATTR_IDMAP on {:?} (maybe the filesystem used doesn't \
                 support idmap mounts on this kernel?)",
                bind.source
            )
        })?;
    }
    Ok(tree)
}

/// Opens the source inside the child's mount namespace, in a separate process, because
/// root of a user namespace may not be allowed to return to this process's mount
/// namespace.
fn clone_in(child: &Child, bind: &Bind) -> Result<OwnedFd> {
    let mut namespaces = NamespacePlan::default();
    let path = format!("/proc/{}/ns/mnt", child.pid());
    namespaces.set(Kind::Mount, Namespace::Joined(path.into()));
    // The opener sends the source to this process, in the message with which this
    // process answers init.
    let (opener_end, end) = pipe::pair()?;
    let ends = (end, opener_end);
    let opener = |end: ParentEnd, joined: teu_namespaces::Result<()>| {
        let opened = joined.map_err(Into::into);
        let source = opened.and_then(|()| clone_source(bind));
        let answer = ToInit::answer(source.map(ToInit::Tree));
        i32::from(end.send(answer).is_err())
    };
    let (_opener, mut end) = teu_namespaces::spawn(&namespaces, None, ends, opener)?;
    end.receive_tree().with_context(|| {
        format!(
            "failed to fulfil mount request: open {}",
            bind.source.display()
        )
    })
}

fn clone_source(bind: &Bind) -> Result<OwnedFd> {
    Ok(clone_tree(&bind.source, bind.recursive)?)
}

fn open_namespace(child: &Child, name: &str) -> Result<File> {
    let path = format!("/proc/{}/ns/{name}", child.pid());
    File::open(&path).with_context(|| format!("open {path:?}"))
}

fn map_ids(tree: BorrowedFd<'_>, id_map: &BindIdMap, child: &Child) -> Result<()> {
    let user_namespace = match &id_map.maps {
        BindIdMapSource::FromParent(maps) => user_namespace::with_maps(maps)?,
        BindIdMapSource::Container => open_namespace(child, "user")?.into(),
    };
    let change = MountChange {
        set: MountAttrFlags::MOUNT_ATTR_IDMAP.bits().into(),
        recursive: id_map.scope == IdMapped::Tree,
        ..MountChange::default()
    };
    Ok(sys::mount_setattr(
        tree,
        &change,
        Some(user_namespace.as_fd()),
    )?)
}
