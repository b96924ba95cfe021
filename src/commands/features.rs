//! `teu features`: prints what this runtime supports (runtime-spec, features.md).
//! Docker and containerd ask before they use a feature.
//!
//! The answer is about this build and not about this kernel, as features.md requires.

use super::output::print;
use crate::host::Host;
use crate::{json, version};
use anyhow::{Context, Result};
use oci_spec::runtime::{
    Cgroup, IntelRdt, LinuxFeature, LinuxNamespaceType, MemoryPolicy, Seccomp,
};
use serde::Serialize;
use std::collections::BTreeMap;
use teu_plan::capability_set::CapabilitySet;
use teu_plan::seccomp::words as seccomp;

/// The oldest version of the specification whose bundles run.
const OLDEST_SPECIFICATION: &str = "1.0.0";

/// Hooks, in the order of a container's life. `prestart` is deprecated but still works.
const HOOKS: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const NAMESPACES: [LinuxNamespaceType; 8] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

/// Annotations that engines should not let every user set, because a runtime acts on
/// them. A name that ends in "." stands for all names that begin with it.
const UNSAFE_ANNOTATIONS: &[&str] = &[
    "org.systemd.property.",
    "org.criu.config",
    teu_plan::gpu::ANNOTATION,
];

/// The output, field by field, in the order of features.md. Not oci-spec's type, which
/// puts annotations in random order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: LinuxFeature,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

/// Returns the features of this build. New features are announced here.
fn built() -> Features {
    let commit = version::COMMIT.filter(|commit| !commit.is_empty());
    let annotations = [
        Some(("teu.version", version::VERSION)),
        commit.map(|c| ("teu.commit", c)),
        // Engines look for this key.
        Some(("org.opencontainers.runc.checkpoint.enabled", "true")),
        Some(("teu.cdi", teu_gpu::cdi::NEWEST_VERSION)),
        // The values of --gpus for vendors.
        Some(("teu.gpus", "nvidia,amd,intel,drm")),
    ];
    Features {
        oci_version_min: OLDEST_SPECIFICATION,
        oci_version_max: version::SPECIFICATION,
        hooks: HOOKS,
        mount_options: teu_plan::mount_options::words().collect(),
        linux: linux(),
        annotations: annotations.into_iter().flatten().collect(),
        potentially_unsafe_config_annotations: UNSAFE_ANNOTATIONS,
    }
}

fn linux() -> LinuxFeature {
    let mut cgroup = Cgroup::default();
    cgroup
        .set_v1(Some(true))
        .set_v2(Some(true))
        .set_systemd(Some(true))
        .set_systemd_user(Some(true))
        .set_rdma(Some(true));
    let mut filter = Seccomp::default();
    filter
        .set_enabled(Some(true))
        .set_actions(Some(seccomp::actions()))
        .set_operators(Some(seccomp::operators()))
        .set_archs(Some(seccomp::architectures()))
        .set_known_flags(Some(seccomp::flags()))
        // Only the supported flags depend on the kernel, as features.md requires.
        .set_supported_flags(Some(seccomp::supported_flags(
            Host::new().knows_wait_killable(),
        )));
    let mut intel_rdt = IntelRdt::default();
    intel_rdt
        .set_enabled(Some(true))
        .set_schemata(Some(true))
        .set_monitoring(Some(true));
    let mut memory_policy = MemoryPolicy::default();
    memory_policy
        .set_modes(Some(sorted(teu_plan::memory_policy::modes())))
        .set_flags(Some(sorted(teu_plan::memory_policy::flags())));
    let mut linux = LinuxFeature::default();
    linux
        .set_namespaces(Some(NAMESPACES.into()))
        .set_capabilities(Some(
            teu_plan::capabilities::names(CapabilitySet::all()).collect(),
        ))
        .set_cgroup(Some(cgroup))
        .set_seccomp(Some(filter))
        .set_intel_rdt(Some(intel_rdt))
        .set_memory_policy(Some(memory_policy));
    let apparmor = linux.apparmor_mut().get_or_insert_default();
    apparmor.set_enabled(Some(true));
    let selinux = linux.selinux_mut().get_or_insert_default();
    selinux.set_enabled(Some(true));
    let extensions = linux.mount_extensions_mut().get_or_insert_default();
    let idmap = extensions.idmap_mut().get_or_insert_default();
    idmap.set_enabled(Some(true));
    let net_devices = linux.net_devices_mut().get_or_insert_default();
    net_devices.set_enabled(Some(true));
    linux
}

/// Prints the features as JSON.
///
/// # Errors
/// Standard output cannot be written to.
#[inline(never)]
pub(crate) fn features() -> Result<()> {
    let mut text = text()?;
    text.push(b'\n');
    print(&text)
}

/// Returns the features as JSON.
///
/// # Errors
/// The features cannot be written as JSON.
pub(crate) fn text() -> Result<Vec<u8>> {
    json::indented(&built(), "    ").context("write the features as JSON")
}

fn sorted(words: impl Iterator<Item = String>) -> Vec<String> {
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
        assert_eq!(json["annotations"]["teu.cdi"], "1.1.0");
        let vendors = teu_gpu::Vendor::ALL.map(teu_gpu::Vendor::word).join(",");
        assert_eq!(json["annotations"]["teu.gpus"], vendors);
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
        // Every kernel that teu runs on has SPEC_ALLOW.
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

    #[test]
    fn the_order_is_that_of_the_specification() {
        let text = String::from_utf8(json::indented(&built(), "    ").unwrap()).unwrap();
        let start = "{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n    \"hooks\": [\n        \"prestart\",";
        assert!(text.starts_with(start), "{text}");
    }
}
