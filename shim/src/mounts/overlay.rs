//! Mounts an overlay of layers that are idmapped, or of so many layers that their names
//! exceed a page, the limit of mount(2).
//!
//! The layers get short names in a temporary mount namespace, in which the overlay is built.

use std::ffi::CString;
use std::fs::create_dir;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, mount, mount_change, open_tree,
};
use rustix::process::chdir;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::options::Options;
use super::{Place, move_onto};
use crate::sys;

const LOWER: &str = "lowerdir=";

pub(super) fn mount_layers(
    options: &Options,
    owners: Option<&OwnedFd>,
    place: &Place<'_>,
) -> Result<()> {
    let lower = options
        .data
        .iter()
        .find_map(|word| word.strip_prefix(LOWER));
    let lower = lower.context("an overlay without lowerdir=")?;
    let layers: Result<Vec<_>> = lower.split(':').map(|path| layer(path, owners)).collect();
    let layers = layers?;
    let target = place.open()?;
    let aside = Aside::enter()?;
    let overlay = build(options, &layers, place.rootfs)?;
    drop(aside);
    move_onto(&overlay, target)
}

/// Copies the mount of a layer without attaching it. Returns nothing for the empty name
/// between the two colons before data-only layers.
fn layer(path: &str, owners: Option<&OwnedFd>) -> Result<Option<OwnedFd>> {
    if path.is_empty() {
        return Ok(None);
    }
    let tree = copy(path).with_context(|| format!("open layer {path:?}"))?;
    if let Some(owners) = owners {
        sys::map_owners(&tree, owners)
            .with_context(|| format!("map the owners of layer {path:?} (mount_setattr)"))?;
    }
    Ok(Some(tree))
}

fn copy(path: &str) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, path, flags)?)
}

/// Builds the overlay on a tmpfs over the directory `scratch`, whose contents nobody needs in
/// this mount namespace.
fn build(options: &Options, layers: &[Option<OwnedFd>], scratch: &Path) -> Result<OwnedFd> {
    mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), c"mode=700")
        .with_context(|| format!("mount a tmpfs on {scratch:?}"))?;
    chdir(scratch)?;
    let mut names = Vec::with_capacity(layers.len());
    for (number, layer) in layers.iter().enumerate() {
        let Some(layer) = layer else {
            names.push(String::new());
            continue;
        };
        let name = number.to_string();
        create_dir(&name)?;
        let target = open(&*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        move_onto(layer, target).with_context(|| format!("mount layer {number}"))?;
        names.push(name);
    }
    let lower = format!("{LOWER}{}", names.join(":"));
    let words = options
        .data
        .iter()
        .map(|word| match word.starts_with(LOWER) {
            true => lower.as_str(),
            false => word,
        });
    let data = CString::new(words.collect::<Vec<_>>().join(","))?;
    create_dir("merged")?;
    mount(
        "overlay",
        "merged",
        "overlay",
        options.flags,
        data.as_c_str(),
    )?;
    copy("merged")
}

/// Keeps this thread in a mount namespace of its own until dropped.
struct Aside {
    home: OwnedFd,
}

impl Aside {
    fn enter() -> Result<Aside> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        // /proc/thread-self, because each thread of the tests has its own namespace.
        let home = open("/proc/thread-self/ns/mnt", flags, Mode::empty())?;
        sys::unshare_mounts().context("make a mount namespace")?;
        let aside = Aside { home };
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", flags).context("make the mounts slaves")?;
        Ok(aside)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let home = Some(LinkNameSpaceType::Mount);
        if let Err(err) = move_into_link_name_space(std::os::fd::AsFd::as_fd(&self.home), home) {
            log::error!("cannot return to the mount namespace: {err}");
        }
    }
}
