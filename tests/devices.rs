//! The effects of device rules, as the container sees them. The meaning of rules in general is
//! proved in cgroups/src/devices/proof.rs.

use std::path::PathBuf;

use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::harness::*;

tests![
    a_denied_write_refuses_reading_and_writing,
    the_last_rule_that_decides_counts,
    the_usual_devices_open_whatever_the_list_says,
    nodes_are_made_as_the_rules_say,
    a_user_namespace_has_nodes_as_they_are_described,
    nodes_made_outside_are_out_of_others_reach,
    a_node_that_stays_the_hosts_is_told,
    a_hosts_node_that_allows_more_is_refused,
    a_node_that_cannot_be_made_is_not_the_hosts,
    a_hole_is_refused_where_it_cannot_be,
    on_v2_alone_the_rules_mean_the_same,
];

/// No driver has this number: opening a device that is allowed fails with ENXIO, and opening
/// another with EPERM.
const NOTHING: u64 = 200;

fn rule(allow: bool, minor: i64, access: &str) -> Value {
    json!({ "allow": allow, "type": "c", "major": 1, "minor": minor, "access": access })
}

/// Whether 1:200 may be opened for reading, for writing, and for both.
fn opens(rules: &[Value]) -> [bool; 3] {
    let bundle = Bundle::new();
    let node = bundle.rootfs().join("etc/node");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&node, SFlag::S_IFCHR, mode, makedev(1, NOTHING)).unwrap();
    let bundle = bundle.set("/linux/resources/devices", rules);
    let modes = "open /etc/node r; open /etc/node w; open /etc/node rw";
    let answers = bundle.probe(modes).run().answers();
    let errno = |answer: &Value| answer["errno"].as_str().unwrap().to_owned();
    let errnos: Vec<String> = answers.iter().map(errno).collect();
    assert!(
        errnos
            .iter()
            .all(|errno| errno == "EPERM" || errno == "ENXIO"),
        "{errnos:?}"
    );
    [0, 1, 2].map(|at: usize| errnos[at] == "ENXIO")
}

fn everything(allow: bool) -> Value {
    json!({ "allow": allow, "access": "rwm" })
}

/// runc, crun and youki allow the third on v2.
fn a_denied_write_refuses_reading_and_writing() {
    needs(&[Root, Teu]);
    assert_eq!(
        opens(&[everything(true), rule(false, 200, "w")]),
        [true, false, false]
    );
    assert_eq!(
        opens(&[everything(true), rule(false, 200, "r")]),
        [false, true, false]
    );
}

fn the_last_rule_that_decides_counts() {
    needs(&[Root, Teu]);
    let deny = everything(false);
    assert_eq!(opens(std::slice::from_ref(&deny)), [false; 3]);
    assert_eq!(opens(&[deny.clone(), rule(true, 200, "rw")]), [true; 3]);
    // Both kinds of access are allowed by two rules for the same device; then for different
    // devices.
    assert_eq!(
        opens(&[deny.clone(), rule(true, 200, "r"), rule(true, 200, "w")]),
        [true; 3]
    );
    assert_eq!(
        opens(&[deny.clone(), rule(true, 200, "r"), rule(true, -1, "w")]),
        [true, true, false]
    );
    // A wider rule does not reduce a narrower rule.
    assert_eq!(
        opens(&[deny.clone(), rule(true, 200, "rw"), rule(true, -1, "r")]),
        [true; 3]
    );
    assert_eq!(
        opens(&[deny, rule(true, 200, "rw"), rule(false, -1, "w")]),
        [true, false, false]
    );
}

fn the_usual_devices_open_whatever_the_list_says() {
    needs(&[Root]);
    let bundle = Bundle::new().set("/linux/resources/devices", json!([everything(false)]));
    let modes = "open /dev/null rw; open /dev/zero rw; open /dev/full rw; open /dev/random r; \
                 open /dev/urandom r; open /dev/ptmx rw";
    let answers = bundle.probe(modes).run().ok().answers();
    assert!(
        answers.iter().all(|answer| answer["ok"] == true),
        "{answers:?}"
    );
}

/// Every container may make any node, because the runtime's own rule follows those of
/// config.json. Only opening is restricted.
fn nodes_are_made_as_the_rules_say() {
    needs(&[Root, Capability(27, "CAP_MKNOD")]);
    let all = ["CAP_MKNOD"];
    let bundle = Bundle::new().capabilities(all).set(
        "/linux/resources/devices",
        json!([everything(false), rule(false, 200, "m"),]),
    );
    let modes =
        "mknod /etc/made c 1 200; open /etc/made r; mknod /etc/block b 7 250; open /etc/block r";
    let answers = bundle.probe(modes).run().answers();
    assert_eq!(answers[0]["ok"], true);
    assert_eq!(answers[1]["errno"], "EPERM");
    assert_eq!(answers[2]["ok"], true);
    assert_eq!(answers[3]["errno"], "EPERM");
}

