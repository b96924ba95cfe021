//! The limits of a cgroup as plain data: the values of the runtime specification's
//! `linux.resources`.
//!
//! The numbers follow the specification's conventions. `None` leaves the kernel's value
//! unchanged, as does 0 where runc treats it so; -1 removes a limit. There is no field
//! that is ignored on both cgroup versions.
//!
//! The crate `teu-cgroups` turns limits into writes to files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::device_rule::DeviceRule;

/// All limits of one container. In the JSON, limits that are not set are left out;
/// `devices` is always there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Processor time, processors and memory nodes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu: CpuLimits,
    /// Memory and swap.
    #[serde(default, skip_serializing_if = "is_default")]
    pub memory: MemoryLimits,
    /// The number of processes and threads. A negative number removes the limit; 0
    /// means 1, as with runc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// Block I/O.
    #[serde(default, skip_serializing_if = "is_default")]
    pub block_io: BlockIoLimits,
    /// Huge pages, by page size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hugetlb: Vec<HugepageLimit>,
    /// Network class and priorities.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkLimits,
    /// RDMA, by device name such as "mlx5_1".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, RdmaLimit>,
    /// Files of cgroup v2 by name. Each line of a value is written on its own. They are
    /// written after all other limits, so that they override them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
    /// The device rules, in the specification's order. `None` does not restrict devices:
    /// for a rootless user and in a user namespace, because the kernel would refuse.
    #[serde(with = "crate::saved_rules")]
    pub devices: Option<Vec<DeviceRule>>,
}

/// Limits of processor time, processors and memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CpuLimits {
    /// The share relative to other cgroups, 2 to 262144. 0 means not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// The processor time in each period, in microseconds. A negative number removes the
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// The length of a period, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// The unused quota that may be saved for later periods, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// 1: run only when no other process wants to run (SCHED_IDLE), since kernel 5.15.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
    /// The real-time budget of each real-time period, in microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The length of a real-time period, in microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The processors, such as "0-3,7". Empty means not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// The memory nodes, such as "0-1". Empty means not set.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mems: String,
}

/// Limits of memory and swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MemoryLimits {
    /// The memory limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft limit (v1) or the protected amount (v2, `memory.low`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// The limit of memory plus swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// How readily the kernel swaps, 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Let processes wait for memory instead of killing them; cgroup v1 only.
    #[serde(skip_serializing_if = "is_default")]
    pub disable_oom_killer: bool,
    /// Refuse a limit below the memory in use; otherwise the kernel kills processes to
    /// reach it.
    #[serde(skip_serializing_if = "is_default")]
    pub check_before_update: bool,
}

/// Limits of block I/O.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BlockIoLimits {
    /// The weight relative to other cgroups, 10 to 1000. 0 means not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own processes relative to cgroups below it; cgroup v1
    /// before kernel 5.0 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights for single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<DeviceWeight>,
    /// Bytes read per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps: Vec<DeviceRate>,
    /// Bytes written per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps: Vec<DeviceRate>,
    /// Read operations per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_iops: Vec<DeviceRate>,
    /// Write operations per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_iops: Vec<DeviceRate>,
}

/// The weights of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// The device's major number.
    pub major: i64,
    /// The device's minor number.
    pub minor: i64,
    /// As [`BlockIoLimits::weight`].
    pub weight: Option<u16>,
    /// As [`BlockIoLimits::leaf_weight`].
    pub leaf_weight: Option<u16>,
}

/// The maximum rate of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's major number.
    pub major: i64,
    /// The device's minor number.
    pub minor: i64,
    /// Bytes or operations per second. 0 removes the limit.
    pub rate: u64,
}

/// The limit of huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// The page size, such as "2MB" or "1GB".
    pub page_size: String,
    /// The limit in bytes.
    pub limit: u64,
}

/// The class and the priorities of network packets; cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkLimits {
    /// The class of packets. 0 means not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Interface names, each with the priority of its packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<(String, u32)>,
}

/// The limits of one RDMA device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaLimit {
    /// The number of HCA handles.
    pub hca_handles: Option<u32>,
    /// The number of HCA objects.
    pub hca_objects: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
