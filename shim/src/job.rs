//! What the spawner is asked to do, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::proto::types::Mount;

/// Tells jobs apart; never 0.
pub type JobId = u64;

/// To the spawner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The descriptors that come with it are 0, 1, 2 and so on for the job.
    Start(JobId, Work),
    /// For a job; nothing happens if it has ended.
    Signal(JobId, i32),
}

/// What a job is to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Work {
    /// A command of the runtime.
    Runtime {
        /// Another one than ours: its path, or a name to be found in PATH.
        program: Option<String>,
        args: Vec<String>,
        /// What is mounted before. It stays if the command fails.
        rootfs: Option<Rootfs>,
    },
    /// Unmounts all that is mounted there.
    Unmount(PathBuf),
    /// A program that is no runtime, with this environment and no other.
    Program {
        path: PathBuf,
        args: Vec<String>,
        /// `NAME=value`.
        env: Vec<String>,
    },
}

/// The mounts of a root filesystem.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rootfs {
    pub directory: PathBuf,
    pub mounts: Vec<Mount>,
}

/// From the spawner, or from a job itself.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Why a job failed where no log says it; its end follows.
    Failed(JobId, String),
    /// Its exit status, or 128 and the number of the signal that ended it.
    Ended(JobId, u8),
}
