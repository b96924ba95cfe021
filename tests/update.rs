//! `update`: the limits in force after it, as the kernel shows them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    options_change_limits,
    resources_come_from_a_file_or_standard_input,
    sections_may_be_null,
    case_of_names_does_not_matter,
    one_value_keeps_the_others,
    memory_and_swap_go_together,
    idle_comes_and_goes_with_the_shares,
    refused_update_leaves_the_old_limits,
    refused_values_are_named,
    cpuset_outside_the_parents_is_refused,
    cpuset_moves_the_processes,
    cpuset_of_cgroups_below_follows,
    usage_is_checked_when_asked_for,
    a_memory_limit_that_kills_says_so,
    devices_are_allowed_and_denied,
    devices_survive_every_update,
    kept_device_is_never_missing,
    default_of_devices_can_be_turned_around,
    hole_in_a_wildcard_is_refused_on_v1,
    rates_of_devices_are_changed_one_by_one,
    unified_idle_and_weight_exclude_each_other,
    unified_files_are_written,
    created_and_paused_containers_are_updated,
    stopped_container_is_not_updated,
    resctrl_needs_the_hardware,
];

/// A container with limits to change.
fn limited() -> Bundle {
    Bundle::new()
        .probe("sleep")
        .set(
            "/linux/resources/cpu",
            json!({ "shares": 512, "quota": 50_000, "period": 100_000 }),
        )
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }))
        .set("/linux/resources/pids/limit", 40)
}

fn update(container: &Container, flags: &[&str]) -> Output {
    container.command("update", flags).output()
}

fn update_with(container: &Container, resources: &Value) -> Output {
    let call = container.command("update", ["--resources", "-"]);
    call.stdin(resources.to_string()).output()
}

/// The limits in force: shares (on v2 the weight), quota and period, memory, pids.
fn in_force(container: &Container) -> [String; 4] {
    let cgroup = CgroupFiles::of(container.pid());
    let bandwidth = if cgroup.is_v1("cpu") {
        let quota = cgroup.read("cpu", "cpu.cfs_quota_us", "");
        let period = cgroup.read("cpu", "cpu.cfs_period_us", "");
        let quota = if quota == "-1" { "max" } else { &quota };
        format!("{quota} {period}")
    } else {
        cgroup.read("cpu", "", "cpu.max")
    };
    let shares = cgroup.read("cpu", "cpu.shares", "cpu.weight");
    [
        match shares.as_str() {
            "59" if !cgroup.is_v1("cpu") => "512".to_owned(),
            "35" if !cgroup.is_v1("cpu") => "256".to_owned(),
            _ => shares,
        },
        bandwidth,
        cgroup.read("memory", "memory.limit_in_bytes", "memory.max"),
        cgroup.read("pids", "pids.max", "pids.max"),
    ]
}

#[track_caller]
fn assert_in_force(container: &Container, expected: [&str; 4]) {
    assert_eq!(in_force(container), expected);
}

const MEGABYTES_64: &str = "67108864";
const MEGABYTES_50: &str = "52428800";

fn options_change_limits() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let container = Container::running(limited());
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "40"]);
    let flags = [
        "--cpu-share=256",
        "--cpu-quota",
        "-1",
        "--cpu-period=50000",
        "--memory",
        "50M",
        "--pids-limit",
        "-1",
    ];
    update(&container, &flags).ok();
    assert_in_force(&container, ["256", "max 50000", MEGABYTES_50, "max"]);
    let words = update(&container, &["--kernel-memory", "1g"]).ok();
    words.says("Kernel memory settings are ignored and will be removed");
}

