//! Measures processor time and processors: the effect of shares and cpusets.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::*;

tests![
    shares_divide_a_processor,
    a_pinned_container_runs_nowhere_else,
    cpusets_above_are_made_as_well,
];

fn on(cpu: u32, shares: u64) -> Value {
    json!({ "shares": shares, "cpus": cpu.to_string(), "mems": "0" })
}

/// The processors that this machine gives a container.
fn cpus() -> Vec<u32> {
    let seen = Bundle::new().run().probe();
    serde_json::from_value(seen["cpu_affinity"].clone()).unwrap()
}

/// The time for which a process has run, in nanoseconds (proc_pid_schedstat(5)).
fn ran(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// On v1, twice the shares give twice the time. On v2 the weights are 100 and 59, by the curve
/// that all runtimes use, and the time is proportional to them.
fn shares_divide_a_processor() {
    needs(&[Root, Controller("cpu"), Controller("cpuset"), Seconds(90)]);
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let expected = if is_v2 { 100.0 / 59.0 } else { 2.0 };
    let cpu = *cpus().last().unwrap();
    let busy = |shares| {
        let bundle = Bundle::new().set("/linux/resources/cpu", on(cpu, shares));
        Container::running(bundle.probe("spin 80"))
    };
    let (more, less) = (busy(1024), busy(512));
    let mut ratios = Vec::new();
    // Long enough for the scheduler's slices not to matter. Repeated, because the machine may
    // have been busy.
    for _ in 0..3 {
        sleep(Duration::from_millis(200));
        let before = [ran(more.pid()), ran(less.pid())];
        sleep(Duration::from_secs(4));
        let time = [ran(more.pid()) - before[0], ran(less.pid()) - before[1]];
        ratios.push(time[0] / time[1]);
        if (time[0] / time[1] / expected - 1.0).abs() < 0.1 {
            println!("{ratios:?}, {expected:.3} expected");
            return;
        }
    }
    panic!("{ratios:?}, not {expected:.3} within a tenth");
}

/// The processor on which a process runs or ran last (proc_pid_stat(5), field 39).
fn processor(pid: i32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(36).unwrap().parse().unwrap()
}

fn a_pinned_container_runs_nowhere_else() {
    needs(&[Root, Controller("cpuset")]);
    for cpu in cpus() {
        let bundle = Bundle::new().set("/linux/resources/cpu", on(cpu, 1024));
        let container = Container::running(bundle.probe("spin 1"));
        let start = Instant::now();
        let mut seen = 0;
        while start.elapsed() < Duration::from_millis(700) {
            assert_eq!(processor(container.pid()), cpu);
            seen += 1;
            sleep(Duration::from_millis(1));
        }
        assert!(seen > 20, "looked only {seen} times");
        assert_eq!(container.wait(), 0);
        let answer: Value = serde_json::from_str(container.stdout().trim()).unwrap();
        assert_eq!(answer["ok"]["cpus"], json!([cpu]));
    }
}

/// On v1 a new cpuset is empty and takes no process. Cpusets made above the container's get the
/// values of the cpuset above them.
fn cpusets_above_are_made_as_well() {
    needs(&[Root, CgroupV1, Controller("cpuset")]);
    let top = format!("{}top", marker());
    let path = format!("/{top}/between/box");
    let cpu = *cpus().last().unwrap();
    let bundle = Bundle::new().set("/linux/cgroupsPath", path.as_str());
    let container =
        Container::created(bundle.set("/linux/resources/cpu", json!({ "cpus": cpu.to_string() })));
    let hierarchy = Path::new("/sys/fs/cgroup/cpuset");
    let set = |path: &str, file: &str| {
        let text = fs::read_to_string(hierarchy.join(path).join(file)).unwrap();
        text.trim().to_owned()
    };
    for (file, own) in [
        ("cpuset.cpus", cpu.to_string()),
        ("cpuset.mems", set("", "cpuset.mems")),
    ] {
        assert_eq!(set(&top, file), set("", file));
        assert_eq!(set(&format!("{top}/between"), file), set("", file));
        assert_eq!(set(&path[1..], file), own);
    }
    container.delete_force().ok();
    remove_from_all(&[format!("{top}/between"), top]);
}

/// Removes cgroups that the runtime made above the container's. The runtime leaves them, because
/// other containers may use them by now.
fn remove_from_all(paths: &[String]) {
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for path in paths {
            let left: PathBuf = hierarchy.path().join(path);
            assert!(
                !left.exists() || fs::remove_dir(&left).is_ok(),
                "{}",
                left.display()
            );
        }
    }
}
