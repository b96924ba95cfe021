//! `teu spec`: write a specification to begin with.
//!
//! The file is runc's but for the hostname: the same keys in the same order,
//! so that scripts that edit one edit the other.

use crate::{json, version};
use anyhow::{Context, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What `spec` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The bundle's directory, "." if not given.
    pub(crate) bundle: PathBuf,
    /// Whether the specification is for a user without privileges.
    pub(crate) rootless: bool,
}

const FILE: &str = "config.json";

const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// What would tell a container about, or let it change, the whole machine.
const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The part of config.md that is written. The order of the fields is that of
/// the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    oci_version: &'static str,
    process: Process,
    root: Root,
    hostname: &'static str,
    mounts: Vec<Mount>,
    linux: Linux,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    terminal: bool,
    user: User,
    args: [&'static str; 1],
    env: [&'static str; 2],
    cwd: &'static str,
    capabilities: Capabilities,
    rlimits: [Rlimit; 1],
    no_new_privileges: bool,
}

#[derive(Serialize)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Serialize)]
struct Capabilities {
    bounding: &'static [&'static str],
    effective: &'static [&'static str],
    permitted: &'static [&'static str],
}

#[derive(Serialize)]
struct Rlimit {
    r#type: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Serialize)]
struct Root {
    path: &'static str,
    readonly: bool,
}

#[derive(Serialize)]
struct Mount {
    destination: &'static str,
    r#type: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    namespaces: Vec<Namespace>,
    masked_paths: &'static [&'static str],
    readonly_paths: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdMapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

#[derive(Serialize)]
struct Resources {
    devices: [DeviceRule; 1],
}

#[derive(Serialize)]
struct DeviceRule {
    allow: bool,
    access: &'static str,
}

#[derive(Serialize)]
struct Namespace {
    r#type: &'static str,
}

/// Writes `config.json` into the bundle.
///
/// # Errors
/// The file exists, or cannot be written.
#[inline(never)]
pub(crate) fn spec(options: &Options) -> Result<()> {
    // Unified mode, as opposed to v1 with a v2 hierarchy beside it. A machine
    // without cgroups has no such directory.
    let unified = statfs("/sys/fs/cgroup")
        .is_ok_and(|filesystem| filesystem.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let mut spec = starter(unified);
    if options.rootless {
        spec = without_privileges(spec, geteuid().as_raw(), getegid().as_raw());
    }
    let text = json::indented(&spec, "\t").context("write the specification as JSON")?;
    write_new(&options.bundle.join(FILE), &text)
}

/// Writes a file that must not exist, not even as a dangling link.
fn write_new(path: &Path, text: &[u8]) -> Result<()> {
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            bail!("File {FILE} exists. Remove it first")
        }
        Err(err) => return Err(err).with_context(|| format!("create {path:?}")),
    };
    file.write_all(text)
        .with_context(|| format!("write {path:?}"))
}

