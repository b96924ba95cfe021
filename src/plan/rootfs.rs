//! DECIDE: the container's root filesystem: where it is, what is mounted in
//! it, its devices, how the process gets into it, and what is hidden there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use libc::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, c_ulong};
use rustix::io::Errno;
use teu_cgroups::Layout;
use teu_namespaces::{Kind, NamespacePlan};

use super::devices::{DeviceNode, device_nodes};
use super::mount_options::MountOptions;
use super::mounts::{Mount, Surroundings, clean, mounts};
use crate::host::Host;
use crate::spec::Spec;

/// Everything about the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootfsPlan {
    /// Absolute path on the host, without symbolic links.
    pub(crate) path: PathBuf,
    /// Propagation (`MS_*`) of the host's mounts as the container's mount namespace has
    /// them; `None` where that namespace is the host's own.
    pub(crate) host_propagation: Option<c_ulong>,
    /// Whether that may leave the mount which holds the root filesystem shared.
    pub(crate) host_mounts_may_be_shared: bool,
    /// What the host mounts in the root filesystem later shows up in the
    /// container (`rootfsPropagation: slave`).
    pub(crate) follows_host_mounts: bool,
    /// Propagation (`MS_*`) of the container's "/" when it is in place.
    pub(crate) propagation: Option<c_ulong>,
    /// In this order.
    pub(crate) mounts: Vec<Mount>,
    /// What to set up below /dev; `None` when it is the host's.
    pub(crate) devices: Option<Devices>,
    pub(crate) entrance: Entrance,
    /// To be unshared before a `cgroup` mount, at the latest before the hooks.
    pub(crate) unshare_cgroup_namespace: bool,
    /// Make "/" read-only.
    pub(crate) readonly: bool,
    /// Cleaned absolute paths in the container.
    pub(crate) readonly_paths: Vec<PathBuf>,
    /// Cleaned absolute paths in the container, none twice.
    pub(crate) masked_paths: Vec<PathBuf>,
    /// SELinux context of the filesystem that masks directories.
    pub(crate) mask_context: Option<String>,
}

/// The container's /dev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Devices {
    pub(crate) nodes: Vec<DeviceNode>,
    /// Bind the host's nodes: there is no mknod(2) in a user namespace.
    pub(crate) bind: bool,
    /// Symbolic links: path, target.
    pub(crate) links: Vec<(&'static str, &'static str)>,
}

/// How the process gets into its root filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// pivot_root(2).
    Pivot,
    /// `--no-pivot`: for a host whose root cannot be pivoted away from (ramfs).
    Move,
    /// chroot(2): there is no mount namespace to move anything in.
    Chroot,
}

/// What the root filesystem's plan is made from.
#[derive(Debug)]
pub(crate) struct RootfsInput<'a> {
    pub(crate) spec: &'a Spec,
    /// Absolute.
    pub(crate) bundle_dir: &'a Path,
    pub(crate) host: &'a Host,
    pub(crate) namespaces: &'a NamespacePlan,
    /// For mounts of type `cgroup`.
    pub(crate) cgroup: Option<&'a Layout>,
    /// `--no-pivot`.
    pub(crate) no_pivot: bool,
}

/// Links of every container's /dev (config-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
const CORE_LINK: (&str, &str) = ("/dev/core", "/proc/kcore");

