//! Makes, joins, limits, freezes, signals and removes the cgroups of a container, on hosts
//! with cgroup v1, hybrid hosts, and hosts with cgroup v2.
//!
//! [`locate`] finds the hierarchies (`hierarchy`), [`Cgroup::prepare`] makes the
//! directories of a [`CgroupPlan`], [`Cgroup::enter`] moves a process into them, and
//! [`Cgroup::apply`] sets the [`Limits`], which `v1` and `v2` turn into writes. The caller
//! stores [`SavedPaths`], with which [`Cgroup::open`] finds the cgroup later.
//!
//! The crate knows nothing of bundles or of the runtime's state, and logs nothing.
//!
//! # Example
//!
//! ```no_run
//! use teu_cgroups::{Cgroup, CgroupPath, CgroupPlan, Driver, Entered, Limits};
//!
//! let plan = CgroupPlan {
//!     driver: Driver::Filesystem,
//!     path: CgroupPath::new(None, "my-container")?,
//!     limits: Limits {
//!         pids: Some(100),
//!         ..Limits::default()
//!     },
//!     rootless: false,
//! };
//! let mut cgroup = Cgroup::prepare(&plan, &teu_cgroups::locate()?, None)?;
//! cgroup.enter(nix::unistd::Pid::this(), Entered::default())?;
//! for ignored in cgroup.apply(&plan.limits)? {
//!     eprintln!("{ignored}");
//! }
//! cgroup.keep();
//! # Ok::<(), teu_cgroups::Error>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod both;
mod controller;
mod cpu_list;
mod devices;
mod directory;
mod entrance;
mod error;
mod freeze;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hierarchy;
mod join;
mod kill;
mod location;
mod oom;
mod prepare;
mod saved;
pub mod stats;
mod sys;
mod systemd;
mod to_v2;
mod unit_cgroup;
mod update;
mod v1;
mod v2;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::unistd::Pid;

use crate::controller::Controller;
use crate::directory::{Directory, Steps};
use crate::unit_cgroup::UnitOfCgroup;

pub use crate::devices::are_allowing as rules_allow;
pub use crate::directory::Ignored;
pub use crate::entrance::{Entered, Entrance};
pub use crate::error::{Error, Result};
pub use crate::location::{locate, locate_if_any, locate_with_systemd};
pub use crate::oom::OomWatch;
pub use crate::saved::SavedPaths;
pub use crate::stats::{Stats, Usage};
pub use crate::systemd::{Systemd, owner_of_user_manager};
pub use crate::update::Update;
pub use teu_cgroups_types::{
    Access, BlockIoLimits, CgroupPath, CgroupPlan, CpuLimits, DeviceKind, DeviceRate, DeviceRule,
    DeviceWeight, Directories, Driver, Hierarchies, Hierarchy, HierarchyView, HugepageLimit,
    Layout, Limits, Location, Manager, MemoryLimits, NetworkLimits, PlanError, Property, RdmaLimit,
    Unit, default_device_rules,
};

/// A container's cgroup: a directory in every hierarchy.
///
/// Dropping it removes the directories that [`Cgroup::prepare`] made and stops the unit that
/// [`Cgroup::enter`] started, unless [`Cgroup::keep`] was called. Dropping a value of
/// [`Cgroup::open`] removes nothing.
#[derive(Debug)]
pub struct Cgroup {
    v1: Vec<v1::Member>,
    v2: Option<Directory>,
    /// The directories that this value made, parents first.
    made: Vec<PathBuf>,
    /// Whether to leave out hierarchies that the user may not use.
    lenient: bool,
    /// The sets that `prepare` wrote to a v1 cpuset before a process joined.
    cpus_and_mems: Option<(String, String)>,
    /// The unit, if systemd makes the directories.
    unit: Option<UnitOfCgroup>,
    /// Whether the container has no cgroup on purpose. Limits are then left out.
    disabled: bool,
}

impl Cgroup {
    /// Makes a value for existing directories.
    fn of(v1: Vec<v1::Member>, v2: Option<Directory>) -> Cgroup {
        Cgroup {
            v1,
            v2,
            made: Vec::new(),
            lenient: false,
            cpus_and_mems: None,
            unit: None,
            disabled: false,
        }
    }

