//! Invalid limits: the error names the field, the file and the value, and nothing is left, which
//! the harness checks after each test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::*;

tests![
    values_out_of_range_are_named,
    values_that_are_no_lists_are_named,
    devices_that_are_not_there_are_named,
    a_cpuset_outside_the_parents_is_refused,
    a_memory_limit_that_init_does_not_fit_in,
    v1_has_bounds_for_shares,
    v1_has_no_unified,
    v2_has_no_file_of_that_name,
    limits_of_a_missing_v1_hierarchy_are_refused,
    v2_warns_of_what_it_cannot_do,
    v2_names_a_controller_that_is_not_handed_down,
    v2_below_a_threaded_cgroup,
];

/// Creates a container with this value below linux.resources. Asserts that the creation fails,
/// that the error contains all `words`, and that no cgroup of the container is left.
#[track_caller]
fn refused(pointer: &str, value: impl Into<Value>, words: &[&str]) {
    let bundle = Bundle::new().set(&format!("/linux/resources/{pointer}"), value);
    refuses(bundle, words);
}

#[track_caller]
fn refuses(bundle: Bundle, words: &[&str]) {
    let container = Container::new(bundle);
    let output = container.create().exits(1);
    let said = output.stderr.replace("\\\"", "\"");
    for word in words {
        assert!(said.contains(word), "{word} is not in {output}");
    }
    assert!(!container.has_state(), "{output}");
}

fn values_out_of_range_are_named() {
    needs(&[
        Root,
        Controller("cpu"),
        Controller("memory"),
        Controller("pids"),
        Teu,
    ]);
    let v1 = |on_v1, on_v2| if is_v2() { on_v2 } else { on_v1 };
    // Below the minimum of a millisecond, above the maximum of a second, and below -1.
    let file = v1("/cpu.cfs_quota_us\": invalid", "/cpu.max\": invalid");
    refused(
        "cpu/quota",
        1,
        &["linux.resources.cpu.quota: write \"1", file],
    );
    let file = v1("/cpu.cfs_period_us\": invalid", "/cpu.max\": invalid");
    refused(
        "cpu/period",
        1_000_001,
        &["linux.resources.cpu.", "1000001", file],
    );
    let file = v1(
        "/memory.limit_in_bytes\": invalid",
        "/memory.max\": invalid",
    );
    refused(
        "memory/limit",
        -2,
        &["linux.resources.memory.limit: write \"-2\"", file],
    );
    let words = v1(
        "/memory.soft_limit_in_bytes\": invalid",
        "/memory.low\": invalid",
    );
    refused(
        "memory/reservation",
        -2,
        &["linux.resources.memory.reservation: write \"-2\"", words],
    );
    refused(
        "pids/limit",
        i64::MAX,
        &[
            "linux.resources.pids.limit: write \"9223372036854775807\"",
            "/pids.max\": invalid argument",
        ],
    );
    let both = json!({ "limit": 64 << 20, "swap": 32 << 20 });
    let words = v1(
        "write \"33554432\" to ",
        "memory+swap limit should be >= memory limit",
    );
    refused("memory", both, &["linux.resources.memory.swap: ", words]);
    if !is_v2() {
        let words = "invalid memory swappiness value: 101 (valid range is 0-100)";
        refused(
            "memory/swappiness",
            101,
            &["linux.resources.memory.swappiness: ", words],
        );
    }
}

fn values_that_are_no_lists_are_named() {
    needs(&[Root, Controller("cpuset"), Teu]);
    for (field, value) in [
        ("cpus", "x"),
        ("cpus", "0-"),
        ("cpus", "4095"),
        ("mems", "63"),
        ("mems", ",,-"),
    ] {
        let name = format!("linux.resources.cpu.{field}: ");
        let file = format!("/cpuset.{field}\"");
        refused(
            &format!("cpu/{field}"),
            value,
            &[&name, &format!("\"{value}\""), &file],
        );
    }
}

fn devices_that_are_not_there_are_named() {
    needs(&[Root, CgroupV1, Controller("blkio"), Teu]);
    let rate = json!([{ "major": 250, "minor": 77, "rate": 1000 }]);
    for (field, file) in [
        ("throttleReadBpsDevice", "read_bps"),
        ("throttleWriteBpsDevice", "write_bps"),
        ("throttleReadIOPSDevice", "read_iops"),
        ("throttleWriteIOPSDevice", "write_iops"),
    ] {
        let name = format!("linux.resources.blockIO.{field}: write \"250:77 1000\" to ");
        let file = format!("/blkio.throttle.{file}_device\": no such device");
        refused(&format!("blockIO/{field}"), rate.clone(), &[&name, &file]);
    }
    // Out of range with an I/O scheduler that has weights; without, the file does not exist.
    refused(
        "blockIO/weight",
        5000,
        &[
            "linux.resources.blockIO.weight: write \"5000\" to ",
            "weight\": ",
        ],
    );
}

