//! The init of a container, by its start time and by a descriptor, because its pid may
//! belong to another process by now. Notes, opens, signals and waits for init.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use teu_cgroups::Cgroup;

use super::ContainerState;
use crate::known_failures::Failure;
use crate::procfs::stat::ProcessStat;
use crate::{poll, sys};

/// The time that killed processes may take to end.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl ContainerState {
    /// Notes the process of init.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn note_init(&mut self, pid: i32) -> Result<()> {
        let stat = ProcessStat::read(pid)?;
        let stat = stat.with_context(|| format!("container init, process {pid}, is gone"))?;
        self.pid = pid;
        self.start_time = stat.start_time;
        Ok(())
    }

    /// Returns whether init is still the same process, and alive.
    ///
    /// # Errors
    /// The process cannot be examined.
    pub(crate) fn init_is_alive(&self) -> Result<bool> {
        if self.pid == 0 {
            return Ok(false);
        }
        let stat = ProcessStat::read(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.start_time == self.start_time && stat.is_alive()))
    }
}

/// Opens init, or returns `None` if it has ended. Never opens another process with the
/// same pid.
///
/// # Errors
/// The kernel refuses for another reason than init's end.
pub(crate) fn open(state: &ContainerState) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(state.pid) else {
        return Ok(None);
    };
    let init = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(init) => init,
        Err(Errno::SRCH) => return Ok(None),
        Err(err) => return Err(err).with_context(|| format!("open process {}", state.pid)),
    };
    // Check init after opening, because from then on the descriptor stays on the same
    // process.
    Ok(state.init_is_alive()?.then_some(init))
}

/// Sends a signal to init. After SIGKILL thaws the cgroup with all cgroups below,
/// because a frozen process dies only once it is thawed, and init waits for all other
/// processes of its pid namespace.
///
/// # Errors
/// The kernel refuses, or init has ended.
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
/// Init takes too long.
pub(crate) fn wait_for_end(init: &OwnedFd) -> Result<()> {
    let mut events = [PollFd::new(init, PollFlags::IN)];
    let deadline = Instant::now() + KILL_PATIENCE;
    match poll::wait_until(&mut events, Some(deadline)).context("wait for init to end")? {
        true => Ok(()),
        false => Err(Failure::InitStillRunning.into()),
    }
}
