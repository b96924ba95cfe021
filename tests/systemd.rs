//! Cgroups that systemd makes, and containers without cgroups: `--systemd-cgroup` and
//! `--cgroup-manager`. The effects are read from systemctl(1), the kernel and the container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::*;
use crate::{cdi, hotplug};

tests![
    without_systemd_it_is_refused,
    a_scope_holds_the_container,
    slice_prefix_and_name_are_followed,
    a_slice_can_be_the_container,
    names_that_no_unit_can_have_are_refused,
    limits_are_known_to_systemd_and_to_the_kernel,
    the_quota_is_rounded_as_systemd_does,
    a_period_without_a_quota_holds,
    an_update_keeps_what_systemd_does_not_know,
    a_memory_limit_through_systemd_that_kills_says_so,
    an_update_reaches_systemd_and_the_files,
    a_refused_update_is_taken_back,
    unified_files_are_known_to_systemd,
    devices_survive_a_reload,
    devices_by_name_survive_a_reload,
    denied_devices_stay_denied_after_a_reload,
    a_container_has_every_controller,
    a_writable_cgroup_belongs_to_the_container,
    annotations_are_properties,
    what_is_decided_elsewhere_is_no_annotation,
    a_unit_that_failed_goes_with_its_container,
    further_processes_join_the_scope,
    a_scope_is_paused_killed_and_listed_without_the_flag,
    a_unit_that_is_there_is_not_touched,
    a_frozen_cgroup_is_refused,
    a_failed_creation_leaves_no_unit,
    without_a_bus_nothing_is_left,
    a_cgroup_of_its_own_belongs_to_the_container,
    a_user_has_scopes_of_its_own,
    a_users_limits_hold,
    root_of_a_user_namespace_asks_the_users_systemd,
    without_cgroups_the_container_stays_where_it_is,
];

const SYSTEMD: [&str; 1] = ["--systemd-cgroup"];

/// A sleeping container, created with the flag.
#[track_caller]
fn created(bundle: Bundle) -> Container {
    let container = Container::new(bundle.probe("sleep"));
    container.create_with(SYSTEMD).ok();
    container
}

#[track_caller]
fn running(bundle: Bundle) -> Container {
    let container = created(bundle);
    container.start().ok();
    container
}

fn systemctl<const N: usize>(args: [&str; N]) -> Output {
    let call = Invocation::new("systemctl");
    let is_root = nix::unistd::geteuid().is_root();
    let call = if is_root { call } else { call.arg("--user") };
    call.args(args).output()
}

/// A property of a unit, as systemctl shows it.
#[track_caller]
fn property(unit: &str, name: &str) -> String {
    let shown = systemctl(["show", "--property", name, unit]).ok();
    let line = &shown.stdout;
    let (_, value) = line.trim_end().split_once('=').expect("name and value");
    value.to_owned()
}

#[track_caller]
fn assert_properties(unit: &str, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(property(unit, name), *value, "{name} of {unit}");
    }
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The directory of the container's cgroup that has this controller.
fn directory(pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        let is_it = match is_v2() {
            true => names.is_empty(),
            false => names.split(',').any(|name| name == controller),
        };
        is_it.then(|| fields.next()).flatten()
    });
    let path = path.unwrap().trim_start_matches('/');
    match is_v2() {
        true => Path::new("/sys/fs/cgroup").join(path),
        false => Path::new("/sys/fs/cgroup").join(controller).join(path),
    }
}

#[track_caller]
fn assert_file(directory: &Path, name: &str, expected: &str) {
    let text = fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(text.trim_end(), expected, "{name}");
}

/// Asserts that the unit is not loaded and that its cgroup is removed.
#[track_caller]
fn assert_gone(unit: &str, container: &Container) {
    // systemctl may fail with "no such unit".
    wait_until("the unit is gone", || {
        systemctl(["status", unit]).status.code() == Some(4)
    });
    assert!(!container.has_state());
}

fn without_systemd_it_is_refused() {
    needs(&[NoSystemd, Root]);
    for flag in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        let container = Container::new(Bundle::new());
        container
            .create_with([flag])
            .exits(1)
            .says("systemd not running on this host, cannot use systemd cgroups manager");
        assert!(!container.has_state());
    }
}

