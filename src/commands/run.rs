//! `teu run`: creates a container, starts it, and, unless detached, waits for it and
//! deletes it. Not for creating: see `create.rs`.

use anyhow::{Context, Result};

use super::create::{self, Purpose};
use crate::logger::STEP;
use crate::parent::container::Container;
use crate::parent::notify::NotifySocket;
use crate::parent::{foreground, hooks};
use crate::pipe::{ParentEnd, ToInit};
use crate::state::Status;

/// The arguments of `run`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The arguments in common with `create`.
    pub(crate) create: create::Options,
    /// Whether to return once the program is started.
    pub(crate) detach: bool,
    /// Whether the container stays after its process has ended.
    pub(crate) keep: bool,
    /// Whether the host's init reaps orphans of the container.
    pub(crate) no_subreaper: bool,
}

/// Runs a container. Returns the exit status for this process: that of the container's
/// process, 128 plus the signal's number if a signal ended it, or 0 if detached.
///
/// # Errors
/// The container cannot be created or started. Nothing of it is left.
#[inline(never)]
pub(crate) fn run(options: &Options) -> Result<u8> {
    if options.detach {
        let (mut container, notify) = start(options, Purpose::RunDetached)?;
        if let Some(notify) = notify {
            // The container is complete. Waiting for readiness may take long.
            container.held.signals.unblock()?;
            container.share();
            if let Err(err) = notify.wait_until_ready(container.held.state.pid) {
                container.end();
                return Err(err);
            }
        }
        container.keep();
        return Ok(0);
    }
    if !options.no_subreaper {
        foreground::become_subreaper();
    }
    let (container, notify) = start(options, Purpose::RunForeground)?;
    container.wait_in_front(notify.as_ref(), options.keep)
}

/// Makes the container and starts it, or undoes everything if that fails. Returns the
/// socket through which the container reports that it is ready.
fn start(options: &Options, purpose: Purpose) -> Result<(Container, Option<NotifySocket>)> {
    let (container, pipe) = create::make(&options.create, purpose)?;
    match start_program(&container, &pipe) {
        Ok(notify) => Ok((container, notify)),
        Err(err) => {
            container.undo();
            Err(err)
        }
    }
}

/// Lets init execute the program, and runs the poststart hooks.
fn start_program(container: &Container, pipe: &ParentEnd) -> Result<Option<NotifySocket>> {
    let notify = NotifySocket::bind(container.held.state_dir.path())?;
    pipe.send(ToInit::Execute)?;
    log::debug!(target: STEP, "started its program");
    if !container.held.state.poststart.is_empty() {
        // Poststart hooks run after the program's start (runtime.md, "Lifecycle").
        let executed = pipe.wait_for_exec();
        if executed.context("wait for the program to start")? {
            let state = &container.held.state;
            hooks::run_poststart(&state.poststart, &state.for_hooks(Status::Running))?;
        }
    }
    Ok(notify)
}
