//! Devices that are added to running containers and removed from them, as the container and the
//! kernel see them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{CWD, RenameFlags};
use serde_json::{Value, json};

use crate::cdi::{self, NOTHING, describe, errnos, link, names, node, opens};
use crate::harness::*;
use crate::rootless::{self, rootless_bundle};

tests![
    a_node_comes_and_goes,
    what_is_open_stays_open,
    what_a_device_brings_comes_and_goes,
    on_v2_alone_it_is_the_same,
    created_and_paused_containers_get_devices,
    devices_of_the_creation_go_too,
    what_protects_stays_when_a_device_goes,
    the_end_of_the_process_inside_is_told,
    an_update_that_is_killed_leaves_what_the_state_knows,
    what_two_devices_bring_stays_for_the_other,
    limits_and_devices_are_changed_together,
    a_user_namespace_gets_devices,
    a_container_without_a_mount_namespace_gets_devices,
    a_readonly_root_gets_nodes,
    no_update_takes_a_device_away,
    checkpoints_keep_devices,
    what_was_there_before_stays,
    what_another_has_put_there_stays,
    what_cannot_be_given_is_told,
    what_cannot_be_taken_is_told,
    a_failure_leaves_nothing,
    a_rule_that_is_refused_leaves_nothing,
    paths_lead_nowhere_outside,
    paths_that_change_lead_nowhere_outside,
    devices_come_and_go_in_any_order,
];

/// Makes a device node on the host, with a number that no driver has.
fn hosts_node(minor: u64) -> PathBuf {
    let path = scratch().join(format!("node{minor}"));
    if !path.exists() {
        make_node(&path, minor);
    }
    path
}

pub(crate) fn make_node(path: &Path, minor: u64) {
    let number = makedev(NOTHING.cast_unsigned(), minor);
    mknod(
        path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        number,
    )
    .unwrap();
}

/// Calls `update` with the option for each device.
fn update<S: AsRef<str>>(container: &Container, option: &str, devices: &[S]) -> Output {
    let words = devices
        .iter()
        .map(|device| format!("--device-{option}={}", device.as_ref()));
    let call = container.command("update", words);
    call.arg_before_last("--cdi-dir")
        .arg_before_last(cdi::directory())
        .output()
}

#[track_caller]
fn add(container: &Container, device: &str) {
    update(container, "add", &[device]).ok();
}

#[track_caller]
fn remove(container: &Container, device: &str) {
    update(container, "rm", &[device]).ok();
}

fn at(minor: u64, path: &str) -> String {
    format!("{}:{path}", hosts_node(minor).display())
}

/// A bundle with a node of each of these minors below /etc; opening it shows the rules.
fn bundle_with_nodes(minors: &[u64]) -> Bundle {
    let bundle = Bundle::new().probe("sleep");
    for minor in minors {
        make_node(&bundle.rootfs().join(format!("etc/{minor}")), *minor);
    }
    bundle
}

/// The mounts of a container.
fn mounts(container: &Container) -> String {
    fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap()
}

fn a_node_comes_and_goes() {
    needs(&[Root, Teu]);
    let container = Container::running(bundle_with_nodes(&[1]));
    let modes = "open /dev/gpu rw; open /etc/1 rw; open /etc/1 r";
    assert_eq!(opens(&container, modes), ["ENOENT", "EPERM", "EPERM"]);
    add(&container, &at(1, "/dev/gpu"));
    assert_eq!(opens(&container, modes), ["ENXIO"; 3]);
    remove(&container, "/dev/gpu");
    assert_eq!(opens(&container, modes), ["ENOENT", "EPERM", "EPERM"]);
    // As Docker's --device: with less access, and at the same path.
    add(&container, &format!("{}:r", at(1, "/dev/gpu")));
    assert_eq!(opens(&container, modes), ["EPERM", "EPERM", "ENXIO"]);
    remove(&container, &at(1, "/dev/gpu"));
    let same = hosts_node(1);
    add(&container, &format!("{}:w", same.display()));
    let modes = format!("open {0} w; open {0} r", same.display());
    assert_eq!(opens(&container, &modes), ["ENXIO", "EPERM"]);
    remove(&container, same.to_str().unwrap());
    // The container's user owns the node.
    let bundle = Bundle::new().set("/process/user", json!({ "uid": 5, "gid": 6 }));
    let users = Container::running(bundle.probe("sleep"));
    add(&users, &at(1, "/dev/gpu"));
    let exec = users
        .command("exec", NO_FLAGS)
        .args(["/probe", "stat", "/dev/gpu"]);
    let found = exec.output().ok().answer();
    assert_eq!((&found["uid"], &found["gid"]), (&json!(5), &json!(6)));
    // A link on the host that leads to the node may name it.
    let by_name = scratch().join("by-name");
    symlink(hosts_node(1), &by_name).unwrap();
    add(
        &container,
        &format!("{}:/dev/deep/er/gpu", by_name.display()),
    );
    assert_eq!(opens(&container, "open /dev/deep/er/gpu rw"), ["ENXIO"]);
}

