//! CRIU's messages (its `images/rpc.proto`), with the fields that teu uses.
//!
//! A `required` field here is always sent, also when it is `false`, so that CRIU's own
//! configuration cannot switch an option on. Paths are bytes, which have the same
//! encoding as strings. Not for sending messages: see `process.rs`.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Kinds of requests and responses (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    Empty = 0,
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    /// The protocol's name of the kind.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Empty => "EMPTY",
            Kind::Dump => "DUMP",
            Kind::Restore => "RESTORE",
            Kind::PreDump => "PRE_DUMP",
            Kind::Notify => "NOTIFY",
            Kind::FeatureCheck => "FEATURE_CHECK",
            Kind::Version => "VERSION",
        }
    }
}

/// The ways in which CRIU treats cgroups (`criu_cg_mode`), which are the values of
/// `--manage-cgroups-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum CgroupMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    /// CRIU's own choice, at present `soft`.
    Default = 6,
}

/// Features that this CRIU and this kernel may have (`criu_features`).
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Features {
    /// The kernel tracks which pages are written to.
    #[prost(bool, required, tag = "1")]
    pub(crate) memory_tracking: bool,
    /// Pages can be loaded when they are accessed.
    #[prost(bool, required, tag = "2")]
    pub(crate) lazy_pages: bool,
}

/// The page server (`criu_page_server_info`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PageServer {
    #[prost(string, required, tag = "1")]
    pub(crate) address: String,
    #[prost(int32, required, tag = "2")]
    pub(crate) port: i32,
}

/// A mount of the host's files (`ext_mount_map`): for a dump the mountpoint and a name
/// for it, for a restore that name and the source to mount.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MountMap {
    #[prost(bytes = "vec", required, tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// A controller and the container's cgroup in its hierarchy (`cgroup_root`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct CgroupRoot {
    #[prost(string, required, tag = "1")]
    pub(crate) controller: String,
    #[prost(string, required, tag = "2")]
    pub(crate) path: String,
}

/// The name of an external object, and the descriptor of CRIU that replaces it
/// (`inherit_fd`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Inherited {
    #[prost(string, required, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, required, tag = "2")]
    pub(crate) descriptor: i32,
}

/// A namespace to join (`join_namespace`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct JoinedNamespace {
    /// The kind, such as "uts" or "ipc".
    #[prost(string, required, tag = "1")]
    pub(crate) kind: String,
    #[prost(bytes = "vec", required, tag = "2")]
    pub(crate) path: Vec<u8>,
}

