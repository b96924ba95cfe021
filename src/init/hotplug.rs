//! DO: devices into a container that runs, and out of it, in a process of ours that
//! is in all of its namespaces but the pid namespace.
//!
//! The container's processes go on meanwhile: what is found is looked at by a handle,
//! and something else than what was brought is left alone.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libc::MS_RDONLY;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, fstat, fstatfs,
    openat, readlinkat, statat, statx, unlinkat,
};
use rustix::io::Errno;
use teu_gpu::{Content, Cover, Link};

use super::detached::clone_handle;
use super::devices::{check, make_nodes};
use super::gpu;
use super::mount_attributes::Kernel;
use super::mounts::{Kept, Mounter};
use super::paths::Root;
use crate::pipe::InitEnd;
use crate::plan::hotplug::Addition;
use crate::plan::mount_options::{Attributes, attributes_of};
use crate::plan::named_devices::{Brought, BroughtMount, BroughtNode};

/// Why it is not taken out.
const ANOTHER: &str = "something else is there by now";

/// Makes mounts, nodes and links.
///
/// # Errors
/// The first that cannot be made; those before it are there.
pub(crate) fn put_in(
    root: &Root,
    kernel: &Kernel,
    addition: &Addition,
    pipe: &mut InitEnd,
) -> Result<()> {
    let mut kept = Kept::default();
    let mut mounter = Mounter {
        root,
        kernel,
        pipe: &mut *pipe,
        kept: &mut kept,
    };
    for (index, mount) in addition.mounts.iter().enumerate() {
        mounter.make(index, mount)?;
    }
    kept.make_readonly(kernel, &addition.mounts)?;
    make_nodes(root, kernel, &addition.devices, pipe)?;
    gpu::make_links(root, &addition.brought.links)?;
    for cover in &addition.covers {
        put_cover(root, kernel, addition, cover)
            .with_context(|| format!("cover {:?}", cover.path))?;
    }
    Ok(())
}

/// Takes links, nodes and mounts away, the last first. What is not there is taken
/// already. `left`: how what is covered is to be then.
///
/// # Errors
/// The first that is still there; all were tried.
pub(crate) fn take_out(
    root: &Root,
    kernel: &Kernel,
    brought: &Brought,
    left: &[Cover],
) -> Result<()> {
    let nodes = brought.nodes.iter().rev().map(|node| {
        take_node(root, kernel, node).with_context(|| format!("remove device {:?}", node.path))
    });
    let mounts = brought.mounts.iter().rev().map(|mount| {
        let path = &mount.destination;
        take_mount(root, kernel, mount).with_context(|| format!("unmount {path:?}"))
    });
    let links =
        brought.links.iter().rev().map(|link| {
            take_link(root, link).with_context(|| format!("remove link {:?}", link.path))
        });
    let covers = brought.covers.iter().rev().map(|cover| {
        take_cover(root, kernel, cover, left).with_context(|| format!("uncover {:?}", cover.path))
    });
    let all = covers.chain(links).chain(nodes).chain(mounts);
    all.fold(Ok(()), Result::and)
}

fn put_cover(root: &Root, kernel: &Kernel, addition: &Addition, cover: &Cover) -> Result<()> {
    if let Some(before) = of_same_path(&addition.covers_before, cover)
        && let Some(found) = find_cover(root, cover)?
    {
        let new = cover
            .files
            .iter()
            .map(|(path, content)| (path, Some(content)));
        let new = new.filter(|(path, content)| before.files.get(*path) != *content);
        return change_files(kernel, found.as_fd(), new);
    }
    gpu::cover(root, kernel, cover, addition.mount_label.as_deref())
}

fn take_cover(root: &Root, kernel: &Kernel, cover: &Cover, left: &[Cover]) -> Result<()> {
    let Some(found) = find_cover(root, cover)? else {
        return Ok(());
    };
    let Some(left) = of_same_path(left, cover) else {
        return kernel.detach(found.as_fd()).context("unmount");
    };
    let changed = cover.files.iter().filter_map(|(path, content)| {
        let left = left.files.get(path);
        (left != Some(content)).then_some((path, left))
    });
    change_files(kernel, found.as_fd(), changed)
}

fn of_same_path<'a>(covers: &'a [Cover], like: &Cover) -> Option<&'a Cover> {
    covers.iter().find(|cover| cover.path == like.path)
}

/// What covers the directory, unless the container has taken it away.
fn find_cover(root: &Root, cover: &Cover) -> Result<Option<OwnedFd>> {
    let found = match root.resolve(&cover.path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        found => found.context("look up")?,
    };
    let is_tmpfs = fstatfs(&found).context("fstatfs")?.f_type == libc::TMPFS_MAGIC;
    Ok((is_tmpfs && is_mount(found.as_fd())?).then_some(found))
}

