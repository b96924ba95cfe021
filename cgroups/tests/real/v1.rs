//! Needs root and cgroup v1, alone or hybrid.

use std::path::Path;
use std::time::{Duration, Instant};

use teu_cgroups::*;

use crate::harness::*;

#[test]
fn a_cgroup_is_made_joined_and_removed() {
    if !has(&["cpu", "cpuset", "memory", "pids", "freezer"]) {
        return;
    }
    let name = unique("life");
    let limits = Limits {
        cpu: CpuLimits {
            shares: Some(512),
            cpus: "0".into(),
            mems: "0".into(),
            ..Default::default()
        },
        memory: MemoryLimits {
            limit: Some(64 << 20),
            ..Default::default()
        },
        pids: Some(0),
        ..Default::default()
    };
    let mut cgroup = prepare(&plan(&name, limits.clone())).unwrap();
    assert!(cgroup.entrance().is_some());
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    assert_eq!(cgroup.apply(&limits).unwrap(), []);

    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.number())).unwrap();
    for line in seen.lines() {
        assert!(line.ends_with(&format!(":/{name}")), "{line}");
    }
    assert_eq!(file(&cgroup, "cpu", "cpu.shares"), "512");
    assert_eq!(file(&cgroup, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(file(&cgroup, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(&cgroup, "pids", "pids.max"), "1");

    let saved = cgroup.saved_paths();
    cgroup.keep();
    let text = serde_json::to_string(&saved).unwrap();
    let cgroup = Cgroup::open(&serde_json::from_str(&text).unwrap());
    assert_eq!(cgroup.processes().unwrap(), [sleeper.number()]);
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
    assert_eq!(cgroup.processes().unwrap(), Vec::<i32>::new());
    cgroup.kill_all(SIGKILL).unwrap();
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(saved.iter().all(|(_, path)| !path.exists()));
}

/// systemd was seen to remove empty cgroups.
#[test]
fn a_removed_cgroup_is_made_again() {
    if !has(&["pids"]) {
        return;
    }
    let outer = unique("removed");
    let mut cgroup = prepare(&plan(&format!("{outer}/a"), Limits::default())).unwrap();
    let directory = cgroup.saved_paths().get("pids").unwrap().to_owned();
    std::fs::remove_dir(&directory).unwrap();
    std::fs::remove_dir(directory.parent().unwrap()).unwrap();
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.number())).unwrap();
    assert!(seen.contains(&format!(":/{outer}/a\n")), "{seen}");
    let inside = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert_eq!(inside.trim(), sleeper.number().to_string());
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    drop(cgroup);
    assert!(!directory.parent().unwrap().exists());
}

#[test]
fn a_process_goes_there_by_itself() {
    if !has(&["pids", "cpuset"]) {
        return;
    }
    let outer = unique("itself");
    let mut cgroup = prepare(&plan(&format!("{outer}/a"), Limits::default())).unwrap();
    let entrance = cgroup.entrance().unwrap();
    let entered = Entered { v1: true, v2: true };
    // A thread moves alone.
    let seen = std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            entrance.enter().unwrap();
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        });
        seen.join().unwrap()
    });
    let v1 = seen.lines().filter(|line| !line.starts_with("0::"));
    for line in v1 {
        assert!(line.ends_with(&format!(":/{outer}/a")), "{line}");
    }
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), entered).unwrap();
    assert_eq!(settled(&cgroup, &[]), Vec::<i32>::new());

    let directory = cgroup.saved_paths().get("pids").unwrap().to_owned();
    std::fs::remove_dir(&directory).unwrap();
    let result = std::thread::scope(|scope| scope.spawn(|| entrance.enter()).join().unwrap());
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    assert_eq!(settled(&cgroup, &[sleeper.number()]), [sleeper.number()]);
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    drop(cgroup);
    assert!(!directory.parent().unwrap().exists());
}

