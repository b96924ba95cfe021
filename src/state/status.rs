//! The status of a container: creating, created, running, paused or stopped.
//!
//! The status is never stored. It follows from the process of init, the lock of the state
//! directory, the cgroup's freezer and the exec fifo.

use anyhow::Result;

use super::{ContainerState, StateDir, exec_fifo};

/// The status of a container (runtime.md, "State"), computed on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// All values, in the order of the life of a container.
    pub(crate) const ALL: [Status; 5] = [
        Status::Creating,
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Stopped,
    ];

    /// The specification's word for the status.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl StateDir {
    /// Returns the container's status now.
    ///
    /// # Errors
    /// Init or the container's freezer cannot be examined.
    pub(crate) fn status(&self, state: &ContainerState) -> Result<Status> {
        if state.pid == 0 {
            return Ok(match self.is_locked_by_another() {
                true => Status::Creating,
                false => Status::Stopped,
            });
        }
        if !state.init_is_alive()? {
            return Ok(Status::Stopped);
        }
        if state.is_frozen()? {
            return Ok(Status::Paused);
        }
        Ok(match exec_fifo::is_there(self.path())? {
            true => Status::Created,
            false => Status::Running,
        })
    }
}
