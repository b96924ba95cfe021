//! The fields of a bundle's config.json that the shim needs. It does not check them: the
//! runtime does.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::regular;

/// The parts of config.json that the shim needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: Option<String>,
    namespaces: Option<Vec<Namespace>>,
    uid_mappings: Option<Vec<IdMap>>,
    gid_mappings: Option<Vec<IdMap>>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdMap {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

impl Config {
    /// Reads the bundle's config.json.
    ///
    /// # Errors
    /// The file is missing, or is not JSON with these fields.
    pub(crate) fn read(bundle: &Path) -> Result<Config> {
        let path = bundle.join("config.json");
        let text = regular::read(&path)?;
        serde_json::from_slice(&text).with_context(|| format!("read {path:?}"))
    }

    /// Whether the container has a new pid namespace, so that all its processes end with
    /// the first.
    pub(crate) fn has_own_pids(&self) -> bool {
        let namespaces = self
            .linux
            .as_ref()
            .and_then(|linux| linux.namespaces.as_ref());
        namespaces.into_iter().flatten().any(|namespace| {
            let is_new = namespace.path.as_ref().is_none_or(String::is_empty);
            namespace.kind == "pid" && is_new
        })
    }

    /// Whether the cgroup's path has the form of systemd's. Engines that send no options
    /// request systemd in this way.
    pub(crate) fn names_systemd_cgroup(&self) -> bool {
        let path = self
            .linux
            .as_ref()
            .and_then(|linux| linux.cgroups_path.as_deref());
        path.is_some_and(|path| path.matches(':').count() == 2 && !path.contains('/'))
    }

    /// The ids on the host of the container's root user and group.
    pub(crate) fn root_user(&self) -> (u32, u32) {
        let root = |maps: fn(&Linux) -> Option<&Vec<IdMap>>| {
            let maps = self.linux.as_ref().and_then(maps);
            let mut maps = maps.into_iter().flatten();
            maps.find(|map| map.container_id == 0 && map.size > 0)
                .map_or(0, |map| map.host_id)
        };
        (
            root(|linux| linux.uid_mappings.as_ref()),
            root(|linux| linux.gid_mappings.as_ref()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn own_pids_are_those_of_a_new_namespace() {
        for (namespace, is_own) in [
            (r#"{"type":"pid"}"#, true),
            (r#"{"type":"pid","path":""}"#, true),
            (r#"{"type":"pid","path":"/proc/1/ns/pid"}"#, false),
            (r#"{"type":"mount"}"#, false),
        ] {
            let config = config(&format!(r#"{{"linux":{{"namespaces":[{namespace}]}}}}"#));
            assert_eq!(config.has_own_pids(), is_own, "{namespace}");
        }
        assert!(!config("{}").has_own_pids());
    }

    #[test]
    fn cgroups_of_systemd_have_three_parts() {
        for (path, is_systemd) in [
            ("system.slice:docker:abc", true),
            ("/docker/abc", false),
            ("/a:b:c", false),
            ("a:b", false),
        ] {
            let config = config(&format!(r#"{{"linux":{{"cgroupsPath":"{path}"}}}}"#));
            assert_eq!(config.names_systemd_cgroup(), is_systemd, "{path}");
        }
    }

    #[test]
    fn root_is_mapped() {
        let map =
            r#"[{"containerID":1,"hostID":5,"size":1},{"containerID":0,"hostID":7,"size":1}]"#;
        let config = config(&format!(r#"{{"linux":{{"uidMappings":{map}}}}}"#));
        assert_eq!(config.root_user(), (7, 0));
    }
}
