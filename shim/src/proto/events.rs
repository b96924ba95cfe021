//! The events of tasks (`events/task.proto`), and the call that sends them.

use super::types::Mount;
use super::{Any, Named, Timestamp, named};

/// The service that receives events.
pub const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// Its only method.
pub const FORWARD: &str = "Forward";

/// An event of a task.
pub trait Event: Named {
    /// The topic to which containerd's clients subscribe.
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
    /// The event in its envelope.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event with its origin (`containerd.types.Envelope`).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Envelope {
    /// The time of the event.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// The container's namespace in containerd.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The event's [`Event::TOPIC`].
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The event.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// A container was created, and waits for its start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskCreate {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The mounts of its root filesystem.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// Its stdio.
    #[prost(message, optional, tag = "4")]
    pub io: Option<TaskIO>,
    /// The checkpoint that it is restored from.
    #[prost(string, tag = "5")]
    pub checkpoint: String,
    /// The pid of init.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
}

/// The streams of a task: paths and URIs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskIO {
    /// The source of its input.
    #[prost(string, tag = "1")]
    pub stdin: String,
    /// The destination of its output.
    #[prost(string, tag = "2")]
    pub stdout: String,
    /// The destination of its errors.
    #[prost(string, tag = "3")]
    pub stderr: String,
    /// Whether all of them are a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
}

/// A container was started.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskStart {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The pid of init.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// A container was deleted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskDelete {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The pid that init had.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// The exit status of init.
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
    /// The time of init's end.
    #[prost(message, optional, tag = "4")]
    pub exited_at: Option<Timestamp>,
    /// The id of the container or of the exec.
    #[prost(string, tag = "5")]
    pub id: String,
}

/// A process has ended.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExit {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's `exec_id`; for init the container's id.
    #[prost(string, tag = "2")]
    pub id: String,
    /// The pid of the process.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// The exit status, or 128 and the number of the signal.
    #[prost(uint32, tag = "4")]
    pub exit_status: u32,
    /// The time of its end.
    #[prost(message, optional, tag = "5")]
    pub exited_at: Option<Timestamp>,
}

/// The kernel has OOM-killed a process of the container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskOOM {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A process was added to a container and waits for its start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecAdded {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's `exec_id`.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// A process was started in a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskExecStarted {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The process's `exec_id`.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// The pid of the process.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// A container was paused.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TaskPaused {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// A container was resumed.
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
