//! The paths and device rules of a container's cgroup in the form in which the caller
//! stores them for later commands. Where they are stored is the caller's decision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::Directory;
use crate::systemd::SavedUnit;
use crate::v1::Member;

/// The absolute directory of each controller; the empty name stands for cgroup v2. It is
/// the map that runc stores as `cgroup_paths`, with the unit if systemd made the
/// directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPaths {
    #[serde(deserialize_with = "Option::deserialize")]
    unit: Option<SavedUnit>,
    #[serde(flatten)]
    paths: BTreeMap<String, PathBuf>,
}

impl SavedPaths {
    pub(crate) fn new(v1: &[Member], v2: Option<&Directory>) -> SavedPaths {
        let mut paths = BTreeMap::new();
        for member in v1 {
            for controller in &member.controllers {
                paths.insert(controller.clone(), member.directory.path.clone());
            }
        }
        paths.extend(v2.map(|directory| (String::new(), directory.path.clone())));
        SavedPaths { unit: None, paths }
    }

    pub(crate) fn with_unit(self, unit: SavedUnit) -> SavedPaths {
        let unit = Some(unit);
        SavedPaths { unit, ..self }
    }

    pub(crate) fn unit(&self) -> Option<&SavedUnit> {
        self.unit.as_ref()
    }

    /// Returns whether the container has no cgroup of its own.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns the directory of a v1 controller, or that of cgroup v2 for "".
    pub fn get(&self, controller: &str) -> Option<&Path> {
        self.paths.get(controller).map(PathBuf::as_path)
    }

    /// Returns all controllers with their directories.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths
            .iter()
            .map(|(controller, path)| (controller.as_str(), path.as_path()))
    }

    /// Returns a member for each v1 directory, which several controllers may share, and
    /// the directory of cgroup v2.
    pub(crate) fn members(&self) -> (Vec<Member>, Option<Directory>) {
        let mut members: Vec<Member> = Vec::new();
        for (controller, path) in self.paths.iter().filter(|(name, _)| !name.is_empty()) {
            // Equal directories have equal spellings, so the text is compared.
            let path = path.as_path();
            match members
                .iter_mut()
                .find(|member| member.directory.path.as_os_str() == path.as_os_str())
            {
                Some(member) => member.controllers.push(controller.clone()),
                None => members.push(Member {
                    controllers: vec![controller.clone()],
                    directory: Directory::new(path),
                }),
            }
        }
        (members, self.paths.get("").map(Directory::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{DeviceRule, default_rules};
    use crate::limits::Limits;

    #[test]
    fn limits_are_stored_without_defaults() {
        use crate::devices::rules::tests::rule;
        let user = ["deny a", "allow c 195:* rw", "allow b 8:0 r"].map(rule);
        let limits = |rules: Vec<DeviceRule>| Limits {
            pids: Some(7),
            devices: Some(rules),
            ..Limits::default()
        };
        let with_default = limits(user.into_iter().chain(default_rules()).collect());
        let text = serde_json::to_string(&with_default).unwrap();
        assert_eq!(
            text,
            r#"{"pids":7,"devices":["-a *:* rwm","+c 195:* rw","+b 8:0 r","default"]}"#
        );
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), with_default);
        let bare = limits(user.to_vec());
        let text = serde_json::to_string(&bare).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), bare);
        // Without the field, the next update would not restrict devices.
        let none = r#"{"devices":null}"#;
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), none);
        assert_eq!(
            serde_json::from_str::<Limits>(none).unwrap(),
            Limits::default()
        );
        let error = serde_json::from_str::<Limits>("{}").unwrap_err();
        assert!(
            error.to_string().contains("missing field `devices`"),
            "{error}"
        );
        let error = serde_json::from_str::<Limits>(r#"{"devices":["+x 1:3 r"]}"#).unwrap_err();
        assert!(error.to_string().contains("not a device rule"), "{error}");
    }

    #[test]
    fn paths_are_stored_and_read() {
        let text = r#"{"unit":null,"":"/cg/unified/a","cpu":"/cg/cpu,cpuacct/a","cpuacct":"/cg/cpu,cpuacct/a","pids":"/cg/pids/a"}"#;
        let saved: SavedPaths = serde_json::from_str(text).unwrap();
        let (v1, v2) = saved.members();
        assert_eq!(v1.len(), 2);
        assert!(v1[0].has("cpu") && v1[0].has("cpuacct"));
        assert_eq!(saved.get("pids"), Some(Path::new("/cg/pids/a")));
        assert_eq!(SavedPaths::new(&v1, v2.as_ref()), saved);
        assert_eq!(serde_json::to_string(&saved).unwrap(), text);
        let with_unit = saved.with_unit(SavedUnit {
            name: "teu-a.scope".into(),
            manager: crate::Manager::System,
        });
        let text = serde_json::to_string(&with_unit).unwrap();
        assert_eq!(
            serde_json::from_str::<SavedPaths>(&text).unwrap(),
            with_unit
        );
        let (v1, v2) = with_unit.members();
        assert_eq!((v1.len(), v2.is_some()), (2, true));
    }
}
