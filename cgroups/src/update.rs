//! Changes the limits of a cgroup, and restores the old limits if that fails.
//!
//! [`Cgroup::update`] merges the change into the limits in force (`merge`), checks the
//! result, remembers the files that it is going to write (`undo`), and writes them. The
//! returned [`Update`] restores the old limits when it is dropped, unless it is kept.
//!
//! Which value goes into which file is decided in `v1` and `v2`.

mod merge;
mod undo;

use crate::controller::Controller;
use crate::cpu_list;
use crate::devices::{self, Rules};
use crate::directory::{Directory, Ignored};
use crate::error::{Error, Result};
use crate::v1::cpuset::Cpuset;
use crate::{Cgroup, v1, v2};
use teu_cgroups_types::DeviceRule;
use teu_cgroups_types::Limits;
use undo::Undo;

pub(crate) use undo::Files;

/// A change of limits that is not final yet. Dropping it restores the old limits, unless
/// [`Update::keep`] was called.
#[derive(Debug)]
pub struct Update<'a> {
    cgroup: &'a Cgroup,
    limits: Limits,
    ignored: Vec<Ignored>,
    undo: Undo,
}

impl Update<'_> {
    /// Returns the limits now in force, which the next update needs as its old limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Keeps the new limits. Returns the limits that were left out, as [`Cgroup::apply`]
    /// does.
    #[must_use = "limits that were left out should be reported"]
    pub fn keep(mut self) -> Vec<Ignored> {
        self.undo = Undo::default();
        std::mem::take(&mut self.ignored)
    }

    /// Restores the old limits.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses an old limit meanwhile.
    pub fn take_back(mut self) -> Result<()> {
        std::mem::take(&mut self.undo).carry_out(self.cgroup)
    }
}