/// A cgroup in the hierarchy of the controller cpuset, with a single processor.
struct OneProcessor {
    name: String,
    directory: PathBuf,
}

impl OneProcessor {
    fn new() -> OneProcessor {
        let name = format!("{}narrow", marker());
        let top = match is_v2() {
            true => Path::new("/sys/fs/cgroup"),
            false => Path::new("/sys/fs/cgroup/cpuset"),
        };
        if is_v2() {
            fs::write(top.join("cgroup.subtree_control"), "+cpuset").unwrap();
        }
        let directory = top.join(&name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("cpuset.cpus"), "0").unwrap();
        fs::write(directory.join("cpuset.mems"), "0").unwrap();
        OneProcessor { name, directory }
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        fs::remove_dir(&self.directory).expect("nothing is left below");
        // The runtime made the cgroups in the other hierarchies.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let left = hierarchy.path().join(&self.name);
            assert!(!left.exists() || fs::remove_dir(&left).is_ok(), "{left:?}");
        }
    }
}

fn a_cpuset_outside_the_parents_is_refused() {
    needs(&[Root, Controller("cpuset"), Teu]);
    let parent = OneProcessor::new();
    let bundle = |cpus: &str| {
        let path = format!("/{}/box", parent.name);
        let bundle = Bundle::new().set("/linux/cgroupsPath", path);
        bundle.set("/linux/resources/cpu", json!({ "cpus": cpus }))
    };
    // On v2 the kernel would accept the first value and run the container on processor 0.
    for cpus in ["1", "0-1"] {
        let value = format!("\"{cpus}\"");
        refuses(
            bundle(cpus),
            &["linux.resources.cpu.cpus: ", &value, "/box/cpuset.cpus\""],
        );
        assert!(!parent.directory.join("box").exists());
    }
    bundle("0").run().ok();
}

/// On v1 the error tells how much is in use; on v2 the kernel may OOM-kill init.
fn a_memory_limit_that_init_does_not_fit_in() {
    needs(&[Root, Controller("memory"), Teu]);
    let bundle = Bundle::new().set("/linux/resources/memory/limit", 4096);
    let output = Container::new(bundle).create().exits(1);
    let said = &output.stderr;
    let is_told = said.contains(
        "linux.resources.memory.limit: unable to set memory limit to 4096 (current usage: ",
    ) || said.contains(
        "container init was OOM-killed (memory limit too low?): linux.resources.memory.limit is 4096",
    );
    assert!(is_told, "{output}");
}

fn v1_has_bounds_for_shares() {
    needs(&[Root, CgroupV1, Controller("cpu"), Teu]);
    let field = "linux.resources.cpu.shares: ";
    refused(
        "cpu/shares",
        1,
        &[field, "the minimum allowed cpu-shares is 2"],
    );
    refused(
        "cpu/shares",
        262_145,
        &[field, "the maximum allowed cpu-shares is 262144"],
    );
}

fn v1_has_no_unified() {
    needs(&[Root, CgroupV1, Teu]);
    let words = "linux.resources.unified: invalid configuration: cannot use unified on cgroup v1";
    refused("unified", json!({ "memory.high": "max" }), &[words]);
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn v2_has_no_file_of_that_name() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    for (file, words) in [
        ("../cgroup.max.depth", "must be a file name (no slashes)"),
        ("/etc/passwd", "must be a file name (no slashes)"),
        ("memory", "must be in the form CONTROLLER.PARAMETER"),
        (".max", "must be in the form CONTROLLER.PARAMETER"),
        ("cgroup.freeze", "is not a limit"),
        ("cgroup.procs", "is not a limit"),
        (
            "nothing.max",
            "controller \"nothing\" is not available in cgroup",
        ),
        (
            "cgroup.nothing",
            "/cgroup.nothing\": no such file or directory",
        ),
    ] {
        let name = format!("linux.resources.unified[\"{file}\"]: ");
        refused("unified", json!({ file: "1" }), &[&name, words]);
    }
    let value = json!({ "cgroup.max.depth": "-7" });
    let words = "linux.resources.unified[\"cgroup.max.depth\"]: write \"-7\" to ";
    refused("unified", value, &[words, "/cgroup.max.depth\": "]);
    let bundle = Bundle::new().set(
        "/linux/resources/unified",
        json!({ "cgroup.max.depth": "3" }),
    );
    bundle.run().ok();
}

