//! The state of a task in the server: its processes, their stages, and the calls that wait
//! for them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use teu_cgroups::{Cgroup, OomWatch};

use crate::caller::Caller;
use crate::command::Command;
use crate::io::{Stdio, Streams};
use crate::job::{JobId, Rootfs};
use crate::proto::Timestamp;
use crate::proto::types::Mount;
use crate::ttrpc::Status;

/// A container and its processes.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) bundle: PathBuf,
    pub(crate) command: Command,
    /// The owner of the streams: the ids on the host of the container's root user and group.
    pub(crate) owner: (u32, u32),
    /// The mounts of the root filesystem.
    pub(crate) mounts: Vec<Mount>,
    pub(crate) has_own_pids: bool,
    /// The checkpoint to restore from; empty for a new container.
    pub(crate) checkpoint: String,
    /// The directory for CRIU's files during a restore.
    pub(crate) criu_work_path: PathBuf,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
    pub(crate) freeze: Freeze,
    /// The cgroup, once the container is created.
    pub(crate) cgroup: Option<Cgroup>,
    /// Watches for OOM kills, from the creation until the container's end is reported.
    pub(crate) oom: Option<OomWatch>,
    /// Whether the other processes are being killed because they do not end with init.
    pub(crate) ends_others: bool,
    pub(crate) removal: Removal,
}

/// The progress of pausing a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freeze {
    No,
    Pausing,
    Paused,
}

/// The progress of deleting a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    No,
    Going,
    /// Deleted, and its root filesystem unmounted.
    Done,
}

/// Init, or a process started by `Exec`.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stdio: Stdio,
    pub(crate) stage: Stage,
    /// The pid; 0 before the process exists.
    pub(crate) pid: u32,
    /// The end of the process. It has been reported if the stage is [`Stage::Stopped`].
    pub(crate) exit: Option<Exit>,
    pub(crate) streams: Option<Streams>,
    pub(crate) logger: Option<Logger>,
    pub(crate) waiting: Vec<Caller>,
    /// The calls that wait for the process to be deleted, which happens once its output has
    /// arrived.
    pub(crate) deletion: Vec<Caller>,
    /// Whether its last start failed. It may be started again.
    pub(crate) has_failed: bool,
    /// The process of an exec, as JSON.
    pub(crate) spec: Vec<u8>,
}

/// The program that reads the process's output.
#[derive(Debug)]
pub(crate) struct Logger {
    pub(crate) job: JobId,
    /// The time at which it is killed, after it was asked to end.
    pub(crate) kill_at: Option<Instant>,
}

/// The stage of a process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// An init that is being created. Callers do not see its task yet.
    Creating,
    /// An exec that was not started, or an init that is not restored yet.
    Added,
    /// An init that is created and not started.
    Created,
    /// Started, but not reported as started.
    Starting,
    Running,
    /// Reported as ended.
    Stopped,
}

/// The end of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// The exit status, or 128 and the number of the signal.
    pub(crate) status: u32,
    pub(crate) at: Timestamp,
}

impl Process {
    pub(crate) fn new(stdio: Stdio, spec: Vec<u8>) -> Process {
        Process {
            stdio,
            stage: Stage::Added,
            pid: 0,
            exit: None,
            streams: None,
            logger: None,
            waiting: Vec::new(),
            deletion: Vec::new(),
            has_failed: false,
            spec,
        }
    }

    /// Whether the process has ended, reported or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.exit.is_some() || self.stage == Stage::Stopped
    }

    /// The word for the state of the process in errors.
    pub(crate) fn word(&self, freeze: Freeze) -> &'static str {
        match self.stage {
            Stage::Creating | Stage::Added | Stage::Created => "created",
            Stage::Starting | Stage::Running if freeze != Freeze::No => "paused",
            Stage::Starting | Stage::Running => "running",
            Stage::Stopped => "stopped",
        }
    }
}

impl Task {
    /// The root filesystem to mount, if containerd asks for mounts.
    pub(crate) fn rootfs(&self) -> Option<Rootfs> {
        (!self.mounts.is_empty()).then(|| Rootfs {
            directory: self.bundle.join("rootfs"),
            mounts: self.mounts.clone(),
        })
    }

    /// Finds an exec by name. The empty name stands for init.
    ///
    /// # Errors
    /// The task has no exec of this name.
    pub(crate) fn process(&mut self, exec: &str) -> Result<&mut Process, Status> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs
            .get_mut(exec)
            .ok_or_else(|| Status::not_found(format!("process does not exist {exec}: not found")))
    }

    /// All processes by name. Init has the empty name.
    pub(crate) fn processes(&mut self) -> impl Iterator<Item = (&str, &mut Process)> {
        let execs = self.execs.iter_mut();
        let execs = execs.map(|(name, process)| (name.as_str(), process));
        std::iter::once(("", &mut self.init)).chain(execs)
    }

    /// Whether an exec has not been reported as ended.
    pub(crate) fn has_live_execs(&self) -> bool {
        let mut execs = self.execs.values();
        execs.any(|exec| matches!(exec.stage, Stage::Starting | Stage::Running))
    }
}