impl Drop for Update<'_> {
    fn drop(&mut self) {
        // Drop cannot report an error, and its caller has one already.
        match std::mem::take(&mut self.undo).carry_out(self.cgroup) {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Cgroup {
    /// Changes limits. `old` are the limits in force; limits that `change` does not set stay
    /// as they are. Rules and rates for single devices are added to the old ones, and a later
    /// one wins for the same device. Only limits that change are written, and those that the
    /// kernel needs with them.
    ///
    /// # Errors
    /// Returns an error if a limit is not valid or the kernel refuses it. The old limits are
    /// then in force again.
    pub fn update(&self, old: &Limits, change: &Limits) -> Result<Update<'_>> {
        self.update_without(old, &[], change)
    }

    /// Changes limits, and removes the device rules in `ended` from the old ones. Rules that
    /// every container has are kept.
    ///
    /// # Errors
    /// As [`Cgroup::update`].
    pub fn update_without(
        &self,
        old: &Limits,
        ended: &[DeviceRule],
        change: &Limits,
    ) -> Result<Update<'_>> {
        let limits = merge::merged(&merge::without(old, ended), change);
        let mut writes = merge::writes(&limits, change);
        if !ended.is_empty() {
            writes.devices.clone_from(&limits.devices);
        }
        self.check(&limits, &writes)?;
        if let Some(unit) = &self.unit {
            unit.will_be_in_force(&limits);
        }
        let mut update = Update {
            cgroup: self,
            undo: Undo::new(self, old, &writes)?,
            limits,
            ignored: Vec::new(),
        };
        match self.carry_out_update(old, &writes, &mut update.undo) {
            Ok(ignored) => {
                update.ignored = ignored;
                Ok(update)
            }
            Err(cause) => match update.take_back() {
                Ok(()) => Err(cause),
                Err(left) => Err(Error::NotTakenBack {
                    cause: Box::new(cause),
                    left: Box::new(left),
                }),
            },
        }
    }

    /// Makes the checks that are possible before anything is written.
    fn check(&self, limits: &Limits, writes: &Limits) -> Result<()> {
        let memory = &limits.memory;
        let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
        let changes_memory = writes.memory.limit.is_some() || writes.memory.swap.is_some();
        if changes_memory && swap > 0 && (limit > swap || limit == -1 && self.has_v1("memory")) {
            return Err(Error::refused(
                "memory.swap",
                "memory+swap limit should be >= memory limit",
            ));
        }
        if let Some(list) = &writes.devices
            && self.has_v1("devices")
        {
            devices::v1::check(&Rules::new(list))?;
        }
        Ok(())
    }

    fn carry_out_update(
        &self,
        old: &Limits,
        writes: &Limits,
        undo: &mut Undo,
    ) -> Result<Vec<Ignored>> {
        if let Some(directory) = self.v1_directory("cpuset") {
            self.make_room(directory, writes, undo)?;
        }
        self.while_frozen(|| {
            let mut ignored = self.apply(writes)?;
            ignored.extend(self.change_devices(old, writes)?);
            Ok(ignored)
        })
    }

    /// On v1, narrows the sets of cgroups below, which must be part of the new set.
    fn make_room(&self, directory: &Directory, writes: &Limits, undo: &mut Undo) -> Result<()> {
        let [cpus, mems] = v1::cpuset::FILES;
        for (file, set) in [(cpus, &writes.cpu.cpus), (mems, &writes.cpu.mems)] {
            // Leave it to the kernel to refuse text that is not a list.
            let Some(set) = cpu_list::parse(set).filter(|set| !set.is_empty()) else {
                continue;
            };
            let below = v1::cpuset::descendants_outside(directory, file, &set)?;
            if !below.is_empty() {
                let own = Cpuset {
                    directory: directory.clone(),
                    set,
                };
                let cpusets: Vec<Cpuset> = std::iter::once(own).chain(below).collect();
                undo.remember_cpusets(file, &cpusets)?;
                v1::cpuset::write_all(file, &cpusets)?;
            }
        }
        Ok(())
    }

    /// Changes the device rules. If the default changes on v1, everything is denied or
    /// allowed for a moment, so the cgroup is frozen meanwhile.
    fn change_devices(&self, old: &Limits, writes: &Limits) -> Result<Vec<Ignored>> {
        let directory = self.v1_directory("devices");
        if self.unit.is_some() {
            // When another limit changes, systemd writes its own version of the rules.
            let changes = directory.is_none() || writes.devices.is_some();
            return self.restrict_devices(if changes { writes } else { old });
        }
        let Some(list) = &writes.devices else {
            return Ok(Vec::new());
        };
        let Some(directory) = directory else {
            return self.restrict_devices(writes);
        };
        let old = old.devices.as_deref().map(Rules::new);
        let rules = Rules::new(list);
        let has_moment = devices::v1::changes_default(directory, &rules)?;
        let freezes = has_moment && self.has_v1("freezer") && !self.is_frozen()?;
        if freezes {
            self.freeze()?;
        }
        let applied = devices::v1::change(directory, old.as_ref(), &rules);
        if freezes {
            self.thaw()?;
        }
        applied.map(|()| Vec::new())
    }

    fn has_v1(&self, controller: &str) -> bool {
        self.v1_directory(controller).is_some()
    }

    /// Returns the directory and the steps of each controller that `limits` concern.
    fn all_steps(&self, limits: &Limits) -> Result<Vec<(&Directory, crate::directory::Steps)>> {
        let mut all = Vec::new();
        for controller in Controller::ALL {
            if let Some(directory) = self.v1_directory(controller.v1_name()) {
                all.push((directory, v1::steps(controller, limits)?));
            } else if let Some(directory) = &self.v2 {
                all.push((directory, self.v2_steps(controller, limits)?));
            }
        }
        if let Some(directory) = &self.v2 {
            for (_, steps) in v2::unified::steps(&limits.unified)? {
                all.push((directory, steps));
            }
        }
        Ok(all)
    }
}
