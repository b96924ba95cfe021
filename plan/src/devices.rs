//! DECIDE: the container's /dev: its links and its device nodes. The nodes are the default
//! ones of every Linux container (config-linux.md, "Default Devices") and those of
//! `linux.devices`.
//!
//! Not for device rules: a node brings no permission to use the device, so config.json
//! lists the rule separately (`cgroup.rs`). Not for whether /dev is filled at all: see
//! `rootfs.rs` and `mounts.rs` (`is_bind_on_dev`).

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use teu_gpu_types::Edits;
use teu_namespaces_types::{IdMaps, Kind, NamespacePlan};

use super::mounts::{clean, has_nul};
use super::seen::Seen;
use crate::prelude::*;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

/// The container's /dev.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    pub nodes: Vec<DeviceNode>,
    /// Whether the host's nodes are bound, because mknod(2) is not allowed in a user
    /// namespace.
    pub bind: bool,
    /// The symbolic links: path, target.
    pub links: Vec<(&'static str, &'static str)>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// The absolute path in the container.
    pub path: PathBuf,
    /// The path of the host's node that may be bound instead; `None` if none may.
    pub host_path: Option<PathBuf>,
    pub kind: DeviceKind,
    /// The permission bits.
    pub mode: u32,
    /// The owner, as ids inside the container.
    pub uid: u32,
    pub gid: u32,
    /// Whether config.json sets the mode or the owner. If so, teu warns when it binds the
    /// host's node instead and that has another mode or owner.
    pub asked: bool,
    /// The owner and group as ids of the host, if the parent makes the node because the
    /// container's user namespace may not.
    pub made_by_parent: Option<(u32, u32)>,
}

/// The kind of a node, and the numbers of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// The mode of a node if config.json does not set one.
const DEFAULT_MODE: u32 = 0o666;
/// The default nodes: name below /dev, major, minor.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The links of every container's /dev (config-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
const CORE_LINK: (&str, &str) = ("/dev/core", "/proc/kcore");

/// Decides about the container's /dev. `listed` is `linux.devices`.
///
/// # Errors
/// Returns an error that names the entry if it does not describe a device.
pub(super) fn devices(
    listed: &[LinuxDevice],
    edits: &Edits,
    seen: &Seen,
    namespaces: &NamespacePlan,
) -> Result<Devices> {
    let mut nodes = device_nodes(listed)?;
    for node in &mut nodes {
        let mut known = edits.nodes.iter().rev();
        if let Some(known) = known.find(|known| clean(known.device.path()) == node.path) {
            node.host_path = Some(known.host_path.clone());
        }
    }
    if namespaces.is_private(Kind::User) && seen.caller.may_map_owners() {
        for node in &mut nodes {
            node.leave_to_host(&namespaces.id_maps);
        }
    }
    Ok(Devices {
        nodes,
        bind: namespaces.is_private(Kind::User) || seen.caller.in_user_namespace,
        links: links(seen.has_kcore),
    })
}

fn links(has_kcore: bool) -> Vec<(&'static str, &'static str)> {
    let mut links = LINKS.to_vec();
    if has_kcore {
        links.push(CORE_LINK);
    }
    links
}

/// Returns the default nodes and those of `linux.devices`. An entry of `linux.devices`
/// replaces a default node of the same path.
///
/// # Errors
/// Returns an error that names the entry if it does not describe a device.
pub fn device_nodes(devices: &[LinuxDevice]) -> Result<Vec<DeviceNode>> {
    let mut nodes: Vec<DeviceNode> = DEFAULTS.iter().map(DeviceNode::default_one).collect();
    for (index, device) in devices.iter().enumerate() {
        let node = DeviceNode::new(device)
            .with_context(|| format!("linux.devices[{index}] ({:?})", device.path()))?;
        // Skip /dev/ptmx: every devpts instance has a ptmx of its own, and /dev/ptmx is a
        // link to it.
        if node.path == Path::new("/dev/ptmx") {
            continue;
        }
        nodes.retain(|other| other.path != node.path);
        nodes.push(node);
    }
    Ok(nodes)
}

impl DeviceNode {
    fn default_one(&(name, major, minor): &(&str, u32, u32)) -> DeviceNode {
        let path = Path::new("/dev").join(name);
        DeviceNode {
            host_path: Some(path.clone()),
            path,
            kind: DeviceKind::Character { major, minor },
            mode: DEFAULT_MODE,
            uid: 0,
            gid: 0,
            asked: false,
            made_by_parent: None,
        }
    }

