//! CRIU's messages (its `images/rpc.proto`), the fields that are used.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Result;

use super::wire::{Message, fields};

/// Kinds of requests and responses (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dump,
    Restore,
    PreDump,
    Notify,
    FeatureCheck,
    Version,
}

impl Kind {
    const ALL: [(Kind, i32, &'static str); 6] = [
        (Kind::Dump, 1, "DUMP"),
        (Kind::Restore, 2, "RESTORE"),
        (Kind::PreDump, 4, "PRE_DUMP"),
        (Kind::Notify, 6, "NOTIFY"),
        (Kind::FeatureCheck, 9, "FEATURE_CHECK"),
        (Kind::Version, 10, "VERSION"),
    ];

    fn number(self) -> i32 {
        let mut all = Kind::ALL.iter();
        all.find(|(kind, ..)| *kind == self)
            .map_or(0, |(_, number, _)| *number)
    }

    /// The protocol's name for it.
    pub(crate) fn name(self) -> &'static str {
        let mut all = Kind::ALL.iter();
        all.find(|(kind, ..)| *kind == self)
            .map_or("", |(_, _, name)| name)
    }

    fn from_number(number: i32) -> Option<Kind> {
        let mut all = Kind::ALL.iter();
        all.find(|(_, known, _)| *known == number)
            .map(|(kind, ..)| *kind)
    }
}

/// What CRIU makes of the cgroups (`criu_cg_mode`): the values of
/// `--manage-cgroups-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupMode {
    Ignore,
    Soft,
    Full,
    Strict,
    /// CRIU's own choice, at present `soft`.
    Default,
}

impl CgroupMode {
    fn number(self) -> i32 {
        match self {
            CgroupMode::Ignore => 0,
            CgroupMode::Soft => 3,
            CgroupMode::Full => 4,
            CgroupMode::Strict => 5,
            CgroupMode::Default => 6,
        }
    }
}

/// What may or may not work with this CRIU and this kernel (`criu_features`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// The kernel notes which pages are written to.
    pub(crate) memory_tracking: bool,
    /// Pages can come when they are touched.
    pub(crate) lazy_pages: bool,
}

/// The page server (`criu_page_server_info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageServer {
    pub(crate) address: String,
    pub(crate) port: i32,
}

/// A namespace to be joined (`join_namespace`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedNamespace {
    /// "uts", "ipc" and so on.
    pub(crate) kind: &'static str,
    pub(crate) path: PathBuf,
}

/// Options of a dump or a restore (`criu_opts`). A descriptor is looked up by
/// CRIU in the process that made the socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) images_dir_fd: i32,
    pub(crate) work_dir_fd: Option<i32>,
    pub(crate) pid: Option<i32>,
    pub(crate) flags: Flags,
    pub(crate) log_file: &'static str,
    pub(crate) page_server: Option<PageServer>,
    /// The root filesystem.
    pub(crate) root: PathBuf,
    /// Relative to the images' directory.
    pub(crate) parent_img: Option<OsString>,
    /// Mounts of the host's files: on a dump the mountpoint and a name for it,
    /// on a restore that name and what to mount.
    pub(crate) external_mounts: Vec<(PathBuf, PathBuf)>,
    /// Hierarchies by controller, and the cgroup that is the container's.
    pub(crate) cgroup_roots: Vec<(String, String)>,
    /// Names of what was external, and CRIU's descriptor to put in its place.
    pub(crate) inherited: Vec<(String, i32)>,
    pub(crate) cgroup_mode: Option<CgroupMode>,
    /// Other external things, as `--external` has them.
    pub(crate) external: Vec<String>,
    pub(crate) joined: Vec<JoinedNamespace>,
    /// The cgroup by which to hold the processes.
    pub(crate) freeze_cgroup: Option<PathBuf>,
    pub(crate) status_fd: Option<i32>,
    pub(crate) config_file: Option<String>,
    pub(crate) lsm_profile: Option<String>,
    pub(crate) lsm_mount_context: Option<String>,
}

/// The options that are on or off. All are sent: what is off here is off,
/// whatever CRIU's own configuration has.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, and CRIU's"
)]
pub(crate) struct Flags {
    pub(crate) leave_running: bool,
    pub(crate) external_unix_sockets: bool,
    pub(crate) tcp_established: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) link_remap: bool,
    pub(crate) shell_job: bool,
    pub(crate) file_locks: bool,
    pub(crate) auto_dedup: bool,
    pub(crate) lazy_pages: bool,
    pub(crate) track_memory: bool,
    /// Only for a restore: open a device by its number if its path is another's.
    pub(crate) evasive_devices: bool,
    /// Only for a restore: the processes become children of CRIU's parent.
    pub(crate) restore_as_sibling: bool,
}