    /// Opens the v2 directory for `CLONE_INTO_CGROUP` (clone(2), kernel 5.7), which is faster
    /// than moving the process. Returns `None` without cgroup v2, and if systemd makes the
    /// cgroup later. If the clone fails, clone without the flag and call [`Cgroup::enter`].
    ///
    /// # Errors
    /// Returns an error if the directory cannot be opened.
    pub fn clone_target(&self) -> Result<Option<OwnedFd>> {
        if self
            .unit
            .as_ref()
            .is_some_and(UnitOfCgroup::is_to_be_started)
        {
            return Ok(None);
        }
        match &self.v2 {
            Some(directory) => {
                // The standard library opens with O_CLOEXEC.
                let opened = std::fs::File::open(&directory.path);
                let failed = |cause| Error::system("open cgroup", &directory.path, cause);
                opened.map(|file| Some(file.into())).map_err(failed)
            }
            None => Ok(None),
        }
    }

    /// Moves a process into every hierarchy that it has not `entered` yet. If systemd makes the
    /// cgroup, it starts the unit with the process.
    ///
    /// If a rootless user gave no path and lacks the permission, the hierarchy is left out and
    /// its directory is removed, because limits there would have no effect.
    ///
    /// # Errors
    /// Returns an error if the process cannot be moved, or if systemd cannot start the unit.
    pub fn enter(&mut self, pid: Pid, entered: Entered) -> Result<()> {
        let pid = pid.as_raw();
        if self
            .unit
            .as_ref()
            .is_some_and(UnitOfCgroup::is_to_be_started)
        {
            return self.start_unit(pid);
        }
        let mut refused = Vec::new();
        let v1 = self.v1.iter().filter(|_| !entered.v1);
        for (position, member) in v1.enumerate() {
            match self.enter_v1(&member.directory, pid) {
                Err(error) if self.lenient && error.is_permission() => refused.push(position),
                result => result?,
            }
        }
        for position in refused.into_iter().rev() {
            let member = self.v1.remove(position);
            self.abandon(&member.directory)?;
        }
        let Some(directory) = self.v2.take_if(|_| !entered.v2) else {
            return Ok(());
        };
        let result = match (directory.enter(pid), &self.unit) {
            (Err(error), Some(unit)) if error.is_permission() => unit.attach(&directory.path, pid),
            (result, _) => result,
        };
        if self.lenient && result.as_ref().is_err_and(Error::is_permission) {
            return self.abandon(&directory);
        }
        self.v2 = Some(directory);
        result
    }

    /// Moves a process into a v1 cgroup. Makes the cgroup again if another process removed it
    /// while it was empty, which systemd was seen to do.
    fn enter_v1(&self, directory: &Directory, pid: i32) -> Result<()> {
        const TRIES: u32 = 5;
        let mut result = directory.enter(pid);
        for _ in 1..TRIES {
            let is_gone =
                matches!(&result, Err(Error::Enter { cause, .. }) if directory::is_gone(cause));
            if !is_gone || !self.made.contains(&directory.path) {
                break;
            }
            directory::make_again(&directory.path)?;
            result = directory.enter(pid);
        }
        result
    }

    fn abandon(&mut self, directory: &Directory) -> Result<()> {
        match self.made.iter().position(|path| *path == directory.path) {
            Some(position) => {
                self.made.remove(position);
                directory::remove([directory])
            }
            None => Ok(()),
        }
    }

    /// Sets limits, except device rules (see [`Cgroup::restrict_devices`]). Limits that are not
    /// given stay as they are. Returns the limits that were left out because this host's cgroup
    /// version does not have them; runc leaves them out silently.
    ///
    /// # Errors
    /// Returns an error, with the limit, the file and the value, if a limit is not valid or the
    /// kernel refuses it.
    #[must_use = "limits that were left out should be reported"]
    pub fn apply(&self, limits: &Limits) -> Result<Vec<Ignored>> {
        match &self.unit {
            _ if self.disabled => left_out(limits),
            Some(unit) => self.apply_with_unit(unit, limits),
            None => self.apply_to_files(limits),
        }
    }

    fn apply_to_files(&self, limits: &Limits) -> Result<Vec<Ignored>> {
        let mut ignored = Vec::new();
        self.refuse_unified_on_v1(limits)?;
        for controller in Controller::ALL {
            if !(controller == Controller::Cpuset && self.has_cpus_of(&limits.cpu)) {
                ignored.extend(self.apply_controller(controller, limits)?);
            }
        }
        for (controller, steps) in v2::unified::steps(&limits.unified)? {
            match &self.v2 {
                Some(directory) => ignored.extend(carry_out_v2(directory, &controller, &steps)?),
                None => return Err(no_cgroup(&steps, &controller)),
            }
        }
        Ok(ignored)
    }