fn a_scope_holds_the_container() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let container = created(Bundle::new());
    let unit = format!("teu-{}.scope", container.id);
    let pid = container.pid();
    let place = format!("system.slice/{unit}");
    for controller in ["pids", "memory", "cpuset", "freezer"] {
        if !is_v2() && !Path::new("/sys/fs/cgroup").join(controller).exists() {
            continue;
        }
        let directory = directory(pid, controller);
        assert!(directory.ends_with(&place), "{}", directory.display());
    }
    assert_properties(
        &unit,
        &[
            ("ActiveState", "active"),
            ("Slice", "system.slice"),
            ("Description", &format!("teu container {}", container.id)),
            ("Delegate", "yes"),
            ("NeedDaemonReload", "no"),
        ],
    );
    let pids = directory(pid, "pids");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    assert_gone(&unit, &container);
    assert!(!pids.exists());
}

fn slice_prefix_and_name_are_followed() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let pod = marker().replace('-', "_");
    let path = format!("machine-{pod}.slice:box:{}1", marker());
    let container = created(Bundle::new().set("/linux/cgroupsPath", path.as_str()));
    let unit = format!("box-{}1.scope", marker());
    let place = format!("machine.slice/machine-{pod}.slice/{unit}");
    let directory = directory(container.pid(), "pids");
    assert!(directory.ends_with(&place), "{}", directory.display());
    assert_eq!(property(&unit, "Slice"), format!("machine-{pod}.slice"));
    container.delete_force().ok();
    assert_gone(&unit, &container);
    systemctl(["stop", &format!("machine-{pod}.slice")]).ok();
}

fn a_slice_can_be_the_container() {
    needs(&[Seconds(120), Systemd, Root, Teu, Tool("systemctl")]);
    let unit = format!("{}.slice", marker().replace('-', "_"));
    let path = format!("::{unit}");
    let container = running(Bundle::new().set("/linux/cgroupsPath", path.as_str()));
    let directory = directory(container.pid(), "pids");
    assert!(directory.ends_with(&unit), "{}", directory.display());
    assert_eq!(property(&unit, "ActiveState"), "active");
    container.delete_force().ok();
    // Systemd loads any slice, so no slice is unknown to it.
    assert_eq!(property(&unit, "ActiveState"), "inactive");
    assert!(!directory.exists());
}

fn names_that_no_unit_can_have_are_refused() {
    needs(&[Seconds(120), Systemd, Root]);
    for (path, words) in [
        ("/a/b", "expected cgroupsPath to be of format"),
        ("a:b", "expected cgroupsPath to be of format"),
        ("x--y.slice:p:n", "invalid slice name: x--y.slice"),
        ("x.scope:p:n", "invalid slice name: x.scope"),
    ] {
        let container = Container::new(Bundle::new().set("/linux/cgroupsPath", path));
        container.create_with(SYSTEMD).exits(1).says(words);
        assert!(!container.has_state());
    }
}

fn limits_are_known_to_systemd_and_to_the_kernel() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("memory"),
        Controller("cpuset"),
        Controller("pids"),
    ]);
    let bundle = Bundle::new()
        .set(
            "/linux/resources/memory",
            json!({ "limit": 64 << 20, "reservation": 32 << 20 }),
        )
        .set(
            "/linux/resources/cpu",
            json!({ "shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0" }),
        )
        .set("/linux/resources/pids/limit", 40);
    let container = created(bundle);
    let unit = format!("teu-{}.scope", container.id);
    let file = |controller, name: &str, value| {
        assert_file(&directory(container.pid(), controller), name, value);
    };
    let both = [
        ("TasksMax", "40"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUQuotaPeriodUSec", "200ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
    ];
    assert_properties(&unit, &both);
    file("pids", "pids.max", "40");
    file("cpuset", "cpuset.cpus", "0");
    if is_v2() {
        assert_properties(
            &unit,
            &[
                ("MemoryMax", "67108864"),
                ("MemoryLow", "33554432"),
                ("CPUWeight", "59"),
            ],
        );
        file("memory", "memory.max", "67108864");
        file("memory", "memory.low", "33554432");
        file("cpu", "cpu.weight", "59");
        file("cpu", "cpu.max", "50000 200000");
    } else {
        assert_properties(&unit, &[("MemoryLimit", "67108864"), ("CPUShares", "512")]);
        file("memory", "memory.limit_in_bytes", "67108864");
        file("memory", "memory.soft_limit_in_bytes", "33554432");
        file("cpu", "cpu.shares", "512");
        file("cpu", "cpu.cfs_quota_us", "50000");
        file("cpu", "cpu.cfs_period_us", "200000");
    }
    // A reload does not undo limits that systemd knows.
    systemctl(["daemon-reload"]).ok();
    file("pids", "pids.max", "40");
    match is_v2() {
        true => file("cpu", "cpu.max", "50000 200000"),
        false => file("cpu", "cpu.cfs_quota_us", "50000"),
    }
}

