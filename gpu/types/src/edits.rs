//! The edits of a container's specification, in the specification's own types.
//!
//! Providers of GPUs and CDI files make edits. The caller applies them to a specification.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use oci_spec::runtime::{
    Hook, LinuxDevice, LinuxDeviceCgroup, LinuxIntelRdt, LinuxNetDevice, Mount,
};
use serde::{Deserialize, Serialize};

/// Edits of a specification. The caller applies the lists in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    /// Variables of the environment, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// Device nodes with their rules.
    pub nodes: Vec<Node>,
    /// Network devices, by their names on the host.
    pub net_devices: Vec<(String, LinuxNetDevice)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Bind mounts of the driver's files. All users may read them, so they are mounted without
    /// an id map, which not every filesystem supports.
    pub files: Vec<Mount>,
    /// Hooks, each with its moment.
    pub hooks: Vec<(Moment, Hook)>,
    /// The resctrl group.
    pub intel_rdt: Option<LinuxIntelRdt>,
    /// Supplementary groups of the process.
    pub additional_gids: Vec<u32>,
    /// Symbolic links, which are made after all mounts.
    pub links: Vec<Link>,
    /// Directories that are mounted over those of the container.
    pub covers: Vec<Cover>,
}

/// A symbolic link in the container. It replaces a file at its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The path of the link in the container.
    pub path: PathBuf,
    /// The path to which the link leads.
    pub target: PathBuf,
}

/// A read-only directory that is mounted over a directory of the container, and has these files
/// instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// The directory in the container.
    pub path: PathBuf,
    /// The files by their paths below the directory.
    pub files: BTreeMap<PathBuf, Content>,
}

/// The content of a file in a cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Content {
    /// A text.
    Text(String),
    /// The list of NVIDIA's GPUs for EGL, with a bit for each minor number.
    EglGpus(u64),
}

impl Content {
    /// Returns the text of the file.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Content::Text(text) => Cow::Borrowed(text),
            Content::EglGpus(gpus) => Cow::Owned(format!(
                "{{\"profiles\":[{{\"name\":\"_container_\",\"settings\":[\"EGLVisibleDGPUDevices\",{gpus:#x}]}}],\
                 \"rules\":[{{\"pattern\":[],\"profile\":\"_container_\"}}]}}\n"
            )),
        }
    }

    /// Adds the GPUs of another file.
    fn add(&mut self, other: Content) {
        match (self, other) {
            (Content::EglGpus(own), Content::EglGpus(other)) => *own |= other,
            (own, other) => *own = other,
        }
    }
}

impl Cover {
    /// Adds the cover to others. Two covers of a directory are joined, because one mount would
    /// hide the other.
    pub fn add_to(self, others: &mut Vec<Cover>) {
        let Some(other) = others.iter_mut().find(|other| other.path == self.path) else {
            return others.push(self);
        };
        for (path, content) in self.files {
            match other.files.entry(path) {
                Entry::Occupied(mut own) => own.get_mut().add(content),
                Entry::Vacant(absent) => {
                    absent.insert(content);
                }
            }
        }
    }
}

/// A device node, and the rule that allows the container to use it.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node in the container.
    pub device: LinuxDevice,
    /// The node's path on the host.
    pub host_path: PathBuf,
    /// The rule, if the node needs one.
    pub rule: Option<LinuxDeviceCgroup>,
}

/// The point in a container's life at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `prestart`: deprecated, as `createRuntime`.
    Prestart,
    /// `createRuntime`: before pivot_root, in the runtime's namespaces.
    CreateRuntime,
    /// `createContainer`: before pivot_root, in the container's namespaces.
    CreateContainer,
    /// `startContainer`: before the program is executed, in the container.
    StartContainer,
    /// `poststart`: after the program is executed, in the runtime's namespaces.
    Poststart,
    /// `poststop`: after the container is deleted, in the runtime's namespaces.
    Poststop,
}

impl Moment {
    /// All moments, in their order.
    const ALL: [Moment; 6] = [
        Moment::Prestart,
        Moment::CreateRuntime,
        Moment::CreateContainer,
        Moment::StartContainer,
        Moment::Poststart,
        Moment::Poststop,
    ];

    /// Returns the moment with this name in the specification.
    #[must_use]
    pub fn named(name: &str) -> Option<Moment> {
        Moment::ALL.into_iter().find(|moment| moment.name() == name)
    }

    /// Returns its name in the specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Moment::Prestart => "prestart",
            Moment::CreateRuntime => "createRuntime",
            Moment::CreateContainer => "createContainer",
            Moment::StartContainer => "startContainer",
            Moment::Poststart => "poststart",
            Moment::Poststop => "poststop",
        }
    }
}

impl Edits {
    /// Adds a node. If only a group may use it, the group is added too.
    pub fn add_node(&mut self, node: Node) {
        let mode = node.device.file_mode().unwrap_or_default();
        let group = node.device.gid().unwrap_or_default();
        let is_for_group = mode & 0o060 != 0 && mode & 0o006 != 0o006;
        if is_for_group && group != 0 && !self.additional_gids.contains(&group) {
            self.additional_gids.push(group);
        }
        self.nodes.push(node);
    }

    /// Adds a bind mount of a file or directory of the driver.
    pub fn bind(&mut self, source: PathBuf, destination: PathBuf, options: &[&str]) {
        let options = options.iter().map(|option| (*option).to_owned());
        let mut mount = Mount::default();
        mount
            .set_source(Some(source))
            .set_destination(destination)
            .set_options(Some(options.collect()));
        self.files.push(mount);
    }

    /// Appends other edits.
    pub fn append(&mut self, others: Edits) {
        self.env.extend(others.env);
        self.nodes.extend(others.nodes);
        self.net_devices.extend(others.net_devices);
        self.mounts.extend(others.mounts);
        self.files.extend(others.files);
        self.hooks.extend(others.hooks);
        self.intel_rdt = others.intel_rdt.or(self.intel_rdt.take());
        for group in others.additional_gids {
            if !self.additional_gids.contains(&group) {
                self.additional_gids.push(group);
            }
        }
        self.links.extend(others.links);
        for cover in others.covers {
            cover.add_to(&mut self.covers);
        }
    }
}
