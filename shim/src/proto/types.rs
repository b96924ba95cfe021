//! Messages that several of containerd's services share (`types/`).

use std::collections::BTreeMap;

use super::Any;

/// A mount to make (`containerd.types.Mount`).
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// The type of filesystem.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// The device, directory or name to mount.
    #[prost(string, tag = "2")]
    pub source: String,
    /// A directory below the mount point; usually empty.
    #[prost(string, tag = "3")]
    pub target: String,
    /// Options of fstab(5), and containerd's own.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// The status of a process (`containerd.v1.types.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Unknown.
    Unknown = 0,
    /// Created, but not started.
    Created = 1,
    /// Running.
    Running = 2,
    /// Ended.
    Stopped = 3,
    /// Paused.
    Paused = 4,
    /// About to be paused.
    Pausing = 5,
}

/// A process of a container (`containerd.v1.types.ProcessInfo`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProcessInfo {
    /// The pid of the process.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The [`ProcessDetails`](super::options::ProcessDetails), if an `Exec` started it.
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}

/// Information about a shim (`containerd.types.RuntimeInfo`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeInfo {
    /// The name of the runtime in containerd.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The runtime's version.
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// The options that were in the request.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    /// JSON of the runtime specification's `Features`.
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
    /// Further information.
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

/// A runtime's version (`containerd.types.RuntimeVersion`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeVersion {
    /// The version of the release.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The revision of the sources.
    #[prost(string, tag = "2")]
    pub revision: String,
}
