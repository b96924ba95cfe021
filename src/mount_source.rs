//! Mount sources that the host side opens for init: one that root of the
//! container's user namespace may not reach, and idmapped ones.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::{chroot, fchdir};
use teu_namespaces::{Child, idmap_mount};

use crate::plan::mount_options::IdMapped;
use crate::plan::mounts::{Bind, BindIdMap, BindIdMapSource};
use crate::plan::rootfs::RootfsPlan;
use crate::sys::{self, MountChange};

/// A detached clone of the source of mount `index` of the plan, made in the
/// mount namespace of `child`: what the kernel has locked there stays locked.
/// This process must be single-threaded; it comes back to its own namespace.
///
/// # Errors
/// The source is not there, or its filesystem cannot be idmapped.
pub(crate) fn open(plan: &RootfsPlan, index: usize, child: &Child) -> Result<OwnedFd> {
    let mount = plan
        .mounts
        .get(index)
        .with_context(|| format!("there is no mount {index}"))?;
    let Some(bind) = mount.bind() else {
        bail!("mount {index} has no source on the host");
    };
    let tree = clone_in(child, bind)?;
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

/// Opens the source from inside the child's mount namespace.
fn clone_in(child: &Child, bind: &Bind) -> Result<OwnedFd> {
    let home = Home::open()?;
    let namespace = open_namespace(child, "mnt")?;
    setns(&namespace, CloneFlags::CLONE_NEWNS).context("join the mount namespace of init")?;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if bind.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let opened = open_tree(CWD, &bind.source, flags);
    home.go_back()?;
    opened.with_context(|| {
        format!(
            "failed to fulfil mount request: open {}",
            bind.source.display()
        )
    })
}

/// Where this process belongs: setns(2) into a mount namespace changes its root
/// and working directory, too.
struct Home {
    namespace: File,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Home {
    fn open() -> Result<Home> {
        let open = |path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty()).with_context(|| format!("open {path:?}"))
        };
        let path = "/proc/self/ns/mnt";
        Ok(Home {
            namespace: File::open(path).with_context(|| format!("open {path:?}"))?,
            root: open("/")?,
            directory: open(".")?,
        })
    }

    fn go_back(self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNS)
            .context("come back from the mount namespace of init")?;
        fchdir(&self.root).context("chdir to the own root")?;
        chroot(".").context("chroot to the own root")?;
        fchdir(&self.directory).context("chdir to the own directory")
    }
}

fn open_namespace(child: &Child, name: &str) -> Result<File> {
    let path = format!("/proc/{}/ns/{name}", child.pid());
    File::open(&path).with_context(|| format!("open {path:?}"))
}

fn map_ids(tree: BorrowedFd<'_>, id_map: &BindIdMap, child: &Child) -> Result<()> {
    let user_namespace = match &id_map.maps {
        BindIdMapSource::Given(maps) => idmap_mount::user_namespace_with(maps)?,
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