fn the_quota_is_rounded_as_systemd_does() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("cpu"),
    ]);
    let cpu = json!({ "quota": 33_333, "period": 100_000 });
    let container = created(Bundle::new().set("/linux/resources/cpu", cpu));
    let unit = format!("teu-{}.scope", container.id);
    assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "340ms");
    let directory = directory(container.pid(), "cpu");
    match is_v2() {
        true => assert_file(&directory, "cpu.max", "34000 100000"),
        false => assert_file(&directory, "cpu.cfs_quota_us", "34000"),
    }
}

/// Systemd has no property for the period, and rewrites the files when it is told the device
/// rules. On v1 it was also seen to do that while other units started.
fn a_period_without_a_quota_holds() {
    needs(&[
        Alone,
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("cpu"),
    ]);
    let cpu = json!({ "period": 1_000_000 });
    let container = created(Bundle::new().set("/linux/resources/cpu", cpu));
    let unit = format!("teu-{}.scope", container.id);
    assert_eq!(property(&unit, "CPUQuotaPeriodUSec"), "1s");
    assert_period(&container, "1000000");
}

/// Asserts the period, without a quota.
#[track_caller]
fn assert_period(container: &Container, period: &str) {
    let directory = directory(container.pid(), "cpu");
    match is_v2() {
        true => assert_file(&directory, "cpu.max", &format!("max {period}")),
        false => assert_file(&directory, "cpu.cfs_period_us", period),
    }
}

/// When systemd is told a single limit, it writes everything it knows about the unit.
fn an_update_keeps_what_systemd_does_not_know() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Controller("cpu"),
        Controller("pids"),
    ]);
    let container = running(Bundle::new());
    let update = |args: &[&str]| container.command("update", NO_FLAGS).args(args).output();
    let assert_period = || assert_period(&container, "50000");
    update(&["--cpu-period", "50000"]).ok();
    update(&["--cpu-quota", "-1"]).ok();
    assert_period();
    update(&["--cpu-share", "512"]).ok();
    assert_period();
    update(&["--pids-limit", "50"]).ok();
    assert_period();
    // An update that fails after systemd was told a part of it.
    update(&["--cpu-share", "256", "--cpuset-cpus", "4095"]).exits(1);
    assert_period();
    let rules = json!({ "devices": [
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ] });
    let devices = container.command("update", ["--resources", "-"]);
    devices.stdin(rules.to_string()).output().ok();
    assert_period();
}

/// The unit may be gone when systemd is told the limit. Then the update succeeds, as without
/// systemd.
fn a_memory_limit_through_systemd_that_kills_says_so() {
    needs(&[Seconds(120), Systemd, Root, CgroupV2, Controller("memory")]);
    let container = running(Bundle::new());
    let update = container.command("update", ["--memory", "1"]).output();
    update.ok().says("of the container's processes");
    container.wait_for_status("stopped");
}

fn an_update_reaches_systemd_and_the_files() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let container = running(Bundle::new().set("/linux/resources/pids/limit", 40));
    let unit = format!("teu-{}.scope", container.id);
    let update = container.command("update", NO_FLAGS);
    let limits = [
        "--pids-limit",
        "20",
        "--memory",
        "64M",
        "--cpu-share",
        "512",
    ];
    update.args(limits).output().ok();
    assert_properties(&unit, &[("TasksMax", "20"), ("NeedDaemonReload", "no")]);
    let file = |controller, name: &str, value| {
        assert_file(&directory(container.pid(), controller), name, value);
    };
    file("pids", "pids.max", "20");
    if is_v2() {
        assert_properties(&unit, &[("MemoryMax", "67108864"), ("CPUWeight", "59")]);
        file("memory", "memory.max", "67108864");
        file("cpu", "cpu.weight", "59");
    } else {
        assert_properties(&unit, &[("MemoryLimit", "67108864"), ("CPUShares", "512")]);
        file("memory", "memory.limit_in_bytes", "67108864");
        file("cpu", "cpu.shares", "512");
    }
    // No device is lost, and a new device stays.
    let rules = json!({ "devices": [
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm" },
    ] });
    let update = container.command("update", ["--resources", "-"]);
    update.stdin(rules.to_string()).output().ok();
    let mknod = container.command("exec", NO_FLAGS);
    mknod
        .args(["/probe", "mknod", "/dev/kmsg", "c", "1", "11"])
        .output();
    for _ in 0..2 {
        open(&container, "/dev/null", "rw").ok();
        open(&container, "/dev/full", "w").ok();
        systemctl(["daemon-reload"]).ok();
        file("pids", "pids.max", "20");
    }
    let allowed = property(&unit, "DeviceAllow");
    assert!(allowed.contains("/dev/char/1:11 rwm"), "{allowed}");
    assert_eq!(container.status(), "running");
}

