//! `teu start`: lets a created container execute its program, and runs the poststart
//! hooks.

use anyhow::Result;
use std::path::Path;

use super::delete;
use crate::known_failures::Failure;
use crate::logger::STEP;
use crate::parent::hooks;
use crate::parent::notify::NotifySocket;
use crate::state::{StateDir, Status, exec_fifo};
use crate::{bundle, errno};

/// Starts a created container and runs its poststart hooks.
///
/// # Errors
/// The container does not exist or is not in the created state, or a hook failed and
/// the container was deleted because of that.
#[inline(never)]
pub(crate) fn start(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = StateDir::load(root, id)?;
    match dir.status(&state)? {
        // A container may lack a process until it is started (runtime.md, "start").
        Status::Created if state.lacks_process => return Err(Failure::NoProcess.into()),
        Status::Created => {}
        Status::Stopped => return Err(Failure::StartStopped.into()),
        Status::Running => return Err(Failure::StartRunning.into()),
        other => return Err(Failure::StartInState(other.word().into()).into()),
    }
    log::trace!(target: STEP, "read the state");
    // Bind the socket first, because the program may report at once that it is ready.
    let notify = NotifySocket::bind(dir.path())?;
    if !state.poststart.is_empty() {
        // Enter the bundle for the hooks while a failure can still be reported without
        // effect.
        bundle::enter(&state.bundle)?;
    }
    let started = exec_fifo::release(dir.path())?;
    log::trace!(target: STEP, "let init execute the program");
    // Poststart hooks run after the program's start (runtime.md, "Lifecycle").
    if !state.poststart.is_empty()
        && started.wait_for_exec()?
        && let Err(err) = hooks::run_poststart(&state.poststart, &state.for_hooks(Status::Running))
    {
        // Delete the container after a failed hook (runtime.md, "Lifecycle", step 9).
        if let Err(err) = delete::delete_found(dir, &state) {
            log::warn!("{}", errno::chain(&err));
        }
        return Err(err);
    }
    match notify {
        Some(notify) => notify.wait_until_ready(state.pid),
        None => Ok(()),
    }
}
