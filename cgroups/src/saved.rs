//! The paths of a container's cgroup, for later commands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::file::Directory;
use crate::v1::Member;

/// Controller name to absolute directory; the empty name is cgroup v2. The
/// same map that runc keeps as `cgroup_paths`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SavedPaths(BTreeMap<String, PathBuf>);

impl SavedPaths {
    pub(crate) fn new(v1: &[Member], v2: Option<&Directory>) -> SavedPaths {
        let mut paths = BTreeMap::new();
        for member in v1 {
            for controller in &member.controllers {
                paths.insert(controller.clone(), member.directory.path.clone());
            }
        }
        paths.extend(v2.map(|directory| (String::new(), directory.path.clone())));
        SavedPaths(paths)
    }

    /// The directory of a controller, by its v1 name; "" asks for v2.
    pub fn get(&self, controller: &str) -> Option<&Path> {
        self.0.get(controller).map(PathBuf::as_path)
    }

    /// All of them, by controller.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0
            .iter()
            .map(|(controller, path)| (controller.as_str(), path.as_path()))
    }

    /// One member per directory: controllers mounted together share one.
    pub(crate) fn members(&self) -> (Vec<Member>, Option<Directory>) {
        let mut members: Vec<Member> = Vec::new();
        for (controller, path) in self.0.iter().filter(|(name, _)| !name.is_empty()) {
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
        (members, self.0.get("").map(Directory::new))
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
    }
}
