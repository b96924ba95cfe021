//! Puts devices into a running container and takes them out, in a process that is in
//! all namespaces of the container but its pid namespace. Puts in mounts, nodes, links
//! and covers, in this order, and takes them out in the reverse order.
//!
//! The container's processes run meanwhile and may exchange any file. So each file is
//! opened as a handle and checked by it, and a file that the runtime did not bring is
//! left alone. Not for the device rules: see `parent/hotplug.rs`.

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
use teu_plan::hotplug::Addition;
use teu_plan::mount_options::{Attributes, attributes_of};
use teu_plan::named_devices::{Brought, BroughtMount, BroughtNode};

use super::detached::clone_handle;
use super::devices::{check, make_nodes};
use super::gpu;
use super::mount_attributes::Kernel;
use super::mounts::{Kept, Mounter};
use super::paths::Root;
use crate::pipe::InitEnd;

/// The reason why a node or mount is not taken out.
const ANOTHER: &str = "something else is there by now";

/// Makes the mounts, nodes, links and covers of `addition`.
///
/// # Errors
/// The first object that cannot be made. The objects before it stay.
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

/// Takes covers, links, nodes and mounts out, in the reverse order. Skips an object
/// that is not there any more. `left` are the covers that stay, with the files they are
/// to have.
///
/// # Errors
/// The first object that cannot be taken out, after trying all.
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
        && let Some(found) = find_cover(root, before)?
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

/// Finds the mount of the cover, unless the container has unmounted it. The container could
/// lead the path to the empty tmpfs of a mask: by a link, or by another name of a directory.
fn find_cover(root: &Root, cover: &Cover) -> Result<Option<Root>> {
    let no_links = ResolveFlags::NO_SYMLINKS;
    let found = match root.open(&cover.path, OFlags::PATH, no_links) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        found => found.context("look up")?,
    };
    let is_tmpfs = fstatfs(&found).context("fstatfs")?.f_type == libc::TMPFS_MAGIC;
    if !is_tmpfs || !is_mount(found.as_fd())? {
        return Ok(None);
    }
    let tmpfs = Root::new(found);
    // A change that failed may have left some of them out.
    for file in cover.files.keys() {
        match tmpfs.open(file, OFlags::PATH, no_links) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            found => {
                found.with_context(|| format!("look up {file:?}"))?;
                return Ok(Some(tmpfs));
            }
        }
    }
    Ok(None)
}

/// Changes files of a cover. A file with the content `None` is removed. The kernel's
/// own files below the cover stay hidden meanwhile.
fn change_files<'a>(
    kernel: &Kernel,
    cover: BorrowedFd<'_>,
    files: impl Iterator<Item = (&'a PathBuf, Option<&'a Content>)>,
) -> Result<()> {
    // Clear the flag on a clone of the mount, so that no other process can write.
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

/// Removes a file, and then its directories as long as they are empty.
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

/// Removes the link, unless it leads elsewhere by now and so is not the runtime's.
fn take_link(root: &Root, link: &Link) -> Result<()> {
    let Some((parent, name)) = parent(root, &link.path)? else {
        return Ok(());
    };
    match readlinkat(&parent, name, Vec::new()) {
        Ok(target) if target.as_bytes() == link.target.as_os_str().as_bytes() => {
            match unlinkat(&parent, name, AtFlags::empty()) {
                // The link was made before the root filesystem became read-only.
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
        // Only a bind mount can be recognised, by its source. Another mount may be one
        // that protects something, because the container's links and names may lead
        // there by now.
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

/// Returns the directory that holds `path`, if it exists, and the last name.
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

/// Returns whether the handle is on the root of a mount (statx(2), Linux 5.8).
fn is_mount(handle: BorrowedFd<'_>) -> Result<bool> {
    let found = statx(handle, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).context("statx")?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Removes the mountpoint: a directory or file that is empty.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use std::os::unix::fs::symlink;
    use std::{fs, io::ErrorKind};

    /// A cover is found by any of its files, so a change that failed after the first of two
    /// files can be undone. The empty tmpfs of a masked directory is not taken for a cover.
    #[test]
    fn a_cover_is_found_by_any_of_its_files() {
        private_root("cover", |directory, root| {
            let cover = |names: &[&str]| Cover {
                path: "/covered".into(),
                files: names
                    .iter()
                    .map(|name| (name.into(), Content::Text((*name).to_owned())))
                    .collect(),
            };
            let covered = directory.join("covered");
            fs::create_dir(&covered).expect("mkdir");
            let kernel = Kernel::default();
            gpu::cover(root, &kernel, &cover(&["b"]), None).expect("cover");
            let (both, before) = (cover(&["a", "b"]), cover(&["b"]));
            take_cover(root, &kernel, &both, &[before]).expect("change");
            assert_eq!(fs::read_to_string(covered.join("b")).expect("read"), "b");
            assert!(find_cover(root, &cover(&["a"])).expect("look").is_none());

            fs::create_dir(directory.join("by-link")).expect("mkdir");
            symlink("../covered", directory.join("by-link/x")).expect("symlink");
            let by_link = Cover {
                path: "/by-link/x".into(),
                ..cover(&["b"])
            };
            take_cover(root, &kernel, &by_link, &[]).expect("nothing");
            take_cover(root, &kernel, &both, &[]).expect("uncover");
            let gone = fs::read(covered.join("b")).expect_err("uncovered");
            assert_eq!(gone.kind(), ErrorKind::NotFound);
        });
    }
}
