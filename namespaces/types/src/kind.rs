//! The eight kinds of namespace (namespaces(7)).

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// User and group ids, and capabilities (user_namespaces(7)).
    User,
    /// Mount points (mount_namespaces(7)).
    Mount,
    /// Process ids (pid_namespaces(7)).
    Pid,
    /// Network devices, addresses and ports (network_namespaces(7)).
    Network,
    /// System V IPC and POSIX message queues (ipc_namespaces(7)).
    Ipc,
    /// Hostname and domain name (uts_namespaces(7)).
    Uts,
    /// The root of the visible cgroup hierarchies (cgroup_namespaces(7)).
    Cgroup,
    /// Monotonic and boot-time clocks (time_namespaces(7)).
    Time,
}

impl Kind {
    /// Every kind, in the order of the enum's values.
    pub const ALL: [Kind; 8] = [
        Kind::User,
        Kind::Mount,
        Kind::Pid,
        Kind::Network,
        Kind::Ipc,
        Kind::Uts,
        Kind::Cgroup,
        Kind::Time,
    ];

    /// Returns the word of the OCI runtime specification for the kind (config-linux.md,
    /// "Namespaces").
    pub fn spec_name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mount",
            Kind::Pid => "pid",
            Kind::Network => "network",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// Returns the name of the kind's file in `/proc/PID/ns`.
    pub fn proc_name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}