fn a_refused_update_is_taken_back() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("cpuset"),
        Controller("pids"),
    ]);
    let container = running(Bundle::new().set("/linux/resources/pids/limit", 40));
    let unit = format!("teu-{}.scope", container.id);
    let update = container.command("update", NO_FLAGS);
    let limits = ["--pids-limit", "20", "--cpuset-cpus", "4095"];
    update
        .args(limits)
        .output()
        .exits(1)
        .says("linux.resources.cpu.cpus");
    assert_file(&directory(container.pid(), "pids"), "pids.max", "40");
    assert_eq!(property(&unit, "TasksMax"), "40");
    systemctl(["daemon-reload"]).ok();
    assert_file(&directory(container.pid(), "pids"), "pids.max", "40");
    assert_eq!(property(&unit, "AllowedCPUs"), "");
}

fn unified_files_are_known_to_systemd() {
    needs(&[Seconds(120), Systemd, Root, CgroupV2, Tool("systemctl")]);
    let files = json!({
        "memory.min": "131072", "memory.low": "524288", "memory.high": "20M",
        "memory.max": "41943040", "memory.oom.group": "1", "pids.max": "99",
        "cpu.max": "20000 100000", "cpu.weight": "33", "cpuset.cpus": "0",
    });
    let container = created(Bundle::new().set("/linux/resources/unified", files));
    let unit = format!("teu-{}.scope", container.id);
    assert_properties(
        &unit,
        &[
            ("MemoryMin", "131072"),
            ("MemoryLow", "524288"),
            ("MemoryHigh", "20971520"),
            ("MemoryMax", "41943040"),
            ("OOMPolicy", "kill"),
            ("TasksMax", "99"),
            ("CPUQuotaPerSecUSec", "200ms"),
            ("CPUWeight", "33"),
            ("AllowedCPUs", "0"),
        ],
    );
    let directory = directory(container.pid(), "");
    assert_file(&directory, "memory.high", "20971520");
    assert_file(&directory, "memory.oom.group", "1");
    assert_file(&directory, "cpu.max", "20000 100000");
}

/// Opens a device in an exec.
#[track_caller]
fn open(container: &Container, path: &str, access: &str) -> Output {
    let exec = container.command("exec", NO_FLAGS);
    exec.args(["/probe", "open", path, access]).output()
}

fn devices_survive_a_reload() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let rules = json!([
        { "allow": false, "access": "rwm" },
        // A rule that systemd cannot express.
        { "allow": true, "type": "c", "minor": 11, "access": "w" },
    ]);
    let kmsg =
        json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 });
    let plain = Bundle::new().push("/linux/devices", kmsg.clone());
    let container = running(plain);
    let unit = format!("teu-{}.scope", container.id);
    for _ in 0..3 {
        assert_properties(
            &unit,
            &[("NeedDaemonReload", "no"), ("DevicePolicy", "strict")],
        );
        open(&container, "/dev/null", "rw").ok();
        open(&container, "/dev/full", "w").ok();
        let refused = open(&container, "/dev/kmsg", "w").exits(1).answer();
        assert_eq!(refused, "EPERM");
        systemctl(["daemon-reload"]).ok();
    }
    if !is_v2() {
        return;
    }
    let bundle = Bundle::new()
        .push("/linux/devices", kmsg)
        .set("/linux/resources/devices", rules);
    let container = running(bundle);
    for _ in 0..2 {
        open(&container, "/dev/null", "rw").ok();
        open(&container, "/dev/kmsg", "w").ok();
        systemctl(["daemon-reload"]).ok();
    }
}

