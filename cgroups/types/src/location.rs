//! The hierarchies of a machine, and where a container's cgroup is in them.

use std::path::PathBuf;

use crate::hierarchy::{Directories, Hierarchies, Hierarchy};
use crate::layout::Layout;
use crate::{CgroupPlan, Driver};

/// The facts about a machine on which the place of a container's cgroup depends.
/// `teu-cgroups` finds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The hierarchies, as the process that makes the container sees them.
    pub hierarchies: Hierarchies,
    /// The cgroup of the systemd manager that makes the cgroup, relative to the
    /// mountpoints. Empty for the root, and without systemd.
    pub manager: PathBuf,
}

impl Location {
    /// Returns a location without hierarchies.
    pub fn none() -> Location {
        Location {
            hierarchies: Hierarchies {
                v1: Vec::new(),
                v2: None,
            },
            manager: PathBuf::new(),
        }
    }

    /// Returns the directories of the cgroup of a plan. A container without a cgroup has
    /// none.
    pub fn directories(&self, plan: &CgroupPlan) -> Directories {
        let Hierarchies { v1, v2 } = &self.hierarchies;
        let is_hybrid = !v1.is_empty();
        let on_v1 = |hierarchy: &Hierarchy| plan.path.below_own(hierarchy);
        let on_v2 = |hierarchy: &Hierarchy| plan.path.on_v2(hierarchy, is_hybrid);
        match &plan.driver {
            Driver::Filesystem => Directories {
                v1: v1.iter().map(on_v1).collect(),
                v2: v2.as_ref().map(on_v2),
            },
            Driver::Systemd(unit) => {
                let place = self.manager.join(unit.path());
                let directory = |hierarchy: &Hierarchy| hierarchy.mountpoint.join(&place);
                Directories {
                    v1: v1.iter().map(directory).collect(),
                    v2: v2.as_ref().map(directory),
                }
            }
            Driver::Disabled => Directories::default(),
        }
    }

    /// Describes the hierarchies for a mount of type "cgroup" in the container.
    pub fn layout(&self, plan: &CgroupPlan) -> Layout {
        // The hierarchies may be left out, so show this process's own cgroup.
        let directories = match plan.is_lenient() {
            true => Directories::default(),
            false => self.directories(plan),
        };
        Layout::new(&self.hierarchies, directories)
    }
}
