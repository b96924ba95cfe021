//! config.json with fields that are missing, unknown, for other platforms, or without effect
//! here.

use std::fs;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::harness::*;

tests![
    version_is_not_checked,
    root_must_be_there,
    unknown_fields_are_warned_of,
    fields_of_other_platforms_are_refused,
    user_name_of_windows_changes_nothing,
    personality_flags_warn,
    kernel_memory_limits_warn,
    hierarchy_cannot_be_switched_off,
    systems_without_selinux_refuse_labels,
    device_rules_decide_what_opens,
    wrong_type_is_named_by_its_path,
    many_fields_take_no_time,
];

fn version_is_not_checked() {
    needs(&[Root, Teu]);
    for version in ["1.3.0", "9.0.0", ""] {
        let bundle = Bundle::new().set("/ociVersion", version);
        bundle.probe("exit 0").run().ok();
    }
}

fn root_must_be_there() {
    needs(&[Root, Teu]);
    let refused = |bundle: Bundle, words: &str| {
        Container::new(bundle).create().exits(1).says(words);
    };
    refused(Bundle::new().remove("/root"), "root must be specified");
    refused(
        Bundle::new().set("/root/path", ""),
        "root.path must be specified",
    );
}

fn unknown_fields_are_warned_of() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new()
        .set("/process/colour", "green")
        .set("/linux/resources/memory/limitt", 1 << 20)
        .push("/linux/namespaces", json!({ "type": "cgroup", "paht": "" }))
        .set("/process/capabilites", json!({}))
        .set("/anotations", json!({}))
        // Names that no program defines.
        .set("/annotations", json!({ "limitt": "1" }));
    let container = Container::new(bundle.probe("sleep"));
    let warnings = [
        "config.json: unknown field process.colour is ignored\"",
        "unknown field linux.resources.memory.limitt is ignored; is \\\"limit\\\" meant?",
        "unknown field linux.namespaces[5].paht is ignored; is \\\"path\\\" meant?",
        "unknown field process.capabilites is ignored; is \\\"capabilities\\\" meant?",
        "unknown field anotations is ignored; is \\\"annotations\\\" meant?",
    ];
    let output = container.create().ok();
    for warning in warnings {
        assert!(output.stderr.contains(warning), "{warning}: {output}");
    }
    assert_eq!(output.stderr.lines().count(), warnings.len(), "{output}");
    container.start().ok();

    // `exec` does not warn about config.json, because its caller need not have written it.
    let call = container.command("exec", NO_FLAGS);
    let output = call.args(["/probe", "exit", "0"]).output().ok();
    assert_eq!(output.stderr, "");
    let call = container.command("exec", ["--debug"]);
    let output = call.args(["/probe", "exit", "0"]).output().ok();
    let told = |line: &&str| line.contains("level=debug") && line.contains("unknown field");
    let told: Vec<&str> = output.stderr.lines().filter(told).collect();
    assert_eq!(told.len(), warnings.len(), "{output}");
    for line in told {
        assert!(line.contains("file=\"src/bundle.rs:"), "{line}");
    }
    let process = scratch().join("process.json");
    let text = r#"{ "cwd": "/", "args": ["/probe", "exit", "0"], "termnal": false }"#;
    fs::write(&process, text).unwrap();
    let call = container.command("exec", ["--process", process.to_str().unwrap()]);
    let words = "unknown field termnal is ignored; is \\\"terminal\\\" meant?";
    call.output().ok().says(words);
    let update = container.command("update", ["--resources", "-"]);
    let update = update.stdin(r#"{ "pids": { "limits": 100 } }"#).output();
    update
        .ok()
        .says("/dev/stdin: unknown field pids.limits is ignored; is \\\"limit\\\" meant?");
}

fn fields_of_other_platforms_are_refused() {
    needs(&[Root, Teu]);
    for platform in ["freebsd", "solaris", "vm", "windows", "zos"] {
        let bundle = Bundle::new().set(&format!("/{platform}"), json!({}));
        let words = format!("{platform}: teu makes Linux containers only");
        Container::new(bundle).create().exits(1).says(&words);
    }
    let bundle = Bundle::new().set("/process/commandLine", "a b");
    Container::new(bundle)
        .create()
        .exits(1)
        .says("process.commandLine: it is for Windows only");
}

