//! Needs root and cgroup v2, alone or as the unified hierarchy of a hybrid host.

use std::path::Path;
use std::process::Command;

use teu_cgroups::*;

use crate::harness::*;

#[test]
fn v2_freezes_kills_and_takes_clones() {
    if !has(&[""]) {
        return;
    }
    let mut unified = Unified::new("v2");
    assert!(unified.cgroup.clone_target().unwrap().is_some());
    let mut sleepers = [Sleeper::new(), Sleeper::new()];
    unified
        .cgroup
        .enter(sleepers[0].pid(), Entered::default())
        .unwrap();
    std::fs::create_dir(unified.path.join("below")).unwrap();
    std::fs::write(
        unified.path.join("below/cgroup.procs"),
        sleepers[1].number().to_string(),
    )
    .unwrap();
    assert_eq!(unified.cgroup.processes().unwrap().len(), 2);
    unified.cgroup.freeze().unwrap();
    assert!(unified.cgroup.is_frozen().unwrap());
    unified.cgroup.thaw().unwrap();
    unified.cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleepers.iter_mut().all(Sleeper::ends));
    let mut sleeper = Sleeper::new();
    unified
        .cgroup
        .enter(sleeper.pid(), Entered::default())
        .unwrap();
    unified.cgroup.freeze().unwrap();
    unified.cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    unified.cgroup.thaw().unwrap();
}

#[test]
fn v2_names_the_controller_that_is_not_there() {
    if !has(&["memory", ""]) {
        return;
    }
    let unified = Unified::new("missing");
    let apply = |limits: Limits| unified.cgroup.apply(&limits);
    let memory = MemoryLimits {
        limit: Some(4096),
        ..Default::default()
    };
    let words = apply(Limits {
        memory,
        ..Default::default()
    })
    .unwrap_err()
    .to_string();
    let expected = "memory.limit: controller \"memory\" is not available in cgroup";
    assert!(words.starts_with(expected), "{words}");
    let map = [("memory.high".to_owned(), "1".to_owned())].into();
    let words = apply(Limits {
        unified: map,
        ..Default::default()
    })
    .unwrap_err()
    .to_string();
    let expected = "unified[\"memory.high\"]: controller \"memory\" is not avail";
    assert!(words.starts_with(expected), "{words}");
    let map = [("cgroup.max.depth".to_owned(), "5".to_owned())].into();
    assert_eq!(
        apply(Limits {
            unified: map,
            ..Default::default()
        })
        .unwrap(),
        []
    );
    let depth = std::fs::read_to_string(unified.path.join("cgroup.max.depth")).unwrap();
    assert_eq!(depth, "5\n");
}

/// Runs the tests for hosts with cgroup v2 only on a hybrid host: in a mount namespace with
/// cgroup v2 only, and with the controllers that v1 does not use.
#[test]
fn tests_of_v2_alone_pass_in_a_mount_namespace() {
    if !has(&["", "cpu"]) {
        return;
    }
    let _enabled = EnabledControllers::restore_at_end();
    let script = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" pure_ --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    let output = command
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    eprintln!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("needs a host with cgroup v2 only"), "{text}");
}

fn read(cgroup: &Cgroup, name: &str) -> String {
    file(cgroup, "", name)
}

#[test]
fn pure_a_cgroup_is_made_joined_and_removed() {
    if !has_v2_only(&[]) {
        return;
    }
    let name = unique("life");
    let mut cgroup = prepare(&plan(&format!("{name}/a"), Limits::default())).unwrap();
    assert!(cgroup.clone_target().unwrap().is_some());
    let all = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert_eq!(read(&cgroup, "cgroup.controllers"), all.trim_end());
    let mut sleeper = Sleeper::new();
    cgroup
        .enter(
            sleeper.pid(),
            Entered {
                v1: false,
                v2: true,
            },
        )
        .unwrap();
    assert_eq!(cgroup.processes().unwrap(), Vec::<i32>::new());
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.number())).unwrap();
    assert!(
        seen.lines().any(|line| line == format!("0::/{name}/a")),
        "{seen}"
    );
    let layout = teu_cgroups::locate()
        .unwrap()
        .layout(&plan(&format!("{name}/a"), Limits::default()));
    let Layout::V2 {
        directory,
        mountpoint,
        ..
    } = layout
    else {
        panic!("{layout:?}");
    };
    assert_eq!(directory, Path::new("/sys/fs/cgroup").join(&name).join("a"));
    assert_eq!(mountpoint, Path::new("/sys/fs/cgroup"));
    let again = prepare(&plan(&format!("{name}/a"), Limits::default())).unwrap_err();
    assert!(
        again
            .to_string()
            .ends_with("not empty: 1 process(es) found"),
        "{again}"
    );
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    cgroup.freeze().unwrap();
    let again = prepare(&plan(&format!("{name}/a/b"), Limits::default())).unwrap_err();
    assert!(
        again.to_string().ends_with("unexpectedly frozen"),
        "{again}"
    );
    drop(cgroup);
    assert!(!Path::new("/sys/fs/cgroup").join(&name).exists());
}

