//! `teu update`: changes the limits of a running container, and the devices that it has
//! by name. Not for writing limits (the crate teu-cgroups) nor for devices
//! (`parent/hotplug.rs`).

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use teu_cgroups::{Cgroup, Limits};
use teu_namespaces::Neighbour;
use teu_plan::hotplug::{Container, Hotplug, HotplugOptions};

use super::{exec, resources};
use crate::host::Host;
use crate::known_failures::Failure;
use crate::parent::hotplug::Inside;
use crate::parent::intel_rdt::{self, NewSchemata};
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status, init_process};
use crate::{bundle, errno};

/// The arguments of `update`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    pub(crate) change: Change,
    /// Devices to add and to remove.
    pub(crate) devices: HotplugOptions,
    /// Lines for the schemata of the container's resctrl group. Empty lines change
    /// nothing.
    pub(crate) l3_cache_schema: String,
    pub(crate) memory_bandwidth_schema: String,
}

/// The source of the new limits.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A file with linux.resources as JSON; "-" is standard input.
    File(PathBuf),
    /// The other options.
    Limits(Box<Limits>),
}

/// Changes limits and devices, and saves the new values for the next update. Changes
/// all of them or none.
///
/// # Errors
/// The container does not exist or has stopped, a value is invalid or refused by the
/// kernel, or the container cannot get a device. The old limits are in force then.
#[inline(never)]
pub(crate) fn update(options: &Options) -> Result<()> {
    let mut dir = StateDir::find(&options.root, &options.id)?;
    dir.lock()?;
    let mut state = dir.read()?;
    if matches!(dir.status(&state)?, Status::Stopped | Status::Creating) {
        return Err(Failure::NotRunning.into());
    }
    let hotplug = hotplug(options, &dir, &state)?;
    let plan = hotplug.as_ref().map(|(_, plan)| plan);
    let change = change(&options.change, plan, &state)?;

    // From here, each step is undone if a later step fails.
    let schemata = new_schemata(options, &state)?;
    let before = plan.map(|_| state.clone());
    let noted = match (plan, &before) {
        (Some(plan), Some(before)) => {
            // Block signals, because a signal that ends this process would prevent
            // undoing.
            Signals::block()?;
            // If SIGKILL ends this process, the state knows all devices that may be
            // there.
            state.devices = plan.meanwhile.clone();
            plan.add_external(&mut state.external.mounts);
            Some(Noted::new(&dir, before, &state)?)
        }
        _ => None,
    };
    let put_in = match &hotplug {
        Some((inside, plan)) => Some(inside.put_in(&plan.addition)?),
        None => None,
    };
    let cgroup = Cgroup::open(&state.cgroup);
    let is_of_memory = |file: &String| file.starts_with("memory.");
    let concerns_memory = change.memory.limit.is_some() || change.unified.keys().any(is_of_memory);
    let kills_before = match concerns_memory {
        // Without a counter, kills cannot be reported.
        true => cgroup.oom_kills().ok(),
        false => None,
    };
    let ended_rules = plan.map_or(&[][..], |plan| &plan.ended_rules);
    let updated = cgroup.update_without(&state.limits, ended_rules, &change);
    let nobody_is_left = kills_before.is_some_and(|before| tell_kills(&cgroup, before));
    let update = match updated {
        // Ignore the error: no process is left that the limits would apply to.
        Err(_) if nobody_is_left => return Ok(()),
        updated => updated.map_err(resources::named)?,
    };
    state.limits = update.limits().clone();
    dir.save(&state)?;
    if let Some(noted) = noted {
        noted.keep();
    }
    resources::warn_of(&update.keep());
    if let Some(schemata) = schemata {
        schemata.keep();
    }
    if let Some(put_in) = put_in {
        put_in.keep();
    }
    match &hotplug {
        Some((inside, plan)) if plan.named != plan.meanwhile => {
            // The rules of the removed devices are gone, so the remains cannot be used.
            if let Err(err) = inside.take_out(&plan.removal, &plan.covers) {
                log::warn!("{}", errno::chain(&err));
            }
            state.devices = plan.named.clone();
            plan.drop_external(&mut state.external.mounts);
            dir.save(&state)
        }
        _ => Ok(()),
    }
}

/// The saved state while devices are added and removed. Dropping it restores the state
/// from before, until [`Noted::keep`].
#[derive(Debug)]
struct Noted<'a> {
    dir: &'a StateDir,
    before: Option<&'a ContainerState>,
}

