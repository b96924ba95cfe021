//! Builds bundles: a root filesystem with the probe in it, and a config.json that starts
//! from the output of `spec` and is edited from there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::container::Container;
use super::{Output, scratch};

/// The directories that every root filesystem has.
const DIRECTORIES: [&str; 9] = [
    "dev", "proc", "sys", "tmp", "run", "etc", "bin", "root", "mnt",
];

/// A bundle under construction. config.json is written when the container is made.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) spec: Value,
}

impl Bundle {
    /// A container that runs `probe report` as root, with the namespaces, mounts and
    /// capabilities that engines give by default.
    pub(crate) fn new() -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = scratch().join(format!("bundle-{number}"));
        let rootfs = directory.join("rootfs");
        for name in DIRECTORIES {
            fs::create_dir_all(rootfs.join(name)).expect("create the root filesystem");
        }
        let sticky = fs::Permissions::from_mode(0o1777);
        fs::set_permissions(rootfs.join("tmp"), sticky).expect("set the mode of /tmp");
        // A hard link of the runner's copy, because a bundle needs no copy of its eight
        // megabytes.
        let probe = scratch().join("../probe");
        fs::hard_link(probe, rootfs.join("probe")).expect("link the probe into the rootfs");
        Bundle {
            directory,
            spec: default_spec(),
        }
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Sets the probe's modes, separated by `;`.
    pub(crate) fn probe(self, modes: &str) -> Self {
        let is_sequence = modes.contains(';');
        let words = modes.split(';').collect::<Vec<_>>().join(" -- ");
        let mode = is_sequence.then_some("seq");
        let args = ["/probe"]
            .into_iter()
            .chain(mode)
            .chain(words.split_whitespace());
        self.set("/process/args", args.collect::<Vec<_>>())
    }

    pub(crate) fn args<const N: usize>(self, args: [&str; N]) -> Self {
        self.set("/process/args", args.to_vec())
    }

    /// Sets the value at a JSON pointer. Missing objects on the way are made.
    pub(crate) fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        *at(&mut self.spec, pointer) = value.into();
        self
    }

    /// Appends to the list at a JSON pointer. A missing list is made.
    pub(crate) fn push(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        let list = at(&mut self.spec, pointer);
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().expect("a list").push(value.into());
        self
    }

    /// Removes the member at a JSON pointer.
    pub(crate) fn remove(mut self, pointer: &str) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = self.spec.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.expect("an object to remove from").remove(name);
        self
    }

    /// Adds a new namespace of this kind.
    pub(crate) fn namespace(self, kind: &str) -> Self {
        self.without_namespace(kind)
            .push("/linux/namespaces", json!({ "type": kind }))
    }

    /// Joins the namespace at `path`.
    pub(crate) fn join_namespace(self, kind: &str, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.without_namespace(kind)
            .push("/linux/namespaces", json!({ "type": kind, "path": path }))
    }

    /// Keeps the runtime's namespace of this kind.
    pub(crate) fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = at(&mut self.spec, "/linux/namespaces").as_array_mut();
        namespaces
            .expect("a list of namespaces")
            .retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Adds a new user namespace, in which the ids 0–65535 are the host's from 100000.
    pub(crate) fn user_namespace(self) -> Self {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        self.chown_rootfs(100_000);
        self.namespace("user")
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
    }

    /// Makes a user the owner of the root filesystem's directories.
    pub(crate) fn chown_rootfs(&self, user: u32) {
        let root = self.rootfs();
        let directories = DIRECTORIES.iter().map(|name| root.join(name));
        for directory in directories.chain([root.clone()]) {
            chown(directory, Some(user), Some(user)).expect("chown the root filesystem");
        }
    }

    pub(crate) fn mount(self, mount: Value) -> Self {
        self.push("/mounts", mount)
    }

    /// Removes the mount on this destination.
    pub(crate) fn without_mount(mut self, destination: &str) -> Self {
        let mounts = at(&mut self.spec, "/mounts")
            .as_array_mut()
            .expect("a list of mounts");
        mounts.retain(|mount| mount["destination"] != destination);
        self
    }

    pub(crate) fn hook(self, kind: &str, hook: Value) -> Self {
        self.push(&format!("/hooks/{kind}"), hook)
    }

    /// Adds a hook of this kind that appends its arguments and stdin to `file`.
    pub(crate) fn recording_hook(self, kind: &str, file: &Path) -> Self {
        let probe = self.host_probe();
        self.hook(
            kind,
            json!({ "path": probe, "args": ["probe", "hook", file] }),
        )
    }

    /// The path of the probe on the host.
    pub(crate) fn host_probe(&self) -> PathBuf {
        self.rootfs().join("probe")
    }

    pub(crate) fn terminal(self) -> Self {
        self.set("/process/terminal", true)
    }

    pub(crate) fn env(self, variable: &str) -> Self {
        self.push("/process/env", variable)
    }

    /// Sets all capability sets except the ambient set.
    pub(crate) fn capabilities<const N: usize>(self, names: [&str; N]) -> Self {
        let set = json!(names.to_vec());
        self.set(
            "/process/capabilities",
            json!({ "bounding": set, "effective": set, "permitted": set, "inheritable": set }),
        )
    }

    /// Adds a file to the root filesystem.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().expect("a parent")).expect("create the file's directory");
        fs::write(path, text).expect("write a file of the root filesystem");
        self
    }

    /// Reads the config.json that another program wrote into the bundle.
    #[track_caller]
    pub(crate) fn read(mut self) -> Self {
        let text = fs::read_to_string(self.directory.join("config.json"));
        self.spec = serde_json::from_str(&text.expect("read config.json")).expect("JSON");
        self
    }

    /// Writes config.json.
    pub(crate) fn write(&self) {
        let text = serde_json::to_string_pretty(&self.spec).expect("a spec is JSON");
        fs::write(self.directory.join("config.json"), text).expect("write config.json");
    }

    /// Makes a container and calls `run`; waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        Container::new(self).run()
    }
}

/// The value at a JSON pointer. Missing objects are made.
fn at<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer
        .trim_start_matches('/')
        .split('/')
        .fold(value, |value, key| match value {
            Value::Array(list) => &mut list[key.parse::<usize>().expect("an index")],
            _ => &mut value[key],
        })
}

fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/probe", "report"],
            "env": ["PATH=/bin:/"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "teu",
        "mounts": default_mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
                { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ])
}