#[test]
fn pure_limits_reach_the_kernel() {
    if !has_v2_only(&["cpu", "cpuset", "memory", "pids", "io"]) {
        return;
    }
    let cgroup = prepare(&plan(&unique("limits"), Limits::default())).unwrap();
    let mut limits = Limits {
        cpu: CpuLimits {
            shares: Some(512),
            quota: Some(20_000),
            period: Some(50_000),
            burst: Some(10_000),
            cpus: "0".into(),
            mems: "0".into(),
            ..Default::default()
        },
        memory: MemoryLimits {
            limit: Some(64 << 20),
            swap: Some(96 << 20),
            reservation: Some(32 << 20),
            swappiness: Some(10),
            ..Default::default()
        },
        pids: Some(0),
        block_io: BlockIoLimits {
            weight: Some(500),
            ..Default::default()
        },
        unified: [("memory.high".to_owned(), "50331648".to_owned())].into(),
        ..Default::default()
    };
    let ignored = cgroup.apply(&limits).unwrap();
    assert_eq!(ignored.len(), 1, "{ignored:?}");
    assert_eq!(ignored[0].field, "memory.swappiness");
    let expected = [
        ("cpu.weight", "59"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("pids.max", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(read(&cgroup, name), value, "{name}");
    }
    let swap = cgroup
        .saved_paths()
        .get("")
        .unwrap()
        .join("memory.swap.max");
    if swap.exists() {
        assert_eq!(read(&cgroup, "memory.swap.max"), "33554432");
    }
    // The old burst exceeds the new quota, and the new burst exceeds the old quota.
    limits.cpu = CpuLimits {
        quota: Some(5000),
        burst: Some(1000),
        ..Default::default()
    };
    cgroup.apply(&limits).unwrap();
    limits.cpu = CpuLimits {
        quota: Some(50_000),
        burst: Some(9000),
        ..Default::default()
    };
    cgroup.apply(&limits).unwrap();
    assert_eq!(read(&cgroup, "cpu.max"), "50000 100000");
    limits.cpu = CpuLimits {
        idle: Some(1),
        shares: Some(100),
        ..Default::default()
    };
    let ignored = cgroup.apply(&limits).unwrap();
    assert_eq!(ignored.len(), 2, "{ignored:?}");
    assert_eq!(read(&cgroup, "cpu.idle"), "1");
    limits.cpu = CpuLimits {
        idle: Some(0),
        shares: Some(100),
        ..Default::default()
    };
    limits.memory = MemoryLimits {
        limit: Some(-1),
        ..Default::default()
    };
    cgroup.apply(&limits).unwrap();
    assert_eq!(read(&cgroup, "cpu.weight"), "17");
    assert_eq!(read(&cgroup, "memory.max"), "max");
}

#[test]
fn pure_hugetlb_limits_reach_the_kernel() {
    if !has_v2_only(&["hugetlb"]) {
        return;
    }
    let limits = Limits {
        hugetlb: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 4 << 20,
        }],
        ..Default::default()
    };
    let cgroup = prepare(&plan(&unique("hugetlb"), limits.clone())).unwrap();
    assert!(cgroup.apply(&limits).unwrap().is_empty());
    assert_eq!(read(&cgroup, "hugetlb.2MB.max"), "4194304");
    assert_eq!(read(&cgroup, "hugetlb.2MB.rsvd.max"), "4194304");
}

#[test]
fn pure_memory_is_checked_before_an_update() {
    if !has_v2_only(&["memory"]) {
        return;
    }
    let mut cgroup = prepare(&plan(&unique("check"), Limits::default())).unwrap();
    let mut sleeper = Sleeper::waiting_in_shell();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    sleeper.let_shell_allocate();
    let memory = MemoryLimits {
        limit: Some(4096),
        check_before_update: true,
        ..Default::default()
    };
    let error = cgroup
        .apply(&Limits {
            memory,
            ..Default::default()
        })
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("rejecting memory limit 4096 <= usage "),
        "{error}"
    );
    drop(sleeper);
}

#[test]
fn pure_wrong_values_are_named() {
    if !has_v2_only(&["cpuset"]) {
        return;
    }
    let cgroup = prepare(&plan(&unique("wrong"), Limits::default())).unwrap();
    let cpu = CpuLimits {
        cpus: "x".into(),
        ..Default::default()
    };
    let error = cgroup
        .apply(&Limits {
            cpu,
            ..Default::default()
        })
        .unwrap_err();
    let words = teu_errno::line(&error);
    assert!(words.starts_with("cpu.cpus: write \"x\" to \""), "{words}");
    assert!(
        words.ends_with("/cpuset.cpus\": invalid argument"),
        "{words}"
    );
}

#[test]
fn pure_below_a_threaded_cgroup() {
    if !has_v2_only(&[]) {
        return;
    }
    let outer = Unified::new("threaded");
    std::fs::write(outer.path.join("cgroup.type"), "threaded").unwrap();
    let name = outer.path.file_name().unwrap().to_str().unwrap();
    let memory = MemoryLimits {
        limit: Some(4096),
        ..Default::default()
    };
    let limits = Limits {
        memory,
        ..Default::default()
    };
    let error = prepare(&plan(&format!("{name}/a/b"), limits)).unwrap_err();
    let words = teu_errno::line(&error);
    assert!(words.starts_with("memory.limit: "), "{words}");
    assert!(words.contains("it is in an invalid state"), "{words}");
    assert!(!outer.path.join("a").exists());
    // Without such limits the cgroup becomes threaded too, and takes processes.
    let mut cgroup = prepare(&plan(&format!("{name}/a/b"), Limits::default())).unwrap();
    assert_eq!(read(&cgroup, "cgroup.type"), "threaded");
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), Entered::default()).unwrap();
    assert_eq!(cgroup.processes().unwrap(), [sleeper.number()]);
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
}