/// Devices of the creation and devices that were added later: systemd knows all of them.
fn devices_by_name_survive_a_reload() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    cdi::describe_nodes();
    let container = Container::new(Bundle::new().probe("sleep"));
    let create = cdi::asking(&container, "create").arg_before_last("--systemd-cgroup");
    container.detach(create).ok();
    container.start().ok();
    let unit = format!("teu-{}.scope", container.id);
    let node = scratch().join("later");
    hotplug::make_node(&node, 9);
    let device = format!("{}:/dev/later", node.display());
    let update = |words: &[&str]| container.command("update", words).output().ok();
    let assert_there = |paths: &str, expected: &[&str]| {
        assert_eq!(cdi::opens(&container, paths), expected);
        assert_properties(&unit, &[("NeedDaemonReload", "no")]);
        systemctl(["daemon-reload"]).ok();
        assert_eq!(cdi::opens(&container, paths), expected);
        assert_properties(&unit, &[("NeedDaemonReload", "no")]);
    };
    assert_there(cdi::OPENS, &cdi::OPENED);
    update(&["--device-add", &device]);
    let modes = format!("{}; open /dev/later rw", cdi::OPENS);
    let there = [&cdi::OPENED[..], &["ENXIO"]].concat();
    assert_there(&modes, &there);
    let allowed = property(&unit, "DeviceAllow");
    let named = format!("/dev/char/{}:", cdi::NOTHING);
    assert!(allowed.contains(&format!("{named}9 rwm")), "{allowed}");
    update(&["--pids-limit", "40"]);
    assert_there(&modes, &there);
    // A change of the unit in systemd makes it rewrite them, too.
    systemctl(["set-property", "--runtime", &unit, "TasksMax=50"]).ok();
    assert_there(&modes, &there);
    update(&[
        "--device-rm",
        "/dev/later",
        "--device-rm",
        "vendor.com/gpu=0",
    ]);
    let allowed = property(&unit, "DeviceAllow");
    assert!(!allowed.contains(&named), "{allowed}");
    assert_there(&modes, &["ENOENT"; 7]);
}

fn denied_devices_stay_denied_after_a_reload() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let rules = json!([
        { "allow": true, "access": "rwm" },
        { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ]);
    let kmsg =
        json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 });
    let container = Container::new(
        Bundle::new()
            .push("/linux/devices", kmsg)
            .set("/linux/resources/devices", rules)
            .probe("sleep"),
    );
    let created = container.create_with(SYSTEMD).ok();
    if !is_v2() {
        created.says("systemd cannot express a rule to allow everything but a few devices");
    }
    container.start().ok();
    open(&container, "/dev/null", "rw").ok();
    open(&container, "/dev/kmsg", "w").exits(1);
    systemctl(["daemon-reload"]).ok();
    open(&container, "/dev/kmsg", "w").exits(1);
    if is_v2() {
        open(&container, "/dev/null", "rw").ok();
    }
}

/// Includes controllers that systemd does not delegate, such as hugetlb and rdma.
fn a_container_has_every_controller() {
    needs(&[Seconds(120), Systemd, Root, CgroupV2]);
    let container = created(Bundle::new());
    let directory = directory(container.pid(), "");
    let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert_file(&directory, "cgroup.controllers", all.trim_end());
}

/// Only a container with namespaces of its own that mounts its cgroup writable gets it, and only
/// the files with which it makes cgroups below: its limits stay the host's.
fn a_writable_cgroup_belongs_to_the_container() {
    needs(&[Seconds(120), Systemd, Root, CgroupV2, UserNamespaces]);
    let bundle = |options: &[&str]| {
        let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        let bundle = Bundle::new().user_namespace().namespace("cgroup");
        bundle.without_mount("/sys/fs/cgroup").mount(mount)
    };
    let makes = "mkdir /sys/fs/cgroup/below";
    let limits = "write /sys/fs/cgroup/memory.max max";
    let owners = |container: &Container| {
        let directory = directory(container.pid(), "");
        let files = ["", "cgroup.procs", "cgroup.subtree_control", "memory.max"];
        files.map(|file| fs::metadata(directory.join(file)).unwrap().uid())
    };
    let writable = running(bundle(&["rw"]));
    assert_eq!(owners(&writable), [100_000, 100_000, 100_000, 0]);
    assert_eq!(
        cdi::opens(&writable, &format!("{makes}; {limits}")),
        ["ok", "EACCES"]
    );
    let readonly = running(bundle(&["ro"]));
    assert_eq!(owners(&readonly), [0; 4]);
    assert_eq!(cdi::opens(&readonly, makes), ["EROFS"]);
}

