//! The container's cgroup: its path, its basic limits, its processes, and its removal.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::*;

tests![
    limits_reach_the_container,
    cgroup_is_named_after_the_container,
    cgroups_path_is_followed,
    pids_limit_holds,
    memory_limit_holds,
    cpuset_holds,
    cgroup_is_removed_with_its_children,
    limit_of_a_missing_controller_is_refused,
    init_is_born_in_its_cgroup,
    nobody_is_moved_to_a_v1_cgroup,
    process_that_cannot_go_there_is_moved,
];

/// The cgroup of `pid` in the hierarchy of `controller`.
fn directory(pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |controller: &str| {
        let fields = text.lines().map(|line| line.splitn(3, ':').skip(1));
        let mut hierarchies =
            fields.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
        // systemd mounts "cpu,cpuacct" together, with a link for each.
        let has = |names: &str| names.split(',').any(|name| name == controller);
        hierarchies.find_map(|(names, path)| has(names).then_some(path))
    };
    match path(controller) {
        Some(path) => PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}")),
        None => PathBuf::from(format!("/sys/fs/cgroup{}", path("").unwrap())),
    }
}

fn limits_reach_the_container() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("cpuset"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let bundle = Bundle::new()
        .set(
            "/linux/resources/cpu",
            json!({ "shares": 512, "cpus": "0", "mems": "0" }),
        )
        .set("/linux/resources/memory/limit", 64 << 20)
        .set("/linux/resources/pids/limit", 40);
    let seen = bundle.run().probe();
    let is_v1 = seen["cgroup"]["shares"] == "512";
    assert!(
        is_v1 || seen["cgroup"]["shares"] == "59",
        "{}",
        seen["cgroup"]
    );
    assert_eq!(seen["cgroup"]["cpus"], "0");
    assert_eq!(seen["cgroup"]["mems"], "0");
    assert_eq!(seen["cgroup"]["memory"], (64 << 20).to_string());
    assert_eq!(seen["cgroup"]["pids"], "40");
    assert_eq!(seen["cpu_affinity"], json!([0]));
}

fn cgroup_is_named_after_the_container() {
    needs(&[Root, Controller("pids")]);
    let container = Container::created(Bundle::new());
    for controller in ["cpu", "memory", "pids", "devices", "freezer"] {
        let directory = directory(container.pid(), controller);
        assert!(
            directory.ends_with(&container.id),
            "{}",
            directory.display()
        );
        let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
        assert_eq!(pids, format!("{}\n", container.pid()));
    }
}

fn cgroups_path_is_followed() {
    needs(&[Root, Controller("pids")]);
    let path = format!("/{}top/deep/box", marker());
    let container = Container::created(Bundle::new().set("/linux/cgroupsPath", path.as_str()));
    let place = directory(container.pid(), "pids");
    assert!(place.ends_with(path.trim_start_matches('/')), "{place:?}");
    container.delete().ok();
    assert!(!place.exists());
    // The runtime does not remove cgroups that it made above the container's, because other
    // containers may use them by now. The test removes them.
    let top = path.split('/').nth(1).unwrap();
    let below = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let hierarchies = below.map(|entry| entry.path());
    for hierarchy in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        for left in [format!("{top}/deep"), top.to_owned()] {
            let left = hierarchy.join(left);
            assert!(
                !left.exists() || fs::remove_dir(&left).is_ok(),
                "{}",
                left.display()
            );
        }
    }
}

fn pids_limit_holds() {
    needs(&[Root, Controller("pids")]);
    let bundle = Bundle::new().set("/linux/resources/pids/limit", 3);
    let output = bundle.probe("fork 2; fork 1").run().exits(1);
    assert_eq!(output.answers()[1], json!({ "errno": "EAGAIN" }));
}

fn memory_limit_holds() {
    needs(&[Root, Controller("memory")]);
    let limited = || Bundle::new().set("/linux/resources/memory/limit", 32 << 20);
    limited().probe("allocate 1000000").run().ok();
    limited().probe("allocate 100000000").run().exits(137);
}

fn cpuset_holds() {
    needs(&[Root, Controller("cpuset")]);
    let bundle = Bundle::new().set("/linux/resources/cpu", json!({ "cpus": "0", "mems": "0" }));
    assert_eq!(bundle.probe("spin 0.2").run().answer()["cpus"], json!([0]));
}

fn cgroup_is_removed_with_its_children() {
    needs(&[Root, Controller("pids")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let directory = directory(container.pid(), "pids");
    fs::create_dir(directory.join("below")).unwrap();
    container.delete_force().ok();
    assert!(!directory.exists());
}

fn limit_of_a_missing_controller_is_refused() {
    needs(&[Root, Teu]);
    let limits = json!({ "mlx5_1": { "hcaHandles": 3 } });
    let bundle = Bundle::new().set("/linux/resources/rdma", limits);
    bundle.run().exits(1).says("linux.resources.rdma");
}

/// Moving a process locks the whole machine (cgroup_threadgroup_rwsem) for milliseconds.
/// CLONE_INTO_CGROUP does not (clone3(2), Linux 5.7).
fn init_is_born_in_its_cgroup() {
    needs(&[Root, CgroupV2, Tool("strace"), Teu, Controller("pids")]);
    let bundle = Bundle::new().set("/linux/resources/pids/limit", 40);
    let container = Container::new(bundle);
    let log = scratch().join("strace");
    let strace = Invocation::new("strace")
        .args(["--follow-forks", "--trace=clone3,open,openat,openat2"])
        .arg("--output")
        .arg(&log);
    let run = strace.arg(runtime()).arg("--root").arg(state_root());
    let run = run
        .arg("run")
        .arg("--bundle")
        .arg(&container.bundle.directory);
    assert_eq!(
        run.arg(&container.id).output().probe()["cgroup"]["pids"],
        "40"
    );
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("CLONE_INTO_CGROUP"), "{log}");
    assert!(!log.contains("cgroup.procs"), "{log}");
}

/// Moving another process makes the kernel wait.
fn nobody_is_moved_to_a_v1_cgroup() {
    needs(&[Root, CgroupV1, Tool("strace"), Teu, Controller("pids")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let exec = container.command("exec", NO_FLAGS);
    let other = Container::new(Bundle::new().args(["/probe", "read", "/proc/self/cgroup"]));
    for (name, call) in [
        ("exec", exec.args(["/probe", "read", "/proc/self/cgroup"])),
        ("run", other.command("run", NO_FLAGS)),
    ] {
        let log = scratch().join(name);
        let strace = [
            "strace",
            "--follow-forks",
            "--trace=open,openat",
            "--output",
        ];
        let strace = strace.map(PathBuf::from).into_iter().chain([log.clone()]);
        let seen = call.behind(strace).output().ok().answer();
        // The cgroup is below the runtime's where systemd gave it one.
        let mut own = seen.as_str().unwrap().lines();
        assert!(
            own.any(|line| line.contains(":pids:/") && line.contains("/teu-test")),
            "{seen}"
        );
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("/tasks\", O_WRONLY"), "{log}");
        assert!(!log.contains("cgroup.procs\", O_WRONLY"), "{log}");
    }
}

fn process_that_cannot_go_there_is_moved() {
    needs(&[Root, CgroupV1, Controller("pids")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let directory = directory(container.pid(), "pids");
    // Writing to /dev/full fails.
    let _full = Mounted::bind(Path::new("/dev/full"), directory.join("tasks"));
    let call = container.command("exec", ["--detach"]);
    container.detach(call.args(["/probe", "sleep"])).ok();
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert_eq!(processes.lines().count(), 2);
}
