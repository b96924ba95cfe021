//! The messages between the server and the spawner: requests to start and signal jobs, and
//! the answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::proto::types::Mount;

/// Identifies a job; never 0.
pub type JobId = u64;

/// A message to the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Starts a job. The descriptors of the message become 0, 1, 2 and so on of the job.
    Start(JobId, Work),
    /// Sends a signal to a job. Ignored if the job has ended.
    Signal(JobId, i32),
}

/// The work of a job.
#[derive(Debug, Serialize, Deserialize)]
pub enum Work {
    /// Runs a command of the runtime.
    Runtime {
        /// Another runtime's program: a path, or a name to look up in PATH.
        program: Option<String>,
        /// The arguments.
        args: Vec<String>,
        /// The mounts to make before the command. They stay if the command fails.
        rootfs: Option<Rootfs>,
    },
    /// Unmounts all mounts at this path.
    Unmount(PathBuf),
    /// Executes a program that is not a runtime, with exactly this environment.
    Program {
        /// The path of the program.
        path: PathBuf,
        /// The arguments.
        args: Vec<String>,
        /// Variables as `NAME=value`.
        env: Vec<String>,
    },
}

/// The mounts of a root filesystem.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// The directory to mount on.
    pub directory: PathBuf,
    /// The mounts, the lowest first.
    pub mounts: Vec<Mount>,
}

/// A message from the spawner, or from a job.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The reason of a failure that the runtime did not log. `Ended` follows.
    Failed(JobId, String),
    /// The job's exit status, or 128 and the number of the signal that ended it.
    Ended(JobId, u8),
}
