//! `io.containerd.cgroups.v1.Metrics`. Times are nanoseconds.

use std::collections::BTreeMap;
use std::fs;

use teu_cgroups::Stats;
use teu_cgroups::stats::{self, BlockIoEntry, BlockIoStats, MemoryUsage, RdmaStats};

use super::table;
use crate::proto::named;

named!("io.containerd.cgroups.v1": Metrics);

/// All statistics. `network` (7) and `cgroup_stats` (8) are never set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    /// Huge pages, by size.
    #[prost(message, repeated, tag = "1")]
    pub hugetlb: Vec<HugetlbStat>,
    /// Processes and threads.
    #[prost(message, optional, tag = "2")]
    pub pids: Option<PidsStat>,
    /// CPU time.
    #[prost(message, optional, tag = "3")]
    pub cpu: Option<CpuStat>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<MemoryStat>,
    /// Block I/O.
    #[prost(message, optional, tag = "5")]
    pub blkio: Option<BlkIoStat>,
    /// RDMA devices.
    #[prost(message, optional, tag = "6")]
    pub rdma: Option<RdmaStat>,
    /// The OOM killer.
    #[prost(message, optional, tag = "9")]
    pub memory_oom_control: Option<MemoryOomControl>,
}

/// Huge pages of one size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HugetlbStat {
    /// The bytes in use.
    #[prost(uint64, tag = "1")]
    pub usage: u64,
    /// The maximum of `usage` so far.
    #[prost(uint64, tag = "2")]
    pub max: u64,
    /// How often the limit was reached.
    #[prost(uint64, tag = "3")]
    pub failcnt: u64,
    /// The size of the pages, such as "2MB".
    #[prost(string, tag = "4")]
    pub pagesize: String,
}

/// The number of processes and threads. A limit of 0 means no limit, unlike in v2.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PidsStat {
    /// The number of processes and threads.
    #[prost(uint64, tag = "1")]
    pub current: u64,
    /// The limit.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// CPU time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuStat {
    /// The time used.
    #[prost(message, optional, tag = "1")]
    pub usage: Option<CpuUsage>,
    /// The effect of the quota.
    #[prost(message, optional, tag = "2")]
    pub throttling: Option<Throttle>,
}

/// CPU time used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuUsage {
    /// The total time.
    #[prost(uint64, tag = "1")]
    pub total: u64,
    /// The time in the kernel.
    #[prost(uint64, tag = "2")]
    pub kernel: u64,
    /// The time in user space.
    #[prost(uint64, tag = "3")]
    pub user: u64,
    /// The total time on each processor.
    #[prost(uint64, repeated, tag = "4")]
    pub per_cpu: Vec<u64>,
}

/// Throttling by the CPU quota.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Throttle {
    /// The number of periods that have passed.
    #[prost(uint64, tag = "1")]
    pub periods: u64,
    /// The number of periods in which the quota was used up.
    #[prost(uint64, tag = "2")]
    pub throttled_periods: u64,
    /// The time for which processes were throttled.
    #[prost(uint64, tag = "3")]
    pub throttled_time: u64,
}