    fn refuse_unified_on_v1(&self, limits: &Limits) -> Result<()> {
        if self.v1.is_empty() || limits.unified.is_empty() {
            return Ok(());
        }
        let reason = "invalid configuration: cannot use unified on cgroup v1";
        Err(Error::refused("unified", reason))
    }

    fn has_cpus_of(&self, cpu: &CpuLimits) -> bool {
        let written = self.cpus_and_mems.as_ref();
        written.is_some_and(|(cpus, mems)| *cpus == cpu.cpus && *mems == cpu.mems)
    }

    fn apply_controller(&self, controller: Controller, limits: &Limits) -> Result<Vec<Ignored>> {
        if let Some(directory) = self.v1_directory(controller.v1_name()) {
            let result = directory.carry_out(&v1::steps(controller, limits)?);
            return result.map_err(|error| v1::memory::explain(directory, error));
        }
        let steps = self.v2_steps(controller, limits)?;
        match &self.v2 {
            _ if steps.first_field().is_none() => Ok(steps.ignored),
            None => Err(no_cgroup(&steps, controller.v1_name())),
            Some(directory) => {
                if controller == Controller::Memory {
                    v2::memory::check_before_update(directory, &limits.memory)?;
                }
                if controller == Controller::Cpuset {
                    v2::cpuset::check_below_parent(directory, &limits.cpu)?;
                }
                carry_out_v2(directory, controller.v2_name(), &steps)
            }
        }
    }

    /// Returns the steps for a controller without a v1 hierarchy. On a host with other v1
    /// hierarchies, a controller that only v1 has is missing, which is an error.
    fn v2_steps(&self, controller: Controller, limits: &Limits) -> Result<Steps> {
        let steps = v2::steps(controller, limits)?;
        match steps.ignored.first() {
            Some(ignored) if controller.is_v1_only() && !self.v1.is_empty() => {
                Err(Error::NoCgroup {
                    field: ignored.field.clone(),
                    controller: controller.v1_name().to_owned(),
                })
            }
            _ => Ok(steps),
        }
    }

    /// Sets the device rules, if there are any. On v2, the new rules replace the old ones at
    /// once. On v1, an access that the old and the new rules allow is never denied, with one
    /// exception: if the default changes, every access is denied or allowed for a moment. The
    /// caller must then keep the cgroup's processes from opening or making devices.
    /// [`Cgroup::update`] freezes the cgroup for that.
    ///
    /// Returns the rules that systemd cannot be told. They are in force, but a reload of systemd
    /// may undo them.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    #[must_use = "rules that were left out should be reported"]
    pub fn restrict_devices(&self, limits: &Limits) -> Result<Vec<Ignored>> {
        let Some(list) = limits.devices.as_ref().filter(|_| !self.disabled) else {
            return Ok(Vec::new());
        };
        let rules = devices::Rules::new(list);
        let ignored = self.tell_devices(&rules)?;
        self.restrict_devices_in_files(&rules).map(|()| ignored)
    }

