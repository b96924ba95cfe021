//! The parameters and the result of starting a shim, for containerd 2.3 and later
//! (`runtime/bootstrap/v1`): messages on the shim's stdin and stdout.

use std::collections::BTreeMap;

use super::Any;

/// The parameters of a shim to start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BootstrapParams {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The container's namespace in containerd.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The level of Go's log/slog: -4 is debug, 0 information, 4 a warning.
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    /// The version of the containerd that starts the shim.
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    /// The address to which events are sent.
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    /// The address where containerd's clients connect.
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    /// The path of containerd's program.
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    /// Parameters for some shims only, such as the runtime's options.
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    /// The directory for the shim's socket.
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

/// A further parameter.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Extension {
    /// The parameter. The name of the message tells its meaning.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

/// The address and the protocol of the shim.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BootstrapResult {
    /// The version of the task service.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// The address of the shim's socket.
    #[prost(string, tag = "2")]
    pub address: String,
    /// `ttrpc` or `grpc`.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// Capabilities; containerd defines none so far.
    #[prost(int32, repeated, tag = "4")]
    pub capabilities: Vec<i32>,
    /// Metadata that containerd stores.
    #[prost(btree_map = "string, string", tag = "5")]
    pub metadata: BTreeMap<String, String>,
}