fn resources_come_from_a_file_or_standard_input() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let container = Container::running(limited());
    let resources = json!({ "cpu": { "shares": 256 }, "pids": { "limit": 10 } });
    let file = scratch().join("resources.json");
    fs::write(&file, resources.to_string()).unwrap();
    let flags = ["-r", file.to_str().unwrap(), "--pids-limit", "99"];
    update(&container, &flags).ok();
    assert_in_force(&container, ["256", "50000 100000", MEGABYTES_64, "10"]);
    update_with(&container, &json!({ "memory": { "limit": 50 << 20 } })).ok();
    assert_in_force(&container, ["256", "50000 100000", MEGABYTES_50, "10"]);

    update_with(&container, &json!([]))
        .exits(1)
        .says("expected an object, found a list");
    update(&container, &["-r", "/nowhere"])
        .exits(1)
        .says("open /nowhere: no such file or directory");
    let call = container.command("update", ["-r", "-"]);
    call.stdin("{\"pids\"").output().exits(1).says("/dev/stdin");
}

/// runc panics here.
fn sections_may_be_null() {
    needs(&[Root, Controller("cpu"), Controller("memory"), Teu]);
    let container = Container::running(limited());
    let null = json!({
        "cpu": null, "memory": null, "pids": { "limit": 9 }, "blockIO": null, "devices": null,
        "hugepageLimits": null, "network": null, "rdma": null, "unified": null,
    });
    update_with(&container, &null).ok();
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "9"]);
}

/// Go reads JSON in this way, so runc's callers may rely on it.
fn case_of_names_does_not_matter() {
    needs(&[Root, Controller("cpu"), Controller("memory")]);
    let container = Container::running(limited());
    update_with(&container, &json!({ "Pids": { "LIMIT": 8 } })).ok();
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "8"]);
}

/// On v2, quota and period are in a single file: the value that is not given comes from an earlier
/// update or from the creation.
fn one_value_keeps_the_others() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let container = Container::running(limited());
    update(&container, &["--cpu-quota", "20000"]).ok();
    assert_in_force(&container, ["512", "20000 100000", MEGABYTES_64, "40"]);
    update(&container, &["--pids-limit", "7"]).ok();
    update(&container, &["--cpu-period", "40000"]).ok();
    assert_in_force(&container, ["512", "20000 40000", MEGABYTES_64, "7"]);
    update(&container, &[]).ok();
    assert_in_force(&container, ["512", "20000 40000", MEGABYTES_64, "7"]);
}

fn memory_and_swap_go_together() {
    needs(&[Root, Controller("memory")]);
    let container = Container::running(limited());
    let cgroup = CgroupFiles::of(container.pid());
    let directory = cgroup.directory("memory");
    let (file, is_v1) = match cgroup.is_v1("memory") {
        true => ("memory.memsw.limit_in_bytes", true),
        false => ("memory.swap.max", false),
    };
    if !directory.join(file).exists() {
        // The kernel has no swap accounting.
        return;
    }
    let swap = || cgroup.read("memory", file, file);
    let both = |memory: u64, swap: u64| (memory + if is_v1 { swap } else { 0 }, swap);
    let shown = |memory, added| {
        let (together, alone) = both(memory, added);
        if is_v1 {
            together.to_string()
        } else {
            alone.to_string()
        }
    };
    update(&container, &["--memory-swap", "96M"]).ok();
    assert_eq!(swap(), shown(64 << 20, 32 << 20));
    // v2 limits swap alone: the limit shrinks when that of memory grows.
    update(&container, &["--memory", "80M"]).ok();
    assert_eq!(swap(), shown(80 << 20, 16 << 20));
    // Both grow beyond the old sum.
    update(&container, &["--memory", "200M", "--memory-swap", "300M"]).ok();
    assert_eq!(swap(), shown(200 << 20, 100 << 20));
    update(&container, &["--memory", "400M"])
        .exits(1)
        .says("memory+swap limit should be >= memory limit");
    assert_eq!(swap(), shown(200 << 20, 100 << 20));
    update(&container, &["--memory", "-1"]).ok();
    let memory = cgroup.read("memory", "memory.limit_in_bytes", "memory.max");
    assert!(memory == "max" || memory.len() > 18, "{memory}");
    assert_eq!(swap(), memory);
}