impl RootfsPlan {
    /// Decides on everything.
    ///
    /// # Errors
    /// A field that is missing, contradicts another or cannot be had on this
    /// host; the error names it.
    pub(crate) fn new(input: &RootfsInput<'_>) -> Result<RootfsPlan> {
        let spec = input.spec;
        let root = spec.root.as_ref().context("root must be specified")?;
        let path = rootfs_path(input.host, input.bundle_dir, &root.path)?;
        let linux = spec.linux.clone().unwrap_or_default();
        let mounts = mounts(
            &spec.mounts,
            &Surroundings {
                bundle_dir: input.bundle_dir,
                rootfs: &path,
                unprivileged: input.host.is_unprivileged(),
                rootless: input.host.is_unprivileged() || input.host.in_user_namespace(),
                namespaces: input.namespaces,
                cgroup: input.cgroup,
                label: &linux.mount_label,
            },
        )?;
        let entrance = entrance(input);
        let propagation = propagation(&linux.rootfs_propagation, entrance)?;
        let private = input.namespaces.is_private(Kind::Mount);
        let restricts = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
        if restricts && !private {
            bail!("unable to restrict sys entries without a private MNT namespace");
        }
        let nodes = device_nodes(&linux.devices)?;
        let host_propagation = propagation.unwrap_or(DEFAULT_PROPAGATION);
        Ok(RootfsPlan {
            path,
            host_propagation: private.then_some(host_propagation),
            host_mounts_may_be_shared: !leaves_nothing_shared(host_propagation),
            follows_host_mounts: propagation.is_some_and(|flags| flags & MS_SLAVE != 0),
            // A slave or private "/" is one already from `host_propagation`.
            propagation: propagation
                .filter(|flags| private && flags & (MS_SHARED | MS_UNBINDABLE) != 0),
            devices: (!mounts.iter().any(Mount::is_bind_on_dev)).then(|| Devices {
                nodes,
                bind: input.namespaces.is_private(Kind::User) || input.host.in_user_namespace(),
                links: links(input.host),
            }),
            mounts,
            entrance,
            unshare_cgroup_namespace: input.namespaces.is_new(Kind::Cgroup),
            readonly: root.readonly && private,
            readonly_paths: unique_paths(&linux.readonly_paths),
            masked_paths: unique_paths(&linux.masked_paths),
            mask_context: (!linux.mount_label.is_empty()).then_some(linux.mount_label),
        })
    }
}

const DEFAULT_PROPAGATION: c_ulong = MS_SLAVE | MS_REC;

fn leaves_nothing_shared(propagation: c_ulong) -> bool {
    propagation & MS_REC != 0 && propagation & (MS_SLAVE | MS_PRIVATE) != 0
}

fn rootfs_path(host: &Host, bundle_dir: &Path, path: &str) -> Result<PathBuf> {
    ensure!(!path.is_empty(), "root.path must be specified");
    ensure!(!path.contains('\0'), "root.path contains null byte");
    let path = clean(&bundle_dir.join(path));
    match host.check_path_without_links(&path) {
        Ok(()) => Ok(path),
        Err(Errno::LOOP) => {
            bail!("invalid rootfs: not an absolute path, or a symlink: {path:?}")
        }
        Err(err) => Err(err).with_context(|| format!("invalid rootfs: stat {path:?}")),
    }
}

fn entrance(input: &RootfsInput<'_>) -> Entrance {
    if !input.namespaces.is_private(Kind::Mount) {
        Entrance::Chroot
    } else if input.no_pivot {
        Entrance::Move
    } else {
        Entrance::Pivot
    }
}

/// `linux.rootfsPropagation`.
fn propagation(word: &str, entrance: Entrance) -> Result<Option<c_ulong>> {
    if word.is_empty() {
        return Ok(None);
    }
    let options = MountOptions::parse(&[word.to_owned()]);
    let [propagation] = options.propagation[..] else {
        bail!("rootfsPropagation={word} is not supported");
    };
    if propagation & MS_PRIVATE != 0 && entrance == Entrance::Move {
        bail!("rootfsPropagation of [r]private is not safe without pivot_root");
    }
    Ok(Some(propagation))
}

fn links(host: &Host) -> Vec<(&'static str, &'static str)> {
    let mut links = LINKS.to_vec();
    if host.path("proc/kcore").exists() {
        links.push(CORE_LINK);
    }
    links
}

fn unique_paths(paths: &[String]) -> Vec<PathBuf> {
    let mut unique: Vec<PathBuf> = Vec::with_capacity(paths.len());
    for path in paths {
        let path = clean(Path::new(path));
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}
