//! `teu start`: let a created container execute its program.

use anyhow::Result;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::hooks;
use crate::notify::NotifySocket;
use crate::state::{StateDir, Status};

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
pub(crate) fn start(options: &Options) -> Result<()> {
    let (dir, state) = StateDir::load(&options.root, &options.id)?;
    match dir.status(&state) {
        Status::Created => {}
        Status::Stopped => return Err(Failure::StartStopped.into()),
        Status::Running => return Err(Failure::StartRunning.into()),
        other => return Err(Failure::StartInState(other.word().into()).into()),
    }
    let notify = NotifySocket::bind(dir.path())?;
    let started = dir.release_exec_fifo()?;
    if !state.poststart.is_empty() {
        // They belong after the program's start (runtime.md, "Lifecycle").
        started.wait_for_exec()?;
        hooks::run_poststart(&state)?;
    }
    match notify {
        Some(socket) => socket.wait_until_ready(state.pid),
        None => Ok(()),
    }
}
