//! The controllers and their names.

/// The controllers, in the order in which limits are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpuset,
    Pids,
    Memory,
    BlockIo,
    Cpu,
    Hugetlb,
    NetworkClass,
    NetworkPriority,
    Rdma,
}

impl Controller {
    pub(crate) const ALL: [Controller; 9] = [
        Controller::Cpuset,
        Controller::Pids,
        Controller::Memory,
        Controller::BlockIo,
        Controller::Cpu,
        Controller::Hugetlb,
        Controller::NetworkClass,
        Controller::NetworkPriority,
        Controller::Rdma,
    ];

    pub(crate) fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpuset => "cpuset",
            Controller::Pids => "pids",
            Controller::Memory => "memory",
            Controller::BlockIo => "blkio",
            Controller::Cpu => "cpu",
            Controller::Hugetlb => "hugetlb",
            Controller::NetworkClass => "net_cls",
            Controller::NetworkPriority => "net_prio",
            Controller::Rdma => "rdma",
        }
    }

    /// Returns whether the controller works in threaded cgroups (cgroup-v2.rst,
    /// "Threads").
    pub(crate) fn is_threaded(self) -> bool {
        matches!(
            self,
            Controller::Cpu | Controller::Cpuset | Controller::Pids
        )
    }

    /// Returns whether only cgroup v1 has the controller.
    pub(crate) fn is_v1_only(self) -> bool {
        matches!(self, Controller::NetworkClass | Controller::NetworkPriority)
    }

    pub(crate) fn v2_name(self) -> &'static str {
        match self {
            Controller::BlockIo => "io",
            other => other.v1_name(),
        }
    }
}