/// How much CRIU writes to its log: everything but what helps its developers
/// only.
const LOG_LEVEL: i32 = 4;

impl Options {
    fn encode(&self) -> Message {
        let mut message = Message::default();
        message.number(1, self.images_dir_fd);
        if let Some(pid) = self.pid {
            message.number(2, pid);
        }
        self.flags.encode(&mut message);
        message.number(9, LOG_LEVEL);
        message.text(10, self.log_file);
        if let Some(server) = &self.page_server {
            let mut info = Message::default();
            info.text(1, &server.address);
            info.number(2, server.port);
            message.message(11, &info);
        }
        // notify_scripts: it tells us where it is.
        message.flag(12, true);
        message.text(13, self.root.as_os_str().as_bytes());
        if let Some(parent) = &self.parent_img {
            message.text(14, parent.as_bytes());
        }
        if let Some(descriptor) = self.work_dir_fd {
            message.number(17, descriptor);
        }
        for (name, place) in &self.external_mounts {
            let mut map = Message::default();
            map.text(1, name.as_os_str().as_bytes());
            map.text(2, place.as_os_str().as_bytes());
            message.message(23, &map);
        }
        self.encode_cgroups(&mut message);
        for (name, descriptor) in &self.inherited {
            let mut inherited = Message::default();
            inherited.text(1, name);
            inherited.number(2, *descriptor);
            message.message(27, &inherited);
        }
        for external in &self.external {
            message.text(37, external);
        }
        // Network devices are set up by others: never restored.
        message.number(38, libc::CLONE_NEWNET);
        for namespace in &self.joined {
            let mut joined = Message::default();
            joined.text(1, namespace.kind);
            joined.text(2, namespace.path.as_os_str().as_bytes());
            message.message(39, &joined);
        }
        if let Some(descriptor) = self.status_fd {
            message.number(49, descriptor);
        }
        // orphan_pts_master: the container's terminal comes back to us.
        message.flag(50, true);
        for (field, text) in [
            (51, &self.config_file),
            (53, &self.lsm_profile),
            (63, &self.lsm_mount_context),
        ] {
            if let Some(text) = text {
                message.text(field, text);
            }
        }
        message
    }

    fn encode_cgroups(&self, message: &mut Message) {
        // manage_cgroups, of which the mode is what newer ones look at.
        message.flag(24, true);
        for (controller, path) in &self.cgroup_roots {
            let mut root = Message::default();
            root.text(1, controller);
            root.text(2, path);
            message.message(25, &root);
        }
        if let Some(mode) = self.cgroup_mode {
            message.number(34, mode.number());
        }
        if let Some(path) = &self.freeze_cgroup {
            message.text(44, path.as_os_str().as_bytes());
        }
    }
}

impl Flags {
    fn encode(&self, message: &mut Message) {
        for (field, value) in [
            (3, self.leave_running),
            (4, self.external_unix_sockets),
            (5, self.tcp_established),
            (6, self.evasive_devices),
            (7, self.shell_job),
            (8, self.file_locks),
            (15, self.track_memory),
            (16, self.auto_dedup),
            (18, self.link_remap),
            (26, self.restore_as_sibling),
            (46, self.tcp_skip_in_flight),
            (48, self.lazy_pages),
        ] {
            message.flag(field, value);
        }
    }
}

/// A request (`criu_req`).
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) kind: Kind,
    pub(crate) options: Option<&'a Options>,
    /// Answers a notification: whether what it led to succeeded.
    pub(crate) notify_success: Option<bool>,
    /// Another request follows.
    pub(crate) keep_open: bool,
    pub(crate) features: Option<Features>,
}

impl<'a> Request<'a> {
    /// A request that ends with its response.
    pub(crate) fn last(kind: Kind, options: &'a Options) -> Request<'a> {
        Request {
            kind,
            options: Some(options),
            notify_success: None,
            keep_open: false,
            features: None,
        }
    }

    /// A question, after which others may be asked.
    pub(crate) fn question(kind: Kind) -> Request<'a> {
        Request {
            kind,
            options: None,
            notify_success: None,
            keep_open: true,
            features: None,
        }
    }

    /// The answer to a notification.
    pub(crate) fn notified(success: bool) -> Request<'a> {
        Request {
            kind: Kind::Notify,
            options: None,
            notify_success: Some(success),
            keep_open: false,
            features: None,
        }
    }

    /// As it goes to CRIU.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Message::default();
        message.number(1, self.kind.number());
        if let Some(options) = self.options {
            message.message(2, &options.encode());
        }
        if let Some(success) = self.notify_success {
            message.flag(3, success);
        }
        if self.keep_open {
            message.flag(4, true);
        }
        if let Some(wanted) = self.features {
            let mut features = Message::default();
            for (field, value) in [(1, wanted.memory_tracking), (2, wanted.lazy_pages)] {
                if value {
                    features.flag(field, true);
                }
            }
            message.message(5, &features);
        }
        message.bytes().to_vec()
    }
}