    /// # Errors
    /// Returns an error if the entry does not describe a device.
    pub fn new(device: &LinuxDevice) -> Result<DeviceNode> {
        ensure!(!has_nul(device.path()), "path contains null byte");
        let path = clean(device.path());
        ensure!(path != Path::new("/"), "path is empty");
        let number = || -> Result<(u32, u32)> {
            let major = u32::try_from(device.major()).context("major")?;
            let minor = u32::try_from(device.minor()).context("minor")?;
            Ok((major, minor))
        };
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => {
                let (major, minor) = number()?;
                DeviceKind::Character { major, minor }
            }
            LinuxDeviceType::B => {
                let (major, minor) = number()?;
                DeviceKind::Block { major, minor }
            }
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => bail!("invalid device type \"a\""),
        };
        Ok(DeviceNode {
            host_path: Some(path.clone()),
            path,
            kind,
            mode: device.file_mode().unwrap_or(DEFAULT_MODE) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            asked: device.file_mode().is_some() || device.uid().is_some() || device.gid().is_some(),
            made_by_parent: None,
        })
    }

    /// Lets the parent make the node if its mode or owner is set, because a container in a
    /// user namespace cannot make device nodes. A fifo is not left to the parent, because
    /// it can be made there.
    pub(super) fn leave_to_host(&mut self, maps: &IdMaps) {
        if self.asked && self.kind != DeviceKind::Fifo {
            let owner = (maps.host_uid(self.uid), maps.host_gid(self.gid));
            self.made_by_parent = owner.0.zip(owner.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces_types::IdMap;

    fn device(path: &str, kind: &str, major: i64, minor: i64) -> LinuxDevice {
        crate::testing::read(&format!(
            r#"{{"path":"{path}","type":"{kind}","major":{major},"minor":{minor}}}"#
        ))
    }

    #[test]
    fn the_defaults_are_there() {
        let nodes = device_nodes(&[]).expect("nodes");
        let paths: Vec<_> = nodes.iter().map(|node| node.path.to_str()).collect();
        assert_eq!(
            paths,
            ["null", "zero", "full", "random", "urandom", "tty"]
                .map(|name| format!("/dev/{name}"))
                .iter()
                .map(|path| Some(path.as_str()))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_entry_takes_the_place_of_a_default() {
        let mut null = device("/dev/../dev/null", "c", 1, 5);
        null.set_file_mode(Some(0o100_600));
        let nodes = device_nodes(&[null]).expect("nodes");
        assert_eq!(nodes.len(), 6);
        assert_eq!(nodes[5].kind, DeviceKind::Character { major: 1, minor: 5 });
        assert_eq!(nodes[5].mode, 0o600);
    }

    #[test]
    fn ptmx_stays_a_link() {
        let nodes = device_nodes(&[device("/dev/ptmx", "c", 5, 2)]).expect("nodes");
        assert_eq!(nodes.len(), 6);
    }

    #[test]
    fn only_what_was_asked_for_is_the_hosts_to_make() {
        let maps = |host| {
            vec![IdMap {
                container: 5,
                host,
                size: 10,
            }]
        };
        let maps = IdMaps {
            uid: maps(1000),
            gid: maps(2000),
            deny_setgroups: false,
        };
        let made = |kind, uid, gid| {
            let mut entry = device("/dev/x", kind, 1, 3);
            entry.set_uid(uid).set_gid(gid);
            let mut node = DeviceNode::new(&entry).expect("node");
            node.leave_to_host(&maps);
            node.made_by_parent
        };
        assert_eq!(made("c", Some(5), Some(14)), Some((1000, 2009)));
        // Nothing is set, or the namespace does not have the owner's id.
        assert_eq!(made("c", None, None), None);
        assert_eq!(made("c", Some(5), Some(15)), None);
        assert_eq!(made("c", Some(4), Some(5)), None);
        assert_eq!(made("p", Some(5), Some(5)), None);
    }

    #[test]
    fn faulty_entries_are_named() {
        for (entry, words) in [
            (
                device("/dev/x", "a", 1, 1),
                "linux.devices[0] (\"/dev/x\"): invalid device type \"a\"",
            ),
            (
                device("/dev/x", "c", -1, 1),
                "linux.devices[0] (\"/dev/x\"): major: ",
            ),
            (
                device("", "c", 1, 1),
                "linux.devices[0] (\"\"): path is empty",
            ),
        ] {
            let error = device_nodes(&[entry]).expect_err("refused");
            assert!(format!("{error:#}").starts_with(words), "{error:#}");
        }
    }
}