table! {
    /// The contents of memory.stat, and of files with one number each.
    MemoryStat {
        cache = "1" "cache",
        rss = "2" "rss",
        rss_huge = "3" "rss_huge",
        mapped_file = "4" "mapped_file",
        dirty = "5" "dirty",
        writeback = "6" "writeback",
        pg_pg_in = "7" "pgpgin",
        pg_pg_out = "8" "pgpgout",
        pg_fault = "9" "pgfault",
        pg_maj_fault = "10" "pgmajfault",
        inactive_anon = "11" "inactive_anon",
        active_anon = "12" "active_anon",
        inactive_file = "13" "inactive_file",
        active_file = "14" "active_file",
        unevictable = "15" "unevictable",
        hierarchical_memory_limit = "16" "hierarchical_memory_limit",
        hierarchical_swap_limit = "17" "hierarchical_memsw_limit",
        total_cache = "18" "total_cache",
        total_rss = "19" "total_rss",
        total_rss_huge = "20" "total_rss_huge",
        total_mapped_file = "21" "total_mapped_file",
        total_dirty = "22" "total_dirty",
        total_writeback = "23" "total_writeback",
        total_pg_pg_in = "24" "total_pgpgin",
        total_pg_pg_out = "25" "total_pgpgout",
        total_pg_fault = "26" "total_pgfault",
        total_pg_maj_fault = "27" "total_pgmajfault",
        total_inactive_anon = "28" "total_inactive_anon",
        total_active_anon = "29" "total_active_anon",
        total_inactive_file = "30" "total_inactive_file",
        total_active_file = "31" "total_active_file",
        total_unevictable = "32" "total_unevictable",
    } and {
        /// Memory.
        #[prost(message, optional, tag = "33")]
        pub usage: Option<MemoryEntry>,
        /// Memory and swap.
        #[prost(message, optional, tag = "34")]
        pub swap: Option<MemoryEntry>,
        /// Memory of the kernel.
        #[prost(message, optional, tag = "35")]
        pub kernel: Option<MemoryEntry>,
        /// TCP buffers of the kernel.
        #[prost(message, optional, tag = "36")]
        pub kernel_tcp: Option<MemoryEntry>,
    }
}

/// The usage of one kind of memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemoryEntry {
    /// The limit in bytes.
    #[prost(uint64, tag = "1")]
    pub limit: u64,
    /// The bytes in use.
    #[prost(uint64, tag = "2")]
    pub usage: u64,
    /// The maximum of `usage` so far.
    #[prost(uint64, tag = "3")]
    pub max: u64,
    /// How often the limit was reached.
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

table! {
    /// The contents of memory.oom_control.
    MemoryOomControl {
        oom_kill_disable = "1" "oom_kill_disable",
        under_oom = "2" "under_oom",
        oom_kill = "3" "oom_kill",
    } and {}
}

/// Block I/O.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BlkIoStat {
    /// The bytes transferred.
    #[prost(message, repeated, tag = "1")]
    pub io_service_bytes_recursive: Vec<BlkIoEntry>,
    /// The number of requests.
    #[prost(message, repeated, tag = "2")]
    pub io_serviced_recursive: Vec<BlkIoEntry>,
    /// The number of queued requests.
    #[prost(message, repeated, tag = "3")]
    pub io_queued_recursive: Vec<BlkIoEntry>,
    /// The time from the dispatch of requests to their completion.
    #[prost(message, repeated, tag = "4")]
    pub io_service_time_recursive: Vec<BlkIoEntry>,
    /// The time that requests waited in queues.
    #[prost(message, repeated, tag = "5")]
    pub io_wait_time_recursive: Vec<BlkIoEntry>,
    /// The number of merged requests.
    #[prost(message, repeated, tag = "6")]
    pub io_merged_recursive: Vec<BlkIoEntry>,
    /// The time for which the device was allocated.
    #[prost(message, repeated, tag = "7")]
    pub io_time_recursive: Vec<BlkIoEntry>,
    /// The number of sectors transferred.
    #[prost(message, repeated, tag = "8")]
    pub sectors_recursive: Vec<BlkIoEntry>,
}

/// A count for one device and one kind of request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BlkIoEntry {
    /// The kind of request, such as "Read".
    #[prost(string, tag = "1")]
    pub op: String,
    /// The path of the device, such as "/dev/vda".
    #[prost(string, tag = "2")]
    pub device: String,
    /// The major number of the device.
    #[prost(uint64, tag = "3")]
    pub major: u64,
    /// The minor number of the device.
    #[prost(uint64, tag = "4")]
    pub minor: u64,
    /// The count.
    #[prost(uint64, tag = "5")]
    pub value: u64,
}

/// RDMA devices.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RdmaStat {
    /// The objects in use.
    #[prost(message, repeated, tag = "1")]
    pub current: Vec<RdmaEntry>,
    /// The limits.
    #[prost(message, repeated, tag = "2")]
    pub limit: Vec<RdmaEntry>,
}

/// One RDMA device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RdmaEntry {
    /// The name of the device.
    #[prost(string, tag = "1")]
    pub device: String,
    /// The number of handles.
    #[prost(uint32, tag = "2")]
    pub hca_handles: u32,
    /// The number of objects.
    #[prost(uint32, tag = "3")]
    pub hca_objects: u32,
}