/// The specification for root of the machine.
fn starter(unified: bool) -> Spec {
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if unified {
        namespaces.push("cgroup");
    }
    Spec {
        oci_version: version::SPECIFICATION,
        process: Process {
            terminal: true,
            user: User { uid: 0, gid: 0 },
            args: ["sh"],
            env: [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            cwd: "/",
            capabilities: Capabilities {
                bounding: CAPABILITIES,
                effective: CAPABILITIES,
                permitted: CAPABILITIES,
            },
            rlimits: [Rlimit {
                r#type: "RLIMIT_NOFILE",
                hard: 1024,
                soft: 1024,
            }],
            no_new_privileges: true,
        },
        root: Root {
            path: "rootfs",
            readonly: true,
        },
        hostname: "teu",
        mounts: mounts(),
        linux: Linux {
            uid_mappings: None,
            gid_mappings: None,
            resources: Some(Resources {
                devices: [DeviceRule {
                    allow: false,
                    access: "rwm",
                }],
            }),
            namespaces: namespaces
                .into_iter()
                .map(|r#type| Namespace { r#type })
                .collect(),
            masked_paths: MASKED_PATHS,
            readonly_paths: READONLY_PATHS,
        },
    }
}

fn mounts() -> Vec<Mount> {
    let rows: [(_, _, _, &[&str]); 7] = [
        ("/proc", "proc", "proc", &[]),
        (
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        (
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        (
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        (
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        (
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        ),
    ];
    let mount = |(destination, r#type, source, options): (_, _, _, &[_])| Mount {
        destination,
        r#type,
        source,
        options: options.to_vec(),
    };
    rows.into_iter().map(mount).collect()
}

/// The specification for a user without privileges: root of a user namespace
/// with this one user in it, on the host's network, without limits.
fn without_privileges(mut spec: Spec, uid: u32, gid: u32) -> Spec {
    let only = |host_id| {
        Some([IdMapping {
            container_id: 0,
            host_id,
            size: 1,
        }])
    };
    spec.linux.uid_mappings = only(uid);
    spec.linux.gid_mappings = only(gid);
    spec.linux.resources = None;
    spec.linux
        .namespaces
        .retain(|namespace| namespace.r#type != "network");
    spec.linux.namespaces.push(Namespace { r#type: "user" });
    for mount in &mut spec.mounts {
        if mount.destination == "/sys" {
            // A new sysfs needs a network namespace of one's own.
            (mount.r#type, mount.source) = ("none", "/sys");
            mount.options = vec!["rbind", "nosuid", "noexec", "nodev", "ro"];
        }
        // No other user or group exists in there.
        mount
            .options
            .retain(|word| !word.starts_with("uid=") && !word.starts_with("gid="));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(spec: &Spec) -> String {
        String::from_utf8(json::indented(spec, "\t").unwrap()).unwrap()
    }

    fn types(spec: &Spec) -> Vec<&str> {
        spec.linux
            .namespaces
            .iter()
            .map(|namespace| namespace.r#type)
            .collect()
    }

    #[test]
    fn indented_by_tabs_in_the_order_of_the_specification() {
        let text = written(&starter(false));
        let start = "{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,\n\
                     \t\t\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t},\n\
                     \t\t\"args\": [\n\t\t\t\"sh\"\n\t\t],\n";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.ends_with("\t\t\t\"/proc/sysrq-trigger\"\n\t\t]\n\t}\n}"),
            "{text}"
        );
        // A mount without options has no such key.
        let proc = "\t\t{\n\t\t\t\"destination\": \"/proc\",\n\t\t\t\"type\": \"proc\",\n\
                    \t\t\t\"source\": \"proc\"\n\t\t},\n";
        assert!(text.contains(proc), "{text}");
    }

    #[test]
    fn unified_machines_get_a_cgroup_namespace() {
        let expected = ["pid", "network", "ipc", "uts", "mount"];
        assert_eq!(types(&starter(false)), expected);
        assert_eq!(types(&starter(true)), [&expected[..], &["cgroup"]].concat());
    }

    #[test]
    fn for_a_user_without_privileges() {
        let spec = without_privileges(starter(false), 1000, 100);
        assert_eq!(types(&spec), ["pid", "ipc", "uts", "mount", "user"]);
        let json: Value = serde_json::from_str(&written(&spec)).unwrap();
        let mapping = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        assert_eq!(json["linux"]["uidMappings"], mapping(1000));
        assert_eq!(json["linux"]["gidMappings"], mapping(100));
        assert_eq!(json["linux"].get("resources"), None);
        let options = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        let sys =
            json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
        assert_eq!(json["mounts"][5], sys);
        let pts = json!([
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620"
        ]);
        assert_eq!(json["mounts"][2]["options"], pts);
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let bundle = std::env::temp_dir().join(format!("teu-spec-{}", std::process::id()));
        std::fs::create_dir(&bundle).unwrap();
        let options = Options {
            bundle: bundle.clone(),
            rootless: false,
        };
        spec(&options).unwrap();
        let first = std::fs::read_to_string(bundle.join(FILE)).unwrap();
        let error = spec(&options).unwrap_err().to_string();
        assert_eq!(error, "File config.json exists. Remove it first");
        assert_eq!(std::fs::read_to_string(bundle.join(FILE)).unwrap(), first);
        std::fs::remove_dir_all(&bundle).unwrap();
    }
}
