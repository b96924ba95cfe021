//! DECIDE: the device nodes of the container: the default ones of every Linux
//! container (config-linux.md, "Default Devices") and `linux.devices`.
//!
//! Device cgroup rules are made from the same list, so that a node and its
//! rule cannot disagree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::mounts::clean;
use crate::spec;

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Absolute path in the container.
    pub(crate) path: PathBuf,
    pub(crate) kind: DeviceKind,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner, as ids inside the container.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
    Fifo,
}

/// Mode of a node that says nothing about it.
const DEFAULT_MODE: u32 = 0o666;
/// The default nodes: path below /dev, major, minor.
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The default devices and those of `linux.devices`; an entry for the path of
/// a default one takes its place.
///
/// # Errors
/// An entry that is no device: the error names it.
pub(crate) fn device_nodes(devices: &[spec::Device]) -> Result<Vec<DeviceNode>> {
    let mut nodes: Vec<DeviceNode> = DEFAULTS.iter().map(DeviceNode::default_one).collect();
    for (index, device) in devices.iter().enumerate() {
        let node = DeviceNode::new(device)
            .with_context(|| format!("linux.devices[{index}] ({:?})", device.path))?;
        // A devpts instance has its own: /dev/ptmx is a link into it.
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
        DeviceNode {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Character { major, minor },
            mode: DEFAULT_MODE,
            uid: 0,
            gid: 0,
        }
    }

    fn new(device: &spec::Device) -> Result<DeviceNode> {
        ensure!(!device.path.contains('\0'), "path contains null byte");
        let path = clean(Path::new(&device.path));
        ensure!(path != Path::new("/"), "path is empty");
        let number = || -> Result<(u32, u32)> {
            let major = u32::try_from(device.major).context("major")?;
            let minor = u32::try_from(device.minor).context("minor")?;
            Ok((major, minor))
        };
        let kind = match device.kind.as_str() {
            "c" | "u" => {
                let (major, minor) = number()?;
                DeviceKind::Character { major, minor }
            }
            "b" => {
                let (major, minor) = number()?;
                DeviceKind::Block { major, minor }
            }
            "p" => DeviceKind::Fifo,
            other => bail!("invalid device type {other:?}"),
        };
        Ok(DeviceNode {
            path,
            kind,
            mode: device.file_mode.unwrap_or(DEFAULT_MODE) & 0o7777,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str, major: i64, minor: i64) -> spec::Device {
        spec::Device {
            path: path.to_owned(),
            kind: kind.to_owned(),
            major,
            minor,
            ..spec::Device::default()
        }
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
        null.file_mode = Some(0o100_600);
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
    fn faulty_entries_are_named() {
        for (entry, words) in [
            (
                device("/dev/x", "q", 1, 1),
                "linux.devices[0] (\"/dev/x\"): invalid device type \"q\"",
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
