//! What the server knows of a task: its processes, how far they are, and who waits.

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
    /// Who may open the streams again: the host's ids of the container's root.
    pub(crate) owner: (u32, u32),
    /// Of its root filesystem.
    pub(crate) mounts: Vec<Mount>,
    pub(crate) has_own_pids: bool,
    /// What it is to be restored from.
    pub(crate) checkpoint: String,
    /// Where CRIU's own files go then.
    pub(crate) criu_work_path: PathBuf,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
    pub(crate) freeze: Freeze,
    /// From its creation on.
    pub(crate) cgroup: Option<Cgroup>,
    /// From then until its end is told of.
    pub(crate) oom: Option<OomWatch>,
    /// The others are being killed, as they do not end with init.
    pub(crate) ends_others: bool,
    pub(crate) removal: Removal,
}

/// Whether a task is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freeze {
    No,
    Pausing,
    Paused,
}

/// How far the runtime's deletion of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    No,
    Going,
    /// And nothing of it is mounted any more.
    Done,
}

/// Init or an exec.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) stdio: Stdio,
    pub(crate) stage: Stage,
    /// 0 as long as there is none.
    pub(crate) pid: u32,
    /// It has ended; told of when the stage is [`Stage::Stopped`].
    pub(crate) exit: Option<Exit>,
    pub(crate) streams: Option<Streams>,
    pub(crate) logger: Option<Logger>,
    pub(crate) waiting: Vec<Caller>,
    /// Who waits for it to be deleted, for which its output has to arrive.
    pub(crate) deletion: Vec<Caller>,
    /// Its start has; it may be tried again.
    pub(crate) has_failed: bool,
    /// JSON of what an exec is to run.
    pub(crate) spec: Vec<u8>,
}

/// A program that takes the output.
#[derive(Debug)]
pub(crate) struct Logger {
    pub(crate) job: JobId,
    /// When it is killed, once it was asked to end.
    pub(crate) kill_at: Option<Instant>,
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// An init that is being created: there is no such task for callers.
    Creating,
    /// An exec that was not started; an init that is to be restored.
    Added,
    /// Of an init alone.
    Created,
    /// Its start is not told of yet.
    Starting,
    Running,
    /// Its end was told of.
    Stopped,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// Its exit status, or 128 and the signal.
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

    /// Whether it has come to an end, told of or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.exit.is_some() || self.stage == Stage::Stopped
    }

    /// The word for its state in errors.
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
    /// What is to be mounted, if anything is.
    pub(crate) fn rootfs(&self) -> Option<Rootfs> {
        (!self.mounts.is_empty()).then(|| Rootfs {
            directory: self.bundle.join("rootfs"),
            mounts: self.mounts.clone(),
        })
    }

    /// Init for the empty name, or an exec.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn process(&mut self, exec: &str) -> Result<&mut Process, Status> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs
            .get_mut(exec)
            .ok_or_else(|| Status::not_found(format!("process does not exist {exec}: not found")))
    }

    /// All processes by name; init's is empty.
    pub(crate) fn processes(&mut self) -> impl Iterator<Item = (&str, &mut Process)> {
        let execs = self.execs.iter_mut();
        let execs = execs.map(|(name, process)| (name.as_str(), process));
        std::iter::once(("", &mut self.init)).chain(execs)
    }

    /// Whether an exec's end is still to be told of.
    pub(crate) fn has_live_execs(&self) -> bool {
        let mut execs = self.execs.values();
        execs.any(|exec| matches!(exec.stage, Stage::Starting | Stage::Running))
    }
}