/// The kernel checks the rules when a device is opened.
fn what_is_open_stays_open() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().probe("sleep");
    let node = bundle.rootfs().join("etc/kmsg");
    mknod(
        &node,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 11),
    )
    .unwrap();
    let container = Container::running(bundle);
    add(&container, "/dev/kmsg");
    let modes = "open /etc/kmsg w; open /dev/kmsg w";
    assert_eq!(opens(&container, modes), ["ok", "ok"]);
    let keep = ["/probe", "keep", "/dev/kmsg", "/dev/shm/removed"];
    let keeps = container.command("exec", NO_FLAGS).args(keep).spawn();
    wait_until("it is open", || keeps.stdout().contains("kept"));
    remove(&container, "/dev/kmsg");
    let modes = "open /dev/kmsg w; open /etc/kmsg w; write /dev/shm/removed now";
    assert_eq!(opens(&container, modes), ["ENOENT", "EPERM", "ok"]);
    keeps.wait().ok();
}

fn describe_everything() -> PathBuf {
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    fs::create_dir_all(scratch().join("firmware")).unwrap();
    fs::write(scratch().join("firmware/file"), "firmware").unwrap();
    describe(&json!({
        "deviceNodes": [node("/dev/gpu0", 1, "rw"), node("/dev/deep/gpu0", 2, "r")],
        "mounts": [
            { "hostPath": library, "containerPath": "/usr/lib/library", "options": ["ro", "nosuid", "nodev", "bind"] },
            { "hostPath": scratch().join("firmware"), "containerPath": "/lib/firmware", "options": ["ro", "rbind"] },
        ],
        "env": ["FROM_DEVICE=1"],
        "additionalGids": [44],
    }))
}

const EVERYTHING: &str = "open /dev/gpu0 rw; open /dev/deep/gpu0 r; open /dev/deep/gpu0 rw; \
                          read /usr/lib/library; stat /lib/firmware/file";
const THERE: [&str; 5] = ["ENXIO", "ENXIO", "EPERM", "ok", "ok"];
const NOT_THERE: [&str; 5] = ["ENOENT"; 5];

fn what_a_device_brings_comes_and_goes() {
    needs(&[Root, Teu]);
    describe_everything();
    let container = Container::running(Bundle::new().probe("sleep"));
    let before = mounts(&container);
    let report = || {
        let exec = container
            .command("exec", NO_FLAGS)
            .args(["/probe", "report"]);
        let seen = exec.output().ok().probe();
        (seen["env"]["FROM_DEVICE"].clone(), seen["groups"].clone())
    };
    for _ in 0..2 {
        add(&container, "vendor.com/gpu=0");
        assert_eq!(opens(&container, EVERYTHING), THERE);
        let library = mounts(&container);
        let library = library
            .lines()
            .find(|line| line.contains("/usr/lib/library"))
            .unwrap();
        assert!(library.contains(" ro,nosuid,nodev"), "{library}");
        assert_eq!(report(), (json!("1"), json!([44])));
        remove(&container, "vendor.com/gpu=0");
        assert_eq!(opens(&container, EVERYTHING), NOT_THERE);
        assert_eq!(mounts(&container), before);
        assert_eq!(report(), (Value::Null, json!([])));
        // The mount points are empty again.
        let paths = "stat /usr/lib/library; stat /lib/firmware";
        assert_eq!(opens(&container, paths), ["ENOENT"; 2]);
    }
}

fn on_v2_alone_it_is_the_same() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    what_a_device_brings_comes_and_goes();
    a_failure_leaves_nothing();
}

fn created_and_paused_containers_get_devices() {
    needs(&[Root, Teu]);
    describe_everything();
    let container = Container::created(Bundle::new().probe("sleep"));
    add(&container, "vendor.com/gpu=0");
    container.start().ok();
    assert_eq!(opens(&container, EVERYTHING), THERE);
    let command = |verb: &str| container.command(verb, NO_FLAGS).output().ok();
    command("pause");
    remove(&container, "vendor.com/gpu=0");
    add(&container, &at(3, "/dev/other"));
    assert_eq!(container.status(), "paused");
    command("resume");
    assert_eq!(opens(&container, EVERYTHING), NOT_THERE);
    assert_eq!(opens(&container, "open /dev/other rw"), ["ENXIO"]);
}

fn devices_of_the_creation_go_too() {
    needs(&[Root, Teu]);
    describe_everything();
    let container = cdi::running(Bundle::new().probe("sleep"));
    assert_eq!(opens(&container, EVERYTHING), THERE);
    remove(&container, "vendor.com/gpu=0");
    // Mount points of the creation stay, as those of other mounts do.
    assert_eq!(
        opens(&container, EVERYTHING),
        ["ENOENT", "ENOENT", "ENOENT", "ok", "ENOENT"]
    );
}

/// A device may have brought a mount that is no bind mount. In its place there may be a link by
/// now, to a mount that protects the machine from the container.
fn what_protects_stays_when_a_device_goes() {
    needs(&[Root, Teu]);
    let mount = json!({ "hostPath": "tmpfs", "containerPath": "/vendor/cache", "type": "tmpfs" });
    describe(&json!({ "mounts": [mount] }));
    let bundle = Bundle::new().set("/linux/readonlyPaths", json!(["/proc/sys"]));
    let rootfs = bundle.rootfs();
    let container = cdi::running(bundle.probe("sleep"));
    fs::rename(rootfs.join("vendor"), rootfs.join("elsewhere")).unwrap();
    fs::create_dir(rootfs.join("vendor")).unwrap();
    symlink("/proc/sys", rootfs.join("vendor/cache")).unwrap();
    let call = update(&container, "rm", &["vendor.com/gpu=0"]);
    call.ok().says("something else is there by now");
    assert!(mounts(&container).contains(" /proc/sys ro,"));
}

