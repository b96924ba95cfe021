//! The init of a container, by a descriptor: a number may be another process's by now.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::time::Timespec;
use teu_cgroups::Cgroup;

use super::ContainerState;
use crate::known_failures::Failure;
use crate::sys;

/// How long killed processes may take to end.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Init, if it is still the process it was; a pid that is another's by now is
/// never opened.
///
/// # Errors
/// The kernel refused for another reason than that it is gone.
pub(crate) fn open(state: &ContainerState) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(state.pid) else {
        return Ok(None);
    };
    let init = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(init) => init,
        Err(Errno::SRCH) => return Ok(None),
        Err(err) => return Err(err).with_context(|| format!("open process {}", state.pid)),
    };
    // After opening: the descriptor now names one process for ever.
    Ok(state.init_is_alive()?.then_some(init))
}

/// Sends init a signal. A frozen one dies of SIGKILL only once it is thawed, and
/// init waits for all others of its pid namespace.
///
/// # Errors
/// The kernel refused, or init is gone.
pub(crate) fn signal(state: &ContainerState, init: &OwnedFd, signal: i32) -> Result<()> {
    match sys::pidfd_send_signal(init, signal) {
        Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {
            return Err(Failure::NotRunning.into());
        }
        sent => sent.with_context(|| format!("send signal {signal} to process {}", state.pid))?,
    }
    match signal {
        libc::SIGKILL => Ok(Cgroup::open(&state.cgroup).thaw_tree()?),
        _ => Ok(()),
    }
}

/// Waits for the end of an init that was killed.
///
/// # Errors
/// It takes too long.
pub(crate) fn wait_for_end(init: &OwnedFd) -> Result<()> {
    let mut events = [PollFd::new(init, PollFlags::IN)];
    let timeout = Timespec::try_from(KILL_PATIENCE).context("wait for init to end")?;
    match poll(&mut events, Some(&timeout)).context("wait for init to end")? {
        0 => Err(Failure::InitStillRunning.into()),
        _ => Ok(()),
    }
}
