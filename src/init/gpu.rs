//! Carries out what devices bring but a specification cannot express: links to
//! libraries, and covers that show directories of the kernel's in part.
//!
//! An image may have anything at these paths. Links of the image are resolved below the
//! root, so they lead nowhere outside.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use libc::MS_RDONLY;
use rustix::fs::{AtFlags, Mode, OFlags, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use teu_gpu::{Content, Cover, Link};

use super::detached::{attach, tmpfs};
use super::mount_attributes::Kernel;
use super::paths::{Root, is_directory};

/// Makes the links, in the given order.
pub(super) fn make_links(root: &Root, links: &[Link]) -> Result<()> {
    for link in links {
        make_link(root, link)
            .with_context(|| format!("make link {:?} to {:?}", link.path, link.target))?;
    }
    Ok(())
}

/// Makes a link. Replaces another link or a file at its path. Leaves a link with the
/// right target alone, because the root filesystem may be read-only.
fn make_link(root: &Root, link: &Link) -> Result<()> {
    let (parent, name) = root.parent(&link.path).context("make its directory")?;
    let is_there = || {
        let found = readlinkat(&parent, &name, Vec::new());
        found.is_ok_and(|target| target.as_bytes() == link.target.as_os_str().as_bytes())
    };
    if is_there() {
        return Ok(());
    }
    match unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(err) => return Err(err).context("remove what is there"),
    }
    match symlinkat(&link.target, &parent, &name) {
        // Another container with this root filesystem has just made the link.
        Err(Errno::EXIST) if is_there() => Ok(()),
        made => made.context("symlink"),
    }
}

/// Covers a directory if it exists. `label` is the SELinux context of the cover.
pub(super) fn cover(
    root: &Root,
    kernel: &Kernel,
    cover: &Cover,
    label: Option<&str>,
) -> Result<()> {
    let target = match root.resolve(&cover.path) {
        Err(Errno::NOENT) => return Ok(()),
        found => found.context("open")?,
    };
    if !is_directory(target.as_fd()).context("stat")? {
        return Ok(());
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let tmpfs = tmpfs(&[("mode", "0555")], label, attributes).context("mount tmpfs")?;
    let made = Root::new(tmpfs);
    for (path, content) in &cover.files {
        write(&made, path, content).with_context(|| format!("write {path:?}"))?;
    }
    attach(made.as_fd(), target.as_fd())?;
    kernel
        .add_flags(made.as_fd(), MS_RDONLY)
        .context("set read-only")
}

/// Makes a file of a cover.
pub(super) fn write(root: &Root, path: &Path, content: &Content) -> Result<()> {
    let (parent, name) = root.parent(&Path::new("/").join(path))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o444))?;
    let mut file = std::fs::File::from(file);
    std::io::Write::write_all(&mut file, content.text().as_bytes())?;
    Ok(())
}