fn idle_comes_and_goes_with_the_shares() {
    needs(&[Root, Controller("cpu"), Controller("memory"), Teu]);
    let container = Container::running(limited());
    let cgroup = CgroupFiles::of(container.pid());
    if !cgroup.directory("cpu").join("cpu.idle").exists() {
        return;
    }
    let idle = || cgroup.read("cpu", "cpu.idle", "cpu.idle");
    update(&container, &["--cpu-idle", "1"]).ok();
    assert_eq!(idle(), "1");
    update(&container, &["--cpu-period", "50000"]).ok();
    assert_eq!(idle(), "1");
    update(&container, &["--cpu-idle", "2"])
        .exits(1)
        .says(r#"linux.resources.cpu.idle: write \"2\" to "#);
    assert_eq!(idle(), "1");
    update(&container, &["--cpu-idle", "0"]).ok();
    assert_in_force(&container, ["512", "50000 50000", MEGABYTES_64, "40"]);
    // The kernel refuses to set the weight of an idle cgroup.
    update(&container, &["--cpu-idle", "1"]).ok();
    update(&container, &["--cpu-share", "512"]).ok();
    assert_eq!(idle(), "0");
    assert_in_force(&container, ["512", "50000 50000", MEGABYTES_64, "40"]);
}

fn refused_update_leaves_the_old_limits() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Teu,
        Controller("pids"),
    ]);
    let container = Container::running(limited());
    let before = in_force(&container);
    // The last value is written last, and refused because a period must be longer.
    let flags = [
        "--cpuset-cpus=0",
        "--pids-limit=77",
        "--memory=50M",
        "--memory-reservation=20M",
        "--cpu-share=256",
        "--cpu-period=1",
    ];
    let cgroup = CgroupFiles::of(container.pid());
    let all = || {
        let soft = cgroup.read("memory", "memory.soft_limit_in_bytes", "memory.low");
        let cpus = cgroup.read("cpuset", "cpuset.cpus", "cpuset.cpus.effective");
        (in_force(&container), soft, cpus)
    };
    let all_before = all();
    update(&container, &flags).exits(1).says("invalid argument");
    assert_eq!(all(), all_before);
    assert_eq!(in_force(&container), before);
    // The values are not saved either.
    update(&container, &["--cpu-quota", "30000"]).ok();
    assert_in_force(&container, ["512", "30000 100000", MEGABYTES_64, "40"]);
}

fn refused_values_are_named() {
    needs(&[Root, Controller("cpu"), Controller("memory"), Teu]);
    let container = Container::running(limited());
    for (flags, words) in [
        (["--cpu-period", "x"], "invalid value for cpu-period"),
        (["--cpu-quota", "1.5"], "invalid value for cpu-quota"),
        (
            ["--memory", "12x"],
            "invalid value for memory: invalid suffix: 'x'",
        ),
        (
            ["--blkio-weight", "70000"],
            "invalid value for blkio-weight",
        ),
        (["--cpu-period", "1"], "linux.resources.cpu."),
        (["--cpu-period", "1"], ": invalid argument"),
        (
            ["--cpuset-cpus", "0-x"],
            r#"linux.resources.cpu.cpus: write \"0-x\" to \"/sys/fs/cgroup/"#,
        ),
        (
            ["--nothing", "1"],
            "flag provided but not defined: -nothing",
        ),
    ] {
        update(&container, &flags).exits(1).says(words);
    }
    let rule = json!({ "devices": [{ "allow": true, "type": "p", "access": "r" }] });
    update_with(&container, &rule)
        .exits(1)
        .says(r#"linux.resources.devices[0]: type \"p\""#);
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "40"]);
}

