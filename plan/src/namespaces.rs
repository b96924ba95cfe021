//! Decides which namespaces the container gets: each is new, joined by path, or the
//! caller's. Decides its id maps and time offsets, too. The crate `teu-namespaces` makes
//! them.

use anyhow::{Context, Result, bail};
use teu_namespaces_types::{IdMap, IdMaps, Kind, Namespace, NamespacePlan, TimeOffset};

use super::seen::{Caller, Seen};
use super::sorted::sorted;
use crate::prelude::*;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Spec};

/// Decides the namespaces.
///
/// # Errors
/// Returns an error, in runc's words, if a kind is unknown or repeated, or if a setting
/// needs a namespace that the container does not have.
pub fn plan(spec: &Spec, seen: &Seen) -> Result<NamespacePlan> {
    let linux = spec.linux().as_ref();
    let mut plan = NamespacePlan::default();
    for namespace in linux.iter().flat_map(|linux| linux.namespaces()).flatten() {
        add(&mut plan, namespace)?;
    }
    plan.id_maps = id_maps(&plan, linux, seen)?;
    plan.time_offsets = time_offsets(&plan, linux)?;
    for (field, value) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if value.as_ref().is_some_and(|name| !name.is_empty()) && !plan.is_private(Kind::Uts) {
            bail!("unable to set {field} without a private UTS namespace");
        }
    }
    Ok(plan)
}

fn add(plan: &mut NamespacePlan, namespace: &LinuxNamespace) -> Result<()> {
    let kind = match namespace.typ() {
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Network => Kind::Network,
        LinuxNamespaceType::Time => Kind::Time,
    };
    let path = namespace.path().as_deref().unwrap_or(Path::new(""));
    if plan.is_private(kind) {
        let word = kind.spec_name();
        bail!("malformed spec file: duplicated ns {{{word:?} {path:?}}}");
    }
    if path.as_os_str().is_empty() {
        plan.set(kind, Namespace::New);
        return Ok(());
    }
    if !path.is_absolute() {
        bail!("namespace path {path:?} is not an absolute path");
    }
    plan.set(kind, Namespace::Joined(path.into()));
    Ok(())
}

fn id_maps(plan: &NamespacePlan, linux: Option<&Linux>, seen: &Seen) -> Result<IdMaps> {
    let mut maps = IdMaps {
        uid: maps_from(linux.and_then(|linux| linux.uid_mappings().as_ref())),
        gid: maps_from(linux.and_then(|linux| linux.gid_mappings().as_ref())),
        deny_setgroups: false,
    };
    let mapped = !maps.uid.is_empty() || !maps.gid.is_empty();
    match plan.get(Kind::User) {
        Namespace::Inherited => {
            // An unprivileged caller can make a container only in a new user namespace.
            if seen.caller.is_unprivileged {
                bail!("rootless container requires user namespaces");
            }
            // Only warn, because runc 1.3 runs such a container silently, and an error
            // would stop containers that work with runc.
            if mapped {
                log::warn!(
                    "linux.uidMappings and gidMappings are ignored: there is no user namespace"
                );
            }
            return Ok(IdMaps::default());
        }
        Namespace::New if !mapped => bail!(
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        ),
        Namespace::New => {
            check_complete(&maps)?;
            maps.deny_setgroups = must_deny_setgroups(&seen.caller, &maps.gid);
        }
        Namespace::Joined(_) => {
            let joined = seen.joined_id_maps.clone();
            let joined = joined.context("the user namespace to join was not looked at")?;
            maps = maps_of_joined(joined, maps)?;
        }
    }
    Ok(maps)
}

