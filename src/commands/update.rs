//! `teu update`: change the limits of a container that runs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use teu_cgroups::{Cgroup, Limits};

use crate::failure::Failure;
use crate::host::Host;
use crate::intel_rdt::{self, NewSchemata};
use crate::state::{ContainerState, StateDir, Status};
use crate::{bundle, plan};

/// What `update` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    pub(crate) change: Change,
    /// Lines for the schemata of the container's resctrl group; empty ones
    /// change nothing.
    pub(crate) l3_cache_schema: String,
    pub(crate) memory_bandwidth_schema: String,
}

/// Where the new limits are.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// In a file of JSON as linux.resources; "-" is standard input.
    File(PathBuf),
    /// In the other options.
    Given(Box<Limits>),
}

/// Changes limits, and notes what holds now for the next update. All of them
/// are changed, or none.
///
/// # Errors
/// The container is not there or has stopped; a value that means nothing or
/// that the kernel refuses: then the old limits are in force.
#[inline(never)]
pub(crate) fn update(options: &Options) -> Result<()> {
    let mut dir = StateDir::find(&options.root, &options.id)?;
    dir.lock()?;
    let mut state = dir.read()?;
    if matches!(dir.status(&state)?, Status::Stopped | Status::Creating) {
        return Err(Failure::NotRunning.into());
    }
    let change = change(&options.change, &state)?;

    // From here each step is taken back if a later one fails.
    let schemata = new_schemata(options, &state)?;
    let cgroup = Cgroup::open(&state.cgroup);
    let is_of_memory = |file: &String| file.starts_with("memory.");
    let concerns_memory = change.memory.limit.is_some() || change.unified.keys().any(is_of_memory);
    let kills_before = match concerns_memory {
        // Without a counter there is nothing to tell.
        true => cgroup.oom_kills().ok(),
        false => None,
    };
    let updated = cgroup.update(&state.limits, &change);
    let nobody_is_left = kills_before.is_some_and(|before| tell_kills(&cgroup, before));
    let update = match updated {
        // What could not be written or told after that was for nobody.
        Err(_) if nobody_is_left => return Ok(()),
        updated => updated?,
    };
    state.limits = update.limits().clone();
    dir.save(&state)?;
    for ignored in update.keep() {
        log::warn!("{ignored}");
    }
    if let Some(schemata) = schemata {
        schemata.keep();
    }
    Ok(())
}

/// Says so if a change makes the kernel kill, as v2 does to get below a lower
/// limit of memory: it does that before the write returns. Returns whether all
/// of the container's processes are gone, and with them the cgroup.
fn tell_kills(cgroup: &Cgroup, before: u64) -> bool {
    let (killed, are_all) = match cgroup.oom_kills() {
        Ok(now) if now > before => ((now - before).to_string(), false),
        // systemd takes the cgroup away with its last process.
        Err(err) if err.is_gone() => ("all".to_owned(), true),
        // What cannot be read says nothing of kills.
        Ok(_) | Err(_) => return false,
    };
    log::warn!(
        "linux.resources.memory.limit: the kernel killed {killed} of the container's \
         processes, which use more memory (hint: --memory above what `events --stats` \
         shows as usage)"
    );
    are_all
}

fn change(change: &Change, state: &ContainerState) -> Result<Limits> {
    let mut limits = match change {
        Change::File(path) => plan::cgroup::change(&bundle::read_resources(path)?)?,
        Change::Given(limits) => Limits::clone(limits),
    };
    if limits.devices.is_some() && state.limits.devices.is_none() {
        log::warn!("linux.resources.devices: ignored: a rootless container has no device rules");
        limits.devices = None;
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
