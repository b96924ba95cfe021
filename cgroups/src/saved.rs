//! The paths of a container's cgroup in the form in which the caller
//! stores them for later commands. Where they are stored is the caller's decision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use teu_cgroups_types::{CgroupPlan, Driver, Location};

use crate::directory::Directory;
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

    /// Returns the paths at which [`Cgroup::prepare`](crate::Cgroup::prepare) will make the
    /// cgroup. With them, [`Cgroup::open`](crate::Cgroup::open) finds a cgroup whose making
    /// was interrupted.
    pub fn planned(plan: &CgroupPlan, location: &Location) -> SavedPaths {
        let (v1, v2) = members_of(plan, location);
        let paths = SavedPaths::new(&v1, v2.as_ref());
        match &plan.driver {
            Driver::Systemd(unit) => paths.with_unit(SavedUnit::of(unit)),
            Driver::Filesystem | Driver::Disabled => paths,
        }
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

/// Returns the v1 members and the v2 directory of a plan's cgroup.
pub(crate) fn members_of(
    plan: &CgroupPlan,
    location: &Location,
) -> (Vec<Member>, Option<Directory>) {
    let directories = location.directories(plan);
    let hierarchies = location.hierarchies.v1.iter();
    let members = hierarchies
        .zip(directories.v1)
        .map(|(hierarchy, directory)| Member {
            controllers: hierarchy.controllers.clone(),
            directory: Directory::new(directory),
        });
    (members.collect(), directories.v2.map(Directory::new))
}

#[cfg(test)]
mod tests {
    use super::*;

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
