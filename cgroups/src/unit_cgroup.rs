//! The part of [`Cgroup`]'s work for a cgroup that systemd makes as a unit.
//!
//! systemd makes a scope around an existing process, so the cgroup cannot be made before
//! the process. `location` asks systemd where the unit's cgroup will be. When the
//! process enters, systemd starts the unit and moves the process into the unified
//! hierarchy, or into the v1 hierarchies that systemd manages; the other v1 hierarchies
//! are joined here. Limits are written to the files and told to systemd.
//!
//! The conversation with systemd itself is in `systemd`.

use std::cell::RefCell;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use teu_cgroups_types::{CgroupPlan, Hierarchies, Limits, Location, Unit};

use crate::controller::Controller;
use crate::directory::{self, Directory, Ignored};
use crate::error::{Error, Result};
use crate::systemd::{self, SavedUnit, Systemd};
use crate::update::Files;
use crate::{Cgroup, devices, saved, v1, v2};

/// The unit of a cgroup, and what systemd was told of it.
#[derive(Debug)]
pub(crate) struct UnitOfCgroup {
    pub(crate) saved: SavedUnit,
    systemd: RefCell<Systemd>,
    /// The unit's directory in the unified hierarchy.
    v2: Option<PathBuf>,
    /// The unit to start; `None` once it is started.
    to_start: Option<Box<ToStart>>,
    /// The properties that systemd was told.
    told: RefCell<Told>,
    /// All limits in force, of which systemd may have been told a part.
    in_force: RefCell<Limits>,
    /// Whether to stop the unit when the cgroup is dropped.
    started: bool,
}

/// A unit that is not started yet.
#[derive(Debug)]
struct ToStart {
    unit: Unit,
    limits: Limits,
    /// Mountpoints of the v1 hierarchies, in the order of the members.
    v1_tops: Vec<PathBuf>,
    v2_top: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Told {
    limits: Option<Limits>,
    devices: Option<devices::Rules>,
}

impl UnitOfCgroup {
    /// Makes the value for the unit of an existing cgroup.
    pub(crate) fn open(saved: &SavedUnit, v2: Option<&Path>) -> UnitOfCgroup {
        UnitOfCgroup {
            systemd: RefCell::new(Systemd::new(saved.manager)),
            saved: saved.clone(),
            v2: v2.map(Path::to_owned),
            to_start: None,
            told: RefCell::default(),
            in_force: RefCell::default(),
            started: false,
        }
    }

    pub(crate) fn is_to_be_started(&self) -> bool {
        self.to_start.is_some()
    }

    /// Asks systemd to move a process into the unit's cgroup or a cgroup below it, for a
    /// user without permission to do that.
    pub(crate) fn attach(&self, directory: &Path, pid: i32) -> Result<()> {
        let base = self.v2.as_deref().unwrap_or(directory);
        let below = directory.strip_prefix(base).unwrap_or(Path::new(""));
        let mut systemd = self.systemd.borrow_mut();
        systemd.attach(&self.saved.name, below, pid)
    }

    pub(crate) fn stop(&self) -> Result<()> {
        self.systemd.borrow_mut().stop(&self.saved.name)
    }

    pub(crate) fn keep(&mut self) {
        self.started = false;
    }

    /// Sets the limits in force, before an update tells systemd a part of them.
    pub(crate) fn will_be_in_force(&self, limits: &Limits) {
        self.in_force.replace(limits.clone());
    }
}

impl Cgroup {
    /// Checks whether the unit can be made. Makes nothing.
    pub(crate) fn prepare_unit(
        plan: &CgroupPlan,
        unit: &Unit,
        location: &Location,
        systemd: Option<Systemd>,
    ) -> Result<Cgroup> {
        let (v1, v2) = saved::members_of(plan, location);
        let limits = systemd::rounded(&plan.limits);
        systemd::check(&limits)?;
        let saved = SavedUnit::of(unit);
        let hierarchies = &location.hierarchies;
        let v1_tops = hierarchies.v1.iter().map(|one| one.mountpoint.clone());
        let mut of_cgroup = UnitOfCgroup::open(&saved, v2.as_ref().map(|one| one.path.as_path()));
        of_cgroup.to_start = Some(Box::new(ToStart {
            unit: unit.clone(),
            limits,
            v1_tops: v1_tops.collect(),
            v2_top: hierarchies.v2.as_ref().map(|one| one.mountpoint.clone()),
        }));
        // A connection to another manager would not find the unit.
        if let Some(systemd) = systemd.filter(|systemd| systemd.manager() == unit.manager()) {
            of_cgroup.systemd = RefCell::new(systemd);
        }
        let mut cgroup = Cgroup::of(v1, v2);
        cgroup.unit = Some(of_cgroup);
        cgroup.check_steps(&plan.limits)?;
        for directory in cgroup.directories() {
            crate::prepare::refuse_processes(directory)?;
        }
        cgroup.refuse_frozen(hierarchies)?;
        Ok(cgroup)
    }