/// Options of a dump or a restore (`criu_opts`). CRIU looks up descriptors in the
/// process that made the socket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(crate) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(bool, required, tag = "3")]
    pub(crate) leave_running: bool,
    #[prost(bool, required, tag = "4")]
    pub(crate) external_unix_sockets: bool,
    #[prost(bool, required, tag = "5")]
    pub(crate) tcp_established: bool,
    /// Restore only: open a device by its number if its path is another's.
    #[prost(bool, required, tag = "6")]
    pub(crate) evasive_devices: bool,
    #[prost(bool, required, tag = "7")]
    pub(crate) shell_job: bool,
    #[prost(bool, required, tag = "8")]
    pub(crate) file_locks: bool,
    #[prost(int32, required, tag = "9")]
    pub(crate) log_level: i32,
    #[prost(string, required, tag = "10")]
    pub(crate) log_file: String,
    #[prost(message, optional, tag = "11")]
    pub(crate) page_server: Option<PageServer>,
    /// CRIU sends notifications.
    #[prost(bool, required, tag = "12")]
    pub(crate) notify_scripts: bool,
    /// The root filesystem.
    #[prost(bytes = "vec", required, tag = "13")]
    pub(crate) root: Vec<u8>,
    /// The path, relative to the images' directory.
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(crate) parent_img: Option<Vec<u8>>,
    #[prost(bool, required, tag = "15")]
    pub(crate) track_memory: bool,
    #[prost(bool, required, tag = "16")]
    pub(crate) auto_dedup: bool,
    #[prost(int32, optional, tag = "17")]
    pub(crate) work_dir_fd: Option<i32>,
    #[prost(bool, required, tag = "18")]
    pub(crate) link_remap: bool,
    #[prost(message, repeated, tag = "23")]
    pub(crate) external_mounts: Vec<MountMap>,
    /// CRIU manages cgroups. Newer versions look at the mode instead.
    #[prost(bool, required, tag = "24")]
    pub(crate) manage_cgroups: bool,
    #[prost(message, repeated, tag = "25")]
    pub(crate) cgroup_roots: Vec<CgroupRoot>,
    /// Restore only: the processes become children of CRIU's parent.
    #[prost(bool, required, tag = "26")]
    pub(crate) restore_as_sibling: bool,
    #[prost(message, repeated, tag = "27")]
    pub(crate) inherited: Vec<Inherited>,
    #[prost(enumeration = "CgroupMode", required, tag = "34")]
    pub(crate) cgroup_mode: i32,
    /// Other external objects, in the form of `--external`.
    #[prost(string, repeated, tag = "37")]
    pub(crate) external: Vec<String>,
    #[prost(int32, required, tag = "38")]
    pub(crate) empty_namespaces: i32,
    #[prost(message, repeated, tag = "39")]
    pub(crate) joined: Vec<JoinedNamespace>,
    /// The cgroup to freeze while the processes are dumped.
    #[prost(bytes = "vec", optional, tag = "44")]
    pub(crate) freeze_cgroup: Option<Vec<u8>>,
    #[prost(bool, required, tag = "46")]
    pub(crate) tcp_skip_in_flight: bool,
    #[prost(bool, required, tag = "48")]
    pub(crate) lazy_pages: bool,
    #[prost(int32, optional, tag = "49")]
    pub(crate) status_fd: Option<i32>,
    /// The container's terminal is sent to teu.
    #[prost(bool, required, tag = "50")]
    pub(crate) orphan_pts_master: bool,
    #[prost(string, optional, tag = "51")]
    pub(crate) config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub(crate) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(crate) lsm_mount_context: Option<String>,
}

/// The level of CRIU's log: all messages except those for CRIU's developers.
const LOG_LEVEL: i32 = 4;

/// A request (`criu_req`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Request {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) options: Option<Options>,
    /// Answers a notification: whether handling it succeeded.
    #[prost(bool, optional, tag = "3")]
    pub(crate) notify_success: Option<bool>,
    /// Whether another request follows.
    #[prost(bool, optional, tag = "4")]
    pub(crate) keep_open: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(crate) features: Option<Features>,
}

impl Request {
    /// Makes a request that ends with its response.
    pub(crate) fn last(kind: Kind, options: Options) -> Request {
        Request {
            kind: kind.into(),
            options: Some(Options {
                log_level: LOG_LEVEL,
                notify_scripts: true,
                manage_cgroups: true,
                // Network devices are set up by engines, so they are never restored.
                empty_namespaces: libc::CLONE_NEWNET,
                orphan_pts_master: true,
                ..options
            }),
            ..Request::default()
        }
    }

    /// Makes a question, after which other requests may follow.
    pub(crate) fn question(kind: Kind) -> Request {
        Request {
            kind: kind.into(),
            keep_open: Some(true),
            ..Request::default()
        }
    }

    /// Makes the answer to a notification.
    pub(crate) fn notified(success: bool) -> Request {
        Request {
            kind: Kind::Notify.into(),
            notify_success: Some(success),
            ..Request::default()
        }
    }
}

/// CRIU's response (`criu_resp`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Response {
    #[prost(int32, required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, required, tag = "5")]
    pub(crate) notification: Notification,
    /// The error number; often 0.
    #[prost(int32, required, tag = "7")]
    pub(crate) error_number: i32,
    #[prost(message, required, tag = "8")]
    pub(crate) features: Features,
    #[prost(message, required, tag = "10")]
    pub(crate) version: Version,
}