/// The root user of a user namespace may not make nodes itself.
fn a_user_namespace_has_nodes_as_they_are_described() {
    needs(&[Root, UserNamespaces, Kernel(5, 12)]);
    // The directory in which the runtime makes the node may be mounted with nodev.
    let _without_devices = Mounted::with_flags("tmpfs", state_root(), MsFlags::MS_NODEV, "");
    let described = json!([
        { "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o646, "uid": 7, "gid": 8 },
        { "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o620, "uid": 9 },
    ]);
    let bundle = Bundle::new().user_namespace();
    let bundle = bundle.set("/linux/devices", described);
    let modes =
        "stat /dev/mine; stat /dev/zero; stat /dev/pipe; open /dev/mine rw; open /dev/zero r";
    let output = bundle.probe(modes).run().ok();
    let answers = output.answers();
    let attributes = |at: usize| {
        let found = &answers[at]["ok"];
        [&found["mode"], &found["uid"], &found["gid"]].map(Value::clone)
    };
    assert_eq!(
        attributes(0),
        [json!("0646"), json!(7), json!(8)],
        "{output}"
    );
    assert_eq!(attributes(1), [json!("0600"), json!(0), json!(0)]);
    assert_eq!(attributes(2), [json!("0620"), json!(9), json!(0)]);
    assert_eq!([&answers[3]["ok"], &answers[4]["ok"]], [true, true]);
    assert_eq!(output.stderr, "");
}

fn nodes_made_outside_are_out_of_others_reach() {
    needs(&[Root, UserNamespaces, Kernel(5, 12)]);
    let described = json!([{ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "uid": 7 }]);
    let bundle = Bundle::new().user_namespace();
    let seen = scratch().join("seen");
    let script = format!(
        "find {:?} -type c -printf '%h\\n' | xargs stat --format=%a >{seen:?}",
        state_root()
    );
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let bundle = bundle.set("/linux/devices", described);
    let container = Container::created(bundle.hook("createRuntime", hook));
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "700\n");
    let state = state_root().join(&container.id);
    let left = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap());
    assert!(
        left.into_iter()
            .all(|entry| !entry.file_type().unwrap().is_dir())
    );
}

/// Runs a container with a described /dev/zero, without a capability of the runtime.
fn with_zero(fields: &Value, lacking: Option<&str>) -> Output {
    let mut zero = json!({ "path": "/dev/zero", "type": "c", "major": 1, "minor": 5 });
    let fields = fields.as_object().unwrap();
    zero.as_object_mut().unwrap().extend(fields.clone());
    let bundle = Bundle::new().user_namespace().probe("stat /dev/zero");
    let container = Container::new(bundle.set("/linux/devices", json!([zero])));
    let run = container.command("run", NO_FLAGS);
    let Some(lacking) = lacking else {
        return run.output();
    };
    let without = ["setpriv", "--bounding-set", lacking].map(PathBuf::from);
    run.with_program(without.into_iter().chain([runtime()]))
        .output()
}

/// The owner is not mapped in the user namespace, and the runtime may not make a device.
fn a_node_that_stays_the_hosts_is_told() {
    needs(&[Root, UserNamespaces, Tool("setpriv"), Teu]);
    let stays = r#"device \"/dev/zero\": fileMode, uid and gid are the host's"#;
    with_zero(&json!({ "uid": 70_000 }), None).ok().says(stays);
    let output = with_zero(&json!({ "uid": 7, "fileMode": 0o666 }), Some("-mknod"));
    output
        .ok()
        .says(&format!("{stays}: mknod: operation not permitted"));
}

fn a_hosts_node_that_allows_more_is_refused() {
    needs(&[Root, UserNamespaces, Tool("setpriv"), Teu]);
    let refused = "its fileMode would be the host's, 0666 instead of 0640: ";
    let output = with_zero(&json!({ "uid": 70_000, "fileMode": 0o640 }), None);
    output.exits(1).says(refused);
    let output = with_zero(&json!({ "fileMode": 0o640 }), Some("-mknod"));
    output
        .exits(1)
        .says(&format!("{refused}mknod: operation not permitted"));
}

/// The directory in which the runtime makes the node is too small.
fn a_node_that_cannot_be_made_is_not_the_hosts() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Teu]);
    let mut refused = 0;
    for files in 2..50 {
        let size = format!("nr_inodes={files}");
        let full = Mounted::new("tmpfs", state_root(), &size);
        let output = with_zero(&json!({ "fileMode": 0o640 }), None);
        drop(full);
        if output.code() == 0 {
            assert_eq!(output.answer()["mode"], "0640", "{output}");
            break;
        }
        refused += usize::from(output.stderr.contains("create device"));
    }
    assert!(refused > 0);
}

fn holes() -> [Value; 3] {
    [
        everything(false),
        rule(true, -1, "rw"),
        rule(false, 200, "w"),
    ]
}

fn a_hole_is_refused_where_it_cannot_be() {
    needs(&[Root, CgroupV1, Controller("devices"), Teu]);
    let bundle = Bundle::new().set("/linux/resources/devices", json!(holes()));
    let words = r#"linux.resources.devices: cgroup v1 cannot except \"deny c 1:200 w\" from \"allow c 1:* rw\"; cgroup v2 can"#;
    Container::new(bundle).create().exits(1).says(words);
}

fn on_v2_alone_the_rules_mean_the_same() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    a_denied_write_refuses_reading_and_writing();
    the_last_rule_that_decides_counts();
    assert_eq!(opens(&holes()), [true, false, false]);
}
