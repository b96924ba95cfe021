//! The parent: the part of the process that makes a container, outside of the
//! container, before, beside and after `init/`. The host is the machine, not this
//! process.
//!
//! Not for decisions: the plan has them all.

pub(crate) mod affinity;
pub(crate) mod cleanup;
pub(crate) mod container;
pub(crate) mod device_source;
pub(crate) mod foreground;
pub(crate) mod hooks;
pub(crate) mod hotplug;
pub(crate) mod intel_rdt;
pub(crate) mod listen_fds;
pub(crate) mod mount_source;
pub(crate) mod net_devices;
pub(crate) mod netlink;
pub(crate) mod notify;
pub(crate) mod oom_score;
pub(crate) mod pid_file;
pub(crate) mod seccomp_agent;
pub(crate) mod started;
pub(crate) mod terminal;
pub(crate) mod terminal_relay;
pub(crate) mod users;