    /// Refuses a frozen cgroup. A process that is moved into it, or below it, would stop,
    /// and its parent would wait forever.
    fn refuse_frozen(&self, hierarchies: &Hierarchies) -> Result<()> {
        for (member, hierarchy) in self.v1.iter().zip(&hierarchies.v1) {
            if member.has("freezer") {
                let top = &hierarchy.mountpoint;
                refuse_frozen(&member.directory, top, v1::freezer::is_frozen)?;
            }
        }
        match (&self.v2, &hierarchies.v2) {
            (Some(directory), Some(hierarchy)) => {
                refuse_frozen(directory, &hierarchy.mountpoint, v2::freezer::is_frozen)
            }
            _ => Ok(()),
        }
    }

    /// Checks the limits before anything is changed.
    fn check_steps(&self, limits: &Limits) -> Result<()> {
        self.refuse_unified_on_v1(limits)?;
        for controller in Controller::ALL {
            match self.v1_directory(controller.v1_name()) {
                Some(_) => v1::steps(controller, limits).map(drop)?,
                None => self.v2_steps(controller, limits).map(drop)?,
            }
        }
        v2::unified::steps(&limits.unified).map(drop)
    }

    /// Starts the unit with the process, and joins the hierarchies that systemd does not
    /// manage.
    pub(crate) fn start_unit(&mut self, pid: i32) -> Result<()> {
        let is_v2 = self.v1.is_empty();
        let Some(of_cgroup) = &mut self.unit else {
            return Ok(());
        };
        let Some(to_start) = of_cgroup.to_start.take() else {
            return Ok(());
        };
        let ToStart { unit, limits, .. } = &*to_start;
        of_cgroup
            .systemd
            .get_mut()
            .start(unit, pid, limits, is_v2)?;
        of_cgroup.started = true;
        of_cgroup.told.get_mut().limits = Some(limits.clone());
        of_cgroup.will_be_in_force(limits);
        let is_slice = unit.is_slice();
        for position in 0..self.v1.len() {
            let by_systemd = !is_slice && self.v1[position].has("name=systemd");
            if !by_systemd {
                self.join_v1(position, &to_start.v1_tops[position], limits, pid)?;
            }
        }
        if let (Some(top), Some(directory)) = (&to_start.v2_top, &self.v2) {
            if is_slice {
                directory::make(&directory.path, top, &mut self.made)?;
                directory.enter(pid)?;
            }
            if is_v2 {
                // systemd enables only the controllers that it knows. Enable all, as
                // without systemd: a later update, or a runtime in the container, may need
                // another one.
                v2::enable_controllers(top, &directory.path, &v2::Wanted::All)?;
                if let Some(owner) = unit.owner() {
                    delegate(&directory.path, owner)?;
                }
            }
        }
        Ok(())
    }

    fn join_v1(&mut self, position: usize, top: &Path, limits: &Limits, pid: i32) -> Result<()> {
        let member = &self.v1[position];
        let (path, cpu) = (&member.directory.path, &limits.cpu);
        if member.has("cpuset") {
            v1::cpuset::make(path, top, cpu, &mut self.made)?;
            self.cpus_and_mems = Some((cpu.cpus.clone(), cpu.mems.clone()));
        } else {
            directory::make(path, top, &mut self.made)?;
        }
        if member.has("cpu") {
            member.directory.carry_out(&v1::cpu::realtime_steps(cpu))?;
        }
        member.directory.enter(pid)
    }

    /// Writes limits to the files, and then tells systemd: it must not know limits that the
    /// kernel refuses.
    pub(crate) fn apply_with_unit(
        &self,
        unit: &UnitOfCgroup,
        limits: &Limits,
    ) -> Result<Vec<Ignored>> {
        let limits = systemd::rounded(limits);
        systemd::check(&limits)?;
        let ignored = self.apply_to_files(&limits)?;
        if unit.told.borrow().limits.as_ref() == Some(&limits) {
            return Ok(ignored);
        }
        self.tell_limits(&limits)?;
        Ok(ignored)
    }