impl<'a> Noted<'a> {
    fn new(
        dir: &'a StateDir,
        before: &'a ContainerState,
        meanwhile: &ContainerState,
    ) -> Result<Noted<'a>> {
        dir.save(meanwhile)?;
        Ok(Noted {
            dir,
            before: Some(before),
        })
    }

    fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(err) = self.dir.save(before)
        {
            log::warn!("{}", errno::chain(&err));
        }
    }
}

/// Plans the devices to add and to remove, if there are any.
fn hotplug(
    options: &Options,
    dir: &StateDir,
    state: &ContainerState,
) -> Result<Option<(Inside, Hotplug)>> {
    let devices = &options.devices;
    if devices.add.is_empty() && devices.remove.is_empty() {
        return Ok(None);
    }
    if state.limits.devices.is_none() {
        bail!("a rootless container has no device rules, so its devices stay as they are");
    }
    let init = init_process::open(state)?.ok_or(Failure::NotRunning)?;
    let init = Neighbour::new(Pid::from_raw(state.pid), init)?;
    let root = exec::open_root(&init, state)?;
    let label = state.devices.mount_label.as_deref();
    let inside = Inside::new(init, root, dir.path(), label)?;
    let host = Host::new();
    let container = Container {
        named: &state.devices,
        bundle: &state.bundle,
        rootfs: &state.rootfs,
        namespaces: &inside.namespaces(&host)?,
        may_map_owners: !host.is_rootless()?,
    };
    let plan = Hotplug::new(devices, &container, &host, &inside)?;
    Ok(Some((inside, plan)))
}

/// Warns if the change has made the kernel kill processes. On v2 the kernel does so to
/// get below a lower limit of memory, before the write returns. Returns whether all
/// processes of the container are gone, and the cgroup with them.
fn tell_kills(cgroup: &Cgroup, before: u64) -> bool {
    let (killed, are_all) = match cgroup.oom_kills() {
        Ok(now) if now > before => ((now - before).to_string(), false),
        // systemd removes the cgroup with its last process.
        Err(err) if err.is_gone() => ("all".to_owned(), true),
        // A counter that cannot be read does not indicate kills.
        Ok(_) | Err(_) => return false,
    };
    log::warn!(
        "linux.resources.memory.limit: the kernel killed {killed} of the container's \
         processes, which use more memory (hint: --memory above what `events --stats` \
         shows as usage)"
    );
    are_all
}

/// Returns the new limits, together with the rules of devices by name, which no other
/// change removes.
fn change(change: &Change, plan: Option<&Hotplug>, state: &ContainerState) -> Result<Limits> {
    let mut limits = match change {
        Change::File(path) => teu_plan::cgroup::change(&bundle::read_resources(path)?)?,
        Change::Limits(limits) => Limits::clone(limits),
    };
    if limits.devices.is_some() && state.limits.devices.is_none() {
        log::warn!("linux.resources.devices: ignored: a rootless container has no device rules");
        limits.devices = None;
    }
    if plan.is_some() {
        limits.devices.get_or_insert_default();
    }
    if let Some(rules) = &mut limits.devices {
        rules.extend(plan.map_or(&state.devices, |plan| &plan.named).rules());
    }
    Ok(limits)
}

fn new_schemata(options: &Options, state: &ContainerState) -> Result<Option<NewSchemata>> {
    let lines = [&options.memory_bandwidth_schema, &options.l3_cache_schema];
    let lines: Vec<String> = lines
        .into_iter()
        .filter(|line| !line.is_empty())
        .cloned()
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let resctrl = Host::new().resctrl()?;
    let has = |what: fn(&_) -> bool| resctrl.as_ref().is_some_and(what);
    if !options.l3_cache_schema.is_empty() && !has(|rdt| rdt.has_cache_allocation) {
        bail!("Intel RDT/CAT: l3 cache schema is not enabled");
    }
    if !options.memory_bandwidth_schema.is_empty() && !has(|rdt| rdt.has_bandwidth_allocation) {
        bail!("Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    let group = state.resctrl_group.as_deref();
    let group = group.context(
        "the container was created without linux.intelRdt: it has no resctrl group to change",
    )?;
    let root = resctrl
        .as_ref()
        .map_or(group, |resctrl| resctrl.root.as_path());
    intel_rdt::update(root, group, &lines).map(Some)
}
