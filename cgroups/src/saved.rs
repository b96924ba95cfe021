//! The paths of a container's cgroup, for later commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::Directory;
use crate::systemd::SavedUnit;
use crate::v1::Member;

/// Controller name to absolute directory; the empty name is cgroup v2. The
/// same map that runc keeps as `cgroup_paths`, and beside it the unit, if
/// systemd made the directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPaths {
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

    /// Whether the container has no cgroup of its own at all.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The directory of a controller, by its v1 name; "" asks for v2.
    pub fn get(&self, controller: &str) -> Option<&Path> {
        self.paths.get(controller).map(PathBuf::as_path)
    }

    /// All of them, by controller.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths
            .iter()
            .map(|(controller, path)| (controller.as_str(), path.as_path()))
    }

    /// One member per directory: controllers mounted together share one.
    pub(crate) fn members(&self) -> (Vec<Member>, Option<Directory>) {
        let mut members: Vec<Member> = Vec::new();
        for (controller, path) in self.paths.iter().filter(|(name, _)| !name.is_empty()) {
            match members
                .iter_mut()
                .find(|member| member.directory.path == *path)
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

    #[test]
    fn there_and_back() {
        let text = r#"{"":"/cg/unified/a","cpu":"/cg/cpu,cpuacct/a","cpuacct":"/cg/cpu,cpuacct/a","pids":"/cg/pids/a"}"#;
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
