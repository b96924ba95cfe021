//! `teu pause` and `teu resume`: freeze all processes of a container, and thaw them.

use std::path::Path;

use anyhow::Result;
use teu_cgroups::Cgroup;

use crate::known_failures::Failure;
use crate::state::{ContainerState, StateDir, Status};

/// Freezes a container, whether it was started or not.
///
/// # Errors
/// The container does not exist, does not run, is already paused, or has no cgroup that
/// can be frozen.
#[inline(never)]
pub(crate) fn pause(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = lock(root, id)?;
    match dir.status(&state)? {
        Status::Created | Status::Running => Ok(Cgroup::open(&state.cgroup).freeze()?),
        Status::Creating | Status::Paused | Status::Stopped => Err(Failure::NotRunning.into()),
    }
}

/// Thaws a paused container.
///
/// # Errors
/// The container does not exist or is not paused.
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
