//! Reads the statistics of v2.

use crate::cpu_list;
use crate::directory::Directory;
use crate::stats::{
    BlockIoEntry, CpuUsage, HugetlbStats, MemoryUsage, Stats, Throttling, Usage, limit, number,
    parse, rdma, table,
};
use crate::v1;

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Reads the statistics of all controllers that the cgroup has into `stats`.
pub(crate) fn stats(directory: &Directory, stats: &mut Stats) {
    cpu(directory, stats);
    let list = |file| {
        let numbers = directory
            .read(file)
            .ok()
            .as_deref()
            .and_then(cpu_list::parse);
        numbers.unwrap_or_default().into_iter().collect()
    };
    stats.cpuset.cpus = list("cpuset.cpus.effective");
    stats.cpuset.mems = list("cpuset.mems.effective");
    memory(directory, stats);
    stats.pids = v1::stats::pids(directory);
    stats.rdma = rdma(directory);
    for line in directory.read("io.stat").unwrap_or_default().lines() {
        io(line, stats);
    }
    for size in v1::stats::page_sizes(directory, ".current") {
        let events = table(directory, &format!("hugetlb.{size}.events"));
        let usage = HugetlbStats {
            usage: number(directory, &format!("hugetlb.{size}.current")),
            max: 0,
            failures: events.get("max").copied().unwrap_or(0),
            limit: number(directory, &format!("hugetlb.{size}.max")),
        };
        stats.hugetlb.insert(size, usage);
    }
}

/// Reads the numbers of [`Usage`].
pub(crate) fn usage(directory: &Directory) -> Usage {
    let mut all = Stats::default();
    for line in directory.read("io.stat").unwrap_or_default().lines() {
        io(line, &mut all);
    }
    let sum = |operation| {
        let entries = all.block_io.bytes.iter();
        let entries = entries.filter(|entry| entry.operation == operation);
        entries
            .map(|entry| entry.value)
            .fold(0, u64::saturating_add)
    };
    let inactive = table(directory, "memory.stat")
        .get("inactive_file")
        .copied();
    let cpu = table(directory, "cpu.stat").get("usage_usec").copied();
    Usage {
        cpu: cpu.unwrap_or(0).saturating_mul(NANOSECONDS_PER_MICROSECOND),
        memory: number(directory, "memory.current").saturating_sub(inactive.unwrap_or(0)),
        memory_limit: limit(number(directory, "memory.max")).filter(|limit| *limit != 0),
        pids: number(directory, "pids.current"),
        pids_limit: limit(number(directory, "pids.max")).filter(|limit| *limit != 0),
        read: sum("Read"),
        written: sum("Write"),
    }
}

fn cpu(directory: &Directory, stats: &mut Stats) {
    let stat = table(directory, "cpu.stat");
    let count = |name: &str| stat.get(name).copied().unwrap_or(0);
    let time = |name| count(name).saturating_mul(NANOSECONDS_PER_MICROSECOND);
    stats.cpu.usage = CpuUsage {
        total: time("usage_usec"),
        kernel: time("system_usec"),
        user: time("user_usec"),
        ..CpuUsage::default()
    };
    stats.cpu.throttling = Throttling {
        periods: count("nr_periods"),
        throttled_periods: count("nr_throttled"),
        throttled_time: time("throttled_usec"),
        bursts: count("nr_bursts"),
        burst_time: time("burst_usec"),
    };
}

fn memory(directory: &Directory, stats: &mut Stats) {
    let events = table(directory, "memory.events");
    let swap_events = table(directory, "memory.swap.events");
    let failures =
        |events: &std::collections::BTreeMap<String, u64>| events.get("max").copied().unwrap_or(0);
    let memory = &mut stats.memory;
    memory.raw = table(directory, "memory.stat");
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.usage = MemoryUsage {
        limit: number(directory, "memory.max"),
        usage: number(directory, "memory.current"),
        // memory.peak exists since kernel 5.19, memory.swap.peak since 6.5.
        max: number(directory, "memory.peak"),
        failures: failures(&events),
    };
    memory.swap_alone = MemoryUsage {
        limit: number(directory, "memory.swap.max"),
        usage: number(directory, "memory.swap.current"),
        max: number(directory, "memory.swap.peak"),
        failures: failures(&swap_events),
    };
    // `swap` is memory plus swap, as on v1.
    let (swap, usage) = (&memory.swap_alone, &memory.usage);
    memory.swap = MemoryUsage {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage.saturating_add(usage.usage),
        max: swap.max.saturating_add(usage.max),
        failures: swap.failures,
    };
    memory.events = events;
}

/// Parses a line such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6".
fn io(line: &str, stats: &mut Stats) {
    let mut words = line.split(' ');
    let device = words.next().and_then(|device| device.split_once(':'));
    let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
        return;
    };
    for (name, value) in words.filter_map(|word| word.split_once('=')) {
        let (list, operation) = match name {
            "rbytes" => (&mut stats.block_io.bytes, "Read"),
            "wbytes" => (&mut stats.block_io.bytes, "Write"),
            "dbytes" => (&mut stats.block_io.bytes, "Discard"),
            "rios" => (&mut stats.block_io.requests, "Read"),
            "wios" => (&mut stats.block_io.requests, "Write"),
            "dios" => (&mut stats.block_io.requests, "Discard"),
            _ => continue,
        };
        list.push(BlockIoEntry {
            major,
            minor,
            operation: operation.to_owned(),
            value: parse(value),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines() {
        let mut stats = Stats::default();
        io(
            "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=7 dios=1",
            &mut stats,
        );
        io("7:0 ", &mut stats);
        let kinds = stats
            .block_io
            .bytes
            .iter()
            .map(|entry| (entry.major, entry.operation.as_str(), entry.value));
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [(254, "Read", 4096), (254, "Write", 0), (254, "Discard", 7)]
        );
        assert_eq!(stats.block_io.requests.len(), 3);
    }
}
