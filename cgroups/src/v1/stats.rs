//! Reads the statistics of v1, controller by controller.

use crate::cpu_list;
use crate::directory::Directory;
use crate::stats::{
    BlockIoEntry, BlockIoStats, CpuUsage, CpusetStats, HugetlbStats, MemoryUsage, PidsStats, Stats,
    Throttling, Usage, limit, number, parse, rdma, table,
};

/// Reads the statistics of one controller into `stats`.
pub(crate) fn stats(controller: &str, directory: &Directory, stats: &mut Stats) {
    match controller {
        "cpu" => stats.cpu.throttling = throttling(directory),
        "cpuacct" => stats.cpu.usage = cpu_usage(directory),
        "cpuset" => stats.cpuset = cpuset(directory),
        "memory" => memory(directory, stats),
        "pids" => stats.pids = pids(directory),
        "blkio" => stats.block_io = block_io(directory),
        "hugetlb" => {
            for size in page_sizes(directory, ".usage_in_bytes") {
                let number = |file| number(directory, &format!("hugetlb.{size}.{file}"));
                let stats_of_size = HugetlbStats {
                    usage: number("usage_in_bytes"),
                    max: number("max_usage_in_bytes"),
                    failures: number("failcnt"),
                    limit: 0,
                };
                stats.hugetlb.insert(size, stats_of_size);
            }
        }
        "rdma" => stats.rdma = rdma(directory),
        _ => {}
    }
}

/// Reads the numbers of [`Usage`]. `of` returns a controller's directory.
pub(crate) fn usage<'a>(of: &dyn Fn(&str) -> Option<&'a Directory>) -> Usage {
    let read = |controller, file| of(controller).map_or(0, |directory| number(directory, file));
    let pids = of("pids").map(pids).unwrap_or_default();
    let stat = of("memory").map(|directory| table(directory, "memory.stat"));
    let inactive = stat.and_then(|stat| stat.get("total_inactive_file").copied());
    let bytes = of("blkio").map_or(Vec::new(), |directory| {
        first_with_entries(
            directory,
            &[
                "blkio.bfq.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes_recursive",
            ],
        )
    });
    let sum = |operation| {
        let entries = bytes.iter().filter(|entry| entry.operation == operation);
        entries
            .map(|entry| entry.value)
            .fold(0, u64::saturating_add)
    };
    Usage {
        cpu: read("cpuacct", "cpuacct.usage"),
        memory: read("memory", "memory.usage_in_bytes").saturating_sub(inactive.unwrap_or(0)),
        memory_limit: limit(read("memory", "memory.limit_in_bytes")),
        pids: pids.current,
        pids_limit: Some(pids.limit).filter(|limit| *limit != 0),
        read: sum("Read"),
        written: sum("Write"),
    }
}

/// Reads the numbers of processes, on v1 and v2.
pub(crate) fn pids(directory: &Directory) -> PidsStats {
    PidsStats {
        current: number(directory, "pids.current"),
        limit: match number(directory, "pids.max") {
            u64::MAX => 0,
            limit => limit,
        },
    }
}

/// Returns the page sizes for which the cgroup has files, such as "2MB". `end` is the end
/// of the name of the file with the usage.
pub(crate) fn page_sizes(directory: &Directory, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(&directory.path).into_iter().flatten();
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?;
        // Files such as "hugetlb.2MB.rsvd.…" count reservations.
        (!size.contains('.')).then(|| size.to_owned())
    });
    sizes.collect()
}

fn throttling(directory: &Directory) -> Throttling {
    let stat = table(directory, "cpu.stat");
    let get = |name| stat.get(name).copied().unwrap_or(0);
    Throttling {
        periods: get("nr_periods"),
        throttled_periods: get("nr_throttled"),
        throttled_time: get("throttled_time"),
        ..Throttling::default()
    }
}