/// The process in the container is killed, as by the kernel's OOM killer.
fn the_end_of_the_process_inside_is_told() {
    needs(&[Root, Teu, Tool("strace")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let tracer = "strace -f -qq -o /dev/null -e inject=mknodat:signal=KILL";
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.push(runtime().into());
    let call = container.command("update", [format!("--device-add={}", at(1, "/dev/gpu"))]);
    call.with_program(program)
        .output()
        .exits(1)
        .says("the process in the container ended");
    assert_eq!(opens(&container, "open /dev/gpu rw"), ["ENOENT"]);
    add(&container, &at(1, "/dev/gpu"));
}

/// After an update was killed at any moment, the state still names everything that was added.
fn an_update_that_is_killed_leaves_what_the_state_knows() {
    needs(&[Root, Teu]);
    let steps = rounds(60);
    let container = Container::running(bundle_with_nodes(&[1]));
    let device = at(1, "/dev/gpu");
    let killed_after = |option: &str, time: Duration| {
        let word = format!("--device-{option}={device}");
        let update = container.command("update", [word]).spawn();
        thread::sleep(time);
        update.signal(Signal::SIGKILL);
        let was_killed = update.wait().code() != 0;
        // Whatever was added, the state has it under this name.
        let removed = self::update(&container, "rm", &["/dev/gpu"]);
        if !removed.status.success() {
            removed.exits(1).says("has no device");
        }
        let found = opens(&container, "open /dev/gpu rw; open /etc/1 rw");
        assert_eq!(
            found,
            ["ENOENT", "EPERM"],
            "{option}, killed after {time:?}"
        );
        i32::from(was_killed)
    };
    let start = Instant::now();
    add(&container, &device);
    let whole = start.elapsed();
    remove(&container, "/dev/gpu");
    let mut killed = 0;
    for step in 0..steps {
        killed += killed_after("add", whole * step / steps);
        add(&container, &device);
        killed += killed_after("rm", whole * step / steps);
    }
    assert!(killed > 0, "none was killed in time");
}

fn what_two_devices_bring_stays_for_the_other() {
    needs(&[Root, Teu]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let device = |name: &str, minor: i64| {
        json!({ "name": name, "containerEdits": {
        "deviceNodes": [node(&format!("/dev/gpu{name}"), minor, "rw")], "env": [format!("GPU{name}=1"), "ALL=device"],
    } })
    };
    let file = json!({
        "cdiVersion": "1.1.0", "kind": "vendor.com/gpu",
        "devices": [device("0", 1), device("1", 2)],
        "containerEdits": {
            "deviceNodes": [node("/dev/control", 3, "rw")], "env": ["ALL=file"],
            "mounts": [{ "hostPath": library, "containerPath": "/usr/lib/library", "options": ["bind"] }],
        },
    });
    cdi::write("vendor.json", &file.to_string());
    let container = Container::running(Bundle::new().probe("sleep"));
    let modes = "open /dev/gpu0 rw; open /dev/gpu1 rw; open /dev/control rw; stat /usr/lib/library";
    let all = || {
        let exec = container
            .command("exec", NO_FLAGS)
            .args(["/probe", "report"]);
        exec.output().ok().probe()["env"]["ALL"].clone()
    };
    add(&container, "vendor.com/gpu=0");
    add(&container, "vendor.com/gpu=1");
    assert_eq!(opens(&container, modes), ["ENXIO", "ENXIO", "ENXIO", "ok"]);
    assert_eq!(all(), "device");
    remove(&container, "vendor.com/gpu=0");
    assert_eq!(opens(&container, modes), ["ENOENT", "ENXIO", "ENXIO", "ok"]);
    // A device is exchanged for another in a single update.
    let call = container.command(
        "update",
        [
            "--device-rm=vendor.com/gpu=1",
            "--device-add=vendor.com/gpu=0",
        ],
    );
    call.arg_before_last("--cdi-dir")
        .arg_before_last(cdi::directory())
        .output()
        .ok();
    assert_eq!(opens(&container, modes), ["ENXIO", "ENOENT", "ENXIO", "ok"]);
    remove(&container, "vendor.com/gpu=0");
    assert_eq!(opens(&container, modes), ["ENOENT"; 4]);
    assert_eq!(all(), Value::Null);
}

fn limits_and_devices_are_changed_together() {
    needs(&[Root, Teu, Controller("pids")]);
    let container = Container::running(bundle_with_nodes(&[2]));
    let limit = || CgroupFiles::of(container.pid()).read("pids", "pids.max", "pids.max");
    let resources = json!({
        "pids": { "limit": 20 },
        "devices": [{ "allow": true, "type": "c", "major": NOTHING, "minor": 2, "access": "r" }],
    });
    let words = [
        format!("--device-add={}", at(1, "/dev/gpu")),
        "--resources=-".to_owned(),
    ];
    container
        .command("update", words)
        .stdin(resources.to_string())
        .output()
        .ok();
    assert_eq!(
        opens(&container, "open /dev/gpu rw; open /etc/2 r"),
        ["ENXIO"; 2]
    );
    assert_eq!(limit(), "20");
    let words = ["--device-rm=/dev/gpu", "--pids-limit=-5x"];
    container.command("update", words).output().exits(1);
    let words = ["--device-rm=/dev/gpu", "--cpuset-cpus=4095"];
    container.command("update", words).output().exits(1);
    assert_eq!(
        opens(&container, "open /dev/gpu rw; open /etc/2 r"),
        ["ENXIO"; 2]
    );
    let words = ["--device-rm=/dev/gpu", "--pids-limit=30"];
    container.command("update", words).output().ok();
    assert_eq!(
        opens(&container, "open /dev/gpu rw; open /etc/2 r"),
        ["ENOENT", "ENXIO"]
    );
    assert_eq!(limit(), "30");
}

/// A container in a user namespace cannot make nodes: they are made on the host and bound.
fn a_user_namespace_gets_devices() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Teu]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    describe(&json!({
        "deviceNodes": [
            { "path": "/dev/gpu0", "hostPath": "/dev/zero", "fileMode": 0o640, "gid": 7 },
            node("/dev/nothing", 1, "rw"),
        ],
        "mounts": [{ "hostPath": library, "containerPath": "/mnt/library", "options": ["ro", "bind"] }],
    }));
    let bundle = Bundle::new().user_namespace().probe("sleep");
    let container = Container::running(bundle);
    let before = mounts(&container);
    for _ in 0..2 {
        add(&container, "vendor.com/gpu=0");
        let exec = container.command("exec", NO_FLAGS);
        let words =
            "seq stat /dev/gpu0 -- open /dev/gpu0 r -- open /dev/nothing rw -- stat /mnt/library";
        let output = exec.arg("/probe").args(words.split(' ')).output();
        let answers = output.answers();
        let found = &answers[0]["ok"];
        assert_eq!(
            (&found["minor"], &found["mode"], &found["gid"]),
            (&json!(5), &json!("0640"), &json!(7)),
            "{output}"
        );
        assert_eq!(
            (&answers[1]["ok"], &answers[2]["errno"]),
            (&json!(true), &json!("ENXIO")),
            "{output}"
        );
        assert_eq!(answers[3]["ok"]["uid"], 0, "{output}");
        let left = fs::read_dir(state_root().join(&container.id)).unwrap();
        assert!(
            left.into_iter()
                .all(|entry| entry.unwrap().file_name() != "devices")
        );
        remove(&container, "vendor.com/gpu=0");
        let modes = "stat /dev/gpu0; stat /dev/nothing; stat /mnt/library";
        assert_eq!(opens(&container, modes), ["ENOENT"; 3]);
        assert_eq!(mounts(&container), before);
    }
    // An owner that is not mapped in the user namespace.
    describe(
        &json!({ "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/zero", "uid": 70_000 }] }),
    );
    let output = update(&container, "add", &["vendor.com/gpu=0"]).exits(1);
    output.says("in this user namespace it cannot be made with that owner");
    assert_eq!(opens(&container, "stat /dev/gpu0"), ["ENOENT"]);
    assert_eq!(mounts(&container), before);
}