fn user_name_of_windows_changes_nothing() {
    needs(&[Root]);
    let user = json!({ "uid": 1000, "gid": 1000, "username": "nobody" });
    let seen = Bundle::new().set("/process/user", user).run().probe();
    assert_eq!(seen["uid"], 1000);
}

fn personality_flags_warn() {
    needs(&[Root, Teu]);
    let personality = json!({ "domain": "LINUX32", "flags": ["SHOUT"] });
    let bundle = Bundle::new().set("/linux/personality", personality);
    let output = bundle.run().ok();
    let output = output.says("ignoring unsupported personality flags: [SHOUT]");
    assert_eq!(output.probe()["personality"], 8);
}

fn kernel_memory_limits_warn() {
    needs(&[Root, Teu]);
    for field in ["kernel", "kernelTCP"] {
        let bundle = Bundle::new().set(&format!("/linux/resources/memory/{field}"), 1 << 20);
        bundle.probe("exit 0").run().ok().says(&format!(
            "linux.resources.memory.{field}: kernel memory limits are obsolete and not set"
        ));
    }
}

fn hierarchy_cannot_be_switched_off() {
    needs(&[Root, Teu]);
    let bundle = |value: bool| Bundle::new().set("/linux/resources/memory/useHierarchy", value);
    bundle(true).probe("exit 0").run().ok();
    let words = "linux.resources.memory.useHierarchy: accounting is always hierarchical";
    Container::new(bundle(false)).create().exits(1).says(words);
}

fn systems_without_selinux_refuse_labels() {
    needs(&[Root, NoSelinux, Teu]);
    let label = "system_u:object_r:container_file_t:s0";
    let bundle = Bundle::new().set("/linux/mountLabel", label);
    Container::new(bundle).create().exits(1).says("context");
    let bundle = Bundle::new().set("/process/selinuxLabel", label);
    let words = "selinux label is specified in config, but selinux is disabled or not supported";
    Container::new(bundle).create().exits(1).says(words);
}

/// No driver has this number: opening a device that is allowed fails with ENXIO, and opening
/// another with EPERM.
fn device_rules_decide_what_opens() {
    needs(&[Root, Teu]);
    let opens = |rule: Value| {
        let bundle = Bundle::new().push("/linux/resources/devices", rule);
        let mode = Mode::from_bits_truncate(0o666);
        let node = bundle.rootfs().join("etc/node");
        mknod(&node, SFlag::S_IFCHR, mode, makedev(1, 200)).unwrap();
        let output = bundle.probe("open /etc/node r; open /etc/node w").run();
        let answers: Vec<bool> = output
            .answers()
            .iter()
            .map(|answer| answer["errno"] != "EPERM")
            .collect();
        answers
    };
    let rule = |allow: bool, kind: &str, minor: i64, access: &str| json!({ "allow": allow, "type": kind, "major": 1, "minor": minor, "access": access });
    assert_eq!(opens(rule(false, "c", 200, "rwm")), [false, false]);
    assert_eq!(opens(rule(true, "c", 200, "r")), [true, false]);
    assert_eq!(opens(rule(true, "c", -1, "w")), [false, true]);
    assert_eq!(opens(rule(true, "c", 201, "rw")), [false, false]);
    assert_eq!(opens(rule(true, "b", 200, "rw")), [false, false]);
}

fn many_fields_take_no_time() {
    needs(&[Root, Teu]);
    let many = |word: &str| -> Value {
        let fields = (0..60_000).map(|number| (format!("org.teu.{word}{number}"), json!("v")));
        Value::Object(fields.collect())
    };
    // A name in another case is searched for among all fields.
    let bundle = Bundle::new().set("/Annotations", many("one"));
    let output = bundle.probe("exit 0").run().ok();
    assert!(output.took < patience(Duration::from_secs(8)), "{output}");
}

fn wrong_type_is_named_by_its_path() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().set("/process/user/uid", "root");
    Container::new(bundle)
        .create()
        .exits(1)
        .says("process.user.uid: expected a number from 0 to 4294967295, found");
}
