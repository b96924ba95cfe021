//! A container that this process has made, by `create` or `restore`: its init, its
//! cgroup and its state directory, with their end. Not for making it: see the commands.

use anyhow::Result;
use teu_cgroups::Cgroup;

use super::notify::NotifySocket;
use super::started::Started;
use super::{cleanup, hooks, intel_rdt};
use crate::errno;
use crate::logger::STEP;
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status};

/// Dropping it undoes the creation, until [`Container::keep`].
#[derive(Debug)]
pub(crate) struct Container {
    // Fields are dropped in this order: first the process, then its cgroup and
    // directory.
    pub(crate) init: Started,
    pub(crate) held: Held,
}

/// What is held for a container besides its init.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) cgroup: Cgroup,
    pub(crate) state_dir: StateDir,
    pub(crate) state: Box<ContainerState>,
    /// The blocked signals that would have ended this process meanwhile.
    pub(crate) signals: Signals,
}

impl Container {
    /// Stays in front of the container until init has ended. Then deletes the
    /// container, unless it `stays`. Returns the exit status for this process, see
    /// [`Started::wait_in_front`].
    ///
    /// # Errors
    /// The wait fails, and the container was deleted because of that; or deleting it
    /// fails.
    pub(crate) fn wait_in_front(
        mut self,
        notify: Option<&NotifySocket>,
        stays: bool,
    ) -> Result<u8> {
        self.share();
        let status = match self.init.wait_in_front(&self.held.signals, notify) {
            Ok(status) => status,
            Err(err) => {
                self.end();
                return Err(err);
            }
        };
        log::trace!(target: STEP, "waited for init to end");
        if !stays {
            cleanup::destroy_ended(self.held.state_dir, &self.held.state)?;
        }
        Ok(status)
    }

    /// Kills the container and removes everything that is held for it, as `delete`
    /// does.
    pub(crate) fn undo(self) {
        let state = self.held.state.clone();
        drop(self);
        if state.mounts_on_host
            && let Err(err) = cleanup::unmount_below(&state.rootfs)
        {
            log::warn!("{}", errno::chain(&err));
        }
        undo_outside(&state);
    }

    /// Lets other commands use the container, and possibly delete it. From now on
    /// nothing is undone by the container's name.
    pub(crate) fn share(&mut self) {
        self.held.cgroup.keep();
        self.held.state_dir.keep();
    }

    /// Kills and deletes a shared container, if it still exists.
    pub(crate) fn end(self) {
        cleanup::end_shared(self.init.child, self.held.state_dir, &self.held.state);
    }

    /// Lets the container outlive this process.
    pub(crate) fn keep(&mut self) {
        self.init.keep();
        self.share();
    }
}

/// Undoes the steps that have no owner: removes resctrl groups and runs the poststop
/// hooks.
pub(crate) fn undo_outside(state: &ContainerState) {
    if let Err(err) = intel_rdt::remove(&state.resctrl) {
        log::warn!("{}", errno::chain(&err));
    }
    hooks::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
}