impl Response {
    /// The kind, or `None` if it is not known here.
    pub(crate) fn kind(&self) -> Option<Kind> {
        Kind::try_from(self.kind).ok()
    }
}

/// CRIU's notification of its progress (`criu_notify`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Notification {
    /// The point that CRIU has reached, such as "post-dump".
    #[prost(string, required, tag = "1")]
    pub(crate) script: String,
    /// The pid of the container's first process, if it exists already.
    #[prost(int32, required, tag = "2")]
    pub(crate) pid: i32,
}

/// CRIU's version (`criu_version`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Version {
    #[prost(uint32, required, tag = "1")]
    major: u32,
    #[prost(uint32, required, tag = "2")]
    minor: u32,
    /// The commit, if CRIU was built between two releases.
    #[prost(string, optional, tag = "3")]
    commit: Option<String>,
    #[prost(uint32, required, tag = "4")]
    sublevel: u32,
}

impl Version {
    /// The version as a number: 40201 is 4.2.1. A build between two releases counts as
    /// the later release.
    pub(crate) fn number(&self) -> u32 {
        let (minor, sublevel) = match self.commit {
            Some(_) => (self.minor.saturating_add(1), 0),
            None => (self.minor, self.sublevel),
        };
        let major = self.major.saturating_mul(10_000);
        let minor = minor.saturating_mul(100);
        major.saturating_add(minor).saturating_add(sublevel)
    }
}

/// Converts a path into the form of CRIU's messages.
pub(crate) fn path(path: impl Into<PathBuf>) -> Vec<u8> {
    path.into().into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    /// Encodes a response as CRIU does: its kind, success, and the version with or
    /// without a commit.
    #[test]
    fn a_version_is_one_number() {
        let response = b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01";
        let read = Response::decode(&response[..]).expect("response");
        assert_eq!((read.kind(), read.success), (Some(Kind::Version), true));
        assert_eq!(read.version.number(), 40201);
        let version = b"\x08\x04\x10\x02\x1a\x08v4.2.1-5\x20\x01";
        let version = Version::decode(&version[..]).expect("version");
        assert_eq!(version.number(), 40300);
    }

    #[test]
    fn a_failure_says_why() {
        let read = Response::decode(&b"\x08\x01\x10\x00\x38\x10\x4a\x02no"[..]).expect("response");
        assert_eq!((read.success, read.error_number), (false, 16));
        let unknown = Response::decode(&b"\x08\x63\x10\x01"[..]).expect("response");
        assert_eq!(unknown.kind(), None);
        for rubbish in [&b"\x08"[..], b"\x52\x05ab", b"\x0b"] {
            Response::decode(rubbish).expect_err("refused");
        }
    }

    #[test]
    fn options_are_where_criu_looks_for_them() {
        let options = Options {
            images_dir_fd: 7,
            log_file: "dump.log".into(),
            external_mounts: vec![MountMap {
                key: path("/a"),
                value: path("/b"),
            }],
            ..Options::default()
        };
        let request = Request::last(Kind::Dump, options).encode_to_vec();
        let expected = [
            &b"\x08\x01\x12\x4a\x08\x07"[..],
            b"\x18\x00\x20\x00\x28\x00\x30\x00\x38\x00\x40\x00\x48\x04\x52\x08dump.log",
            b"\x60\x01\x6a\x00\x78\x00\x80\x01\x00\x90\x01\x00\xba\x01\x08\x0a\x02/a\x12\x02/b",
            b"\xc0\x01\x01\xd0\x01\x00\x90\x02\x00\xb0\x02\x80\x80\x80\x80\x04",
            b"\xf0\x02\x00\x80\x03\x00\x90\x03\x01",
        ];
        assert_eq!(request, expected.concat());
    }
}