fn annotations_are_properties() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let annotations = json!({
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
    });
    let container = created(Bundle::new().set("/annotations", annotations));
    let unit = format!("teu-{}.scope", container.id);
    assert_properties(
        &unit,
        &[
            ("TimeoutStopUSec", "7s"),
            ("CollectMode", "inactive-or-failed"),
        ],
    );
    for (name, value, words) in [
        (
            "TimeoutStopSec",
            "'7'",
            "org.systemd.property.TimeoutStopSec",
        ),
        ("NoSuchThing", "1", "NoSuchThing"),
    ] {
        let annotations = json!({ format!("org.systemd.property.{name}"): value });
        let container = Container::new(Bundle::new().set("/annotations", annotations));
        container.create_with(SYSTEMD).exits(1).says(words);
        assert_gone(&format!("teu-{}.scope", container.id), &container);
    }
}

/// An annotation is refused if its effect would be lost or would mislead, and obeyed if it only
/// differs from the default.
fn what_is_decided_elsewhere_is_no_annotation() {
    needs(&[
        Seconds(120),
        Systemd,
        Root,
        Tool("systemctl"),
        Controller("pids"),
    ]);
    let create = |name: &str, value: &str| {
        let bundle = Bundle::new().set("/linux/resources/pids/limit", 40).set(
            "/annotations",
            json!({ format!("org.systemd.property.{name}"): value }),
        );
        let container = Container::new(bundle.probe("sleep"));
        (container.create_with(SYSTEMD), container)
    };
    for (name, value) in [
        ("Slice", "'machine.slice'"),
        ("PIDs", "[uint32 1]"),
        ("Delegate", "false"),
        ("DevicePolicy", "'closed'"),
        ("TasksMax", "uint64 7"),
    ] {
        let (output, container) = create(name, value);
        output
            .exits(1)
            .says(&format!("org.systemd.property.{name}"));
        assert_gone(&format!("teu-{}.scope", container.id), &container);
    }
    for (name, value, shown) in [
        ("Description", "'a box'", "a box"),
        ("DefaultDependencies", "true", "yes"),
        ("TasksMax", "uint64 40", "40"),
    ] {
        let (output, container) = create(name, value);
        output.ok();
        let unit = format!("teu-{}.scope", container.id);
        assert_properties(&unit, &[(name, shown)]);
    }
}

fn a_unit_that_failed_goes_with_its_container() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let annotations = json!({
        "org.systemd.property.RuntimeMaxSec": "4",
        "org.systemd.property.TimeoutStopSec": "1",
    });
    let container = running(Bundle::new().set("/annotations", annotations));
    let unit = format!("teu-{}.scope", container.id);
    container.wait_for_status("stopped");
    wait_until("the unit has failed", || {
        property(&unit, "ActiveState") == "failed"
    });
    container.delete().ok();
    assert_gone(&unit, &container);
}

fn further_processes_join_the_scope() {
    needs(&[Seconds(120), Systemd, Root]);
    let container = running(Bundle::new());
    let init = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let file = scratch().join("pid");
    let exec = teu(["exec", "--detach", "--pid-file"]).arg(&file);
    exec.arg(&container.id)
        .args(["/probe", "sleep"])
        .output()
        .ok();
    let pid = fs::read_to_string(file).unwrap();
    let joined = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(joined, init);
}

fn a_scope_is_paused_killed_and_listed_without_the_flag() {
    needs(&[Seconds(120), Systemd, Root]);
    let container = running(Bundle::new());
    container.command("pause", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "paused");
    container.command("resume", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "running");
    let listed = container.command("ps", ["--format", "json"]).output().ok();
    assert_eq!(listed.json(), json!([container.pid()]));
    container.command("pause", NO_FLAGS).output().ok();
    container.delete_force().ok();
    assert_gone(&format!("teu-{}.scope", container.id), &container);
}

fn a_unit_that_is_there_is_not_touched() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let path = format!("system.slice:box:{}2", marker());
    let bundle = || Bundle::new().set("/linux/cgroupsPath", path.as_str());
    let first = running(bundle());
    let second = Container::new(bundle());
    second
        .create_with(SYSTEMD)
        .exits(1)
        .says("container's cgroup is not empty");
    assert!(!second.has_state());
    assert_eq!(first.status(), "running");
    let unit = format!("box-{}2.scope", marker());
    assert_eq!(property(&unit, "ActiveState"), "active");
}

