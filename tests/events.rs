//! `events`: statistics, and OOM kills.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    statistics_have_runcs_names,
    statistics_are_the_kernels,
    lines_come_in_intervals_until_the_end,
    each_kill_is_told_once,
    kill_of_init_is_told_before_the_end,
    kill_below_is_told,
    want_of_memory_without_a_kill_is_told,
    wrong_interval_is_refused,
    container_must_run,
];

fn stats(container: &Container) -> Value {
    let output = container.command("events", ["--stats"]).output().ok();
    assert!(
        output.stdout.starts_with(&format!(
            "{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{",
            container.id
        )),
        "{output}"
    );
    output.json()["data"].clone()
}

fn statistics_have_runcs_names() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let data = stats(&container);
    for pointer in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/cpuset/cpu_exclusive",
        "/cpuset/sched_relax_domain_level",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
        "/memory/swap/limit",
        "/memory/kernel/failcnt",
        "/memory/kernelTCP/limit",
        "/memory/raw",
        "/pids/current",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
    ] {
        assert!(data.pointer(pointer).is_some(), "{pointer} in {data}");
    }
    assert_eq!(data["network_interfaces"], Value::Null);
    assert!(data.as_object().unwrap().contains_key("network_interfaces"));
}

fn statistics_are_the_kernels() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("cpuset"),
        Controller("pids"),
    ]);
    let bundle = Bundle::new().probe("fork 2; spin 20; sleep");
    let bundle = bundle
        .set("/linux/resources/memory/limit", 64 << 20)
        .set("/linux/resources/pids/limit", 40)
        .set("/linux/resources/cpu", json!({ "cpus": "0" }));
    let container = Container::running(bundle);
    container.wait_for_output("ok");
    let quota = ["--cpu-quota", "2000", "--cpu-period", "100000"];
    container.command("update", quota).output().ok();
    // On a busy machine, it takes a while until the time is not 0.
    let time = |data: &Value| data["cpu"]["throttling"]["throttledTime"].as_u64();
    wait_until("it is throttled", || time(&stats(&container)) > Some(0));
    let before = CpuTime::of(&container);
    let data = stats(&container);
    let after = CpuTime::of(&container);
    assert_eq!(data["pids"], json!({ "current": 3, "limit": 40 }));
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    let usage = data["memory"]["usage"]["usage"].as_u64().unwrap();
    assert!((4096..64 << 20).contains(&usage), "{data}");
    assert!(
        !data["memory"]["raw"].as_object().unwrap().is_empty(),
        "{data}"
    );
    assert_eq!(data["cpuset"]["cpus"], json!([0]));
    let used = data["cpu"]["usage"]["total"].as_u64().unwrap();
    let possible = before.used..=after.used;
    assert!(possible.contains(&used), "{possible:?}: {}", data["cpu"]);
    let throttled = time(&data).unwrap();
    let possible = before.throttled..=after.throttled;
    assert!(
        possible.contains(&throttled),
        "{possible:?}: {}",
        data["cpu"]
    );
    let unified = CgroupFiles::of(container.pid()).unified();
    if unified.is_some_and(|directory| directory.join("cpu.pressure").exists()) {
        let waited = data["cpu"]["psi"]["some"]["total"].as_u64();
        assert!(waited > Some(0), "{}", data["cpu"]);
    }
}

/// The CPU time that the kernel counted for a container so far, in nanoseconds.
struct CpuTime {
    used: u64,
    throttled: u64,
}

impl CpuTime {
    fn of(container: &Container) -> CpuTime {
        let files = CgroupFiles::of(container.pid());
        let file = files.read("cpu", "cpu.stat", "cpu.stat");
        let entry = |name: &str| {
            let line = file.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().parse::<u64>().unwrap())
        };
        if files.is_v1("cpu") {
            let used = files.read("cpuacct", "cpuacct.usage", "");
            CpuTime {
                used: used.parse().unwrap(),
                throttled: entry("throttled_time ").unwrap(),
            }
        } else {
            CpuTime {
                used: entry("usage_usec ").unwrap() * 1000,
                throttled: entry("throttled_usec ").unwrap() * 1000,
            }
        }
    }
}

fn lines_come_in_intervals_until_the_end() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let events = container.command("events", ["--interval", "100ms"]).spawn();
    wait_until("three lines", || events.stdout().lines().count() >= 3);
    container.kill("KILL").ok();
    let output = events.wait().ok();
    assert!(output.took < patience(Duration::from_secs(8)), "{output}");
    let kinds = output.answers();
    assert!(
        kinds.iter().all(|event| event["type"] == "stats"),
        "{output}"
    );
}

