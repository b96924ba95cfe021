//! Makes the directories of a container's cgroup before its first process: in every
//! hierarchy, with what a process needs there. Refuses a cgroup that has processes or is
//! frozen. With systemd it makes no directory: [`Cgroup::enter`] starts the unit (`unit_cgroup`).

use crate::controller::Controller;
use crate::directory::{self, Directory};
use crate::error::{Error, Result};
use crate::systemd::Systemd;
use crate::{Cgroup, v1, v2};
use teu_cgroups_types::{CgroupPlan, Driver, Hierarchy, Limits, Location};

impl Cgroup {
    /// Makes the container's directory in every hierarchy, and prepares it to take processes:
    /// on v1 with processors and memory nodes, on v2 with controllers. With systemd it makes no
    /// directory: [`Cgroup::enter`] starts the unit, over the connection of
    /// [`locate_with_systemd`](crate::locate_with_systemd) if that is given.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be made, has processes in it, or is frozen, also
    /// by a cgroup above it. On v1, real-time and cpuset limits are set before the first process
    /// joins, and may fail.
    pub fn prepare(
        plan: &CgroupPlan,
        location: &Location,
        systemd: Option<Systemd>,
    ) -> Result<Cgroup> {
        let mut cgroup = Cgroup::of(Vec::new(), None);
        match &plan.driver {
            Driver::Systemd(unit) => return Cgroup::prepare_unit(plan, unit, location, systemd),
            Driver::Disabled => {
                cgroup.disabled = true;
                return Ok(cgroup);
            }
            Driver::Filesystem => cgroup.lenient = plan.is_lenient(),
        }
        let hierarchies = &location.hierarchies;
        for hierarchy in &hierarchies.v1 {
            cgroup.unless_lenient(|cgroup| cgroup.prepare_v1(plan, hierarchy))?;
        }
        let is_hybrid = !hierarchies.v1.is_empty();
        if let Some(hierarchy) = &hierarchies.v2 {
            cgroup.unless_lenient(|cgroup| cgroup.prepare_v2(plan, hierarchy, is_hybrid))?;
        }
        Ok(cgroup)
    }

    fn prepare_v1(&mut self, plan: &CgroupPlan, hierarchy: &Hierarchy) -> Result<()> {
        let path = plan.path.below_own(hierarchy);
        let member = v1::Member {
            controllers: hierarchy.controllers.clone(),
            directory: Directory::new(&path),
        };
        let (top, cpu) = (&hierarchy.mountpoint, &plan.limits.cpu);
        let existed = match member.has("cpuset") {
            true => {
                let existed = v1::cpuset::make(&path, top, cpu, &mut self.made)?;
                self.cpus_and_mems = Some((cpu.cpus.clone(), cpu.mems.clone()));
                existed
            }
            false => directory::make(&path, top, &mut self.made)?,
        };
        if existed {
            refuse_processes(&member.directory)?;
        }
        // A new cgroup below the root is not frozen, because the root never is.
        let may_be_frozen = existed || path.parent() != Some(top.as_path());
        if may_be_frozen && member.has("freezer") && v1::freezer::is_frozen(&member.directory)? {
            return Err(Error::Frozen { path });
        }
        if member.has("cpu") {
            member.directory.carry_out(&v1::cpu::realtime_steps(cpu))?;
        }
        self.v1.push(member);
        Ok(())
    }

    fn prepare_v2(
        &mut self,
        plan: &CgroupPlan,
        hierarchy: &Hierarchy,
        is_hybrid: bool,
    ) -> Result<()> {
        let path = plan.path.on_v2(hierarchy, is_hybrid);
        let directory = Directory::new(&path);
        let existed = directory::make(&path, &hierarchy.mountpoint, &mut self.made)?;
        if existed {
            refuse_processes(&directory)?;
        }
        // A new cgroup below the root is not frozen, because the root never is.
        let has_others_above = existed || path.parent() != Some(hierarchy.mountpoint.as_path());
        if has_others_above && v2::freezer::is_frozen(&directory)? {
            return Err(Error::Frozen { path });
        }
        let wanted = match is_hybrid {
            true => v2::Wanted::These(self.controllers_missing_on_v1(&plan.limits)?),
            false => v2::Wanted::All,
        };
        let may_be_threaded = match &wanted {
            v2::Wanted::These(names) if names.is_empty() => has_others_above,
            // A cgroup that has all controllers already is not threaded. Otherwise enable them and
            // check, also directly below the mountpoint: in a cgroup namespace that is an ordinary
            // cgroup.
            wanted => !v2::enable_controllers(&hierarchy.mountpoint, &path, wanted)?,
        };
        if may_be_threaded {
            v2::follow_threaded(&hierarchy.mountpoint, &path, &plan.limits)?;
        }
        self.v2 = Some(directory);
        Ok(())
    }

    /// Returns the controllers that limits need and v1 does not have. On a hybrid host, v2 may
    /// have them.
    fn controllers_missing_on_v1(&self, limits: &Limits) -> Result<Vec<&'static str>> {
        let mut missing = Vec::new();
        for controller in Controller::ALL {
            if self.v1_directory(controller.v1_name()).is_none()
                && v2::steps(controller, limits)?.first_field().is_some()
            {
                missing.push(controller.v2_name());
            }
        }
        Ok(missing)
    }

    /// Prepares one hierarchy. If it fails for a lenient user, undoes it and succeeds.
    fn unless_lenient(&mut self, prepare: impl FnOnce(&mut Cgroup) -> Result<()>) -> Result<()> {
        let before = self.made.len();
        match prepare(self) {
            Err(error) if self.lenient && error.is_permission() => {
                let made: Vec<Directory> = self
                    .made
                    .split_off(before)
                    .into_iter()
                    .rev()
                    .map(Directory::new)
                    .collect();
                directory::remove(&made)
            }
            other => other,
        }
    }
}

pub(crate) fn refuse_processes(directory: &Directory) -> Result<()> {
    match directory.processes()?.len() {
        0 => Ok(()),
        count => Err(Error::NotEmpty {
            path: directory.path.clone(),
            count,
        }),
    }
}
