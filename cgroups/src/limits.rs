//! What may be asked of a cgroup: `linux.resources` as plain data.
//!
//! Not for how it is written; see `v1` and `v2`. A field exists here only if
//! it works. For numbers, the spec's own conventions hold: `None` and, where
//! runc takes it so, 0 leave the kernel's value alone; -1 lifts a limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::devices::DeviceRule;

/// All limits of one container. As JSON, what is not set is left out,
/// but never the devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu: CpuLimits,
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: MemoryLimits,
    /// Number of processes and threads; negative lifts the limit, 0 means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub block_io: BlockIoLimits,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hugetlb: Vec<HugepageLimit>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkLimits,
    /// By device name, as "mlx5_1".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// cgroup v2 files by name, each value written line by line; last of all,
    /// so that they override the rest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
    /// Which devices may be used, in the order of the spec. `None` leaves
    /// devices alone: for a rootless user, or in a user namespace, where the
    /// kernel would refuse.
    #[serde(with = "crate::devices::saved")]
    pub devices: Option<Vec<DeviceRule>>,
}

/// `linux.resources.cpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CpuLimits {
    /// 2 to 262144; 0 is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Microseconds per period; negative lifts the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Microseconds that may be saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// 1: run only when nothing else wants to (SCHED_IDLE), since kernel 5.15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
    /// Microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// Microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// As "0-3,7"; empty is not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// Memory nodes, as "0-1"; empty is not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mems: String,
}

/// `linux.resources.memory`, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemoryLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Soft limit (v1) or protected amount (v2, `memory.low`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory plus swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "is_default")]
    pub disable_oom_killer: bool,
    /// Refuse a limit below what is in use instead of making the kernel kill.
    #[serde(skip_serializing_if = "is_default")]
    pub check_before_update: bool,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIoLimits {
    /// 10 to 1000; 0 is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// cgroup v1 before kernel 5.0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<DeviceWeight>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps: Vec<DeviceRate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps: Vec<DeviceRate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_iops: Vec<DeviceRate>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_iops: Vec<DeviceRate>,
}

/// A block device's share of the I/O.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    pub major: i64,
    pub minor: i64,
    pub weight: Option<u16>,
    /// cgroup v1 before kernel 5.0 only.
    pub leaf_weight: Option<u16>,
}

/// A block device's largest rate, in bytes or operations per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    pub major: i64,
    pub minor: i64,
    /// 0 lifts the limit.
    pub rate: u64,
}

/// `linux.resources.hugepageLimits[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// As "2MB" or "1GB".
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// `linux.resources.network`; cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkLimits {
    /// 0 is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Interface name and priority.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<(String, u32)>,
}

/// `linux.resources.rdma`, one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    pub hca_handles: Option<u32>,
    pub hca_objects: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The controllers that limits are written to, in the order of writing.
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

    /// Whether threads of one process may differ in it (cgroup-v2.rst,
    /// "Threads").
    pub(crate) fn is_threaded(self) -> bool {
        matches!(
            self,
            Controller::Cpu | Controller::Cpuset | Controller::Pids
        )
    }

    /// Whether cgroup v2 has nothing of the kind.
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
