//! `io.containerd.cgroups.v2.Metrics`. Times are microseconds.

use std::collections::BTreeMap;

use teu_cgroups::Stats;
use teu_cgroups::stats::{BlockIoStats, CpuStats, MemoryStats, Pressure, PressureLine};

use super::table;
use super::v1::RdmaStat;
use crate::proto::named;

const NANOSECONDS: u64 = 1000;

named!("io.containerd.cgroups.v2": Metrics);

/// All of it. `network` (9) nobody fills.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    #[prost(message, optional, tag = "1")]
    pub pids: Option<PidsStat>,
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuStat>,
    #[prost(message, optional, tag = "4")]
    pub memory: Option<MemoryStat>,
    /// The same message as in v1.
    #[prost(message, optional, tag = "5")]
    pub rdma: Option<RdmaStat>,
    #[prost(message, optional, tag = "6")]
    pub io: Option<IoStat>,
    #[prost(message, repeated, tag = "7")]
    pub hugetlb: Vec<HugeTlbStat>,
    #[prost(message, optional, tag = "8")]
    pub memory_events: Option<MemoryEvents>,
}

/// Processes and threads. No limit is the largest number, here and below.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PidsStat {
    #[prost(uint64, tag = "1")]
    pub current: u64,
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// CPU time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CpuStat {
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
    #[prost(uint64, tag = "2")]
    pub user_usec: u64,
    #[prost(uint64, tag = "3")]
    pub system_usec: u64,
    #[prost(uint64, tag = "4")]
    pub nr_periods: u64,
    #[prost(uint64, tag = "5")]
    pub nr_throttled: u64,
    #[prost(uint64, tag = "6")]
    pub throttled_usec: u64,
    #[prost(message, optional, tag = "7")]
    pub psi: Option<PsiStats>,
    #[prost(uint64, tag = "8")]
    pub nr_bursts: u64,
    #[prost(uint64, tag = "9")]
    pub burst_usec: u64,
}

table! {
    /// memory.stat, and what there is a file each for.
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
        #[prost(uint64, tag = "32")]
        pub usage: u64,
        #[prost(uint64, tag = "33")]
        pub usage_limit: u64,
        #[prost(uint64, tag = "34")]
        pub swap_usage: u64,
        #[prost(uint64, tag = "35")]
        pub swap_limit: u64,
        #[prost(uint64, tag = "36")]
        pub max_usage: u64,
        #[prost(uint64, tag = "37")]
        pub swap_max_usage: u64,
        #[prost(message, optional, tag = "38")]
        pub psi: Option<PsiStats>,
    }
}

table! {
    /// memory.events.
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
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<IoEntry>,
    #[prost(message, optional, tag = "2")]
    pub psi: Option<PsiStats>,
}

/// Block I/O of one device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IoEntry {
    #[prost(uint64, tag = "1")]
    pub major: u64,
    #[prost(uint64, tag = "2")]
    pub minor: u64,
    #[prost(uint64, tag = "3")]
    pub rbytes: u64,
    #[prost(uint64, tag = "4")]
    pub wbytes: u64,
    #[prost(uint64, tag = "5")]
    pub rios: u64,
    #[prost(uint64, tag = "6")]
    pub wios: u64,
}

/// Huge pages of one size.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HugeTlbStat {
    #[prost(uint64, tag = "1")]
    pub current: u64,
    #[prost(uint64, tag = "2")]
    pub max: u64,
    #[prost(string, tag = "3")]
    pub pagesize: String,
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

/// Pressure stall information of one resource.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PsiStats {
    #[prost(message, optional, tag = "1")]
    pub some: Option<PsiData>,
    #[prost(message, optional, tag = "2")]
    pub full: Option<PsiData>,
}

/// One line of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PsiData {
    #[prost(double, tag = "1")]
    pub avg10: f64,
    #[prost(double, tag = "2")]
    pub avg60: f64,
    #[prost(double, tag = "3")]
    pub avg300: f64,
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
                // Discarded blocks have no field.
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