/// A container below a cgroup that has only the first processor.
fn below_first_processor(name: &str) -> (Container, std::path::PathBuf) {
    let path = format!("/{}{name}/box", marker());
    let bundle = Bundle::new()
        .probe("sleep")
        .set("/linux/cgroupsPath", path.as_str());
    let bundle = bundle.set("/linux/resources/cpu/cpus", "0");
    let container = Container::running(bundle);
    let own = CgroupFiles::of(container.pid()).directory("cpuset");
    let parent = own.parent().unwrap().to_owned();
    fs::write(parent.join("cpuset.cpus"), "0").unwrap();
    (container, parent)
}

/// Removes the cgroup above a container that is gone, in all hierarchies.
fn remove_above(parent: &std::path::Path) {
    let name = parent.file_name().unwrap();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let roots = hierarchies.map(|entry| entry.path());
    for root in roots.chain(["/sys/fs/cgroup".into()]) {
        let left = root.join(name);
        assert!(
            !left.exists() || fs::remove_dir(&left).is_ok(),
            "{}",
            left.display()
        );
    }
}

fn cpuset_outside_the_parents_is_refused() {
    needs(&[
        Root,
        Controller("cpuset"),
        Processors(2),
        Teu,
        Controller("pids"),
    ]);
    let (container, parent) = below_first_processor("outside");
    let output = update(&container, &["--cpuset-cpus", "1", "--pids-limit", "5"]).exits(1);
    let output = output.says("linux.resources.cpu.cpus: ").says(r#"\"1\""#);
    output.says("/box/cpuset.cpus");
    let cgroup = CgroupFiles::of(container.pid());
    assert_eq!(cgroup.read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(cgroup.read("pids", "pids.max", "pids.max"), "max");
    container.delete_force().ok();
    remove_above(&parent);
}

fn cpuset_moves_the_processes() {
    needs(&[Root, Controller("cpuset"), Processors(2)]);
    let container = Container::running(Bundle::new().probe("sleep"));
    for cpu in ["1", "0"] {
        update(&container, &["--cpuset-cpus", cpu]).ok();
        let call = container.command("exec", NO_FLAGS);
        let spun = call.args(["/probe", "spin", "0.2"]).output().ok().answer();
        assert_eq!(spun["cpus"].to_string(), format!("[{cpu}]"));
    }
}

fn cpuset_of_cgroups_below_follows() {
    needs(&[Root, CgroupV1, Controller("cpuset"), Processors(2), Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let cgroup = CgroupFiles::of(container.pid());
    // The first cgroup has all processors; the second has the processor that is removed, with a
    // cgroup below it.
    let make = |name: &str, cpus: &str| {
        let path = cgroup.make_below("cpuset", name);
        fs::write(path.join("cpuset.cpus"), cpus).unwrap();
        path
    };
    let below = [make("all", "0-1"), make("one", "0"), make("one/more", "0")];
    update(&container, &["--cpuset-cpus", "1"]).ok();
    for path in &below {
        let cpus = fs::read_to_string(path.join("cpuset.cpus")).unwrap();
        assert_eq!(cpus.trim(), "1", "{}", path.display());
    }
    // They do not grow, but are restored when an update fails.
    update(&container, &["--cpuset-cpus", "0-1"]).ok();
    update(&container, &["--cpuset-cpus", "0", "--cpu-period", "1"]).exits(1);
    for path in &below {
        let cpus = fs::read_to_string(path.join("cpuset.cpus")).unwrap();
        assert_eq!(cpus.trim(), "1", "{}", path.display());
    }
    assert_eq!(cgroup.read("cpuset", "cpuset.cpus", ""), "0-1");
}

fn usage_is_checked_when_asked_for() {
    needs(&[Root, CgroupV2, Controller("memory")]);
    let container = Container::running(limited());
    let resources =
        |swap| json!({ "memory": { "limit": 1024, "swap": swap, "checkBeforeUpdate": true } });
    update_with(&container, &resources(Value::Null))
        .exits(1)
        .says("rejecting memory limit 1024 <= usage ");
    assert_eq!(container.status(), "running");
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "40"]);
}

/// v2 accepts any limit, and kills processes to get below it.
fn a_memory_limit_that_kills_says_so() {
    needs(&[Root, CgroupV2, Controller("memory")]);
    let container = Container::running(limited());
    let output = update(&container, &["--memory", "60M"]).ok();
    assert_eq!(output.stderr, "");
    update(&container, &["--memory", "1"])
        .ok()
        .says("the kernel killed 1 of the container's processes");
    container.wait_for_status("stopped");
}

/// A device that no driver has: opening it fails with ENXIO if that is allowed.
const NOBODYS: &str = "/dev/nobodys";

fn with_device(bundle: Bundle) -> Bundle {
    bundle.probe("sleep").push(
        "/linux/devices",
        json!({ "path": NOBODYS, "type": "c", "major": 239, "minor": 7 }),
    )
}

fn rule(allow: bool, access: &str) -> Value {
    json!({ "allow": allow, "type": "c", "major": 239, "minor": 7, "access": access })
}

/// The result of opening a device, as the errno's name.
fn open(container: &Container, path: &str, access: &str) -> String {
    let call = container
        .command("exec", NO_FLAGS)
        .args(["/probe", "open", path, access]);
    let answers = call.output().answers();
    answers[0]["errno"].as_str().unwrap_or("ok").to_owned()
}

/// runc has never supported this.
fn devices_are_allowed_and_denied() {
    needs(&[Root, Teu]);
    let container = Container::running(with_device(Bundle::new()));
    assert_eq!(open(&container, NOBODYS, "r"), "EPERM");
    update_with(&container, &json!({ "devices": [rule(true, "rw")] })).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    assert_eq!(open(&container, "/dev/null", "rw"), "ok");
    update_with(&container, &json!({ "devices": [rule(false, "w")] })).ok();
    assert_eq!(open(&container, NOBODYS, "r"), "ENXIO");
    assert_eq!(open(&container, NOBODYS, "rw"), "EPERM");
    update_with(
        &container,
        &json!({ "devices": [{ "allow": false, "access": "rwm" }] }),
    )
    .ok();
    assert_eq!(open(&container, NOBODYS, "r"), "EPERM");
    // The default devices cannot be removed.
    assert_eq!(open(&container, "/dev/null", "rw"), "ok");
}

fn devices_survive_every_update() {
    needs(&[Root, Controller("cpu"), Teu, Controller("pids")]);
    let bundle = with_device(limited()).push("/linux/resources/devices", rule(true, "rw"));
    let container = Container::running(bundle);
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    update(&container, &["--pids-limit", "30", "--cpu-share", "100"]).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    let other = json!({ "allow": true, "type": "c", "major": 239, "minor": 8, "access": "r" });
    update_with(&container, &json!({ "devices": [other] })).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    // The other limit is refused, before or after the rules are written: neither is changed.
    let both = json!({ "cpu": { "period": 1 }, "devices": [rule(false, "rwm")] });
    update_with(&container, &both).exits(1);
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    update(&container, &["--pids-limit", "31"]).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
}

fn kept_device_is_never_missing() {
    needs(&[Root, Teu]);
    let bundle = with_device(Bundle::new()).probe(&format!("reopen {NOBODYS} 1.5; sleep"));
    let bundle = bundle.push("/linux/resources/devices", rule(true, "r"));
    let container = Container::running(bundle);
    // A rule replaces narrower and wider rules for the device.
    let wide = json!({ "allow": true, "type": "c", "major": 239, "access": "rwm" });
    let deny_all = json!({ "allow": false, "access": "rwm" });
    for _ in 0..20 {
        update_with(&container, &json!({ "devices": [wide] })).ok();
        let narrow = json!({ "devices": [deny_all, rule(true, "r")] });
        update_with(&container, &narrow).ok();
    }
    container.wait_for_output("ENXIO");
    let answer: Value = serde_json::from_str(container.stdout().lines().next().unwrap()).unwrap();
    assert!(answer["ok"]["ENXIO"].as_u64() > Some(0), "{answer}");
    assert_eq!(answer["ok"].get("EPERM"), None, "{answer}");
}

fn default_of_devices_can_be_turned_around() {
    needs(&[Root, Teu]);
    let all = json!([{ "allow": true, "access": "rwm" }]);
    let bundle = with_device(Bundle::new()).set("/linux/resources/devices", all.clone());
    let container = Container::running(bundle);
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    // Two exceptions, one of which is removed again.
    update_with(&container, &json!({ "devices": [rule(false, "w")] })).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "EPERM");
    assert_eq!(open(&container, NOBODYS, "r"), "ENXIO");
    update_with(&container, &json!({ "devices": [rule(true, "w")] })).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    update_with(
        &container,
        &json!({ "devices": [{ "allow": false, "access": "rwm" }] }),
    )
    .ok();
    assert_eq!(open(&container, NOBODYS, "r"), "EPERM");
    assert_eq!(open(&container, "/dev/null", "rw"), "ok");
    update_with(&container, &json!({ "devices": all })).ok();
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    assert_eq!(container.status(), "running");
}

fn hole_in_a_wildcard_is_refused_on_v1() {
    needs(&[Root, CgroupV1, Teu]);
    let wide = json!({ "allow": true, "type": "c", "major": 239, "access": "rw" });
    let bundle = with_device(Bundle::new()).push("/linux/resources/devices", wide);
    let container = Container::running(bundle);
    let hole = json!({ "pids": { "limit": 5 }, "devices": [rule(false, "rw")] });
    update_with(&container, &hole)
        .exits(1)
        .says(r#"cgroup v1 cannot except \"deny c 239:7 rw\""#);
    assert_eq!(open(&container, NOBODYS, "rw"), "ENXIO");
    let cgroup = CgroupFiles::of(container.pid());
    assert_eq!(cgroup.read("pids", "pids.max", ""), "max");
}

fn rates_of_devices_are_changed_one_by_one() {
    needs(&[Root, Controller("blkio"), CgroupV1]);
    let Some(device) = a_disk() else { return };
    let (major, minor) = device.split_once(':').unwrap();
    let numbers: (u64, u64) = (major.parse().unwrap(), minor.parse().unwrap());
    let rate = |rate| json!([{ "major": numbers.0, "minor": numbers.1, "rate": rate }]);
    let bundle = Bundle::new().probe("sleep");
    let bundle = bundle.set(
        "/linux/resources/blockIO/throttleReadBpsDevice",
        rate(485_760),
    );
    let container = Container::running(bundle);
    let cgroup = CgroupFiles::of(container.pid());
    let read = |kind: &str| cgroup.read("blkio", &format!("blkio.throttle.{kind}_device"), "");
    let change = json!({ "blockIO": { "throttleReadBpsDevice": rate(1_000_000), "throttleWriteIOPSDevice": rate(900) } });
    update_with(&container, &change).ok();
    assert_eq!(read("read_bps"), format!("{device} 1000000"));
    assert_eq!(read("write_iops"), format!("{device} 900"));
    // A limit that did not exist before does not exist after a failure.
    let change = json!({
        "blockIO": { "throttleReadBpsDevice": rate(5), "throttleReadIOPSDevice": rate(5) },
        "cpu": { "period": 1 },
    });
    update_with(&container, &change).exits(1);
    assert_eq!(read("read_bps"), format!("{device} 1000000"));
    assert_eq!(read("read_iops"), "");
    update_with(
        &container,
        &json!({ "blockIO": { "throttleReadBpsDevice": rate(0) } }),
    )
    .ok();
    assert_eq!(read("read_bps"), "");
}

/// The numbers of a disk of this machine.
fn a_disk() -> Option<String> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.sort_by_key(std::fs::DirEntry::file_name);
    let real = disks
        .into_iter()
        .find(|disk| disk.path().join("device").exists())?;
    let numbers = fs::read_to_string(real.path().join("dev")).ok()?;
    Some(numbers.trim().to_owned())
}

/// The kernel refuses a weight for an idle cgroup.
fn unified_idle_and_weight_exclude_each_other() {
    needs(&[Root, CgroupV2, Controller("cpu"), Controller("memory"), Teu]);
    let container = Container::running(limited());
    let cgroup = CgroupFiles::of(container.pid());
    let both = json!({ "unified": { "cpu.idle": "1", "cpu.weight": "8" } });
    update_with(&container, &both)
        .ok()
        .says("unable to apply both it and cpu.idle");
    assert_eq!(cgroup.read("cpu", "", "cpu.idle"), "1");
    update_with(&container, &json!({ "unified": { "cpu.weight": "8" } })).ok();
    assert_eq!(cgroup.read("cpu", "", "cpu.idle"), "0");
    assert_eq!(cgroup.read("cpu", "", "cpu.weight"), "8");
}

fn unified_files_are_written() {
    needs(&[Root, Controller("pids")]);
    let container = Container::running(limited());
    let change = json!({ "unified": { "pids.max": "12", "cpu.max": "max 50000" } });
    let output = update_with(&container, &change);
    let cgroup = CgroupFiles::of(container.pid());
    if cgroup.is_v1("pids") {
        output.exits(1).says("cannot use unified on cgroup v1");
        assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "40"]);
        return;
    }
    output.ok();
    assert_in_force(&container, ["512", "max 50000", MEGABYTES_64, "12"]);
    let change = json!({ "unified": { "pids.max": "13", "memory.nothing": "1" } });
    let output = update_with(&container, &change).exits(1);
    output.says(r#"linux.resources.unified[\"memory.nothing\"]"#);
    assert_in_force(&container, ["512", "max 50000", MEGABYTES_64, "12"]);
    // A flag takes precedence over the file given before it.
    update(&container, &["--pids-limit", "14"]).ok();
    assert_in_force(&container, ["512", "max 50000", MEGABYTES_64, "14"]);
}

