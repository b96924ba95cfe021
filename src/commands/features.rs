//! `teu features`: say what this runtime supports (runtime-spec, features.md).
//!
//! Docker and containerd ask before they use something. What is said here is
//! what is built, not what this kernel can do: that is what features.md wants.

use crate::host::Host;
use crate::plan::seccomp::words as seccomp;
use crate::{json, plan, version};
use anyhow::{Context, Result};
use rustix::thread::CapabilitySet;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// The oldest specification whose bundles run.
const OLDEST_SPECIFICATION: &str = "1.0.0";

/// In the order of a container's life. `prestart` is deprecated, not gone.
const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: &[&str] = &[
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

/// Annotations of a specification that engines should not let everyone set,
/// because a runtime that knows them acts on them. One that ends in "." stands
/// for all that begin so.
const UNSAFE_ANNOTATIONS: &[&str] = &["org.systemd.property.", "org.criu.config"];

/// features.md, field by field; the order is that of the output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: Vec<&'static str>,
    known_flags: Vec<&'static str>,
    /// Those of them that this kernel has: the one answer that is about the
    /// machine, as features.md wants it.
    supported_flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

/// What is built. Here is where a new ability is announced.
fn built() -> Features {
    let commit = version::COMMIT.filter(|commit| !commit.is_empty());
    let annotations = [
        Some(("teu.version", version::VERSION)),
        commit.map(|c| ("teu.commit", c)),
        // The key engines look for.
        Some(("org.opencontainers.runc.checkpoint.enabled", "true")),
    ];
    Features {
        oci_version_min: OLDEST_SPECIFICATION,
        oci_version_max: version::SPECIFICATION,
        hooks: HOOKS,
        mount_options: plan::mount_options::words().collect(),
        linux: Linux {
            namespaces: NAMESPACES,
            capabilities: plan::capabilities::names(CapabilitySet::all()).collect(),
            cgroup: Cgroup {
                v1: true,
                v2: true,
                systemd: true,
                systemd_user: true,
                rdma: true,
            },
            seccomp: Seccomp {
                enabled: true,
                actions: seccomp::actions(),
                operators: seccomp::operators(),
                archs: seccomp::architectures(),
                known_flags: seccomp::flags(),
                supported_flags: seccomp::supported_flags(&Host::new()),
            },
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt {
                enabled: true,
                schemata: true,
                monitoring: true,
            },
            memory_policy: MemoryPolicy {
                modes: sorted(plan::memory_policy::modes()),
                flags: sorted(plan::memory_policy::flags()),
            },
            mount_extensions: MountExtensions {
                idmap: Enabled { enabled: true },
            },
            net_devices: Enabled { enabled: true },
        },
        annotations: annotations.into_iter().flatten().collect(),
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    }
}

/// Prints the features as JSON.
///
/// # Errors
/// Standard output cannot be written to.
#[inline(never)]
pub(crate) fn features() -> Result<()> {
    let mut text = json::indented(&built(), "    ").context("write the features as JSON")?;
    text.push(b'\n');
    std::io::stdout()
        .write_all(&text)
        .context("write to standard output")
}

fn sorted(words: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut words: Vec<_> = words.collect();
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> serde_json::Value {
        serde_json::to_value(built()).unwrap()
    }

    #[test]
    fn engines_find_what_they_look_for() {
        let json = json();
        assert_eq!(json["ociVersionMin"], "1.0.0");
        assert_eq!(json["ociVersionMax"], "1.3.0");
        assert_eq!(json["hooks"].as_array().unwrap().len(), 6);
        assert_eq!(json["linux"]["namespaces"].as_array().unwrap().len(), 8);
        assert_eq!(json["linux"]["capabilities"].as_array().unwrap().len(), 41);
        assert_eq!(json["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert_eq!(json["linux"]["intelRdt"]["enabled"], true);
        assert_eq!(
            json["linux"]["memoryPolicy"]["modes"]
                .as_array()
                .unwrap()
                .len(),
            7
        );
        assert_eq!(json["linux"]["netDevices"]["enabled"], true);
        assert_eq!(json["annotations"]["teu.version"], version::VERSION);
        let checkpoint = "org.opencontainers.runc.checkpoint.enabled";
        assert_eq!(json["annotations"][checkpoint], "true");
    }

    #[test]
    fn seccomp_words_are_those_understood() {
        let json = json();
        let seccomp = &json["linux"]["seccomp"];
        assert_eq!(seccomp["enabled"], true);
        let count = |key: &str| seccomp[key].as_array().map_or(0, Vec::len);
        assert_eq!(
            (count("actions"), count("operators"), count("archs")),
            (9, 7, 11)
        );
        assert_eq!(count("knownFlags"), 4);
        // SPEC_ALLOW is there on any kernel that teu runs on.
        assert!(count("supportedFlags") >= 3);
    }

    #[test]
    fn mount_options_are_those_understood() {
        let json = json();
        let words = json["mountOptions"].as_array().unwrap();
        for word in [
            "ro",
            "rro",
            "idmap",
            "ridmap",
            "tmpcopyup",
            "defaults",
            "rslave",
        ] {
            assert!(words.contains(&word.into()), "{word}");
        }
    }

    /// Not yet; whoever builds one changes this with it.
    #[test]
    fn the_order_is_that_of_the_specification() {
        let text = String::from_utf8(json::indented(&built(), "    ").unwrap()).unwrap();
        let start = "{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n    \"hooks\": [\n        \"prestart\",";
        assert!(text.starts_with(start), "{text}");
    }
}