/// Either the unit's own cgroup was left frozen, or the slice above it is frozen: init would
/// never answer.
fn a_frozen_cgroup_is_refused() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let slice = format!("{}.slice", marker().replace('-', "_"));
    let unit = format!("box-{}3.scope", marker());
    let top = match is_v2() {
        true => Path::new("/sys/fs/cgroup"),
        false => Path::new("/sys/fs/cgroup/freezer"),
    };
    for frozen in [top.join(&slice).join(&unit), top.join(&slice)] {
        let _cgroup = FrozenCgroup::new(&frozen);
        let path = format!("{slice}:box:{}3", marker());
        let container = Container::new(Bundle::new().set("/linux/cgroupsPath", path));
        container
            .create_with(SYSTEMD)
            .exits(1)
            .says("container's cgroup unexpectedly frozen");
        assert_gone(&unit, &container);
    }
}

/// A frozen cgroup without processes. Dropping it removes it.
struct FrozenCgroup(PathBuf);

impl FrozenCgroup {
    fn new(directory: &Path) -> FrozenCgroup {
        fs::create_dir_all(directory).unwrap();
        let (file, state) = match is_v2() {
            true => ("cgroup.freeze", "1"),
            false => ("freezer.state", "FROZEN"),
        };
        fs::write(directory.join(file), state).unwrap();
        FrozenCgroup(directory.to_owned())
    }
}

impl Drop for FrozenCgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).expect("nothing is left below");
    }
}

fn a_failed_creation_leaves_no_unit() {
    needs(&[Seconds(120), Systemd, Root, Tool("systemctl")]);
    let missing = Bundle::new().args(["/no-such-program"]);
    let refused = Bundle::new().set(
        "/linux/resources/hugepageLimits",
        json!([{ "pageSize": "3MB", "limit": 1 }]),
    );
    for bundle in [missing, refused] {
        let container = Container::new(bundle);
        container.create_with(SYSTEMD).exits(1);
        assert_gone(&format!("teu-{}.scope", container.id), &container);
    }
}

fn without_a_bus_nothing_is_left() {
    needs(&[Seconds(120), Systemd, Root, Teu]);
    let nowhere = "unix:path=/nonexistent/bus";
    let container = Container::new(Bundle::new());
    let create = container.command("create", SYSTEMD);
    let output = create
        .env("DBUS_SYSTEM_BUS_ADDRESS", nowhere)
        .output()
        .exits(1);
    output.says("no such file or directory");
    assert!(!container.has_state());
    // Over the bus instead of systemd's own socket.
    let bus = "unix:path=/run/dbus/system_bus_socket";
    let create = container
        .command("create", SYSTEMD)
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus);
    container.detach(create).ok();
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    // Without a bus, deleting fails as long as systemd must be asked.
    let delete = container.command("delete", NO_FLAGS);
    let deleted = delete.env("DBUS_SYSTEM_BUS_ADDRESS", nowhere).output();
    assert!(
        deleted.status.success() || deleted.stderr.contains("connect to"),
        "{deleted}"
    );
    container.delete_force().ok();
    assert_gone(&format!("teu-{}.scope", container.id), &container);
}

fn a_cgroup_of_its_own_belongs_to_the_container() {
    needs(&[Seconds(120), Systemd, Root, CgroupV2, UserNamespaces]);
    let mount = |access: &str| {
        json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", access],
        })
    };
    let owner = |bundle: Bundle, file: &str| {
        let container = running(bundle);
        let exec = container.command("exec", NO_FLAGS);
        let exec = exec.args(["/probe", "stat", &format!("/sys/fs/cgroup{file}")]);
        exec.output().ok().answer()["uid"].clone()
    };
    let bundle = |access: &str| {
        let bundle = Bundle::new()
            .without_mount("/sys/fs/cgroup")
            .user_namespace();
        bundle.mount(mount(access))
    };
    const NOBODY: u32 = 65_534;
    for (file, uid) in [("", 0), ("/cgroup.procs", 0), ("/memory.max", NOBODY)] {
        assert_eq!(
            owner(bundle("rw").namespace("cgroup"), file),
            json!(uid),
            "{file}"
        );
    }
    assert_eq!(owner(bundle("ro").namespace("cgroup"), ""), json!(NOBODY));
    // The container may now make cgroups below its own.
    let container = running(bundle("rw").namespace("cgroup"));
    let exec = container.command("exec", NO_FLAGS);
    exec.args(["/probe", "mkdir", "/sys/fs/cgroup/below"])
        .output()
        .ok();
    let below = directory(container.pid(), "").join("below");
    assert!(below.is_dir());
    container.delete_force().ok();
    assert!(!below.exists());
}

/// The output of `spec --rootless` as the user.
fn users_bundle(modes: &str) -> Bundle {
    let bundle = Bundle::new();
    let spec = Invocation::new(runtime()).args(["spec", "--rootless"]);
    spec.in_directory(&bundle.directory).output().ok();
    bundle.read().set("/process/terminal", false).probe(modes)
}

