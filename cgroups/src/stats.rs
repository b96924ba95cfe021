//! Statistics of a cgroup, in one type for v1, hybrid and v2 hosts.
//!
//! [`Cgroup::stats`] asks `v1` or `v2` to read the files of each controller, and adds
//! the pressure. As JSON, [`Stats`] has the names and the nesting of `runc events
//! --stats`, which engines read. If a file is missing, because the controller or the
//! kernel does not have it, its numbers are 0, as with runc.
//!
//! The module holds the types and the parsers that v1 and v2 share. Which file a number
//! is in is known to `v1::stats` and `v2::stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Cgroup;
use crate::directory::Directory;
use crate::{v1, v2};

/// The statistics of a container's cgroup.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Processors and memory nodes.
    pub cpuset: CpusetStats,
    /// Memory and swap.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block I/O.
    #[serde(rename = "blkio")]
    pub block_io: BlockIoStats,
    /// Huge pages, by page size such as "2MB".
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// RDMA devices. Not in the JSON, because runc does not have them.
    #[serde(skip)]
    pub rdma: RdmaStats,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// The time used.
    pub usage: CpuUsage,
    /// The effect of the quota.
    pub throttling: Throttling,
    /// The pressure, if the kernel measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processor time used, in nanoseconds. The lists are by processor and empty on v2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// Time in all.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// Time on each processor.
    #[serde(rename = "percpu", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu: Vec<u64>,
    /// Time in the kernel on each processor.
    #[serde(rename = "percpu_kernel", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu_kernel: Vec<u64>,
    /// Time in programs on each processor.
    #[serde(rename = "percpu_user", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu_user: Vec<u64>,
    /// Time in the kernel.
    pub kernel: u64,
    /// Time in programs.
    pub user: u64,
}

/// The effect of the CPU quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// The number of periods that have passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// The number of periods in which the quota was used up.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// The time that processes had to wait, in nanoseconds.
    #[serde(rename = "throttledTime", skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
    /// The number of periods in which more than the quota was used (v2, since
    /// kernel 6.1). Not in the JSON, because runc does not have it.
    #[serde(skip)]
    pub bursts: u64,
    /// The time used beyond the quota, in nanoseconds. Not in the JSON either.
    #[serde(skip)]
    pub burst_time: u64,
}

/// Processors, memory nodes and settings of a cpuset (cpuset(7)). On v2 only `cpus` and
/// `mems` are set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpusetStats {
    /// The processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    /// cpuset.cpu_exclusive.
    pub cpu_exclusive: u64,
    /// The memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    /// cpuset.mem_hardwall.
    pub mem_hardwall: u64,
    /// cpuset.mem_exclusive.
    pub mem_exclusive: u64,
    /// cpuset.memory_migrate.
    pub memory_migrate: u64,
    /// cpuset.memory_spread_page.
    pub memory_spread_page: u64,
    /// cpuset.memory_spread_slab.
    pub memory_spread_slab: u64,
    /// cpuset.memory_pressure.
    pub memory_pressure: u64,
    /// cpuset.sched_load_balance.
    pub sched_load_balance: u64,
    /// cpuset.sched_relax_domain_level.
    pub sched_relax_domain_level: i64,
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// The page cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryUsage,
    /// Memory plus swap, which v1 counts together.
    pub swap: MemoryUsage,
    /// Swap alone, which only v2 counts. Not in the JSON, because runc does not have it.
    #[serde(skip)]
    pub swap_alone: MemoryUsage,
    /// The lines of memory.events on v2, of memory.oom_control on v1. Not in the JSON.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
    /// Kernel memory; v1 only.
    pub kernel: MemoryUsage,
    /// Kernel memory of TCP buffers; v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUsage,
    /// The lines of memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// The pressure, if the kernel measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// The limit; `u64::MAX` if there is no limit.
    pub limit: u64,
    /// The memory in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most memory that was ever in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    #[serde(rename = "failcnt")]
    pub failures: u64,
}

/// The number of processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    /// The processes and threads that exist.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// The limit; 0 if there is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block I/O by device and operation. On v2 only `bytes` and `requests` are set. On v1,
/// kernels have most of the others only with debugging of the BFQ scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockIoStats {
    /// Bytes transferred.
    #[serde(
        rename = "ioServiceBytesRecursive",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bytes: Vec<BlockIoEntry>,
    /// Requests completed.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<BlockIoEntry>,
    /// Requests waiting.
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<BlockIoEntry>,
    /// The time in which requests were served, in nanoseconds.
    #[serde(
        rename = "ioServiceTimeRecursive",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_time: Vec<BlockIoEntry>,
    /// The time in which requests waited, in nanoseconds.
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub wait_time: Vec<BlockIoEntry>,
    /// Requests merged into others.
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<BlockIoEntry>,
    /// Disk time, in milliseconds.
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<BlockIoEntry>,
    /// Sectors of 512 bytes transferred.
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "Vec::is_empty")]
    pub sectors: Vec<BlockIoEntry>,
    /// The pressure, if the kernel measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A number of one block device and one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// The operation, such as "Read"; empty in files that do not distinguish them.
    #[serde(rename = "op", skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    /// The memory in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most memory that was ever in use; v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was hit.
    #[serde(rename = "failcnt")]
    pub failures: u64,
    /// The limit; v2 only. Not in the JSON, because runc does not have it.
    #[serde(skip)]
    pub limit: u64,
}

/// Usage and limits of RDMA devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    /// The handles and objects in use.
    pub current: Vec<RdmaEntry>,
    /// The limits.
    pub limit: Vec<RdmaEntry>,
}

