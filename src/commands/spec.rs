//! `teu spec`: writes a specification to begin with.
//!
//! The file equals runc's except for the host name, with the keys in the same order, so
//! that scripts can edit both.

use crate::{json, version};
use anyhow::{Context, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};
use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, PosixRlimit,
    Root, User, get_default_maskedpaths, get_default_mounts, get_default_namespaces,
    get_default_readonly_paths,
};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The arguments of `spec`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The bundle's directory; "." by default.
    pub(crate) bundle: PathBuf,
    /// Whether the specification is for a user without privileges.
    pub(crate) rootless: bool,
}

const FILE: &str = "config.json";

const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// The part of config.md that is written, with the fields in the order of runc's file.
/// oci-spec's types have another order.
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
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: &'static str,
    capabilities: Capabilities,
    rlimits: Option<Vec<PosixRlimit>>,
    no_new_privileges: bool,
}

#[derive(Serialize)]
struct Capabilities {
    bounding: &'static [&'static str],
    effective: &'static [&'static str],
    permitted: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid_mappings: Option<[IdMapping; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<LinuxResources>,
    namespaces: Vec<LinuxNamespace>,
    masked_paths: Vec<String>,
    readonly_paths: Vec<String>,
}

#[derive(Serialize)]
struct IdMapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

/// Writes `config.json` into the bundle.
///
/// # Errors
/// The file exists, or cannot be written.
#[inline(never)]
pub(crate) fn spec(options: &Options) -> Result<()> {
    // Look for unified mode, without v1 hierarchies. A machine without cgroups has no
    // such directory.
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

/// Returns the specification for root of the host.
fn starter(unified: bool) -> Spec {
    let mut namespaces = get_default_namespaces();
    namespaces.retain(|namespace| unified || namespace.typ() != LinuxNamespaceType::Cgroup);
    // oci-spec's default is a shell with a limit of 1024 open files.
    let shell = oci_spec::runtime::Process::default();
    let mut deny = LinuxDeviceCgroup::default();
    deny.set_access(Some("rwm".into()));
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(vec![deny]));
    Spec {
        oci_version: version::SPECIFICATION,
        process: Process {
            terminal: true,
            user: User::default(),
            args: shell.args().clone(),
            env: shell.env().clone(),
            cwd: "/",
            capabilities: Capabilities {
                bounding: CAPABILITIES,
                effective: CAPABILITIES,
                permitted: CAPABILITIES,
            },
            rlimits: shell.rlimits().clone(),
            no_new_privileges: true,
        },
        // oci-spec's default is "rootfs", read-only.
        root: Root::default(),
        hostname: "teu",
        mounts: get_default_mounts(),
        linux: Linux {
            uid_mappings: None,
            gid_mappings: None,
            resources: Some(resources),
            namespaces,
            masked_paths: get_default_maskedpaths(),
            readonly_paths: get_default_readonly_paths(),
        },
    }
}

/// Changes the specification for a user without privileges: the user becomes root of a
/// user namespace that has no other user, on the host's network, without limits.
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
    let namespaces = &mut spec.linux.namespaces;
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    let mut user = LinuxNamespace::default();
    user.set_typ(LinuxNamespaceType::User);
    namespaces.push(user);
    for mount in &mut spec.mounts {
        let needs_network = mount.destination() == Path::new("/sys");
        let Some(options) = mount.options_mut() else {
            continue;
        };
        // No other user or group exists in this namespace.
        options.retain(|word| !word.starts_with("uid=") && !word.starts_with("gid="));
        if needs_network {
            // A new sysfs needs its own network namespace.
            options.insert(0, "rbind".into());
            mount
                .set_typ(Some("none".into()))
                .set_source(Some("/sys".into()));
        }
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

    fn types(spec: &Spec) -> Vec<String> {
        let json = serde_json::to_value(&spec.linux.namespaces).unwrap();
        let types = json.as_array().unwrap().iter();
        types
            .map(|namespace| namespace["type"].as_str().unwrap().to_owned())
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
        // A mount without options has no key for them.
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
