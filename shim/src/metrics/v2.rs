//! `io.containerd.cgroups.v2.Metrics`. Times are microseconds.

use std::collections::BTreeMap;

use teu_cgroups::Stats;
use teu_cgroups::stats::{BlockIoStats, CpuStats, MemoryStats, Pressure, PressureLine};

use super::table;
use super::v1::RdmaStat;
use crate::proto::named;

const NANOSECONDS: u64 = 1000;

named!("io.containerd.cgroups.v2": Metrics);

/// All statistics. `network` (9) is never set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    /// Processes and threads.
    #[prost(message, optional, tag = "1")]
    pub pids: Option<PidsStat>,
    /// CPU time.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuStat>,
    /// Memory.
    #[prost(message, optional, tag = "4")]
    pub memory: Option<MemoryStat>,
    /// RDMA devices, in v1's message.
    #[prost(message, optional, tag = "5")]
    pub rdma: Option<RdmaStat>,
    /// Block I/O.
    #[prost(message, optional, tag = "6")]
    pub io: Option<IoStat>,
    /// Huge pages, by size.
    #[prost(message, repeated, tag = "7")]
    pub hugetlb: Vec<HugeTlbStat>,
    /// Events of the memory limits.
    #[prost(message, optional, tag = "8")]
    pub memory_events: Option<MemoryEvents>,
}

/// The number of processes and threads. Here and below, the largest number means no limit.
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
    /// The total time.
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
    /// The time in user space.
    #[prost(uint64, tag = "2")]
    pub user_usec: u64,
    /// The time in the kernel.
    #[prost(uint64, tag = "3")]
    pub system_usec: u64,
    /// The number of periods that have passed.
    #[prost(uint64, tag = "4")]
    pub nr_periods: u64,
    /// The number of periods in which the quota was used up.
    #[prost(uint64, tag = "5")]
    pub nr_throttled: u64,
    /// The time for which processes were throttled.
    #[prost(uint64, tag = "6")]
    pub throttled_usec: u64,
    /// Pressure on the processors.
    #[prost(message, optional, tag = "7")]
    pub psi: Option<PsiStats>,
    /// The number of periods with a burst.
    #[prost(uint64, tag = "8")]
    pub nr_bursts: u64,
    /// The time used in bursts.
    #[prost(uint64, tag = "9")]
    pub burst_usec: u64,
}

table! {
    /// The contents of memory.stat, and of files with one number each.
    MemoryStat {
        anon = "1" "anon",
        file = "2" "file",
        kernel_stack = "3" "kernel_stack",
        slab = "4" "slab",
        sock = "5" "sock",
        shmem = "6" "shmem",
        file_mapped = "7" "file_mapped",
        file_dirty = "8" "file_dirty",
        file_writeback = "9" "file_writeback",
        anon_thp = "10" "anon_thp",
        inactive_anon = "11" "inactive_anon",
        active_anon = "12" "active_anon",
        inactive_file = "13" "inactive_file",
        active_file = "14" "active_file",
        unevictable = "15" "unevictable",
        slab_reclaimable = "16" "slab_reclaimable",
        slab_unreclaimable = "17" "slab_unreclaimable",
        pgfault = "18" "pgfault",
        pgmajfault = "19" "pgmajfault",
        workingset_refault = "20" "workingset_refault",
        workingset_activate = "21" "workingset_activate",
        workingset_nodereclaim = "22" "workingset_nodereclaim",
        pgrefill = "23" "pgrefill",
        pgscan = "24" "pgscan",
        pgsteal = "25" "pgsteal",
        pgactivate = "26" "pgactivate",
        pgdeactivate = "27" "pgdeactivate",
        pglazyfree = "28" "pglazyfree",
        pglazyfreed = "29" "pglazyfreed",
        thp_fault_alloc = "30" "thp_fault_alloc",
        thp_collapse_alloc = "31" "thp_collapse_alloc",
    } and {
        /// The bytes in use.
        #[prost(uint64, tag = "32")]
        pub usage: u64,
        /// The limit of `usage`.
        #[prost(uint64, tag = "33")]
        pub usage_limit: u64,
        /// The bytes of swap in use.
        #[prost(uint64, tag = "34")]
        pub swap_usage: u64,
        /// The limit of `swap_usage`.
        #[prost(uint64, tag = "35")]
        pub swap_limit: u64,
        /// The maximum of `usage` so far.
        #[prost(uint64, tag = "36")]
        pub max_usage: u64,
        /// The maximum of `swap_usage` so far.
        #[prost(uint64, tag = "37")]
        pub swap_max_usage: u64,
        /// Pressure on memory.
        #[prost(message, optional, tag = "38")]
        pub psi: Option<PsiStats>,
    }
}