fn a_user_has_scopes_of_its_own() {
    needs(&[
        Seconds(120),
        UserSystemd,
        CgroupV2,
        UserNamespaces,
        Tool("systemctl"),
    ]);
    let container = Container::new(users_bundle("sleep"));
    container.create_with(SYSTEMD).ok();
    let unit = format!("teu-{}.scope", container.id);
    let uid = nix::unistd::geteuid();
    let place = format!("user-{uid}.slice/user@{uid}.service/user.slice/{unit}");
    let directory = directory(container.pid(), "");
    assert!(directory.ends_with(&place), "{}", directory.display());
    container.start().ok();
    // A user may not move a process there from its session: systemd does.
    let file = scratch().join("pid");
    let exec = teu(["exec", "--detach", "--pid-file"])
        .arg(&file)
        .arg(&container.id);
    exec.args(["/probe", "sleep"]).output().ok();
    let pid = fs::read_to_string(file).unwrap();
    let joined = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(joined.trim_end().ends_with(&place), "{joined}");
    container.command("pause", NO_FLAGS).output().ok();
    container.command("resume", NO_FLAGS).output().ok();
    container.delete_force().ok();
    assert_gone(&unit, &container);
    assert!(!directory.exists());
}

fn a_users_limits_hold() {
    needs(&[
        Seconds(120),
        UserSystemd,
        CgroupV2,
        UserNamespaces,
        Tool("systemctl"),
        Controller("pids"),
    ]);
    let bundle = users_bundle("sleep")
        .set("/linux/resources/memory/limit", 32 << 20)
        .set("/linux/resources/pids/limit", 9);
    let container = Container::new(bundle);
    // With systemd's own socket instead of the bus.
    let create = container.command("create", SYSTEMD);
    let create = create.without_env("DBUS_SESSION_BUS_ADDRESS");
    container.detach(create).ok();
    let unit = format!("teu-{}.scope", container.id);
    assert_properties(&unit, &[("MemoryMax", "33554432"), ("TasksMax", "9")]);
    let directory = directory(container.pid(), "");
    assert_file(&directory, "memory.max", "33554432");
    assert_file(&directory, "pids.max", "9");
}

fn root_of_a_user_namespace_asks_the_users_systemd() {
    needs(&[
        Seconds(120),
        UserSystemd,
        CgroupV2,
        UserNamespaces,
        Tool("unshare"),
    ]);
    let container = Container::new(
        users_bundle("report")
            .remove("/linux/uidMappings")
            .remove("/linux/gidMappings")
            .without_namespace("user")
            .without_namespace("cgroup"),
    );
    let call = Invocation::new("unshare")
        .args(["--map-root-user", "--"])
        .arg(runtime());
    let call = call
        .arg("--root")
        .arg(scratch().join("in-namespace"))
        .args(["--systemd-cgroup", "run"]);
    let call = call
        .arg("--bundle")
        .arg(&container.bundle.directory)
        .arg(&container.id);
    let seen = call.output().probe();
    let memberships = seen["cgroup"]["memberships"].to_string();
    assert!(
        memberships.contains(&format!("teu-{}.scope", container.id)),
        "{memberships}"
    );
}

fn without_cgroups_the_container_stays_where_it_is() {
    needs(&[Root, Teu]);
    let path = "nobody reads this";
    let bundle = Bundle::new()
        .set("/linux/cgroupsPath", path)
        .set("/linux/resources/pids/limit", 7)
        .without_namespace("pid");
    let container = Container::new(bundle.probe("sleep"));
    let created = container.create_with(["--cgroup-manager", "disabled"]).ok();
    created.says("linux.resources.pids.limit: ignored: cgroups are disabled");
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(of(&container.pid().to_string()), of("self"));
    container.start().ok();
    let pause = container.command("pause", NO_FLAGS).output().exits(1);
    pause.says("cannot toggle freezer: cgroups not configured for container");
    assert_eq!(container.status(), "running");
    let exec = container
        .command("exec", NO_FLAGS)
        .args(["/probe", "exit", "3"]);
    exec.output().exits(3);
    let listed = container.command("ps", ["--format", "json"]).output().ok();
    assert_eq!(listed.json(), json!([container.pid()]));
    // No cgroup names its processes, so only init is killed.
    container
        .command("kill", ["--all"])
        .arg("KILL")
        .output()
        .ok();
    container.wait_for_status("stopped");
    container.delete().ok();
}
