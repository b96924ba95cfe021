//! The failures that engines recognise by their text.
//!
//! containerd, CRI-O, Podman and Docker search the runtime's errors for these texts and
//! decide by them, so the texts are runc's and the tests below freeze them. Not for
//! errors that no engine looks for: these are ordinary errors with context.

use std::fmt;

/// The text by which engines recognise that a process of a container could not be
/// started.
pub(crate) const START: &str = "unable to start container process";

/// A failure with an exact text. `error.downcast_ref::<Failure>()` finds it in a chain
/// of errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No container has that name. containerd and CRI-O take "does not exist" for
    /// "already deleted".
    NotFound,
    /// `create` and `run`: the name is in use.
    AlreadyExists,
    /// The name has characters that are not allowed.
    InvalidId,
    /// The name is empty.
    EmptyId,
    /// There is no process to signal, to freeze or to execute in. containerd takes this
    /// for "already stopped".
    NotRunning,
    /// `resume`: the container is not paused.
    NotPaused,
    /// `start`: the init process has ended.
    StartStopped,
    /// `start`: the program is already started.
    StartRunning,
    /// `start`: the container has another status, given by its word.
    StartInState(String),
    /// `exec`: the init process has ended.
    ExecStopped,
    /// `exec`: the container is paused, and `--ignore-paused` is not set.
    ExecPaused,
    /// `checkpoint`: a container with this status cannot be stored.
    CheckpointInState(String),
    /// `delete`: the container has this status.
    DeleteNotStopped { id: String, status: String },
    /// `delete`: the init process outlived SIGKILL.
    InitStillRunning,
    /// `create` and `run`: the bundle has no specification. Has the name of the missing
    /// file.
    NoSpecification(String),
    /// `start`, `run` and `exec`: the specification has no process.
    NoProcess,
    /// Init ran out of memory before the program started. Has the limit in bytes.
    InitOutOfMemory(Option<i64>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotFound => f.write_str("container does not exist"),
            Failure::AlreadyExists => f.write_str("container with given ID already exists"),
            Failure::InvalidId => f.write_str("invalid container ID format"),
            Failure::EmptyId => f.write_str("container id cannot be empty"),
            Failure::NotRunning => f.write_str("container not running"),
            Failure::NotPaused => f.write_str("container not paused"),
            Failure::StartStopped => f.write_str("cannot start a container that has stopped"),
            Failure::StartRunning => f.write_str("cannot start an already running container"),
            Failure::StartInState(status) => {
                write!(f, "cannot start a container in the {status} state")
            }
            Failure::ExecStopped => f.write_str("cannot exec in a stopped container"),
            Failure::ExecPaused => {
                f.write_str("cannot exec in a paused container (use --ignore-paused to override)")
            }
            Failure::CheckpointInState(status) => {
                write!(f, "Container cannot be checkpointed in {status} state")
            }
            Failure::DeleteNotStopped { id, status } => {
                write!(
                    f,
                    "cannot delete container {id} that is not stopped: {status}"
                )
            }
            Failure::InitStillRunning => f.write_str("container init still running"),
            Failure::NoSpecification(file) => {
                write!(f, "JSON specification file {file} not found")
            }
            Failure::NoProcess => f.write_str(teu_plan::NO_PROCESS),
            Failure::InitOutOfMemory(limit) => {
                f.write_str("container init was OOM-killed (memory limit too low?)")?;
                match limit {
                    // A limit of 0 or less means unlimited.
                    Some(limit @ 1..) => write!(f, ": linux.resources.memory.limit is {limit}"),
                    Some(_) | None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn engines_match_these_words() {
        let words = [
            (Failure::NotFound, "container does not exist"),
            (
                Failure::AlreadyExists,
                "container with given ID already exists",
            ),
            (Failure::InvalidId, "invalid container ID format"),
            (Failure::EmptyId, "container id cannot be empty"),
            (Failure::NotRunning, "container not running"),
            (Failure::NotPaused, "container not paused"),
            (
                Failure::StartStopped,
                "cannot start a container that has stopped",
            ),
            (
                Failure::StartRunning,
                "cannot start an already running container",
            ),
            (
                Failure::StartInState("paused".into()),
                "cannot start a container in the paused state",
            ),
            (Failure::ExecStopped, "cannot exec in a stopped container"),
            (
                Failure::ExecPaused,
                "cannot exec in a paused container (use --ignore-paused to override)",
            ),
            (
                Failure::CheckpointInState("stopped".into()),
                "Container cannot be checkpointed in stopped state",
            ),
            (
                Failure::DeleteNotStopped {
                    id: "a".into(),
                    status: "running".into(),
                },
                "cannot delete container a that is not stopped: running",
            ),
            (Failure::InitStillRunning, "container init still running"),
            (
                Failure::NoSpecification("config.json".into()),
                "JSON specification file config.json not found",
            ),
            (Failure::NoProcess, "process property must not be empty"),
            (
                Failure::InitOutOfMemory(None),
                "container init was OOM-killed (memory limit too low?)",
            ),
            (
                Failure::InitOutOfMemory(Some(-1)),
                "container init was OOM-killed (memory limit too low?)",
            ),
            (
                Failure::InitOutOfMemory(Some(4096)),
                "container init was OOM-killed (memory limit too low?): \
                 linux.resources.memory.limit is 4096",
            ),
        ];
        for (failure, text) in words {
            assert_eq!(failure.to_string(), text);
        }
    }

    #[test]
    fn a_failure_is_found_below_context() {
        let error = Err::<(), _>(Failure::NotFound)
            .context("teu state failed")
            .unwrap_err();
        assert_eq!(error.downcast_ref::<Failure>(), Some(&Failure::NotFound));
    }
}
