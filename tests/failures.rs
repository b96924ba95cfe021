//! Bad input and bad luck: a clear error, and nothing left behind.

use std::fs;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::*;

tests![
    full_disk_fails_the_creation,
    readonly_state_root_fails_the_creation,
    killed_run_leaves_what_delete_removes,
    broken_state_can_be_deleted,
    every_bad_field_is_named,
    missing_bundle_is_named,
];

fn full_disk_fails_the_creation() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let root = scratch().join("small");
    fs::create_dir(&root).unwrap();
    let options = Some("size=4k,nr_inodes=3");
    mount(
        Some("none"),
        &root,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
    .unwrap();
    fs::write(root.join("filler"), "x".repeat(4096)).unwrap();
    let container = Container::new(Bundle::new());
    let call = Invocation::new(runtime())
        .arg("--root")
        .arg(&root)
        .args(["create", "--bundle"]);
    let output = call
        .arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(1);
    output.says("no space left on device");
    assert!(!root.join(&container.id).exists());
    umount2(&root, MntFlags::empty()).unwrap();
    before.assert_unchanged();
}

fn readonly_state_root_fails_the_creation() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let call = Invocation::new(runtime()).args(["--root", "/proc/nowhere", "create", "--bundle"]);
    let output = call
        .arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(1);
    output.says("/proc/nowhere");
}

fn killed_run_leaves_what_delete_removes() {
    needs(&[Root, Seconds(60)]);
    let before = HostSnapshot::take();
    for step in 0..20 {
        let container = Container::new(Bundle::new().probe("sleep"));
        let running = container.command("run", NO_FLAGS).spawn();
        std::thread::sleep(std::time::Duration::from_micros(step * 1500));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        container.delete_force().ok();
        assert!(!container.has_state());
    }
    before.assert_unchanged();
}

fn broken_state_can_be_deleted() {
    needs(&[Root, Teu]);
    for text in ["", "{", "null"] {
        let container = Container::new(Bundle::new());
        let directory = state_root().join(&container.id);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("state.json"), text).unwrap();
        container.command("state", NO_FLAGS).output().exits(1);
        container.delete_force().ok();
        assert!(!container.has_state(), "{text:?}");
    }
}

fn every_bad_field_is_named() {
    needs(&[Root, Teu]);
    let before = HostSnapshot::take();
    let bad = [
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_LUCK", "soft": 1, "hard": 1 }]),
            "RLIMIT_LUCK",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_NEVER" }),
            "SCHED_NEVER",
        ),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_X", "priority": 1 }),
            "IOPRIO_CLASS_X",
        ),
        ("/process/env", json!(["=value"]), "environment variable"),
        ("/process/consoleSize", json!("wide"), "consoleSize"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        (
            "/linux/personality",
            json!({ "domain": "LINUX99" }),
            "LINUX99",
        ),
        (
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_WISH" }),
            "MPOL_WISH",
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "z" }]),
            "/dev/x",
        ),
        (
            "/linux/timeOffsets",
            json!({ "boottime": { "secs": 1 } }),
            "time namespace offsets",
        ),
        ("/linux/intelRdt", json!({ "closID": ".." }), "intelRdt"),
        ("/linux/netDevices", json!({ "no/such": {} }), "no/such"),
        (
            "/linux/sysctl",
            json!({ "kernel.hostname": "x" }),
            "kernel.hostname",
        ),
    ];
    for (pointer, value, words) in bad {
        let container = Container::new(Bundle::new().set(pointer, value));
        container.create().exits(1).says(words);
        assert!(!container.has_state(), "{pointer}");
    }
    before.assert_unchanged();
}

fn missing_bundle_is_named() {
    needs(&[Root]);
    let call = teu(["create", "--bundle", "/no/such/bundle", "one"]);
    call.output()
        .exits(1)
        .says("/no/such/bundle")
        .says("no such file or directory");
    assert!(!state_root().join("one").exists());
}
