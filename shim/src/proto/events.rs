//! What a shim tells of its tasks (`events/task.proto`), and how it is sent.

use super::types::Mount;
use super::{Any, Named, Timestamp, named};

/// The service that takes them.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Its only method.
pub const FORWARD: &str = "Forward";

/// What happened to a task.
pub trait Event: Named {
    /// Under which containerd's clients subscribe to it.
    const TOPIC: &'static str;
}

macro_rules! topics {
    ($($event:ident: $topic:literal),+ $(,)?) => {
        named!("containerd.events": $($event),+);
        $(impl Event for $event {
            const TOPIC: &'static str = $topic;
        })+
    };
}

topics! {
    TaskCreate: "/tasks/create",
    TaskStart: "/tasks/start",
    TaskDelete: "/tasks/delete",
    TaskExit: "/tasks/exit",
    TaskOOM: "/tasks/oom",
    TaskExecAdded: "/tasks/exec-added",
    TaskExecStarted: "/tasks/exec-started",
    TaskPaused: "/tasks/paused",
    TaskResumed: "/tasks/resumed",
}

/// The request of [`FORWARD`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForwardRequest {
    /// What is forwarded.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event on its way (`containerd.types.Envelope`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    /// When it happened.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// The container's namespace in containerd.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// [`Event::TOPIC`].
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The event.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// A container is there, and waits for its start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskCreate {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The mounts its root filesystem is made of.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Its stdio.
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIO>,
    /// What it is restored from.
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    /// Its init.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// A task's stdio: paths and addresses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskIO {
    /// What it reads.
    #[prost(string, tag = "1")]
    pub stdin: String,
    /// Where its output goes.
    #[prost(string, tag = "2")]
    pub stdout: String,
    /// Where its errors go.
    #[prost(string, tag = "3")]
    pub stderr: String,
    /// All of them are a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// A container's program runs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskStart {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its init.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// A container is no more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskDelete {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// What was its init.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// How that ended.
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    /// The container again, or the process.
    #[prost(string, tag = "5")]
    pub id: String,
}

/// A process has ended.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExit {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's `exec_id`; for init the container's id again.
    #[prost(string, tag = "2")]
    pub id: String,
    /// The process.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// What it said at its end, or 128 and the signal.
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    /// When it ended.
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

/// The kernel killed a process for want of memory.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskOOM {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A process will be started in a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecAdded {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// A process runs in a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecStarted {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its id on the host.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// A container is frozen.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskPaused {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A container goes on.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskResumed {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_containerds_names() {
        assert_eq!(TaskOOM::NAME, "containerd.events.TaskOOM");
        assert_eq!(TaskExecAdded::NAME, "containerd.events.TaskExecAdded");
    }
}
