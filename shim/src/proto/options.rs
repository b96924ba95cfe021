//! The options that a caller may add to calls.

/// The options of containerd's own shim for runc (`types/runc/options/oci.proto`), which
/// clients also send to other shims.
pub mod runc {
    use serde::{Deserialize, Serialize};

    use crate::proto::named;

    /// The options of the runtime.
    #[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
    #[serde(default)]
    pub struct Options {
        /// Enter the root filesystem by moving a mount instead of pivot_root(2).
        #[prost(bool, tag = "1")]
        #[serde(alias = "NoPivotRoot")]
        pub no_pivot_root: bool,
        /// Keep the caller's session keyring.
        #[prost(bool, tag = "2")]
        #[serde(alias = "NoNewKeyring")]
        pub no_new_keyring: bool,
        /// The cgroup of the shim itself.
        #[prost(string, tag = "3")]
        #[serde(alias = "ShimCgroup")]
        pub shim_cgroup: String,
        /// The user that owns the pipes of the container's streams.
        #[prost(uint32, tag = "4")]
        #[serde(alias = "IoUid")]
        pub io_uid: u32,
        /// The group that owns these pipes.
        #[prost(uint32, tag = "5")]
        #[serde(alias = "IoGid")]
        pub io_gid: u32,
        /// The runtime to run.
        #[prost(string, tag = "6")]
        #[serde(alias = "BinaryName")]
        pub binary_name: String,
        /// The directory of the runtime's state.
        #[prost(string, tag = "7")]
        #[serde(alias = "Root")]
        pub root: String,
        /// Use systemd's cgroups.
        #[prost(bool, tag = "9")]
        #[serde(alias = "SystemdCgroup")]
        pub systemd_cgroup: bool,
        /// The directory of CRIU's files and logs for a restore.
        #[prost(string, tag = "11")]
        #[serde(alias = "CriuWorkPath")]
        pub criu_work_path: String,
    }

    /// The options of a checkpoint.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct CheckpointOptions {
        /// End the container after the checkpoint.
        #[prost(bool, tag = "1")]
        pub exit: bool,
        /// Allow TCP connections.
        #[prost(bool, tag = "2")]
        pub open_tcp: bool,
        /// Allow unix sockets that are connected to processes outside of the container.
        #[prost(bool, tag = "3")]
        pub external_unix_sockets: bool,
        /// Allow a terminal from outside of the container.
        #[prost(bool, tag = "4")]
        pub terminal: bool,
        /// Allow file locks.
        #[prost(bool, tag = "5")]
        pub file_locks: bool,
        /// Namespaces that the checkpoint leaves out.
        #[prost(string, repeated, tag = "6")]
        pub empty_namespaces: Vec<String>,
        /// CRIU's mode for cgroups.
        #[prost(string, tag = "7")]
        pub cgroups_mode: String,
        /// The directory of the checkpoint.
        #[prost(string, tag = "8")]
        pub image_path: String,
        /// The directory of CRIU's files and logs.
        #[prost(string, tag = "9")]
        pub work_path: String,
        /// The checkpoint that this one is based on.
        #[prost(string, tag = "10")]
        pub parent_path: String,
    }

    named!("containerd.runc.v1": Options, CheckpointOptions);
}

/// Options of any runtime, in the runtime's own format (`types/runtimeoptions`).
pub mod runtime {
    use crate::proto::named;

    /// The options, or the path of a file with them.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct Options {
        /// The name of the options' type.
        #[prost(string, tag = "1")]
        pub type_url: String,
        /// The path of the file.
        #[prost(string, tag = "2")]
        pub config_path: String,
        /// The options themselves, as TOML.
        #[prost(bytes = "vec", tag = "3")]
        pub config_body: Vec<u8>,
    }

    named!("runtimeoptions.v1": Options);
}

/// Tells which `Exec` started a process (`types/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProcessDetails {
    /// The `exec_id`.
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

super::named!("containerd.runc.v1": ProcessDetails);
