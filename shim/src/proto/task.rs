//! The messages of the task service. `runtime/task/v2` and `v3` differ in its name only.

use std::collections::BTreeMap;

use super::types::{Mount, ProcessInfo, Status};
use super::{Any, Timestamp};

/// The service's name for containerd 1, and for others that run shims.
pub const SERVICE_V2: &str = "containerd.task.v2.Task";
/// The service's name for containerd 2.
pub const SERVICE_V3: &str = "containerd.task.v3.Task";

/// Makes a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The mounts its root filesystem is made of, the lowest first.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Init's stdio is a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// The path of init's standard input, or empty.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// The path or the address of the standard output, or empty.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// The path or the address of the standard error, or empty.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// The checkpoint to restore the container from; empty for a new container.
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    /// The checkpoint that `checkpoint` builds on.
    #[prost(string, tag = "9")]
    pub parent_checkpoint: String,
    /// The options, by their name.
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// The answer to [`CreateTaskRequest`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CreateTaskResponse {
    /// The pid of init; 0 for a container to restore.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// Forgets a process that has ended, or a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The end of the deleted process.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DeleteResponse {
    /// The process's id on the host, while it ran.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The exit status of the process, or 128 plus the number of the signal that killed it.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    /// The time at which the process ended.
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// Notes a process to start in a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExecProcessRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its stdio is a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// The path of the process's standard input, or empty.
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// The path or the address of the standard output, or empty.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// The path or the address of the standard error, or empty.
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// JSON of the runtime specification's `Process`.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// Changes the size of a terminal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResizePtyRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// The width in characters.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// The height in lines.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// Asks about a process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StateRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The state of the process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StateResponse {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The pid of the process.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// The status of the process.
    #[prost(enumeration = "Status", tag = "4")]
    pub status: i32,
    /// The path of the process's standard input, or empty.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// The path or the address of the standard output, or empty.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// The path or the address of the standard error, or empty.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// Its stdio is a terminal.
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    /// The exit status of the process, or 128 plus the number of the signal that killed it;
    /// 0 while it runs.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    /// The time at which the process ended.
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KillRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// The number of the signal.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// Whether to signal every process of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// Closes the standard input of a process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CloseIORequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Whether to close the standard input; nothing else can be closed.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// Asks for the processes of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PidsRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The processes of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PidsResponse {
    /// Every process of the container.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<ProcessInfo>,
}

/// Makes a checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CheckpointTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The directory in which to make the checkpoint.
    #[prost(string, tag = "2")]
    pub path: String,
    /// The options, by their name.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
}

/// Changes the limits of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateTaskRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// JSON of the runtime specification's `LinuxResources`.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
    /// Further settings, which the runtime specification does not have.
    #[prost(btree_map = "string, string", tag = "3")]
    pub annotations: BTreeMap<String, String>,
}

/// Starts a container that was created, or a process that an `Exec` noted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StartRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The process that runs.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StartResponse {
    /// The pid of the process.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// Waits for the end of a process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WaitRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process that an `Exec` started; empty for init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// The end of the process.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct WaitResponse {
    /// The exit status of the process, or 128 plus the number of the signal that killed it.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    /// The time at which the process ended.
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// Asks for statistics.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatsRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The statistics of a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatsResponse {
    /// The counts of the container's cgroups: the message `Metrics` of cgroup v1 or v2.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Asks which shim serves a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// The shim that serves the container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConnectResponse {
    /// The process id of the shim.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// The process id of init; 0 before init exists.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    /// The version of the shim; no client reads it.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// Ends the shim if it serves no container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ShutdownRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether to end in any case.
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// Pauses a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PauseRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Resumes a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ResumeRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
}
