//! The eight kinds of namespace (namespaces(7)).

use nix::sched::CloneFlags;

/// A kind of namespace.
#[non_exhaustive]
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

    /// Returns the kind for a word of the OCI runtime specification
    /// (config-linux.md, "Namespaces").
    pub fn from_spec(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.spec_name() == word)
    }

    /// Returns the specification's word for the kind.
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

    /// Returns the `CLONE_NEW*` flag for clone(2), unshare(2) and setns(2).
    pub fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            // nix has no CLONE_NEWTIME (Linux 5.6).
            Kind::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}
