//! Messages that several services share (`types/`).

use std::collections::BTreeMap;

use super::Any;

/// A mount to make (`containerd.types.Mount`).
#[derive(Clone, PartialEq, Eq, prost::Message, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    /// The type of filesystem.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// What to mount.
    #[prost(string, tag = "2")]
    pub source: String,
    /// A directory below the mountpoint; mostly none.
    #[prost(string, tag = "3")]
    pub target: String,
    /// As in fstab(5), and words of containerd's.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// What a process is doing (`containerd.v1.types.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Not said.
    Unknown = 0,
    /// Made, not started.
    Created = 1,
    /// It runs.
    Running = 2,
    /// It has ended.
    Stopped = 3,
    /// It is frozen.
    Paused = 4,
    /// It is about to be frozen.
    Pausing = 5,
}

/// A process of a container (`containerd.v1.types.ProcessInfo`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProcessInfo {
    /// Its id on the host.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// [`ProcessDetails`](super::options::ProcessDetails) of one that an `Exec` started.
    #[prost(message, optional, tag = "2")]
    pub info: Option<Any>,
}

/// What a shim can do (`containerd.types.RuntimeInfo`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeInfo {
    /// The runtime's name, as containerd has it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Which it is.
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// The options it was asked with.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    /// JSON of the runtime specification's `Features`.
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
    /// What else there is to know.
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

/// A runtime's version (`containerd.types.RuntimeVersion`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeVersion {
    /// Of its release.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Of its sources.
    #[prost(string, tag = "2")]
    pub revision: String,
}
