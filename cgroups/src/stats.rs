//! What a cgroup used: one type for v1, hybrid and v2.
//!
//! Written as JSON, [`Stats`] has the names and the nesting of what runc prints
//! (`runc events --stats`): engines read that. A file that is missing (no such
//! controller, an older kernel) leaves its numbers at 0, as there. The readers
//! are in `v1` and `v2`, by controller.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Cgroup;
use crate::file::Directory;
use crate::{v1, v2};

/// Everything the kernel counts for a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    pub cpu: CpuStats,
    pub cpuset: CpusetStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    #[serde(rename = "blkio")]
    pub block_io: BlockIoStats,
    /// By page size, as "2MB".
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    #[serde(skip)]
    pub rdma: RdmaStats,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuStats {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time used, in nanoseconds; by processor on v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(rename = "percpu", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu: Vec<u64>,
    #[serde(rename = "percpu_kernel", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu_kernel: Vec<u64>,
    #[serde(rename = "percpu_user", skip_serializing_if = "Vec::is_empty")]
    pub per_cpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// How often, and in sum for how many nanoseconds, the quota was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(rename = "throttledPeriods", skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    #[serde(rename = "throttledTime", skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
    /// How often, and for how long in sum, more was used than the quota (v2,
    /// since kernel 6.1); runc has neither.
    #[serde(skip)]
    pub bursts: u64,
    #[serde(skip)]
    pub burst_time: u64,
}

/// Processors, memory nodes and settings of a v1 cpuset; on v2 only the first
/// two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Pages of files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: MemoryUsage,
    /// Memory and swap together, as v1 counts them.
    pub swap: MemoryUsage,
    /// Swap alone, as v2 counts it; zero on v1, like what else runc does not have.
    #[serde(skip)]
    pub swap_alone: MemoryUsage,
    /// All of memory.events, or of memory.oom_control.
    #[serde(skip)]
    pub events: BTreeMap<String, u64>,
    /// v1 only, like the next.
    pub kernel: MemoryUsage,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryUsage,
    /// All of memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes. No limit is the largest number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most it ever was.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was in the way.
    #[serde(rename = "failcnt")]
    pub failures: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block I/O by device and kind. Only the first two exist on v2; of the others
/// the kernel has most only for debugging the BFQ scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockIoStats {
    /// Bytes.
    #[serde(
        rename = "ioServiceBytesRecursive",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub bytes: Vec<BlockIoEntry>,
    /// Requests.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<BlockIoEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<BlockIoEntry>,
    /// Nanoseconds, as the next.
    #[serde(
        rename = "ioServiceTimeRecursive",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_time: Vec<BlockIoEntry>,
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub wait_time: Vec<BlockIoEntry>,
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<BlockIoEntry>,
    /// Milliseconds.
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<BlockIoEntry>,
    /// Of 512 bytes.
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "Vec::is_empty")]
    pub sectors: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// A number of one device and one kind of request ("Read", "Write" …).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(rename = "op", skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    #[serde(rename = "failcnt")]
    pub failures: u64,
    /// v2 only; runc does not have it.
    #[serde(skip)]
    pub limit: u64,
}

/// What is used, and may be used, of RDMA devices. runc does not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaStats {
    pub current: Vec<RdmaEntry>,
    pub limit: Vec<RdmaEntry>,
}

/// Of one device. No limit is the largest number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    pub device: String,
    pub handles: u32,
    pub objects: u32,
}

/// Pressure stall information: how long some, or all, processes waited for the
/// resource (kernel, accounting/psi.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    pub some: PressureLine,
    pub full: PressureLine,
}

/// Shares of the last seconds in percent, and in all microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// The few numbers for watching many containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time.
    pub cpu: u64,
    /// Bytes, without file pages that have not been used for a while.
    pub memory: u64,
    /// Bytes; none for no limit.
    pub memory_limit: Option<u64>,
    pub pids: u64,
    pub pids_limit: Option<u64>,
    /// Bytes read from and written to block devices.
    pub read: u64,
    pub written: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroup {
    /// Reads everything. Numbers that this kernel does not have, or whose file
    /// cannot be read, are 0.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for member in &self.v1 {
            for controller in &member.controllers {
                v1::stats(controller, &member.directory, &mut stats);
            }
        }
        if let Some(directory) = &self.v2 {
            // On a hybrid host v1 has the numbers, but v2 the pressure.
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

    /// Reads the numbers that are watched, from half a dozen files.
    pub fn usage(&self) -> Usage {
        match &self.v2 {
            Some(directory) if self.v1.is_empty() => v2::usage(directory),
            _ => v1::usage(&|controller| self.v1_directory(controller)),
        }
    }
}

/// A file with one number; "max" is the largest, and what is missing or less
/// than nothing is 0.
pub(crate) fn number(directory: &Directory, file: &str) -> u64 {
    directory.read(file).map_or(0, |text| parse(&text))
}

/// A number as the kernel writes it, by the same rules.
pub(crate) fn parse(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// A file of lines with a name and a number.
pub(crate) fn table(directory: &Directory, file: &str) -> BTreeMap<String, u64> {
    let text = directory.read(file).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, value)| (name.to_owned(), parse(value)))
        .collect()
}

/// The two files of the rdma controller, the same on v1 and v2.
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

/// "mlx4_0 hca_handle=2 hca_object=max".
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

/// The limit behind a number: none if it is as good as none.
pub(crate) fn limit(number: u64) -> Option<u64> {
    // v1 says the largest signed number, rounded down to whole pages.
    (number < 1 << 62).then_some(number)
}

/// A file like cpu.pressure.
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
            let share = || value.parse().unwrap_or(0.0);
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
    fn nothing_is_written_as_runc_writes_it() {
        let nothing = r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{}}"#;
        assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), nothing);
    }

    #[test]
    fn pressure_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4";
        let pressure = pressure(text).unwrap();
        assert_eq!(pressure.some.avg10, 1.5);
        assert_eq!((pressure.some.total, pressure.full.total), (123, 4));
        // Before kernel 5.13 there is no such line for the CPU.
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
