//! `teu pause` and `teu resume`: stop all processes of a container, and let
//! them go on.

use std::path::PathBuf;

use anyhow::Result;
use teu_cgroups::Cgroup;

use crate::failure::Failure;
use crate::state::{ContainerState, StateDir, Status};

/// What `pause` and `resume` need to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
}

/// Pauses a container, also one that was not started yet.
///
/// # Errors
/// It is not there or does not run, which a paused one does not; it has no
/// cgroup that could be frozen.
#[inline(never)]
pub(crate) fn pause(options: &Options) -> Result<()> {
    let (dir, state) = lock(options)?;
    match dir.status(&state)? {
        Status::Created | Status::Running => Ok(Cgroup::open(&state.cgroup).freeze()?),
        Status::Creating | Status::Paused | Status::Stopped => Err(Failure::NotRunning.into()),
    }
}

/// Lets a paused container go on.
///
/// # Errors
/// It is not there or not paused.
#[inline(never)]
pub(crate) fn resume(options: &Options) -> Result<()> {
    let (dir, state) = lock(options)?;
    match dir.status(&state)? {
        Status::Paused => Ok(Cgroup::open(&state.cgroup).thaw()?),
        _ => Err(Failure::NotPaused.into()),
    }
}

fn lock(options: &Options) -> Result<(StateDir, ContainerState)> {
    let mut dir = StateDir::find(&options.root, &options.id)?;
    dir.lock()?;
    let state = dir.read()?;
    Ok((dir, state))
}