/// The number of lines of a kind so far.
fn count(events: &Running, kind: &str) -> usize {
    let line = format!("{{\"type\":\"{kind}\"");
    let lines = events.stdout();
    lines.lines().filter(|text| text.starts_with(&line)).count()
}

fn short_of_memory() -> Bundle {
    Bundle::new()
        .probe("sleep")
        .set("/linux/resources/memory", json!({ "limit": 48 << 20 }))
}

/// An interval of an hour, so that only OOM kills are reported.
const NO_STATS: [&str; 2] = ["--interval", "1h"];

fn watching(container: &Container) -> Running {
    let events = container.command("events", NO_STATS).spawn();
    // From outside, only the descriptor shows that the command has begun to watch.
    wait_until("events watches", || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", events.pid));
        let links = descriptors.into_iter().flatten().flatten();
        links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| {
                let link = link.display().to_string();
                link.contains("eventfd") || link.contains("inotify")
            })
    });
    events
}

fn allocate(container: &Container) {
    let call = container.command("exec", NO_FLAGS);
    call.args(["/probe", "allocate", "200000000"])
        .output()
        .exits(137);
}

fn each_kill_is_told_once() {
    needs(&[Root, Controller("memory"), Seconds(60)]);
    let container = Container::running(short_of_memory());
    // A kill before the command watches.
    allocate(&container);
    let events = watching(&container);
    for kills in 1..=2 {
        allocate(&container);
        wait_until("the kill is told", || count(&events, "oom") >= kills);
    }
    // Changes of the files without a kill are not reported: limits that are reached or changed.
    container
        .command("update", ["--memory", "40M"])
        .output()
        .ok();
    let call = container.command("exec", NO_FLAGS);
    call.args(["/probe", "allocate", "10000000"]).output().ok();
    std::thread::sleep(Duration::from_millis(1500));
    container.kill("KILL").ok();
    let output = events.wait().ok();
    let line = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", container.id);
    assert_eq!(output.stdout, line.repeat(2));
}

fn kill_of_init_is_told_before_the_end() {
    needs(&[Root, Controller("memory")]);
    let bundle = short_of_memory().probe("allocate 200000000");
    let container = Container::created(bundle);
    let events = watching(&container);
    container.start().ok();
    let output = events.wait().ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    assert!(output.stdout.starts_with("{\"type\":\"oom\","), "{output}");
}

fn kill_below_is_told() {
    needs(&[Root, CgroupV1, Controller("memory"), Teu]);
    let container = Container::running(short_of_memory().probe("sleep"));
    let events = watching(&container);
    CgroupFiles::of(container.pid()).make_below("memory", "below");
    let call = container.command("exec", ["--cgroup", "memory:below"]);
    call.args(["/probe", "allocate", "200000000"])
        .output()
        .exits(137);
    wait_until("the kill is told", || count(&events, "oom") == 1);
    container.kill("KILL").ok();
    assert_eq!(events.wait().ok().stdout.lines().count(), 1);
}

fn want_of_memory_without_a_kill_is_told() {
    needs(&[Root, CgroupV1, Controller("memory"), Seconds(60)]);
    let memory = json!({ "limit": 48 << 20, "disableOOMKiller": true });
    let bundle = short_of_memory().set("/linux/resources/memory", memory);
    let container = Container::running(bundle);
    let events = watching(&container);
    let call = container.command("exec", NO_FLAGS);
    let stuck = call.args(["/probe", "allocate", "200000000"]).spawn();
    wait_until("it is told", || count(&events, "oom") == 1);
    container.kill("KILL").ok();
    drop(stuck);
    assert_eq!(events.wait().ok().stdout.lines().count(), 1);
}

fn wrong_interval_is_refused() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("sleep"));
    for interval in ["0s", "-5s", "0"] {
        let call = container.command("events", ["--interval", interval]);
        call.output()
            .exits(1)
            .says("duration interval must be greater than 0");
    }
    let call = container.command("events", ["--interval", "5"]);
    call.output()
        .exits(1)
        .says("for flag -interval: parse error");
}

fn container_must_run() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("exit 0"));
    container.wait_for_status("stopped");
    for flags in [&["--stats"][..], &[]] {
        let words = format!("container with id {} is not running", container.id);
        container
            .command("events", flags)
            .output()
            .exits(1)
            .says(&words);
    }
    teu(["events", "nobody"])
        .output()
        .exits(1)
        .says("container does not exist");
}
