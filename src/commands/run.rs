//! `teu run`: create a container, start it, and unless detached wait for it
//! and delete it.

use anyhow::{Context, Result};

use super::create::{self, Purpose};
use crate::logger::STEP;
use crate::parent::container::Container;
use crate::parent::notify::NotifySocket;
use crate::parent::{foreground, hooks};
use crate::pipe::{ParentEnd, ToInit};
use crate::state::Status;

/// What `run` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What it has in common with `create`.
    pub(crate) create: create::Options,
    /// Whether to return once the program was started.
    pub(crate) detach: bool,
    /// Whether the container stays after its process has ended.
    pub(crate) keep: bool,
    /// Whether orphans of the container go to the machine's init.
    pub(crate) no_subreaper: bool,
}

/// Runs a container and returns the exit status to end with: that of its
/// process, 128 and the signal's number if a signal ended it, 0 if detached.
///
/// # Errors
/// It could not be created or started; nothing of it is left then.
#[inline(never)]
pub(crate) fn run(options: &Options) -> Result<u8> {
    if options.detach {
        let (mut container, notify) = start(options, Purpose::RunDetached)?;
        if let Some(notify) = notify {
            // It is complete, and may take its time.
            container.signals.unblock()?;
            container.share();
            if let Err(err) = notify.wait_until_ready(container.state.pid) {
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

/// Makes the container and starts it; undoes it if that fails. Comes with the
/// socket through which the container says that it is ready.
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

/// Lets init execute the program and runs the poststart hooks.
fn start_program(container: &Container, pipe: &ParentEnd) -> Result<Option<NotifySocket>> {
    let notify = NotifySocket::bind(container.state_dir.path())?;
    pipe.send(ToInit::Execute)?;
    log::debug!(target: STEP, "started its program");
    if !container.state.poststart.is_empty() {
        // They belong after the program's start (runtime.md, "Lifecycle").
        let executed = pipe.wait_for_exec();
        if executed.context("wait for the program to start")? {
            let state = &container.state;
            hooks::run_poststart(&state.poststart, &state.for_hooks(Status::Running))?;
        }
    }
    Ok(notify)
}