/// Waits until these are the processes of the cgroup, and returns those that are there in the
/// end. A thread that was joined may not have left it yet.
fn settled(cgroup: &Cgroup, pids: &[i32]) -> Vec<i32> {
    let start = Instant::now();
    loop {
        let found = cgroup.processes().unwrap();
        if found == pids || start.elapsed() > Duration::from_secs(5) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn dropping_removes_what_was_made_and_no_more() {
    if !has(&["cpuset"]) {
        return;
    }
    let outer = unique("outer");
    let first = prepare(&plan(&format!("{outer}/a"), Limits::default())).unwrap();
    let second = prepare(&plan(&format!("{outer}/x/y"), Limits::default())).unwrap();
    let parent = |cgroup: &Cgroup| {
        cgroup
            .saved_paths()
            .get("cpuset")
            .unwrap()
            .parent()
            .unwrap()
            .to_owned()
    };
    // Every level of a v1 cpuset is filled, because processes could not join otherwise.
    assert_eq!(file(&second, "cpuset", "cpuset.cpus"), root_cpus());
    assert!(
        !std::fs::read(parent(&second).join("cpuset.mems"))
            .unwrap()
            .is_empty()
    );
    let (outer, inner) = (parent(&first), parent(&second));
    drop(second);
    assert!(!inner.exists());
    assert!(outer.exists());
    drop(first);
    assert!(!outer.exists());
}

fn root_cpus() -> String {
    let path = "/sys/fs/cgroup/cpuset/cpuset.cpus";
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

#[test]
fn a_used_or_frozen_cgroup_is_refused() {
    if !has(&["freezer"]) {
        return;
    }
    let name = unique("used");
    let mut cgroup = prepare(&plan(&name, Limits::default())).unwrap();
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    let again = || {
        prepare(&plan(&name, Limits::default()))
            .unwrap_err()
            .to_string()
    };
    let words = again();
    assert!(
        words.ends_with("container's cgroup is not empty: 1 process(es) found"),
        "{words}"
    );
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleeper.ends());
    cgroup.freeze().unwrap();
    let words = again();
    assert!(
        words.ends_with("container's cgroup unexpectedly frozen"),
        "{words}"
    );
    let below = prepare(&plan(&format!("{name}/below"), Limits::default()));
    assert!(
        below
            .unwrap_err()
            .to_string()
            .ends_with("unexpectedly frozen")
    );
    cgroup.thaw().unwrap();
    // A refused cgroup is not removed.
    assert!(cgroup.saved_paths().iter().all(|(_, path)| path.exists()));
}

#[test]
fn freezing_and_signalling() {
    if !has(&["freezer"]) {
        return;
    }
    let mut cgroup = prepare(&plan(&unique("freeze"), Limits::default())).unwrap();
    let mut sleepers = [Sleeper::new(), Sleeper::new()];
    for sleeper in &sleepers {
        cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    }
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    // A frozen process gets the signal when it is thawed.
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    assert!(sleepers[0].0.try_wait().unwrap().is_none());
    cgroup.thaw().unwrap();
    assert!(sleepers.iter_mut().all(Sleeper::ends));

    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    cgroup.freeze().unwrap();
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    assert!(!cgroup.is_frozen().unwrap());
}

#[test]
fn nested_cgroups_are_seen_and_removed() {
    if !has(&["memory", "freezer"]) {
        return;
    }
    let cgroup = prepare(&plan(&unique("nested"), Limits::default())).unwrap();
    let mut sleeper = Sleeper::new();
    let saved = cgroup.saved_paths();
    for (_, path) in saved.iter() {
        std::fs::create_dir_all(path.join("a/b")).unwrap();
    }
    let mut below = serde_json::json!({ "unit": null });
    for (name, path) in saved.iter().filter(|(name, _)| *name != "cpuset") {
        below[name] = serde_json::json!(path.join("a/b"));
    }
    let below: SavedPaths = serde_json::from_value(below).unwrap();
    let mut below = Cgroup::open(&below);
    below.enter(sleeper.pid(), Entered::default()).unwrap();
    assert_eq!(cgroup.processes().unwrap(), [sleeper.number()]);
    assert_eq!(cgroup.remove().unwrap_err().raw_os_error(), Some(16));
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleeper.ends());
    cgroup.remove().unwrap();
    assert!(saved.iter().all(|(_, path)| !path.exists()));
}

#[test]
fn refused_values_are_named() {
    if !has(&["cpuset", "memory", "cpu"]) {
        return;
    }
    let name = unique("refused");
    let bad_cpus = Limits {
        cpu: CpuLimits {
            cpus: "4095".into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let words = teu_errno::line(&prepare(&plan(&name, bad_cpus)).unwrap_err());
    assert!(
        words.starts_with("cpu.cpus: write \"4095\" to \""),
        "{words}"
    );
    assert!(
        words.ends_with(&format!(
            "{name}/cpuset.cpus\": numerical result out of range"
        )) || words.ends_with(": invalid argument"),
        "{words}"
    );
    assert!(!Path::new("/sys/fs/cgroup/cpuset").join(&name).exists());

    let cgroup = prepare(&plan(&name, Limits::default())).unwrap();
    let words = |limits: Limits| teu_errno::line(&cgroup.apply(&limits).unwrap_err());
    let shares = CpuLimits {
        shares: Some(1),
        ..Default::default()
    };
    assert!(
        words(Limits {
            cpu: shares,
            ..Default::default()
        })
        .contains("cpu.shares: the minimum")
    );
    let unified = [("memory.high".to_owned(), "max".to_owned())].into();
    let words = words(Limits {
        unified,
        ..Default::default()
    });
    assert_eq!(
        words,
        "unified: invalid configuration: cannot use unified on cgroup v1"
    );
}

#[test]
fn all_v1_limits_reach_the_kernel_and_can_change() {
    if !has(&["cpu", "memory", "blkio"]) {
        return;
    }
    let cgroup = prepare(&plan(&unique("limits"), Limits::default())).unwrap();
    // These limits need the BFQ scheduler, which may be a module.
    let blkio = cgroup.saved_paths().get("blkio").unwrap().to_owned();
    let weight = blkio.join("blkio.bfq.weight").exists();
    let check = |limits: &Limits, expected: &[(&str, &str, &str)]| {
        assert_eq!(cgroup.apply(limits).unwrap(), []);
        for (controller, name, value) in expected {
            assert_eq!(file(&cgroup, controller, name), *value, "{name}");
        }
    };
    let memory = |limit, swap| MemoryLimits {
        limit: Some(limit),
        swap: Some(swap),
        ..Default::default()
    };
    let mut limits = Limits {
        cpu: CpuLimits {
            quota: Some(20_000),
            period: Some(50_000),
            burst: Some(10_000),
            idle: Some(0),
            shares: Some(300),
            ..Default::default()
        },
        memory: MemoryLimits {
            reservation: Some(32 << 20),
            swappiness: Some(10),
            disable_oom_killer: true,
            ..memory(64 << 20, 128 << 20)
        },
        block_io: BlockIoLimits {
            weight: weight.then_some(300),
            ..Default::default()
        },
        pids: Some(-1),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "20000"),
            ("cpu", "cpu.cfs_period_us", "50000"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
            ("cpu", "cpu.shares", "300"),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.swappiness", "10"),
            ("pids", "pids.max", "max"),
        ],
    );
    if weight {
        assert_eq!(file(&cgroup, "blkio", "blkio.bfq.weight"), "300");
    }
    assert!(file(&cgroup, "memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    // Raise the limits above the old sum, then lower them: each fixed order of the writes
    // would fail once.
    limits.memory = memory(256 << 20, 512 << 20);
    check(&limits, &[("memory", "memory.limit_in_bytes", "268435456")]);
    limits.memory = memory(16 << 20, 16 << 20);
    check(
        &limits,
        &[("memory", "memory.memsw.limit_in_bytes", "16777216")],
    );
    limits.memory = MemoryLimits {
        limit: Some(-1),
        ..Default::default()
    };
    check(
        &limits,
        &[(
            "memory",
            "memory.memsw.limit_in_bytes",
            "9223372036854771712",
        )],
    );
    // The old burst exceeds the new quota.
    limits.cpu = CpuLimits {
        quota: Some(5000),
        period: Some(10_000),
        burst: Some(1000),
        idle: Some(1),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "5000"),
            ("cpu", "cpu.idle", "1"),
        ],
    );
    limits.cpu = CpuLimits {
        quota: Some(-1),
        idle: Some(0),
        shares: Some(2),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "-1"),
            ("cpu", "cpu.shares", "2"),
        ],
    );
}

