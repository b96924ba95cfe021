//! `teu start`: let a created container execute its program.

use anyhow::Result;
use std::path::PathBuf;

use super::kill;
use crate::bundle;
use crate::failure::Failure;
use crate::hooks::{self, Moment};
use crate::notify::NotifySocket;
use crate::state::{ContainerState, StateDir, Status};

/// What `start` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
}

/// Starts a created container and runs its poststart hooks.
///
/// # Errors
/// It is not there or not in the created state; a hook failed, and the
/// container was killed for it.
#[inline(never)]
pub(crate) fn start(options: &Options) -> Result<()> {
    let (dir, state) = StateDir::load(&options.root, &options.id)?;
    match dir.status(&state) {
        Status::Created => {}
        Status::Stopped => return Err(Failure::StartStopped.into()),
        Status::Running => return Err(Failure::StartRunning.into()),
        other => return Err(Failure::StartInState(other.word().into()).into()),
    }
    // It may say that it is ready at once.
    let notify = NotifySocket::bind(dir.path())?;
    let started = dir.release_exec_fifo()?;
    if !state.poststart.is_empty() {
        // They belong after the program's start (runtime.md, "Lifecycle").
        started.wait_for_exec()?;
        bundle::enter(&state.bundle)?;
        run_poststart(&state)?;
    }
    match notify {
        Some(notify) => notify.wait_until_ready(state.pid),
        None => Ok(()),
    }
}

/// Runs the poststart hooks. If one fails the container is killed.
///
/// # Errors
/// The hook's.
pub(crate) fn run_poststart(state: &ContainerState) -> Result<()> {
    let ran = hooks::run(
        Moment::Poststart,
        &state.poststart,
        &state.for_hooks(Status::Running),
    );
    if ran.is_err()
        && let Some(init) = kill::open_init(state)?
    {
        kill::send(state, &init, libc::SIGKILL)?;
    }
    ran
}
