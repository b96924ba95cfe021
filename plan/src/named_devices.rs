//! Keeps a record of the devices that a container has by name, each with its nodes, mounts,
//! links, covers, rules and variables. The record is part of state.json, because later
//! commands need it: removing a device removes its nodes, mounts, links and covers; further
//! processes get its variables; and an update of the device rules keeps its rules.

use alloc::collections::BTreeMap;

use anyhow::{Context, Result};
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};
use teu_cgroups_types::DeviceRule;
use teu_gpu_types::{Cover, Edits, Link};

use super::cgroup::given_rules;
use super::devices::{DeviceKind, DeviceNode};
use super::gpu::ForProcesses;
use super::mounts::destination;
use super::rootfs::RootfsPlan;
use super::seen::FileId;
use crate::prelude::*;

/// The devices of a container, and the facts about the container on which later additions
/// depend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedDevices {
    /// The devices in the order in which they were added.
    pub list: Vec<NamedDevice>,
    /// The user and group of the container's own process.
    pub user: (u32, u32),
    /// The SELinux context of nodes that the parent makes.
    #[serde(deserialize_with = "Option::deserialize")]
    pub mount_label: Option<String>,
    /// Whether the container's /dev is that of the host.
    pub dev_is_the_hosts: bool,
}

/// A device with its name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedDevice {
    /// The name: `vendor/class=name` or, for a single node, its path in the container.
    pub name: String,
    pub brought: Brought,
    pub rules: Vec<DeviceRule>,
    pub for_processes: ForProcesses,
}

/// The changes of the container's filesystem that a device has brought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    pub nodes: Vec<BroughtNode>,
    pub mounts: Vec<BroughtMount>,
    pub links: Vec<Link>,
    pub covers: Vec<Cover>,
}

/// A device node that a device has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroughtNode {
    pub path: PathBuf,
    pub kind: DeviceKind,
}

/// A mount that a device has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BroughtMount {
    pub destination: PathBuf,
    /// The file of the host that a bind mount shows; `None` for another kind of mount.
    #[serde(deserialize_with = "Option::deserialize")]
    pub source: Option<FileId>,
    /// Whether the mountpoint was made for the mount, and has to be removed with it.
    pub made_mountpoint: bool,
}

impl Brought {
    /// Returns whether the device has brought a node or mount at this path.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.nodes.iter().any(|node| node.path == path)
            || self.mounts.iter().any(|mount| mount.destination == path)
    }

    /// Returns the mount with the source and the destination of `like`.
    pub(super) fn mount(&self, like: &BroughtMount) -> Option<&BroughtMount> {
        let place = |mount: &BroughtMount| (mount.destination.clone(), mount.source);
        self.mounts.iter().find(|mount| place(mount) == place(like))
    }
}

impl NamedDevices {
    /// Returns the devices with which a container is made: their names, and everything that
    /// each brings. Covers that the plan leaves out are left out here, too.
    ///
    /// # Errors
    /// Returns an error if a node or a rule is not valid.
    pub fn new(
        named: &[(String, Edits)],
        spec: &Spec,
        rootfs: &RootfsPlan,
        files: &BTreeMap<PathBuf, FileId>,
    ) -> Result<NamedDevices> {
        let user = spec.process().as_ref().map(Process::user);
        let list = named
            .iter()
            .map(|(name, edits)| NamedDevice::new(name, edits, &rootfs.path, files));
        let mut list = list.collect::<Result<Vec<_>>>()?;
        for device in &mut list {
            let is_made = |cover: &Cover| rootfs.covers.iter().any(|made| made.path == cover.path);
            device.brought.covers.retain(is_made);
        }
        Ok(NamedDevices {
            list,
            user: user.map_or((0, 0), |user| (user.uid(), user.gid())),
            mount_label: rootfs.mount_label.clone(),
            dev_is_the_hosts: rootfs.devices.is_none(),
        })
    }

    /// Returns the device rules that stay in force when an update replaces the container's
    /// rules.
    pub fn rules(&self) -> Vec<DeviceRule> {
        let rules = self.list.iter().flat_map(|device| &device.rules);
        rules.copied().collect()
    }

    /// Returns the covers. Devices with a cover of the same directory share one cover,
    /// which has the files of all of them.
    pub(super) fn covers(&self) -> Vec<Cover> {
        let mut covers = Vec::new();
        for cover in self.list.iter().flat_map(|device| &device.brought.covers) {
            cover.clone().add_to(&mut covers);
        }
        covers
    }

    /// Returns the variables and groups of all devices, for every process of the container.
    pub fn for_processes(&self) -> ForProcesses {
        let mut all = ForProcesses::default();
        for device in &self.list {
            all.add(&device.for_processes);
        }
        all
    }
}

impl NamedDevice {
    /// # Errors
    /// Returns an error if a node or a rule is not valid.
    pub(super) fn new(
        name: &str,
        edits: &Edits,
        rootfs: &Path,
        files: &BTreeMap<PathBuf, FileId>,
    ) -> Result<NamedDevice> {
        let node = |node: &teu_gpu_types::Node| {
            let DeviceNode { path, kind, .. } = DeviceNode::new(&node.device)?;
            Ok(BroughtNode { path, kind })
        };
        let mount = |mount: &oci_spec::runtime::Mount| BroughtMount {
            destination: destination(mount.destination(), rootfs),
            source: mount
                .source()
                .as_ref()
                .and_then(|source| files.get(source).copied()),
            made_mountpoint: false,
        };
        let nodes = edits.nodes.iter().map(node).collect::<Result<_>>();
        let rules = edits.nodes.iter().filter_map(|node| node.rule.clone());
        Ok(NamedDevice {
            name: name.to_owned(),
            brought: Brought {
                nodes: nodes.with_context(|| format!("device {name:?}"))?,
                mounts: edits.files.iter().chain(&edits.mounts).map(mount).collect(),
                links: edits.links.clone(),
                covers: edits.covers.clone(),
            },
            rules: given_rules(&rules.collect::<Vec<_>>())?,
            for_processes: ForProcesses::of(edits),
        })
    }
}
