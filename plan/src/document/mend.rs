//! Mends values for which oci-spec's types are too strict or too lax, and has the texts
//! of refusals.

use alloc::collections::BTreeSet;

use oci_spec::runtime::LinuxDeviceType;
use serde::de::Error as _;
use serde_json::{Error, Map, Value};

use super::{Name, Place, capability};
use crate::prelude::*;

/// Mends an object for oci-spec's type of the name `kind`.
///
/// # Errors
/// Returns an error if the object has a section for another platform, or a device without a
/// type.
pub(super) fn mend(
    kind: &str,
    object: &mut Map<String, Value>,
    place: &Place<'_>,
) -> Result<(), Error> {
    match kind {
        "Spec" => {
            for platform in ["solaris", "windows", "vm", "zos", "freebsd"] {
                if object.remove(platform).unwrap_or_default() != Value::Null {
                    let words = format!("{platform}: teu makes Linux containers only");
                    return Err(Error::custom(words));
                }
            }
        }
        "LinuxCapabilities" => drop_unknown_capabilities(object),
        // Empty elements and spaces are allowed, as in runc.
        "ExecCPUAffinity" => {
            for list in object.values_mut() {
                if let Value::String(text) = list {
                    let parts = text.split(',').map(str::trim);
                    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
                    *text = parts.join(",");
                }
            }
        }
        // oci-spec's type is limited to 2^63, more than any machine has.
        "LinuxHugepageLimit" => {
            let limit = object.get("limit").and_then(Value::as_u64);
            if limit > Some(i64::MAX.unsigned_abs()) {
                object.insert("limit".into(), i64::MAX.into());
            }
        }
        // Check the type here, because oci-spec's error would not name the device.
        "LinuxDevice" => {
            let word = object.get("type").and_then(Value::as_str);
            let word = word.unwrap_or_default();
            if word.parse::<LinuxDeviceType>().is_err() {
                let path = object.get("path").unwrap_or(&Value::Null);
                let words = format!("{path}: invalid device type {word:?}");
                return Err(Error::custom(words));
            }
        }
        "LinuxResources" => drop_without(object, "pids", &["limit"], place),
        "Linux" => drop_without(object, "seccomp", &["defaultAction", "syscalls"], place),
        _ => {}
    }
    Ok(())
}

/// Drops a section that asks for nothing, because it has none of these fields.
fn drop_without(
    object: &mut Map<String, Value>,
    section: &'static str,
    fields: &'static [&'static str],
    place: &Place<'_>,
) {
    let Some(Value::Object(inside)) = object.get(section) else {
        return;
    };
    let is_one = |name: &&String| fields.iter().any(|field| name.eq_ignore_ascii_case(field));
    let empty = [Value::Null, "".into(), Value::Array(Vec::new())];
    let mut inside = inside.iter();
    if inside.any(|(name, value)| is_one(&name) && !empty.contains(value)) {
        return;
    }
    let place = place.below(Name::Field(section));
    let Some(Value::Object(inside)) = object.remove(section) else {
        return;
    };
    for name in inside.keys().filter(|name| !is_one(name)) {
        (place.reading.unknown)(&place.below(Name::Field(name)), fields);
    }
}

/// Drops unknown capabilities with a warning (config.md, "Linux Process").
fn drop_unknown_capabilities(sets: &mut Map<String, Value>) {
    let mut unknown = BTreeSet::new();
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.retain(|name| match name.as_str() {
            Some(name) if capability(name).is_none() => {
                unknown.insert(name.to_owned());
                false
            }
            _ => true,
        });
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.into_iter().collect();
        log::warn!(
            "ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        );
    }
}

/// Returns the text of a refusal, which is runc's for fields that runc has.
pub(super) fn refusal(kind: &str, word: &str) -> String {
    match kind {
        "LinuxNamespaceType" => format!("namespace {word:?} does not exist"),
        "PosixRlimitType" => format!("wrong rlimit value: {word}"),
        "LinuxSchedulerPolicy" if word.is_empty() => "scheduler policy is required".to_owned(),
        "LinuxSchedulerPolicy" => format!("invalid scheduler policy: {word}"),
        "LinuxSchedulerFlag" => format!("invalid scheduler flag: {word}"),
        "IOPriorityClass" => format!("invalid ioPriority.Class: {word:?}"),
        "LinuxPersonalityDomain" => format!("invalid personality domain {word}"),
        "MemoryPolicyModeType" => format!("invalid memory policy mode {word:?}"),
        "MemoryPolicyFlagType" => format!("invalid memory policy flag {word:?}"),
        "LinuxSeccompAction" => format!("string {word} is not a valid action for seccomp"),
        "LinuxSeccompOperator" => format!("string {word} is not a valid operator for seccomp"),
        "LinuxSeccompFilterFlag" => format!("seccomp flag {word} is not known"),
        "Arch" => format!("string {word} is not a valid arch for seccomp"),
        _ => format!("{word:?} is not known here"),
    }
}

/// Returns oci-spec's spelling of a word, which is wrong for two flags of the
/// scheduler.
pub(super) fn spelled(word: &str) -> &str {
    match word {
        "SCHED_FLAG_RESET_ON_FORK" => "SCHED_RESET_ON_FORK",
        "SCHED_FLAG_DL_OVERRUN" => "SCHED_FLAG_D_L_OVERRUN",
        "SCHED_RESET_ON_FORK" | "SCHED_FLAG_D_L_OVERRUN" => "",
        word => word,
    }
}

/// The optional fields that are texts or words. An empty text in them means that the field
/// is absent, as for Go. In any other field an empty text has the wrong type.
pub(super) const TEXTS: &[&str] = &[
    "access",
    "apparmorProfile",
    "cgroupsPath",
    "closID",
    "commandLine",
    "cpus",
    "domainname",
    "final",
    "hostname",
    "initial",
    "l3CacheSchema",
    "listenerMetadata",
    "listenerPath",
    "memBwSchema",
    "mems",
    "mountLabel",
    "name",
    "nodes",
    "path",
    "rootfsPropagation",
    "selinuxLabel",
    "source",
    "type",
    "username",
];
