//! `teu pause` and `teu resume`: stop all processes of a container, and let
//! them go on.

use std::path::Path;

use anyhow::Result;
use teu_cgroups::Cgroup;

use crate::known_failures::Failure;
use crate::state::{ContainerState, StateDir, Status};

/// Pauses a container, also one that was not started yet.
///
/// # Errors
/// It is not there or does not run, which a paused one does not; it has no
/// cgroup that could be frozen.
#[inline(never)]
pub(crate) fn pause(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = lock(root, id)?;
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
pub(crate) fn resume(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = lock(root, id)?;
    match dir.status(&state)? {
        Status::Paused => Ok(Cgroup::open(&state.cgroup).thaw()?),
        _ => Err(Failure::NotPaused.into()),
    }
}

fn lock(root: &Path, id: &str) -> Result<(StateDir, Box<ContainerState>)> {
    let mut dir = StateDir::find(root, id)?;
    dir.lock()?;
    let state = dir.read()?;
    Ok((dir, state))
}