/// The numbers of one RDMA device. `u32::MAX` means that there is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    /// The device's name, such as "mlx5_1".
    pub device: String,
    /// HCA handles.
    pub handles: u32,
    /// HCA objects.
    pub objects: u32,
}

/// Pressure stall information: the time that processes waited for a resource (kernel,
/// accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Time in which at least one process waited.
    pub some: PressureLine,
    /// Time in which all processes waited.
    pub full: PressureLine,
}

/// The time that processes waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PressureLine {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last 60 seconds.
    pub avg60: f64,
    /// Percent of the last 300 seconds.
    pub avg300: f64,
    /// The time in all, in microseconds.
    pub total: u64,
}

/// The few numbers that a monitor of many containers reads often.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, in nanoseconds.
    pub cpu: u64,
    /// Memory in bytes, without inactive file pages.
    pub memory: u64,
    /// The memory limit in bytes; `None` if there is no limit.
    pub memory_limit: Option<u64>,
    /// The number of processes and threads.
    pub pids: u64,
    /// The limit for processes and threads; `None` if there is no limit.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to block devices.
    pub written: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroup {
    /// Reads all statistics. A number whose file does not exist or cannot be read is 0.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for member in &self.v1 {
            for controller in &member.controllers {
                v1::stats(controller, &member.directory, &mut stats);
            }
        }
        if let Some(directory) = &self.v2 {
            // On a hybrid host, v1 has the numbers and v2 has the pressure.
            if self.v1.is_empty() {
                v2::stats(directory, &mut stats);
            }
            let pressure = |file| directory.read(file).ok().as_deref().and_then(pressure);
            stats.cpu.psi = pressure("cpu.pressure");
            stats.memory.psi = pressure("memory.pressure");
            stats.block_io.psi = pressure("io.pressure");
        }
        stats
    }

    /// Reads the numbers of [`Usage`], which are in half a dozen files.
    pub fn usage(&self) -> Usage {
        match &self.v2 {
            Some(directory) if self.v1.is_empty() => v2::usage(directory),
            _ => v1::usage(&|controller| self.v1_directory(controller)),
        }
    }
}

/// Reads a file that holds one number, as [`parse`] does. Returns 0 if the file cannot
/// be read.
pub(crate) fn number(directory: &Directory, file: &str) -> u64 {
    directory.read(file).map_or(0, |text| parse(&text))
}

/// Parses a number of the kernel. "max" is `u64::MAX`; a negative number, or text that
/// is not a number, is 0.
pub(crate) fn parse(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// Reads a file of lines, each with a name and a number.
pub(crate) fn table(directory: &Directory, file: &str) -> BTreeMap<String, u64> {
    let text = directory.read(file).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, value)| (name.to_owned(), parse(value)))
        .collect()
}

/// Reads the two files of the rdma controller, which v1 and v2 share.
pub(crate) fn rdma(directory: &Directory) -> RdmaStats {
    let entries = |file| {
        let text = directory.read(file).unwrap_or_default();
        text.lines().filter_map(rdma_entry).collect()
    };
    RdmaStats {
        current: entries("rdma.current"),
        limit: entries("rdma.max"),
    }
}

/// Parses a line such as "mlx4_0 hca_handle=2 hca_object=max".
fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let device = words.next()?.to_owned();
    let mut entry = RdmaEntry {
        device,
        ..RdmaEntry::default()
    };
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let value = u32::try_from(parse(value)).unwrap_or(u32::MAX);
        match name {
            "hca_handle" => entry.handles = value,
            "hca_object" => entry.objects = value,
            _ => {}
        }
    }
    Some(entry)
}

/// Returns a limit, or `None` if the number means that there is no limit.
pub(crate) fn limit(number: u64) -> Option<u64> {
    // On v1, no limit is the largest signed number, rounded down to whole pages.
    (number < 1 << 62).then_some(number)
}

/// Parses a file such as cpu.pressure.
fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let place = match words.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            // "NaN" is a number to Rust, and null in JSON.
            let number = value.parse().ok().filter(|number: &f64| number.is_finite());
            let share = || number.unwrap_or(0.0);
            match name {
                "avg10" => place.avg10 = share(),
                "avg60" => place.avg60 = share(),
                "avg300" => place.avg300 = share(),
                "total" => place.total = parse(value),
                _ => {}
            }
        }
    }
    Some(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_statistics_have_the_json_of_runc() {
        let nothing = r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{}}"#;
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), nothing);
    }

    #[test]
    fn pressure_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.75 total=123\n\
                    full avg10=2.00 avg60=3.00 avg300=4.25 total=4\n";
        let pressure = pressure(text).unwrap();
        let line = |avg10, avg60, avg300, total| PressureLine {
            avg10,
            avg60,
            avg300,
            total,
        };
        assert_eq!(pressure.some, line(1.5, 0.25, 0.75, 123));
        assert_eq!(pressure.full, line(2.0, 3.0, 4.25, 4));
        // Before kernel 5.13, cpu.pressure has no line "full".
        assert_eq!(
            super::pressure("some avg10=1.50").unwrap().full,
            PressureLine::default()
        );
    }

    #[test]
    fn rdma_lines() {
        let entry = RdmaEntry {
            device: "mlx4_0".to_owned(),
            handles: 2,
            objects: u32::MAX,
        };
        assert_eq!(
            rdma_entry("mlx4_0 hca_handle=2 hca_object=max"),
            Some(entry)
        );
        assert_eq!(rdma_entry(""), None);
    }

    #[test]
    fn numbers() {
        for (text, value) in [("12\n", 12), ("max", u64::MAX), ("-1", 0), ("", 0)] {
            assert_eq!(parse(text), value, "{text:?}");
        }
        assert_eq!(limit(9_223_372_036_854_771_712), None);
        assert_eq!(limit(1 << 40), Some(1 << 40));
    }
}