#[test]
fn the_error_of_a_low_memory_limit_has_the_usage() {
    if !has(&["memory"]) {
        return;
    }
    let mut cgroup = prepare(&plan(&unique("usage"), Limits::default())).unwrap();
    let mut child = Sleeper::waiting_in_shell();
    cgroup.enter(child.pid(), Entered::default()).unwrap();
    child.let_shell_allocate();
    let memory = MemoryLimits {
        limit: Some(4096),
        ..Default::default()
    };
    // Set the limit of swap too, because the memory could be swapped.
    let result = cgroup.apply(&Limits {
        memory,
        ..Default::default()
    });
    if let Err(error) = result {
        let words = error.to_string();
        assert!(
            words.contains("unable to set memory limit to 4096 (current usage: "),
            "{words}"
        );
    }
}

#[test]
fn hybrid_uses_v2_for_a_controller_that_v1_lacks() {
    if !has(&["cpu", ""]) {
        return;
    }
    let root = unified().unwrap();
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap();
    if !controllers.contains("hugetlb") {
        eprintln!("[skipped] needs hugetlb on cgroup v2");
        return;
    }
    let _enabled = EnabledControllers::restore_at_end();
    let limits = Limits {
        hugetlb: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 4 << 20,
        }],
        ..Default::default()
    };
    let cgroup = prepare(&plan(&unique("hybrid"), limits.clone())).unwrap();
    assert!(cgroup.apply(&limits).unwrap().is_empty());
    assert_eq!(file(&cgroup, "", "hugetlb.2MB.max"), "4194304");
    assert_eq!(file(&cgroup, "", "hugetlb.2MB.rsvd.max"), "4194304");
}