fn cpu_usage(directory: &Directory) -> CpuUsage {
    /// A tick of cpuacct.stat is a hundredth of a second (USER_HZ).
    const NANOSECONDS_PER_TICK: u64 = 10_000_000;
    let stat = table(directory, "cpuacct.stat");
    let ticks = |name| {
        let ticks = stat.get(name).copied().unwrap_or(0);
        ticks.saturating_mul(NANOSECONDS_PER_TICK)
    };
    let mut usage = CpuUsage {
        total: number(directory, "cpuacct.usage"),
        kernel: ticks("system"),
        user: ticks("user"),
        ..CpuUsage::default()
    };
    // "cpu user system", then a line for each processor (since kernel 4.7).
    let all = directory.read("cpuacct.usage_all").unwrap_or_default();
    for line in all.lines().skip(1) {
        let mut numbers = line.split(' ').skip(1).map(parse);
        let (user, kernel) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        usage.per_cpu_user.push(user);
        usage.per_cpu_kernel.push(kernel);
    }
    let per_cpu = directory.read("cpuacct.usage_percpu").unwrap_or_default();
    usage.per_cpu = per_cpu.split_whitespace().map(parse).collect();
    usage
}

fn cpuset(directory: &Directory) -> CpusetStats {
    let number = |file| number(directory, &format!("cpuset.{file}"));
    let list = |file: &str| {
        let text = directory.read(&format!("cpuset.{file}"));
        let numbers = text.ok().as_deref().and_then(cpu_list::parse);
        numbers.unwrap_or_default().into_iter().collect()
    };
    let level = directory.read("cpuset.sched_relax_domain_level");
    CpusetStats {
        cpus: list("cpus"),
        cpu_exclusive: number("cpu_exclusive"),
        mems: list("mems"),
        mem_hardwall: number("mem_hardwall"),
        mem_exclusive: number("mem_exclusive"),
        memory_migrate: number("memory_migrate"),
        memory_spread_page: number("memory_spread_page"),
        memory_spread_slab: number("memory_spread_slab"),
        memory_pressure: number("memory_pressure"),
        sched_load_balance: number("sched_load_balance"),
        sched_relax_domain_level: level.map_or(0, |text| text.parse().unwrap_or(0)),
    }
}

fn memory(directory: &Directory, stats: &mut Stats) {
    let usage = |kind: &str| {
        let number = |file: &str| number(directory, &format!("memory.{kind}{file}"));
        MemoryUsage {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failures: number("failcnt"),
        }
    };
    let memory = &mut stats.memory;
    memory.raw = table(directory, "memory.stat");
    memory.events = table(directory, "memory.oom_control");
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = usage("");
    memory.swap = usage("memsw.");
    memory.kernel = usage("kmem.");
    memory.kernel_tcp = usage("kmem.tcp.");
}

fn block_io(directory: &Directory) -> BlockIoStats {
    // If BFQ schedules the disk, its files have the numbers, otherwise those of the
    // throttling.
    let both = |name: &str, throttled: &str| {
        let bfq = format!("blkio.bfq.{name}_recursive");
        first_with_entries(
            directory,
            &[&bfq, &format!("blkio.throttle.{throttled}_recursive")],
        )
    };
    let bfq = |name: &str| first_with_entries(directory, &[&format!("blkio.bfq.{name}_recursive")]);
    BlockIoStats {
        bytes: both("io_service_bytes", "io_service_bytes"),
        requests: both("io_serviced", "io_serviced"),
        queued: bfq("io_queued"),
        service_time: bfq("io_service_time"),
        wait_time: bfq("io_wait_time"),
        merged: bfq("io_merged"),
        time: bfq("time"),
        sectors: bfq("sectors"),
        psi: None,
    }
}

/// Returns the entries of the first file that has entries.
fn first_with_entries(directory: &Directory, files: &[&str]) -> Vec<BlockIoEntry> {
    let lists = files.iter().map(|file| {
        let text = directory.read(file).unwrap_or_default();
        text.lines().filter_map(entry).collect::<Vec<_>>()
    });
    lists
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

/// Parses a line such as "8:0 Read 4096", or "8:0 4096" in files without operations.
/// Returns `None` for the sum, such as "Total 4096".
fn entry(line: &str) -> Option<BlockIoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (second, third) = (words.next()?, words.next());
    let (operation, value) = match third {
        Some(value) => (second, value),
        None => ("", second),
    };
    Some(BlockIoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        operation: operation.to_owned(),
        value: parse(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_io_lines() {
        let read = BlockIoEntry {
            major: 8,
            minor: 16,
            operation: "Read".into(),
            value: 4096,
        };
        assert_eq!(entry("8:16 Read 4096"), Some(read.clone()));
        let plain = BlockIoEntry {
            operation: String::new(),
            ..read
        };
        assert_eq!(entry("8:16 4096"), Some(plain));
        assert_eq!(entry("Total 0"), None);
    }
}