/// Changes files of what covers a directory; one that is to go has no content. The
/// machine's own are not seen meanwhile.
fn change_files<'a>(
    kernel: &Kernel,
    cover: BorrowedFd<'_>,
    files: impl Iterator<Item = (&'a PathBuf, Option<&'a Content>)>,
) -> Result<()> {
    // Nobody else can write by way of this one.
    let writable = clone_handle(cover, false).context("open_tree")?;
    let readonly = Attributes {
        clear: attributes_of(MS_RDONLY),
        ..Attributes::default()
    };
    kernel
        .change_all(writable.as_fd(), readonly)
        .context("clear read-only")?;
    let root = Root::new(writable);
    for (path, content) in files {
        remove(&root, path).with_context(|| format!("remove {path:?}"))?;
        if let Some(content) = content {
            gpu::write(&root, path, content).with_context(|| format!("write {path:?}"))?;
        }
    }
    Ok(())
}

/// Removes a file, and directories in which there is nothing then.
fn remove(root: &Root, path: &Path) -> Result<()> {
    let mut flags = AtFlags::empty();
    for path in Path::new("/").join(path).ancestors() {
        if path.file_name().is_none() {
            break;
        }
        let Some((parent, name)) = parent(root, path)? else {
            return Ok(());
        };
        match unlinkat(&parent, name, flags) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTEMPTY) => break,
            Err(err) => return Err(err).context("unlink"),
        }
        flags = AtFlags::REMOVEDIR;
    }
    Ok(())
}

/// One that leads elsewhere by now is another's.
fn take_link(root: &Root, link: &Link) -> Result<()> {
    let Some((parent, name)) = parent(root, &link.path)? else {
        return Ok(());
    };
    match readlinkat(&parent, name, Vec::new()) {
        Ok(target) if target.as_bytes() == link.target.as_os_str().as_bytes() => {
            match unlinkat(&parent, name, AtFlags::empty()) {
                // It was made before nobody could write there any more.
                Err(Errno::ROFS) => Ok(()),
                taken => taken.context("unlink"),
            }
        }
        Ok(_) | Err(Errno::NOENT | Errno::INVAL) => Ok(()),
        Err(err) => Err(err).context("read it"),
    }
}

fn take_node(root: &Root, kernel: &Kernel, node: &BroughtNode) -> Result<()> {
    let Some((parent, name)) = parent(root, &node.path)? else {
        return Ok(());
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        found => found.context("open")?,
    };
    if check(&fstat(&found).context("fstat")?, node.kind).is_err() {
        bail!(ANOTHER);
    }
    if !is_mount(found.as_fd())? {
        return unlinkat(&parent, name, AtFlags::empty()).context("unlink");
    }
    kernel.detach(found.as_fd()).context("unmount")?;
    remove_mountpoint(&parent, name)
}

fn take_mount(root: &Root, kernel: &Kernel, mount: &BroughtMount) -> Result<()> {
    let place = root.locate(&mount.destination).context("look up")?;
    let Some(found) = place.found else {
        return Ok(());
    };
    if is_mount(found.as_fd())? {
        let id = fstat(&found).map(|found| (found.st_dev, found.st_ino));
        let id = id.context("fstat")?;
        // What was no bind cannot be told from a mount that protects something, to
        // which the container's links and names may lead by now.
        if mount.source != Some(id) {
            bail!(ANOTHER);
        }
        kernel.detach(found.as_fd())?;
    }
    match parent(root, &place.path)? {
        Some((parent, name)) if mount.made_mountpoint => remove_mountpoint(&parent, name),
        _ => Ok(()),
    }
}

/// The directory that holds `path`, if it is there, and the last name.
fn parent<'a>(root: &Root, path: &'a Path) -> Result<Option<(OwnedFd, &'a OsStr)>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{path:?} has no name");
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match root.open(parent, flags, ResolveFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        found => Ok(Some((
            found.with_context(|| format!("open {parent:?}"))?,
            name,
        ))),
    }
}

/// Whether something is mounted where the handle is (statx(2), Linux 5.8).
fn is_mount(handle: BorrowedFd<'_>) -> Result<bool> {
    let found = statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).context("statx")?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Removes what is left where something was mounted, if nothing is in it.
fn remove_mountpoint(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context("stat the mountpoint")?;
    let flags = match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if found.st_size == 0 => AtFlags::empty(),
        _ => return Ok(()),
    };
    match unlinkat(parent, name, flags) {
        Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        removed => removed.context("remove the mountpoint"),
    }
}
