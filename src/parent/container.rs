//! A container that this process has made, by `create` or `restore`: its init, and what
//! is held for it.

use anyhow::Result;
use teu_cgroups::Cgroup;

use super::notify::NotifySocket;
use super::started::Started;
use super::{cleanup, hooks, intel_rdt};
use crate::errno;
use crate::logger::STEP;
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status};

/// Dropped, it is undone, until [`Container::keep`].
#[derive(Debug)]
pub(crate) struct Container {
    // Dropped in this order: the process, then what it was in.
    pub(crate) init: Started,
    pub(crate) cgroup: Cgroup,
    pub(crate) state_dir: StateDir,
    pub(crate) state: Box<ContainerState>,
    /// Those that would have ended this process meanwhile.
    pub(crate) signals: Signals,
}

impl Container {
    /// Stays in front of it until its init has ended, and deletes it then, unless it
    /// `stays`. Returns the exit status to end with, see [`Started::wait_in_front`].
    ///
    /// # Errors
    /// It cannot be waited for, and was deleted for that; something of it is left.
    pub(crate) fn wait_in_front(
        mut self,
        notify: Option<&NotifySocket>,
        stays: bool,
    ) -> Result<u8> {
        self.share();
        let status = match self.init.wait_in_front(&self.signals, notify) {
            Ok(status) => status,
            Err(err) => {
                self.end();
                return Err(err);
            }
        };
        log::trace!(target: STEP, "waited for init to end");
        if !stays {
            cleanup::destroy_ended(self.state_dir, &self.state)?;
        }
        Ok(status)
    }

    /// Kills it and removes everything held for it, as deleting it would.
    pub(crate) fn undo(self) {
        let state = self.state.clone();
        drop(self);
        if state.mounts_on_host
            && let Err(err) = cleanup::unmount_below(&state.rootfs)
        {
            log::warn!("{}", errno::chain(&err));
        }
        undo_outside(&state);
    }

    /// Lets other commands work on it, which may delete it: nothing is undone by
    /// its name any more.
    pub(crate) fn share(&mut self) {
        self.cgroup.keep();
        self.state_dir.keep();
    }

    /// Kills and deletes a shared one, if it is still there.
    pub(crate) fn end(self) {
        cleanup::end_shared(self.init.child, self.state_dir, &self.state);
    }

    /// It outlives this process.
    pub(crate) fn keep(&mut self) {
        self.init.keep();
        self.share();
    }
}

/// Undoes what no owner undoes: resctrl groups, and runs the poststop hooks.
pub(crate) fn undo_outside(state: &ContainerState) {
    if let Err(err) = intel_rdt::remove(&state.resctrl) {
        log::warn!("{}", errno::chain(&err));
    }
    hooks::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
}