fn a_container_without_a_mount_namespace_gets_devices() {
    needs(&[Root, Teu]);
    describe_everything();
    let bundle = Bundle::new().without_namespace("mount").probe("sleep");
    let bundle = bundle
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let container = Container::running(bundle.set("/mounts", json!([])));
    add(&container, "vendor.com/gpu=0");
    assert_eq!(opens(&container, EVERYTHING), THERE);
    remove(&container, "vendor.com/gpu=0");
    assert_eq!(opens(&container, EVERYTHING), NOT_THERE);
    add(&container, "vendor.com/gpu=0");
    // The container's mounts, which are owned by the host, are removed with it.
    container.delete_force().ok();
}

fn a_readonly_root_gets_nodes() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().set("/root/readonly", true).probe("sleep");
    let bundle = bundle.file("/usr/lib/library", "of the image");
    let container = Container::running(bundle);
    add(&container, &at(1, "/dev/gpu"));
    assert_eq!(opens(&container, "open /dev/gpu rw"), ["ENXIO"]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let mount =
        |path: &str| json!({ "hostPath": library, "containerPath": path, "options": ["bind"] });
    // Mounting over an existing file makes no mount point.
    describe(&json!({ "mounts": [mount("/usr/lib/library")] }));
    add(&container, "vendor.com/gpu=0");
    let read = || {
        container
            .command("exec", NO_FLAGS)
            .args(["/probe", "read", "/usr/lib/library"])
            .output()
    };
    assert_eq!(read().answer(), "library");
    remove(&container, "vendor.com/gpu=0");
    assert_eq!(read().answer(), "of the image");
    describe(
        &json!({ "mounts": [mount("/usr/lib/library"), mount("/usr/lib/other")], "deviceNodes": [node("/dev/other", 2, "rw")] }),
    );
    let output = update(&container, "add", &["vendor.com/gpu=0"]).exits(1);
    output.says(r#"make mountpoint \"/usr/lib/other\": read-only file system"#);
    assert_eq!(read().answer(), "of the image");
    assert_eq!(opens(&container, "stat /dev/other"), ["ENOENT"]);
}

fn no_update_takes_a_device_away() {
    needs(&[Root, Teu, Controller("pids")]);
    cdi::describe_nodes();
    let container = cdi::running(bundle_with_nodes(&[9]));
    add(&container, &at(8, "/dev/later"));
    let modes = format!("{}; open /dev/later rw", cdi::OPENS);
    let there = [&cdi::OPENED[..], &["ENXIO"]].concat();
    assert_eq!(opens(&container, &modes), there);
    let update = |words: &[&str], resources: Value| {
        let call = container.command("update", words);
        call.stdin(resources.to_string()).output()
    };
    update(&["--pids-limit=30"], Value::Null).ok();
    assert_eq!(opens(&container, &modes), there);
    let deny = json!({ "allow": false, "access": "rwm" });
    let rule = |allow: bool, minor: i64| json!({ "allow": allow, "type": "c", "major": NOTHING, "minor": minor, "access": "rwm" });
    for devices in [
        json!([]),
        Value::Null,
        json!([deny]),
        json!([deny, rule(true, 9)]),
        json!([rule(false, 8), rule(false, 1)]),
    ] {
        let resources = json!({ "devices": devices, "pids": { "limit": 40 } });
        update(&["--resources=-"], resources.clone()).ok();
        assert_eq!(opens(&container, &modes), there, "{resources}");
        update(&["--pids-limit=30"], Value::Null).ok();
        assert_eq!(opens(&container, &modes), there, "{resources}");
    }
    assert_eq!(opens(&container, "open /etc/9 rw"), ["ENXIO"]);
    // An update that fails does not remove the rules either.
    let resources = json!({ "devices": [deny], "cpu": { "cpus": "4095" } });
    update(&["--resources=-"], resources).exits(1);
    assert_eq!(opens(&container, &modes), there);
    remove(&container, "vendor.com/gpu=0");
    remove(&container, "/dev/later");
    assert_eq!(opens(&container, &modes), ["ENOENT"; 7]);
}

/// The container continues, or is restored. For the restore the device must be requested again.
fn checkpoints_keep_devices() {
    needs(&[Root, Criu, Teu]);
    describe_everything();
    let container = Container::new(Bundle::new().probe("count /dev/shm/count"));
    let silent = "exec </dev/null >/dev/null 2>&1";
    let run = container.command("run", ["--detach"]);
    container.detach(run.after_shell(silent)).ok();
    add(&container, "vendor.com/gpu=0");
    let criu = |call: Invocation| {
        let call = call.arg_before_last("--image-path");
        let call = call.arg_before_last(scratch().join("images"));
        call.arg_before_last("--manage-cgroups-mode=ignore")
            .env("PATH", criu_path())
    };
    let checkpoint = |flags: &[&str]| criu(container.command("checkpoint", flags)).output().ok();
    checkpoint(&["--leave-running"]);
    assert_eq!(opens(&container, EVERYTHING), THERE);
    checkpoint(&[]);
    let restore = criu(cdi::asking(&container, "restore")).arg_before_last("--detach");
    let restore = restore.arg_before_last("--bundle");
    let restore = restore.arg_before_last(&container.bundle.directory);
    restore.after_shell(silent).output().ok();
    container.found_again();
    assert_eq!(opens(&container, EVERYTHING), THERE);
}

fn what_was_there_before_stays() {
    needs(&[Root, Teu]);
    let own = json!({ "path": "/dev/own", "type": "c", "major": NOTHING, "minor": 1 });
    let bundle = bundle_with_nodes(&[1]).push("/linux/devices", own);
    let wide = json!({ "allow": true, "type": "c", "major": NOTHING, "access": "r" });
    let container = Container::running(bundle.push("/linux/resources/devices", wide));
    let modes = "open /dev/own r; open /dev/own rw; open /dev/null rw";
    let before = ["ENXIO", "EPERM", "ok"];
    assert_eq!(opens(&container, modes), before);
    update(
        &container,
        "add",
        &[at(1, "/dev/own"), "/dev/null".to_owned()],
    )
    .ok();
    assert_eq!(opens(&container, modes), ["ENXIO", "ENXIO", "ok"]);
    update(&container, "rm", &["/dev/own", "/dev/null"]).ok();
    assert_eq!(opens(&container, modes), before);
}

fn what_another_has_put_there_stays() {
    needs(&[Root, Teu, Capability(21, "CAP_SYS_ADMIN")]);
    describe_everything();
    let bundle = Bundle::new()
        .capabilities(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])
        .file("/etc/mine", "mine");
    let container = Container::running(bundle.probe("sleep"));
    add(&container, "vendor.com/gpu=0");
    let exec = container.command("exec", NO_FLAGS);
    let words = "seq unlink /dev/gpu0 -- write /dev/gpu0 mine -- mount /etc/mine /usr/lib/library none bind";
    let output = exec.arg("/probe").args(words.split(' ')).output();
    assert_eq!(errnos(&output), ["ok"; 3], "{output}");
    let output = update(&container, "rm", &["vendor.com/gpu=0"]).ok();
    output.says(r#"remove device \"/dev/gpu0\": something else is there by now"#);
    let read =
        "stat /dev/gpu0; stat /usr/lib/library; stat /dev/deep/gpu0; stat /lib/firmware/file";
    assert_eq!(opens(&container, read), ["ok", "ok", "ENOENT", "ENOENT"]);
}

fn what_cannot_be_given_is_told() {
    needs(&[Root, UserNamespaces, Teu]);
    let container = Container::running(bundle_with_nodes(&[1]).file("/etc/file", ""));
    let before = mounts(&container);
    let refused = |device: &str, words: &str| {
        update(&container, "add", &[device]).exits(1).says(words);
        assert_eq!(
            opens(&container, "stat /dev/gpu0; open /etc/1 r"),
            ["ENOENT", "EPERM"]
        );
        assert_eq!(mounts(&container), before);
    };
    refused(
        "/nowhere",
        r#"device \"/nowhere\": no such file or directory"#,
    );
    refused("/proc/version", "not a device node");
    let form = "is not of the form /dev/x[:path][:rwm]";
    refused("/dev/null:/a:r:w", form);
    refused("/dev/null:a:b", form);
    refused("/dev/null:rx", "is not made of the letters r, w and m");
    refused("/dev/null:", "is not made of the letters r, w and m");
    refused("/dev/null:rrr", "each once at most");
    refused("null", r#"invalid CDI device name \"null\""#);
    refused(
        "vendor.com/gpu=0",
        "unresolvable CDI devices vendor.com/gpu=0",
    );
    for path in ["/etc/file", "/etc", "/dev/null", "/etc/1/below"] {
        update(&container, "add", &[at(2, path)]).exits(1);
    }
    refused(
        &at(2, "/dev/null"),
        r#"device \"/dev/null\": something else is there"#,
    );
    let fifo = scratch().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    refused(
        fifo.to_str().unwrap(),
        "neither a character nor a block device",
    );
    let gpu0 = node("/dev/gpu0", 1, "rw");
    let hook = json!({ "hookName": "poststop", "path": "/bin/true" });
    describe(&json!({ "deviceNodes": [gpu0], "hooks": [hook] }));
    refused(
        "vendor.com/gpu=0",
        r#"device \"vendor.com/gpu=0\": it has the hook \"/bin/true\", which runs when a container is made"#,
    );
    describe(
        &json!({ "deviceNodes": [gpu0], "netDevices": [{ "hostInterfaceName": "x", "name": "y" }] }),
    );
    refused("vendor.com/gpu=0", "it has netDevices");
    describe(&json!({ "deviceNodes": [gpu0], "intelRdt": { "closID": "x" } }));
    refused("vendor.com/gpu=0", "it has intelRdt");
    for (mount, words) in [
        (
            json!({ "hostPath": "/x", "containerPath": "/etc", "options": ["remount", "ro"] }),
            r#"the mount on \"/etc\": option \"remount\""#,
        ),
        (
            json!({ "hostPath": "tmpfs", "containerPath": "/etc", "type": "tmpfs" }),
            r#"mount on \"/etc\": it is no bind, which a container that runs cannot get"#,
        ),
    ] {
        describe(&json!({ "deviceNodes": [gpu0], "mounts": [mount] }));
        refused("vendor.com/gpu=0", words);
    }

    describe(&json!({ "deviceNodes": [gpu0], "hooks": [hook] }));
    let without = container.command(
        "update",
        ["--device-add=vendor.com/gpu=0", "--cdi-hooks=none"],
    );
    without
        .arg_before_last("--cdi-dir")
        .arg_before_last(cdi::directory())
        .output()
        .ok();
    assert_eq!(opens(&container, "open /dev/gpu0 rw"), ["ENXIO"]);
    let output = update(&container, "add", &["vendor.com/gpu=0"]).exits(1);
    output.says(r#"the container has the device \"vendor.com/gpu=0\" already"#);

    let user = Container::new(rootless_bundle("sleep"));
    let call = rootless::call(["run", "--detach", "--bundle"]);
    call.arg(&user.bundle.directory).arg(&user.id).output().ok();
    let call = rootless::call(["update", "--device-add=/dev/zero:/dev/zero2"]).arg(&user.id);
    call.output()
        .exits(1)
        .says("a rootless container has no device rules");
    let call = rootless::call(["delete", "--force"]).arg(&user.id);
    call.output().ok();

    container.delete_force().ok();
    update(&container, "add", &["/dev/null:/dev/x"])
        .exits(1)
        .says("container does not exist");
}

fn what_cannot_be_taken_is_told() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    add(&container, &at(1, "/dev/gpu"));
    for device in ["/dev/null", "vendor.com/gpu=0"] {
        let output = update(&container, "rm", &[device]).exits(1);
        output.says(&format!(
            r#"the container has no device \"{device}\" by its name, but [\"/dev/gpu\"]"#
        ));
    }
    update(&container, "rm", &["/dev/gpu", "/dev/gpu"]).exits(1);
    assert_eq!(
        opens(&container, "open /dev/gpu rw; open /dev/null rw"),
        ["ENXIO", "ok"]
    );
}

/// A cgroup above the container's, removed when dropped.
struct Above(PathBuf);

impl Above {
    fn new() -> Above {
        let own = CgroupFiles::of(std::process::id().cast_signed());
        Above(own.make_below("devices", &format!("{}above", marker())))
    }

    fn inner(&self) -> String {
        let path = self.0.strip_prefix("/sys/fs/cgroup/devices").unwrap();
        format!("/{}/inner", path.display())
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        let path = self.inner();
        let path = path.strip_suffix("/inner").unwrap().trim_start_matches('/');
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            // Not every hierarchy has the cgroup.
            fs::remove_dir(hierarchy.unwrap().path().join(path)).ok();
        }
    }
}

fn a_failure_leaves_nothing() {
    needs(&[Root, Teu]);
    describe_everything();
    let bundle = bundle_with_nodes(&[1, 2]);
    let container = Container::running(bundle);
    let modes = format!("{EVERYTHING}; open /etc/1 r; open /etc/2 r");
    let nothing = [&NOT_THERE[..], &["EPERM", "EPERM"]].concat();
    let before = mounts(&container);
    let fails = |words: &str| {
        update(&container, "add", &["vendor.com/gpu=0"])
            .exits(1)
            .says(words);
        assert_eq!(opens(&container, &modes), nothing);
        assert_eq!(mounts(&container), before);
    };
    // Saving the state fails.
    let in_the_way = state_root().join(&container.id).join(".state.json");
    fs::create_dir(&in_the_way).unwrap();
    fails(".state.json");
    fs::remove_dir(&in_the_way).unwrap();
    // Making the last of the mounts fails, or the last of the nodes.
    fs::create_dir(scratch().join("later")).unwrap();
    let mount = |source: &Path| json!({ "hostPath": source, "containerPath": "/usr/lib/library", "options": ["bind"] });
    let nodes = json!([node("/dev/gpu0", 1, "rw"), node("/proc/gpu", 2, "rw")]);
    describe(&json!({ "deviceNodes": nodes, "mounts": [mount(&scratch().join("library"))] }));
    fails(r#"create device \"/proc/gpu\""#);
    let both = json!([mount(&scratch().join("library")), { "hostPath": "/nowhere", "containerPath": "/usr/lib/more", "options": ["bind"] }]);
    describe(&json!({ "mounts": both }));
    fails(r#"open \"/nowhere\": no such file or directory"#);
    describe_everything();
    add(&container, "vendor.com/gpu=0");
    assert_eq!(opens(&container, EVERYTHING), THERE);
    // A removal that fails changes nothing either.
    fs::create_dir(&in_the_way).unwrap();
    update(&container, "rm", &["vendor.com/gpu=0"]).exits(1);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(opens(&container, EVERYTHING), THERE);
}

fn a_rule_that_is_refused_leaves_nothing() {
    needs(&[Root, CgroupV1, Controller("devices"), Teu]);
    describe_everything();
    // The cgroup above does not allow the device.
    let above = Above::new();
    let bundle = bundle_with_nodes(&[1, 2]);
    let container = Container::running(bundle.set("/linux/cgroupsPath", above.inner()));
    fs::write(above.0.join("devices.deny"), format!("c {NOTHING}:2 rwm")).unwrap();
    let before = mounts(&container);
    let output = update(&container, "add", &["vendor.com/gpu=0"]).exits(1);
    output.says(&format!(r#"write \"c {NOTHING}:2 r\" to "#));
    assert_eq!(opens(&container, EVERYTHING), NOT_THERE);
    assert_eq!(
        opens(&container, "open /etc/1 r; open /etc/2 r"),
        ["EPERM"; 2]
    );
    assert_eq!(mounts(&container), before);
    container.delete_force().ok();
}

/// The attacks on a creation in `cdi.rs`, tried on an update.
fn paths_lead_nowhere_outside() {
    needs(&[Root, Teu]);
    let bundle = bundle_with_nodes(&[1]);
    let (outside, inside) = link(&bundle);
    symlink("../../../../../../..", bundle.rootfs().join("mnt/up")).unwrap();
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let container = Container::running(bundle);
    let up = format!("/mnt/up{}/up", outside.display());
    let mount =
        |path: &str| json!({ "hostPath": library, "containerPath": path, "options": ["bind"] });
    describe(&json!({
        "deviceNodes": [node("/mnt/link/gpu", 1, "rw")],
        "mounts": [mount("/mnt/link/file"), mount(&up)],
    }));
    let modes = format!("open /mnt/link/gpu rw; stat /mnt/link/file; stat {}", up);
    let before = mounts(&container);
    // Outside nothing changes, even if files are in the way there.
    fs::write(outside.join("file"), "").unwrap();
    make_node(&outside.join("gpu"), 1);
    for _ in 0..2 {
        add(&container, "vendor.com/gpu=0");
        assert_eq!(opens(&container, &modes), ["ENXIO", "ok", "ok"]);
        remove(&container, "vendor.com/gpu=0");
        assert_eq!(opens(&container, &modes), ["ENOENT"; 3]);
        assert_eq!(mounts(&container), before);
        assert_eq!(names(&inside), [""; 0]);
        let mut outside = names(&outside);
        outside.sort();
        assert_eq!(outside, ["file", "gpu"]);
    }
}

/// In the container, a directory is exchanged with a link to a place outside.
fn paths_that_change_lead_nowhere_outside() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().probe("sleep");
    let (outside, inside) = link(&bundle);
    fs::write(outside.join("library"), "").unwrap();
    let directory = bundle.rootfs().join("mnt");
    fs::create_dir(directory.join("gpu")).unwrap();
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    describe(&json!({
        "deviceNodes": [node("/mnt/gpu/gpu0", 1, "rw")],
        "mounts": [{ "hostPath": library, "containerPath": "/mnt/gpu/library", "options": ["bind"] }],
    }));
    let container = Container::running(bundle);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_done = AtomicBool::new(false);
    let mut done = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                exchange(&directory.join("gpu"), &directory.join("link"));
            }
        });
        for _ in 0..rounds(40) {
            let added = update(&container, "add", &["vendor.com/gpu=0"]);
            done += usize::from(added.status.success());
            update(&container, "rm", &["vendor.com/gpu=0"]);
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert!(done > 0);
    assert_eq!(names(&outside), ["library"]);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
    // In the container, the files may have ended up in either place.
    assert!(names(&inside).len() <= 2);
}

fn exchange(one: &Path, other: &Path) {
    let flags = RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(CWD, one, CWD, other, flags).unwrap();
}

/// Writes a CDI file of devices that share some of their edits, and of nodes.
fn describe_shared() {
    let device = |name: &str, minors: &[i64]| {
        let nodes = minors
            .iter()
            .map(|minor| node(&format!("/dev/gpu{minor}"), *minor, "rw"));
        json!({ "name": name, "containerEdits": { "deviceNodes": nodes.collect::<Vec<_>>() } })
    };
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let mount =
        json!({ "hostPath": library, "containerPath": "/usr/lib/library", "options": ["bind"] });
    let file = json!({
        "cdiVersion": "1.1.0", "kind": "vendor.com/gpu",
        "devices": [device("0", &[0]), device("1", &[1]), device("both", &[0, 1])],
        "containerEdits": { "deviceNodes": [node("/dev/gpu2", 2, "rw")], "mounts": [mount] },
    });
    cdi::write("vendor.json", &file.to_string());
}

/// The number of minors. Those from the fourth on are nodes of the host.
const MINORS: u64 = 24;

/// A fixed sequence of pseudo-random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The container's answers for the nodes and rules of all minors, if it has these devices.
fn expected(has: &[bool]) -> Vec<&'static str> {
    let [zero, one, both, nodes @ ..] = has else {
        panic!("{has:?}")
    };
    let any = *zero || *one || *both;
    let there = [&[*zero || *both, *one || *both, any], nodes].concat();
    let mut answers: Vec<&str> = Vec::new();
    for is_there in there {
        answers.extend(match is_there {
            true => ["ENXIO", "ENXIO"],
            false => ["ENOENT", "EPERM"],
        });
    }
    answers.push(if any { "ok" } else { "ENOENT" });
    answers
}

/// Adds and removes devices 1000 times.
fn devices_come_and_go_in_any_order() {
    needs(&[Root, Seconds(120), Teu]);
    let steps = usize::try_from(rounds(1000)).unwrap();
    describe_shared();
    let minors: Vec<u64> = (0..MINORS).collect();
    let container = Container::running(bundle_with_nodes(&minors));
    let before = mounts(&container);
    let named = ["0", "1", "both"].map(|name| format!("vendor.com/gpu={name}"));
    let nodes = minors[3..]
        .iter()
        .map(|minor| at(*minor, &format!("/dev/gpu{minor}")));
    let devices: Vec<String> = named.into_iter().chain(nodes).collect();
    let modes = minors
        .iter()
        .map(|minor| format!("open /dev/gpu{minor} rw; open /etc/{minor} rw; "));
    let modes = modes.collect::<String>() + "stat /usr/lib/library";
    let mut has = vec![false; devices.len()];
    let (mut done, mut numbers) = (0, Numbers(1));
    while done < steps {
        let (mut words, mut then) = (Vec::new(), has.clone());
        for (number, device) in devices.iter().enumerate() {
            if numbers.below(2) == 0 {
                let option = if has[number] { "rm" } else { "add" };
                words.push(format!("--device-{option}={device}"));
                then[number] = !has[number];
            }
        }
        done += words.len();
        // Every tenth update fails, and must change nothing.
        let fails = numbers.below(10) == 0;
        if fails {
            words.push("--device-add=/dev/null:/proc/version".to_owned());
        }
        let call = container.command("update", words);
        let call = call.arg_before_last("--cdi-dir");
        let output = call.arg_before_last(cdi::directory()).output();
        assert_eq!(output.status.success(), !fails, "{output}");
        if !fails {
            has = then;
        }
        assert_eq!(opens(&container, &modes), expected(&has), "after {done}");
    }
    let devices = devices.iter().zip(has);
    let left: Vec<&String> = devices
        .filter_map(|(device, has)| has.then_some(device))
        .collect();
    update(&container, "rm", &left).ok();
    assert_eq!(mounts(&container), before);
}
