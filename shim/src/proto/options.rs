//! What a caller may say beyond the calls themselves.

/// Those of containerd's own shim for runc (`types/runc/options/oci.proto`), which
/// clients use for others as well.
pub mod runc {
    use serde::{Deserialize, Serialize};

    use crate::proto::named;

    /// How to run the runtime.
    #[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
    #[serde(default)]
    pub struct Options {
        /// Enter the root filesystem by a move, not by pivot_root(2).
        #[prost(bool, tag = "1")]
        #[serde(alias = "NoPivotRoot")]
        pub no_pivot_root: bool,
        /// Keep the caller's session keyring.
        #[prost(bool, tag = "2")]
        #[serde(alias = "NoNewKeyring")]
        pub no_new_keyring: bool,
        /// The control group for the shim itself.
        #[prost(string, tag = "3")]
        #[serde(alias = "ShimCgroup")]
        pub shim_cgroup: String,
        /// The owner of the pipes that are the container's stdio.
        #[prost(uint32, tag = "4")]
        #[serde(alias = "IoUid")]
        pub io_uid: u32,
        /// Their group.
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
        /// Control groups are systemd's to make.
        #[prost(bool, tag = "9")]
        #[serde(alias = "SystemdCgroup")]
        pub systemd_cgroup: bool,
        /// Where CRIU's own files and logs of a restore go.
        #[prost(string, tag = "11")]
        #[serde(alias = "CriuWorkPath")]
        pub criu_work_path: String,
    }

    /// How to make a checkpoint.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct CheckpointOptions {
        /// End the container once it is made.
        #[prost(bool, tag = "1")]
        pub exit: bool,
        /// Allow TCP connections.
        #[prost(bool, tag = "2")]
        pub open_tcp: bool,
        /// Allow unix sockets whose other end is outside.
        #[prost(bool, tag = "3")]
        pub external_unix_sockets: bool,
        /// Allow a terminal from outside.
        #[prost(bool, tag = "4")]
        pub terminal: bool,
        /// Allow file locks.
        #[prost(bool, tag = "5")]
        pub file_locks: bool,
        /// Namespaces whose contents are left out.
        #[prost(string, repeated, tag = "6")]
        pub empty_namespaces: Vec<String>,
        /// What becomes of the control groups.
        #[prost(string, tag = "7")]
        pub cgroups_mode: String,
        /// Where CRIU's images go.
        #[prost(string, tag = "8")]
        pub image_path: String,
        /// Where CRIU's own files and logs go.
        #[prost(string, tag = "9")]
        pub work_path: String,
        /// The checkpoint before this one.
        #[prost(string, tag = "10")]
        pub parent_path: String,
    }

    named!("containerd.runc.v1": Options, CheckpointOptions);
}

/// Those of any runtime, as a file in the runtime's own language (`types/runtimeoptions`).
pub mod runtime {
    use crate::proto::named;

    /// A file, or what is in it.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub struct Options {
        /// The name of the options' type.
        #[prost(string, tag = "1")]
        pub type_url: String,
        /// The file.
        #[prost(string, tag = "2")]
        pub config_path: String,
        /// What would be in the file; TOML.
        #[prost(bytes = "vec", tag = "3")]
        pub config_body: Vec<u8>,
    }

    named!("runtimeoptions.v1": Options);
}

/// Which process it is, for those that `Exec` started (`types/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProcessDetails {
    /// The `exec_id`.
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

super::named!("containerd.runc.v1": ProcessDetails);
