//! DECIDE: the parts of a container that belong to the host. CRIU neither saves them at a
//! checkpoint nor makes them at a restore, but has to be told where they are. Not for
//! calling CRIU: see `commands/checkpoint.rs`.

use serde::{Deserialize, Serialize};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::mounts::{Mount, MountKind};
use super::rootfs::RootfsPlan;
use crate::prelude::*;

/// The external parts of a container, which its state keeps for `checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// The mountpoints of the host's files, as config.json has them: their paths may have
    /// links.
    pub mounts: Vec<PathBuf>,
    /// The masked paths. Files among them are covered by /dev/null, which is external to
    /// CRIU.
    pub masked: Vec<PathBuf>,
    /// The kinds of joined namespaces that CRIU may leave alone.
    pub namespaces: Vec<String>,
    /// The caller's pipes among the standard streams, such as `pipe:[7]`. Empty for other
    /// streams.
    pub pipes: [String; 3],
}

/// A file or directory of the host that is mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMount {
    /// The mountpoint in the container.
    pub destination: PathBuf,
    /// The path on the host.
    pub source: PathBuf,
}

/// The namespaces that CRIU can leave alone: kind, name in /proc/PID/ns, CRIU's key, and
/// the oldest version of CRIU that knows it. Other namespaces that the container joined are
/// joined by CRIU at a restore.
pub const EXTERNAL_NAMESPACES: [(Kind, &str, &str, u32); 2] = [
    (Kind::Network, "net", "extRootNetNS", 31_100),
    (Kind::Pid, "pid", "extRootPidNS", 31_500),
];

impl External {
    /// Returns the external parts of a container of this plan. The streams are set later,
    /// because they are not known yet.
    pub fn new(rootfs: &RootfsPlan, namespaces: &NamespacePlan) -> External {
        let joined = EXTERNAL_NAMESPACES
            .iter()
            .filter(|(kind, ..)| namespaces.joined(*kind).is_some());
        let nodes = rootfs.devices.iter().filter(|devices| devices.bind);
        let nodes = nodes.flat_map(|devices| devices.nodes.iter().map(|node| node.path.clone()));
        External {
            mounts: mounts(&rootfs.mounts, namespaces)
                .map(|mount| mount.destination)
                .chain(nodes)
                .collect(),
            masked: rootfs
                .masked_paths
                .iter()
                .map(|masked| masked.path.clone())
                .collect(),
            namespaces: joined.map(|(_, word, ..)| (*word).to_owned()).collect(),
            pipes: Default::default(),
        }
    }
}

/// For a restore: returns every mount that a checkpoint of such a container may have
/// recorded as external. The list may be too long.
pub fn external_mounts(rootfs: &RootfsPlan, namespaces: &NamespacePlan) -> Vec<ExternalMount> {
    let same = |path: PathBuf| ExternalMount {
        destination: path.clone(),
        source: path,
    };
    let nodes = rootfs.devices.iter().flat_map(|devices| &devices.nodes);
    // CRIU gets one name for /dev/null, which covers all masked files.
    let null = (!rootfs.masked_paths.is_empty()).then(|| same("/dev/null".into()));
    mounts(&rootfs.mounts, namespaces)
        .chain(null)
        .chain(nodes.map(|node| same(node.path.clone())))
        .collect()
}

/// Returns the mounts whose source belongs to the host.
fn mounts(mounts: &[Mount], namespaces: &NamespacePlan) -> impl Iterator<Item = ExternalMount> {
    // Without a cgroup namespace, a cgroup2 mount shows the host's hierarchy, so the host's
    // mount is bound. A new mount would set CRIU's options on the host's (without
    // nsdelegate), and is not allowed in a user namespace.
    let binds_cgroup2 = !namespaces.is_private(Kind::Cgroup);
    mounts.iter().flat_map(move |mount| match &mount.kind {
        MountKind::Bind(bind) => vec![ExternalMount {
            destination: mount.destination.clone(),
            source: bind.source.clone(),
        }],
        MountKind::CgroupV2(cgroup) if binds_cgroup2 => vec![ExternalMount {
            destination: mount.destination.clone(),
            source: cgroup.fallback.source.clone(),
        }],
        MountKind::CgroupV1(cgroup) if !cgroup.in_namespace => cgroup
            .hierarchies
            .iter()
            .map(|hierarchy| ExternalMount {
                destination: mount.destination.join(&hierarchy.name),
                source: hierarchy.directory.clone(),
            })
            .collect(),
        // These are mounts of the container's own.
        MountKind::CgroupV1(_)
        | MountKind::CgroupV2(_)
        | MountKind::Filesystem(_)
        | MountKind::Remount(_) => Vec::new(),
    })
}