/// v2 has no such controller. This machine has v1 hierarchies, but without it.
fn limits_of_a_missing_v1_hierarchy_are_refused() {
    needs(&[
        Root,
        CgroupV1,
        NoController("net_cls"),
        NoController("net_prio"),
    ]);
    let priority = json!([{ "name": "lo", "priority": 1 }]);
    for (field, value, controller) in [
        ("classID", json!(1), "net_cls"),
        ("priorities", priority, "net_prio"),
    ] {
        let bundle = Bundle::new().set(&format!("/linux/resources/network/{field}"), value);
        let words = format!("cannot set {controller} limit: container could not join");
        bundle.run().exits(1).says(&words);
    }
}

/// Warns for the fields without a counterpart in v2, which docs/limits.md lists.
fn v2_warns_of_what_it_cannot_do() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    let bundle = Bundle::new()
        .set(
            "/linux/resources/memory",
            json!({ "swappiness": 10, "disableOOMKiller": true }),
        )
        .set(
            "/linux/resources/cpu",
            json!({ "realtimeRuntime": 1000, "realtimePeriod": 10000 }),
        )
        .set("/linux/resources/blockIO", json!({ "leafWeight": 20 }))
        .set(
            "/linux/resources/network",
            json!({ "classID": 1, "priorities": [{ "name": "lo", "priority": 1 }] }),
        );
    let mut output = bundle.run().ok();
    for field in [
        "memory.swappiness",
        "memory.disableOOMKiller",
        "cpu.realtimeRuntime",
        "cpu.realtimePeriod",
        "blockIO.leafWeight",
        "network.classID",
        "network.priorities",
    ] {
        output = output.says(&format!(
            "linux.resources.{field}: ignored: cgroup v2 has no such setting"
        ));
    }
}

/// A cgroup with processes of its own cannot enable controllers for its children
/// (cgroup-v2.rst, "No Internal Process Constraint").
fn v2_names_a_controller_that_is_not_handed_down() {
    needs(&[Root, DomainController, Alone, Teu]);
    let _v2 = V2Alone::new();
    let (controller, field, value) = domain_limit().unwrap();
    let name = format!("{}busy", marker());
    let busy = Container::running(
        Bundle::new()
            .probe("sleep")
            .set("/linux/cgroupsPath", format!("/{name}")),
    );
    let below = || Bundle::new().set("/linux/cgroupsPath", format!("/{name}/box"));
    let limited = below().set(&format!("/linux/resources/{field}"), value);
    // Threaded controllers can be enabled there, and make the cgroups below threaded.
    let threaded = ["cpu", "cpuset", "pids"];
    let all = fs::read_to_string(V2Alone::path("cgroup.controllers")).unwrap();
    let words = if all.split_whitespace().any(|one| threaded.contains(&one)) {
        "with domain controllers -- it is in an invalid state".to_owned()
    } else {
        format!("controller \"{controller}\" is not available in cgroup ")
    };
    refuses(
        limited,
        &["linux.resources.", &words, &format!("{name}/box")],
    );
    assert!(!V2Alone::path(&format!("{name}/box")).exists());
    // Without such a limit the cgroup can be used.
    below().run().ok();
    busy.delete_force().ok();
}

fn v2_below_a_threaded_cgroup() {
    needs(&[Root, DomainController, Alone, Teu]);
    let _v2 = V2Alone::new();
    let (_, field, value) = domain_limit().unwrap();
    let name = format!("{}threaded", marker());
    let threaded = V2Alone::path(&name);
    fs::create_dir(&threaded).unwrap();
    fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let below = || Bundle::new().set("/linux/cgroupsPath", format!("/{name}/box"));
    let limited = below().set(&format!("/linux/resources/{field}"), value);
    let words = "with domain controllers -- it is in an invalid state";
    refuses(
        limited,
        &["linux.resources.", &format!("{name}/box"), words],
    );
    assert!(!threaded.join("box").exists());
    // Without such a limit the cgroup becomes threaded, too.
    let container = Container::running(below().probe("sleep"));
    let kind = fs::read_to_string(threaded.join("box/cgroup.type")).unwrap();
    assert_eq!(kind, "threaded\n");
    container
        .command("exec", NO_FLAGS)
        .args(["/probe", "echo", "here"])
        .output()
        .ok();
    container.delete_force().ok();
    fs::remove_dir(&threaded).unwrap();
}