impl From<Stats> for Metrics {
    fn from(stats: Stats) -> Metrics {
        let Stats {
            cpu,
            memory,
            pids,
            block_io,
            hugetlb,
            rdma,
            ..
        } = stats;
        let hugetlb = hugetlb.into_iter().map(|(pagesize, stats)| HugetlbStat {
            usage: stats.usage,
            max: stats.max,
            failcnt: stats.failures,
            pagesize,
        });
        Metrics {
            hugetlb: hugetlb.collect(),
            pids: Some(PidsStat {
                current: pids.current,
                limit: pids.limit,
            }),
            cpu: Some(CpuStat {
                usage: Some(CpuUsage {
                    total: cpu.usage.total,
                    kernel: cpu.usage.kernel,
                    user: cpu.usage.user,
                    per_cpu: cpu.usage.per_cpu,
                }),
                throttling: Some(Throttle {
                    periods: cpu.throttling.periods,
                    throttled_periods: cpu.throttling.throttled_periods,
                    throttled_time: cpu.throttling.throttled_time,
                }),
            }),
            memory_oom_control: Some(MemoryOomControl::from_table(&memory.events)),
            memory: Some(MemoryStat {
                usage: Some(memory.usage.into()),
                swap: Some(memory.swap.into()),
                kernel: Some(memory.kernel.into()),
                kernel_tcp: Some(memory.kernel_tcp.into()),
                ..MemoryStat::from_table(&memory.raw)
            }),
            blkio: Some(block_io.into()),
            rdma: Some(rdma.into()),
        }
    }
}

impl From<MemoryUsage> for MemoryEntry {
    fn from(usage: MemoryUsage) -> MemoryEntry {
        MemoryEntry {
            limit: usage.limit,
            usage: usage.usage,
            max: usage.max,
            failcnt: usage.failures,
        }
    }
}

impl From<RdmaStats> for RdmaStat {
    fn from(stats: RdmaStats) -> RdmaStat {
        let entries = |entries: Vec<stats::RdmaEntry>| {
            let entries = entries.into_iter().map(|entry| RdmaEntry {
                device: entry.device,
                hca_handles: entry.handles,
                hca_objects: entry.objects,
            });
            entries.collect()
        };
        RdmaStat {
            current: entries(stats.current),
            limit: entries(stats.limit),
        }
    }
}

impl From<BlockIoStats> for BlkIoStat {
    fn from(stats: BlockIoStats) -> BlkIoStat {
        // If the names cannot be read, the entries have no names.
        let names = device_names(&fs::read_to_string("/proc/partitions").unwrap_or_default());
        let entries = |entries: Vec<BlockIoEntry>| {
            let entries = entries.into_iter().map(|entry| BlkIoEntry {
                device: names
                    .get(&(entry.major, entry.minor))
                    .cloned()
                    .unwrap_or_default(),
                op: entry.operation,
                major: entry.major,
                minor: entry.minor,
                value: entry.value,
            });
            entries.collect()
        };
        BlkIoStat {
            io_service_bytes_recursive: entries(stats.bytes),
            io_serviced_recursive: entries(stats.requests),
            io_queued_recursive: entries(stats.queued),
            io_service_time_recursive: entries(stats.service_time),
            io_wait_time_recursive: entries(stats.wait_time),
            io_merged_recursive: entries(stats.merged),
            io_time_recursive: entries(stats.time),
            sectors_recursive: entries(stats.sectors),
        }
    }
}

/// Parses the device names in /proc/partitions: two lines of heading, then lines such as
/// "254 0 268435456 vda".
fn device_names(partitions: &str) -> BTreeMap<(u64, u64), String> {
    let lines = partitions.lines().skip(2);
    let devices = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(((major, minor), format!("/dev/{}", words.nth(1)?)))
    });
    devices.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_names() {
        let text = "major minor  #blocks  name\n\n 254        0  268435456 vda\n   7  0 4 loop0\n";
        let names = device_names(text);
        assert_eq!(names[&(254, 0)], "/dev/vda");
        assert_eq!(names[&(7, 0)], "/dev/loop0");
    }
}