table! {
    /// The contents of memory.events.
    MemoryEvents {
        low = "1" "low",
        high = "2" "high",
        max = "3" "max",
        oom = "4" "oom",
        oom_kill = "5" "oom_kill",
        oom_group_kill = "6" "oom_group_kill",
    } and {}
}

/// Block I/O.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IoStat {
    /// The counts of each device.
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<IoEntry>,
    /// Pressure on I/O.
    #[prost(message, optional, tag = "2")]
    pub psi: Option<PsiStats>,
}

/// Block I/O of one device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IoEntry {
    /// The major number of the device.
    #[prost(uint64, tag = "1")]
    pub major: u64,
    /// The minor number of the device.
    #[prost(uint64, tag = "2")]
    pub minor: u64,
    /// The bytes read.
    #[prost(uint64, tag = "3")]
    pub rbytes: u64,
    /// The bytes written.
    #[prost(uint64, tag = "4")]
    pub wbytes: u64,
    /// The number of reads.
    #[prost(uint64, tag = "5")]
    pub rios: u64,
    /// The number of writes.
    #[prost(uint64, tag = "6")]
    pub wios: u64,
}

/// Huge pages of one size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HugeTlbStat {
    /// The bytes in use.
    #[prost(uint64, tag = "1")]
    pub current: u64,
    /// The limit.
    #[prost(uint64, tag = "2")]
    pub max: u64,
    /// The size of the pages, such as "2MB".
    #[prost(string, tag = "3")]
    pub pagesize: String,
    /// How often the limit was reached.
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

/// Pressure stall information of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PsiStats {
    /// The time in which some processes waited.
    #[prost(message, optional, tag = "1")]
    pub some: Option<PsiData>,
    /// The time in which all processes waited.
    #[prost(message, optional, tag = "2")]
    pub full: Option<PsiData>,
}

/// A line of pressure stall information.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PsiData {
    /// The average of the last 10 seconds, in percent.
    #[prost(double, tag = "1")]
    pub avg10: f64,
    /// The average of the last 60 seconds, in percent.
    #[prost(double, tag = "2")]
    pub avg60: f64,
    /// The average of the last 300 seconds, in percent.
    #[prost(double, tag = "3")]
    pub avg300: f64,
    /// The total time.
    #[prost(uint64, tag = "4")]
    pub total: u64,
}

impl From<Stats> for Metrics {
    fn from(stats: Stats) -> Metrics {
        let hugetlb = stats
            .hugetlb
            .into_iter()
            .map(|(pagesize, stats)| HugeTlbStat {
                current: stats.usage,
                max: stats.limit,
                pagesize,
                failcnt: stats.failures,
            });
        Metrics {
            pids: Some(PidsStat {
                current: stats.pids.current,
                limit: match stats.pids.limit {
                    0 => u64::MAX,
                    limit => limit,
                },
            }),
            cpu: Some(stats.cpu.into()),
            memory_events: Some(MemoryEvents::from_table(&stats.memory.events)),
            memory: Some(stats.memory.into()),
            rdma: Some(stats.rdma.into()),
            io: Some(stats.block_io.into()),
            hugetlb: hugetlb.collect(),
        }
    }
}

