//! DECIDE: what of a container is not its own but the host's: CRIU neither
//! stores it on a checkpoint nor makes it on a restore, but is told where it
//! is. Not for: asking CRIU; see `commands/checkpoint.rs`.

use serde::{Deserialize, Serialize};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::mounts::{Mount, MountKind};
use super::rootfs::RootfsPlan;
use crate::prelude::*;

/// What the state of a container keeps of it, for `checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Where the host's files are mounted in the container, as config.json has
    /// it: links may be in it.
    pub mounts: Vec<PathBuf>,
    /// The masked paths, of which files have the host's /dev/null over them.
    pub masked: Vec<PathBuf>,
    /// The kinds of namespaces that it joined and that CRIU may leave alone.
    pub namespaces: Vec<String>,
    /// The caller's pipes among the standard streams, as `pipe:[7]`, and empty
    /// words for other streams.
    pub pipes: [String; 3],
}

/// Files of the host that are mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalMount {
    /// Where in the container.
    pub destination: PathBuf,
    /// What, on the host.
    pub source: PathBuf,
}

/// The namespaces that CRIU can leave alone; the name it has for each with the
/// oldest version that knows it. Others that a container joined are joined
/// again by CRIU on a restore.
pub const EXTERNAL_NAMESPACES: [(Kind, &str, &str, u32); 2] = [
    (Kind::Network, "net", "extRootNetNS", 31_100),
    (Kind::Pid, "pid", "extRootPidNS", 31_500),
];

impl External {
    /// What holds for a container of this plan; the streams are known later.
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

/// All that may have been external at the checkpoint from which a container of
/// this plan is restored.
pub fn external_mounts(rootfs: &RootfsPlan, namespaces: &NamespacePlan) -> Vec<ExternalMount> {
    let same = |path: PathBuf| ExternalMount {
        destination: path.clone(),
        source: path,
    };
    let nodes = rootfs.devices.iter().flat_map(|devices| &devices.nodes);
    // What covers masked files has one name for all of them.
    let null = (!rootfs.masked_paths.is_empty()).then(|| same("/dev/null".into()));
    mounts(&rootfs.mounts, namespaces)
        .chain(null)
        .chain(nodes.map(|node| same(node.path.clone())))
        .collect()
}

/// The mounts whose source is the host's.
fn mounts(mounts: &[Mount], namespaces: &NamespacePlan) -> impl Iterator<Item = ExternalMount> {
    // Without a cgroup namespace it shows the host's hierarchy. A mount of that
    // would give the host CRIU's options (nsdelegate gone), and a user namespace
    // may not make one: the host's is bound.
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
        // Mounts of the container's own.
        MountKind::CgroupV1(_)
        | MountKind::CgroupV2(_)
        | MountKind::Filesystem(_)
        | MountKind::Remount(_) => Vec::new(),
    })
}
