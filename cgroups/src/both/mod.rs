//! The controllers, or parts of them, that cgroup v1 and v2 have alike: only names of files
//! may differ.

pub(crate) mod cpu;
pub(crate) mod hugetlb;
pub(crate) mod pids;
pub(crate) mod rdma;
