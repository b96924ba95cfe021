//! The hierarchies of this machine, and where a container's cgroup is to be in them.

use crate::error::{Error, Result};
use crate::file::Directory;
use crate::hierarchy::Hierarchies;
use crate::layout::Layout;
use crate::saved::SavedPaths;
use crate::systemd::Manager;
use crate::unit_cgroup::Asked;
use crate::v1;
use crate::{CgroupPlan, Driver};

/// The hierarchies of the machine, as this process sees them. Finding them reads /proc and
/// makes nothing.
#[derive(Debug)]
pub struct Location {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) systemd: Option<Asked>,
}

impl Location {
    /// Finds the hierarchies.
    ///
    /// # Errors
    /// Returns an error if /proc/self/mountinfo or /proc/self/cgroup cannot be read, or if
    /// there is no hierarchy.
    pub fn find() -> Result<Location> {
        Ok(Location {
            hierarchies: Hierarchies::of_this_process()?,
            systemd: None,
        })
    }

    /// Finds the hierarchies, if there are any: for [`Driver::Disabled`].
    ///
    /// # Errors
    /// As [`Location::find`], but succeeds if there is no hierarchy.
    pub fn find_if_any() -> Result<Location> {
        match Location::find() {
            Err(Error::NotMounted) => Ok(Location::none()),
            found => found,
        }
    }

    /// Finds the hierarchies, and asks a systemd manager where it makes cgroups.
    ///
    /// # Errors
    /// As [`Location::find`]. Also returns an error if there is no such manager, or if it does
    /// not answer.
    pub fn find_with_systemd(manager: Manager) -> Result<Location> {
        let mut location = Location::find()?;
        location.systemd = Some(Asked::ask(manager, &location.hierarchies)?);
        Ok(location)
    }

    /// Returns a location without hierarchies.
    pub fn none() -> Location {
        Location {
            hierarchies: Hierarchies {
                v1: Vec::new(),
                v2: None,
            },
            systemd: None,
        }
    }

    /// Returns the paths at which [`Cgroup::prepare`](crate::Cgroup::prepare) will make the cgroup. With them,
    /// [`Cgroup::open`](crate::Cgroup::open) finds a cgroup whose making was interrupted.
    pub fn paths(&self, plan: &CgroupPlan) -> SavedPaths {
        match &plan.driver {
            Driver::Filesystem => {}
            Driver::Disabled => return SavedPaths::default(),
            Driver::Systemd(unit) => {
                let (v1, v2) = self.paths_of_unit(unit);
                return SavedPaths::new(&v1, v2.as_ref()).with_unit(unit.saved());
            }
        }
        let members: Vec<v1::Member> = self
            .hierarchies
            .v1
            .iter()
            .map(|hierarchy| v1::Member {
                controllers: hierarchy.controllers.clone(),
                directory: Directory::new(plan.path.below_own(hierarchy)),
            })
            .collect();
        let v2 = self
            .hierarchies
            .v2
            .as_ref()
            .map(|hierarchy| Directory::new(plan.path.on_v2(hierarchy, !members.is_empty())));
        SavedPaths::new(&members, v2.as_ref())
    }

    /// Describes the hierarchies for a mount of type "cgroup" in the container.
    pub fn layout(&self, plan: &CgroupPlan) -> Layout {
        // The hierarchies may be left out, so show this process's own cgroup.
        let paths = match plan.is_lenient() {
            true => SavedPaths::default(),
            false => self.paths(plan),
        };
        Layout::new(&self.hierarchies, &paths)
    }
}