    /// Tells systemd the limits, if systemd made the cgroup.
    pub(crate) fn tell_limits(&self, limits: &Limits) -> Result<()> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let is_v2 = self.v1.is_empty();
        let mut systemd = unit.systemd.borrow_mut();
        self.telling(unit, || systemd.set_limits(&unit.saved.name, limits, is_v2))?;
        unit.told.borrow_mut().limits = Some(limits.clone());
        Ok(())
    }

    /// Tells systemd the device rules, if systemd made the cgroup. Returns the rules that
    /// systemd cannot express.
    pub(crate) fn tell_devices(&self, rules: &devices::Rules) -> Result<Vec<Ignored>> {
        let Some(unit) = &self.unit else {
            return Ok(Vec::new());
        };
        if unit.told.borrow().devices.as_ref() == Some(rules) {
            return Ok(Vec::new());
        }
        let is_v2 = self.v1.is_empty();
        let name = &unit.saved.name;
        let set = || unit.systemd.borrow_mut().set_devices(name, rules, is_v2);
        let ignored = self.telling(unit, set)?;
        unit.told.borrow_mut().devices = Some(rules.clone());
        Ok(ignored)
    }

    /// Runs `tell` and restores the files afterwards. When systemd is told a property, it
    /// writes all properties of the unit, and so overwrites values that it does not know,
    /// such as a period without a quota.
    fn telling<T>(&self, unit: &UnitOfCgroup, tell: impl FnOnce() -> Result<T>) -> Result<T> {
        self.while_frozen(|| {
            let files = Files::of(self, &unit.in_force.borrow())?;
            let told = tell();
            // Restore the files even if telling failed, because systemd may have written.
            let back = files.write_back();
            told.and_then(|told| back.map(|()| told))
        })
    }

    /// Runs `change` with the cgroup frozen on v1. systemd writes all settings of a unit
    /// when one changes, and begins the device rules by denying everything. A program in
    /// the container must not notice that.
    pub(crate) fn while_frozen<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let runs = self.unit.as_ref().is_some_and(|unit| !unit.started);
        let freezes = runs && self.v1_directory("freezer").is_some() && !self.is_frozen()?;
        if freezes {
            self.freeze()?;
        }
        let changed = change();
        if freezes {
            self.thaw()?;
        }
        changed
    }

    /// After a failed creation: kills the processes in the unit, and stops the unit.
    pub(crate) fn drop_unit(&self, unit: &UnitOfCgroup) {
        if !unit.started {
            return;
        }
        // Kill the processes first, because systemd waits for them before it stops a unit.
        match self.kill_all(libc::SIGKILL).and_then(|()| self.remove()) {
            // Called from Drop, which cannot report; the first error is reported.
            Ok(()) | Err(_) => {}
        }
    }
}

/// Refuses a frozen cgroup, or a frozen cgroup in which it is going to be made. The root
/// has no freezer.
fn refuse_frozen(
    directory: &Directory,
    top: &Path,
    is_frozen: fn(&Directory) -> Result<bool>,
) -> Result<()> {
    let mut below_top = directory.path.ancestors().take_while(|path| *path != top);
    let Some(existing) = below_top.find(|path| path.is_dir()) else {
        return Ok(());
    };
    match is_frozen(&Directory::new(existing))? {
        true => Err(Error::Frozen {
            path: existing.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Delegates the cgroup to another user: changes the owner of the directory and of the
/// files that the kernel lists (cgroups(7), "Cgroups delegation").
fn delegate(directory: &Path, owner: u32) -> Result<()> {
    const LIST: &str = "/sys/kernel/cgroup/delegate";
    let failed = |path: &Path, cause| Error::system("give to the container", path, cause);
    chown(directory, Some(owner), None).map_err(|cause| failed(directory, cause))?;
    let list = directory::read(Path::new(LIST))
        .map_err(|cause| Error::system("read", Path::new(LIST), cause))?;
    for name in String::from_utf8_lossy(&list).lines() {
        let path = directory.join(name);
        match chown(&path, Some(owner), None) {
            // The cgroup does not have the file's controller.
            Err(cause) if directory::is_gone(&cause) => {}
            result => result.map_err(|cause| failed(&path, cause))?,
        }
    }
    Ok(())
}