fn created_and_paused_containers_are_updated() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("pids"),
    ]);
    let container = Container::created(limited());
    update(&container, &["--pids-limit", "5"]).ok();
    container.start().ok();
    container.command("pause", NO_FLAGS).output().ok();
    update(&container, &["--pids-limit", "6"]).ok();
    assert_eq!(container.status(), "paused");
    assert_in_force(&container, ["512", "50000 100000", MEGABYTES_64, "6"]);
    container.command("resume", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "running");
}

fn stopped_container_is_not_updated() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("exit 0"));
    container.wait_for_status("stopped");
    update(&container, &["--pids-limit", "5"])
        .exits(1)
        .says("container not running");
    teu(["update", "--pids-limit", "5", "nobody"])
        .output()
        .exits(1)
        .says("container does not exist");
}

fn resctrl_needs_the_hardware() {
    needs(&[Root]);
    if fs::exists("/sys/fs/resctrl/info/L3").unwrap_or(false) {
        return;
    }
    let container = Container::running(limited());
    update(
        &container,
        &["--l3-cache-schema", "L3:0=f", "--pids-limit", "5"],
    )
    .exits(1)
    .says("Intel RDT/CAT: l3 cache schema is not enabled");
    update(&container, &["--mem-bw-schema", "MB:0=10"])
        .exits(1)
        .says("Intel RDT/MBA: memory bandwidth schema is not enabled");
    let cgroup = CgroupFiles::of(container.pid());
    assert_eq!(cgroup.read("pids", "pids.max", "pids.max"), "40");
}