    fn restrict_devices_in_files(&self, rules: &devices::Rules) -> Result<()> {
        if let Some(directory) = self.v1_directory("devices") {
            return devices::v1::apply(directory, rules);
        }
        let Some(directory) = &self.v2 else {
            // Without a devices hierarchy, devices would not be restricted: fail.
            let field = "devices".to_owned();
            return Err(Error::NoCgroup {
                field,
                controller: "devices".into(),
            });
        };
        if rules.allow_everything() {
            match devices::attach::count(&directory.path) {
                // An error means that the kernel does not support programs, or that the user
                // may not load them. Then there is no program to remove.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
        devices::attach::attach(&directory.path, &devices::bpf::program(rules))
    }

    fn v1_directory(&self, controller: &str) -> Option<&Directory> {
        self.v1
            .iter()
            .find(|member| member.has(controller))
            .map(|member| &member.directory)
    }

    fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.v1
            .iter()
            .map(|member| &member.directory)
            .chain(&self.v2)
    }

    /// Returns the cgroup of an existing container, without checking that it exists.
    pub fn open(saved: &SavedPaths) -> Cgroup {
        let (v1, v2) = saved.members();
        let mut cgroup = Cgroup::of(v1, v2);
        let path = cgroup.v2.as_ref().map(|directory| directory.path.as_path());
        cgroup.unit = saved.unit().map(|unit| UnitOfCgroup::open(unit, path));
        cgroup
    }

    /// Finds the cgroup of a process. If v1 has the controllers, the directory in v2 is left
    /// out, because other runtimes make none there.
    ///
    /// # Errors
    /// Returns an error if the process has exited, or if there is no hierarchy.
    pub fn of_process(pid: Pid) -> Result<Cgroup> {
        let Hierarchies { v1, v2 } = hierarchy::of_process(pid)?;
        let directory =
            |hierarchy: &Hierarchy| Directory::new(hierarchy.mountpoint.join(&hierarchy.own));
        let is_named = |hierarchy: &Hierarchy| {
            let mut names = hierarchy.controllers.iter();
            names.all(|name| name.starts_with("name="))
        };
        let members = v1.iter().filter(|hierarchy| !is_named(hierarchy));
        let members: Vec<v1::Member> = members
            .map(|hierarchy| v1::Member {
                controllers: hierarchy.controllers.clone(),
                directory: directory(hierarchy),
            })
            .collect();
        let v2 = v2.filter(|_| members.is_empty());
        Ok(Cgroup::of(members, v2.as_ref().map(directory)))
    }

    /// Returns whether v2 has the controllers.
    pub fn is_v2(&self) -> bool {
        self.v1.is_empty()
    }

    /// Returns the paths with which [`Cgroup::open`] finds the cgroup later.
    pub fn saved_paths(&self) -> SavedPaths {
        let paths = SavedPaths::new(&self.v1, self.v2.as_ref());
        match &self.unit {
            Some(unit) => paths.with_unit(unit.saved.clone()),
            None => paths,
        }
    }

    /// Returns the processes in the cgroup and in the cgroups below it. A cgroup that was
    /// removed has no processes.
    ///
    /// # Errors
    /// Returns an error if a file of a cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        // A process is in all hierarchies, so one is enough. Prefer v2, because a service
        // manager in the container may use only that.
        let one = self.v2.as_ref().or_else(|| self.directories().next());
        one.map_or(Ok(Vec::new()), Directory::processes)
    }

    /// Removes the container's directories and those below them. Succeeds if they do not exist.
    /// A directory that has processes is tried for about a second.
    ///
    /// If systemd made the cgroup, the unit is stopped first; old versions of systemd leave
    /// cgroups below it. If systemd cannot be reached and the cgroup does not exist, `remove`
    /// succeeds: a user's systemd exits when the user logs out, and its cgroups go with it.
    ///
    /// # Errors
    /// Returns the first error. It does not stop the removal of other directories.
    pub fn remove(&self) -> Result<()> {
        let stopped = self.unit.as_ref().map_or(Ok(()), UnitOfCgroup::stop);
        let was_there = self.directories().any(|directory| directory.path.exists());
        let removed = directory::remove(self.directories());
        match was_there {
            true => stopped.and(removed),
            false => removed,
        }
    }

    /// Lets the cgroup outlive this value.
    pub fn keep(&mut self) {
        self.made.clear();
        if let Some(unit) = &mut self.unit {
            unit.keep();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some(unit) = &self.unit {
            self.drop_unit(unit);
        }
        let is_made = |directory: &&Directory| self.made.contains(&directory.path);
        // Drop cannot report an error. A directory that stays has a process that was put there
        // by another process.
        match directory::remove(self.directories().filter(is_made)) {
            Ok(()) | Err(_) => {}
        }
        for path in self.made.iter().rev() {
            // The directory is gone, or it is above the container's cgroup and other containers
            // use it.
            match std::fs::remove_dir(path) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

/// Returns all limits as left out, because the container has no cgroup on purpose.
fn left_out(limits: &Limits) -> Result<Vec<Ignored>> {
    let mut ignored = Vec::new();
    let mut leave_out = |steps: &Steps| {
        if let Some(field) = steps.first_field() {
            let (field, reason) = (field.to_owned(), "cgroups are disabled".to_owned());
            ignored.push(Ignored { field, reason });
        }
    };
    for controller in Controller::ALL {
        leave_out(&v1::steps(controller, limits)?);
    }
    for (_, steps) in v2::unified::steps(&limits.unified)? {
        leave_out(&steps);
    }
    Ok(ignored)
}

fn carry_out_v2(directory: &Directory, controller: &str, steps: &Steps) -> Result<Vec<Ignored>> {
    directory
        .carry_out(steps)
        .map_err(|error| v2::explain(directory, controller, error))
}

fn no_cgroup(steps: &Steps, controller: &str) -> Error {
    let field = steps.first_field().unwrap_or_default().to_owned();
    Error::NoCgroup {
        field,
        controller: controller.to_owned(),
    }
}