#[test]
fn a_cpuset_below_new_cgroups() {
    if !has(&["cpuset"]) {
        return;
    }
    let path = format!("{}/x/y", unique("deep"));
    let cpu = CpuLimits {
        cpus: "0".into(),
        ..Default::default()
    };
    let limits = Limits {
        cpu,
        ..Default::default()
    };
    let mut cgroup = prepare(&plan(&path, limits.clone())).unwrap();
    let sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    cgroup.apply(&limits).unwrap();
    assert_eq!(file(&cgroup, "cpuset", "cpuset.cpus"), "0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", sleeper.number())).unwrap();
    assert!(
        status.lines().any(|line| line == "Cpus_allowed_list:\t0"),
        "{status}"
    );
    drop(sleeper);
}

#[test]
fn the_layout_names_the_hosts_hierarchies() {
    if !has(&["pids"]) {
        return;
    }
    let name = unique("layout");
    let plan = plan(&name, Limits::default());
    let layout = teu_cgroups::locate().unwrap().layout(&plan);
    let _cgroup = prepare(&plan).unwrap();
    let Layout::V1(views) = layout else {
        panic!("{layout:?}");
    };
    let pids = views.iter().find(|view| view.options == "pids").unwrap();
    assert_eq!(pids.directory, Path::new("/sys/fs/cgroup/pids").join(&name));
    assert_eq!(
        (pids.name.as_str(), pids.links.as_slice()),
        ("pids", [].as_slice())
    );
    assert!(views.iter().all(|view| view.directory.is_dir()));
}