impl From<CpuStats> for CpuStat {
    fn from(stats: CpuStats) -> CpuStat {
        let throttling = stats.throttling;
        CpuStat {
            usage_usec: stats.usage.total / NANOSECONDS,
            user_usec: stats.usage.user / NANOSECONDS,
            system_usec: stats.usage.kernel / NANOSECONDS,
            nr_periods: throttling.periods,
            nr_throttled: throttling.throttled_periods,
            throttled_usec: throttling.throttled_time / NANOSECONDS,
            psi: stats.psi.map(PsiStats::from),
            nr_bursts: throttling.bursts,
            burst_usec: throttling.burst_time / NANOSECONDS,
        }
    }
}

impl From<MemoryStats> for MemoryStat {
    fn from(stats: MemoryStats) -> MemoryStat {
        MemoryStat {
            usage: stats.usage.usage,
            usage_limit: stats.usage.limit,
            swap_usage: stats.swap_alone.usage,
            swap_limit: stats.swap_alone.limit,
            max_usage: stats.usage.max,
            swap_max_usage: stats.swap_alone.max,
            psi: stats.psi.map(PsiStats::from),
            ..MemoryStat::from_table(&stats.raw)
        }
    }
}

impl From<BlockIoStats> for IoStat {
    fn from(stats: BlockIoStats) -> IoStat {
        let mut devices: BTreeMap<(u64, u64), IoEntry> = BTreeMap::new();
        let bytes = stats.bytes.into_iter().map(|entry| (entry, true));
        let requests = stats.requests.into_iter().map(|entry| (entry, false));
        for (entry, is_bytes) in bytes.chain(requests) {
            let device = devices
                .entry((entry.major, entry.minor))
                .or_insert(IoEntry {
                    major: entry.major,
                    minor: entry.minor,
                    ..IoEntry::default()
                });
            match (entry.operation.as_str(), is_bytes) {
                ("Read", true) => device.rbytes = entry.value,
                ("Write", true) => device.wbytes = entry.value,
                ("Read", false) => device.rios = entry.value,
                ("Write", false) => device.wios = entry.value,
                // The message has no field for discards.
                _ => {}
            }
        }
        IoStat {
            usage: devices.into_values().collect(),
            psi: stats.psi.map(PsiStats::from),
        }
    }
}

impl From<Pressure> for PsiStats {
    fn from(pressure: Pressure) -> PsiStats {
        let data = |line: PressureLine| PsiData {
            avg10: line.avg10,
            avg60: line.avg60,
            avg300: line.avg300,
            total: line.total,
        };
        PsiStats {
            some: Some(data(pressure.some)),
            full: Some(data(pressure.full)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_cgroups::stats::BlockIoEntry;

    #[test]
    fn io_is_told_by_device() {
        let entry = |minor, operation: &str, value| BlockIoEntry {
            major: 254,
            minor,
            operation: operation.to_owned(),
            value,
        };
        let stats = BlockIoStats {
            bytes: vec![
                entry(0, "Read", 4096),
                entry(1, "Write", 512),
                entry(1, "Discard", 7),
            ],
            requests: vec![entry(0, "Read", 1), entry(1, "Write", 2)],
            ..BlockIoStats::default()
        };
        let usage = IoStat::from(stats).usage;
        let seen = usage
            .iter()
            .map(|io| (io.minor, io.rbytes, io.wbytes, io.rios, io.wios));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [(0, 4096, 0, 1, 0), (1, 0, 512, 0, 2)]
        );
    }

    #[test]
    fn times_are_microseconds() {
        let mut stats = Stats::default();
        stats.cpu.usage.total = 5_000_000;
        stats.memory.raw.insert("thp_collapse_alloc".to_owned(), 3);
        stats.memory.events.insert("oom_kill".to_owned(), 2);
        let metrics = Metrics::from(stats);
        assert_eq!(metrics.cpu.unwrap().usage_usec, 5000);
        assert_eq!(metrics.memory.unwrap().thp_collapse_alloc, 3);
        assert_eq!(metrics.memory_events.unwrap().oom_kill, 2);
    }
}