/// Reads `uidMappings` or `gidMappings`.
pub(super) fn maps_from(mappings: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMap> {
    let mappings = mappings.into_iter().flatten();
    mappings
        .map(|m| IdMap {
            container: m.container_id(),
            host: m.host_id(),
            size: m.size(),
        })
        .collect()
}

fn check_complete(maps: &IdMaps) -> Result<()> {
    for (field, map) in [("uidMappings", &maps.uid), ("gidMappings", &maps.gid)] {
        if map.is_empty() {
            bail!("linux.{field}: a new user namespace needs at least one mapping");
        }
        if let Some(empty) = map.iter().find(|line| line.size == 0) {
            bail!(
                "linux.{field}: the mapping of {} has size 0",
                empty.container
            );
        }
    }
    Ok(())
}

/// Returns whether setgroups(2) has to be denied in the new user namespace: a caller
/// without CAP_SETGID may map only its own group, and only after that (user_namespaces(7)).
fn must_deny_setgroups(caller: &Caller, gid: &[IdMap]) -> bool {
    let own_group_only = matches!(gid, [only] if only.size == 1 && only.host == caller.group);
    caller.is_unprivileged && own_group_only
}

/// Returns the maps of the user namespace to join. config.json may have maps, too, because
/// containerd and CRI-O write the path and the maps. They must be equal.
fn maps_of_joined(theirs: IdMaps, given: IdMaps) -> Result<IdMaps> {
    if given.uid.is_empty() && given.gid.is_empty() {
        return Ok(theirs);
    }
    if given.uid != theirs.uid || given.gid != theirs.gid {
        bail!(
            "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one"
        );
    }
    log::warn!(
        "config.json has both a user namespace path and its id mappings: the path is joined"
    );
    Ok(theirs)
}

fn time_offsets(plan: &NamespacePlan, linux: Option<&Linux>) -> Result<Vec<TimeOffset>> {
    let offsets = sorted(linux.and_then(|linux| linux.time_offsets().as_ref()));
    if offsets.is_empty() {
        return Ok(Vec::new());
    }
    match plan.get(Kind::Time) {
        Namespace::Inherited => {
            bail!(
                "time namespace offsets specified, but time namespace isn't enabled in the config"
            )
        }
        Namespace::Joined(_) => bail!(
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
        ),
        Namespace::New => {}
    }
    offsets
        .into_iter()
        .map(|(clock, offset)| {
            if !matches!(clock, "boottime" | "monotonic") {
                bail!("linux.timeOffsets: unknown clock {clock:?}");
            }
            Ok(TimeOffset {
                clock: clock.to_owned(),
                secs: offset.secs().unwrap_or(0),
                nanosecs: offset.nanosecs().unwrap_or(0),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(config: &str) -> Result<NamespacePlan> {
        plan(&crate::testing::read(config), &Seen::nothing())
    }

    fn refusal(config: &str) -> String {
        plan_of(config).expect_err(config).to_string()
    }

    #[test]
    fn new_joined_and_inherited() {
        let plan = plan_of(
            r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"}]}}"#,
        )
        .expect("plan");
        assert!(plan.is_new(Kind::Pid));
        assert_eq!(
            plan.joined(Kind::Network),
            Some(Path::new("/proc/1/ns/net"))
        );
        assert!(!plan.is_private(Kind::Uts));
    }

    #[test]
    fn contradictions_are_refused_in_runcs_words() {
        let cases = [
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"pid"}]}}"#,
                "malformed spec file: duplicated ns {\"pid\" \"\"}",
            ),
            (
                r#"{"hostname":"a"}"#,
                "unable to set hostname without a private UTS namespace",
            ),
            (
                r#"{"domainname":"a"}"#,
                "unable to set domainname without a private UTS namespace",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"user"}]}}"#,
                "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
            ),
            (
                r#"{"linux":{"timeOffsets":{"boottime":{"secs":1}}}}"#,
                "time namespace offsets specified, but time namespace isn't enabled in the config",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"time"}],"timeOffsets":{"realtime":{"secs":1}}}}"#,
                "linux.timeOffsets: unknown clock \"realtime\"",
            ),
        ];
        for (config, words) in cases {
            assert_eq!(refusal(config), words);
        }
    }
}
