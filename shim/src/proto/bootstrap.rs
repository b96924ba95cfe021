//! How containerd 2.3 and later start a shim (`runtime/bootstrap/v1`): parameters on
//! its stdin, the result on its stdout.

use std::collections::BTreeMap;

use super::Any;

/// What the shim is for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BootstrapParams {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The container's namespace in containerd.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// As log/slog of Go counts: -4 is debug, 0 information, 4 a warning.
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    /// Of the containerd that starts it.
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    /// Where events go.
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    /// Where containerd's clients connect.
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    /// The program of containerd.
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    /// What not every shim needs, such as the runtime's options.
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    /// Where the shim's socket is to be.
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

/// A further parameter.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Extension {
    /// Its name says what it is.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

/// Where and how the shim is to be talked to.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BootstrapResult {
    /// Of the task service.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// Of the shim's socket.
    #[prost(string, tag = "2")]
    pub address: String,
    /// `ttrpc` or `grpc`.
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// None is defined so far.
    #[prost(int32, repeated, tag = "4")]
    pub capabilities: Vec<i32>,
    /// Kept by containerd.
    #[prost(btree_map = "string, string", tag = "5")]
    pub metadata: BTreeMap<String, String>,
}