/// What CRIU says (`criu_resp`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Response {
    /// `None` for one that is not known here.
    pub(crate) kind: Option<Kind>,
    pub(crate) success: bool,
    pub(crate) notification: Notification,
    /// What went wrong, as an error number; often 0.
    pub(crate) error_number: i32,
    pub(crate) features: Features,
    /// 40201 is 4.2.1.
    pub(crate) version: u32,
}

/// Where CRIU is (`criu_notify`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// "post-dump" and so on.
    pub(crate) script: String,
    /// The container's first process, if there is one yet.
    pub(crate) pid: i32,
}

impl Response {
    /// Reads one.
    ///
    /// # Errors
    /// It is no such message.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Response> {
        let mut response = Response::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => response.kind = Kind::from_number(value.number()),
                2 => response.success = value.flag(),
                5 => response.notification = Notification::decode(value.bytes())?,
                7 => response.error_number = value.number(),
                8 => response.features = Features::decode(value.bytes())?,
                10 => response.version = version(value.bytes())?,
                _ => {}
            }
        }
        Ok(response)
    }
}

impl Notification {
    fn decode(bytes: &[u8]) -> Result<Notification> {
        let mut notification = Notification::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => notification.script = value.text(),
                2 => notification.pid = value.number(),
                _ => {}
            }
        }
        Ok(notification)
    }
}

impl Features {
    fn decode(bytes: &[u8]) -> Result<Features> {
        let mut features = Features::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => features.memory_tracking = value.flag(),
                2 => features.lazy_pages = value.flag(),
                _ => {}
            }
        }
        Ok(features)
    }
}

/// A version (`criu_version`) as one number. One that was built between two
/// releases counts as the later one.
fn version(bytes: &[u8]) -> Result<u32> {
    let (mut major, mut minor, mut sublevel, mut between) = (0, 0, 0, false);
    for (field, value) in fields(bytes)? {
        let number = u32::try_from(value.number()).unwrap_or_default();
        match field {
            1 => major = number,
            2 => minor = number,
            3 => between = true,
            4 => sublevel = number,
            _ => {}
        }
    }
    if between {
        (minor, sublevel) = (minor + 1, 0);
    }
    Ok(major * 10_000 + minor * 100 + sublevel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_number() {
        let mut version = Message::default();
        version.number(1, 4);
        version.number(2, 2);
        version.number(4, 1);
        let mut response = Message::default();
        response.number(1, 10);
        response.flag(2, true);
        response.message(10, &version);
        let read = Response::decode(response.bytes()).expect("response");
        assert_eq!((read.kind, read.success), (Some(Kind::Version), true));
        assert_eq!(read.version, 40201);
        version.text(3, "v4.2.1-5-gabcdef");
        assert_eq!(super::version(version.bytes()).expect("version"), 40300);
    }

    #[test]
    fn a_failure_says_why() {
        let mut response = Message::default();
        response.number(1, 1);
        response.flag(2, false);
        response.number(7, 16);
        let read = Response::decode(response.bytes()).expect("response");
        assert_eq!((read.success, read.error_number), (false, 16));
    }

    #[test]
    fn options_are_where_criu_looks_for_them() {
        let options = Options {
            images_dir_fd: 7,
            log_file: "dump.log",
            root: "/rootfs".into(),
            external_mounts: vec![("/a".into(), "/b".into())],
            cgroup_mode: Some(CgroupMode::Ignore),
            ..Options::default()
        };
        let request = Request::last(Kind::Dump, &options).encode();
        let outer = fields(&request).expect("request");
        assert_eq!((outer[0].0, outer[0].1.number()), (1, 1));
        let inner = fields(outer[1].1.bytes()).expect("options");
        let get = |number| {
            let mut found = inner.iter().filter(|(field, _)| *field == number);
            found.next().expect("field").1
        };
        assert_eq!(get(1).number(), 7);
        assert_eq!(get(10).text(), "dump.log");
        assert_eq!(get(13).text(), "/rootfs");
        assert_eq!(get(34).number(), 0);
        assert_eq!(get(38).number(), 0x4000_0000);
        let map = fields(get(23).bytes()).expect("map");
        assert_eq!(
            (map[0].1.text(), map[1].1.text()),
            ("/a".into(), "/b".into())
        );
    }
}
