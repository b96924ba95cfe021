//! Devices by name (CDI), as the container and the kernel see them. The contents of CDI files are
//! tested in gpu/src/cdi/, and their effect on config.json in plan/src/gpu.rs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::*;
use crate::rootless::{self, rootless_bundle};

tests![
    a_device_is_a_node_and_a_rule,
    a_device_stays_whatever_is_updated,
    on_v2_alone_a_device_is_the_same,
    what_a_device_brings_is_there,
    further_processes_have_it_too,
    annotations_ask_for_devices,
    a_restored_container_has_its_devices,
    a_user_namespace_gets_the_hosts_node,
    a_user_without_privileges_gets_the_hosts_node,
    without_a_request_nothing_is_looked_for,
    what_cannot_be_had_is_told,
    files_of_others_are_not_read,
    hooks_of_others_do_not_run,
    hooks_can_be_forbidden,
    hooks_see_nothing_of_the_image,
    disks_and_memory_are_not_given,
    directories_of_the_host_are_not_given,
    mounts_bring_no_privileges,
    mounts_follow_no_link_out_of_the_image,
    nodes_follow_no_link_out_of_the_image,
    devices_are_listed,
    devices_are_inspected,
    files_are_validated,
    what_run_refuses_is_no_valid_file,
];

/// No driver has this number, which is for experiments: opening a device that is allowed fails
/// with ENXIO, and opening another with EPERM.
pub(crate) const NOTHING: i64 = 121;

pub(crate) fn directory() -> PathBuf {
    scratch().join("cdi")
}

/// A path as in a message of the log.
fn quoted(path: &Path) -> String {
    format!(r#"\"{}\""#, path.display())
}

/// Writes a CDI file for the device vendor.com/gpu=0.
pub(crate) fn describe(edits: &Value) -> PathBuf {
    write("vendor.json", &file(edits).to_string())
}

pub(crate) fn file(edits: &Value) -> Value {
    json!({
        "cdiVersion": "1.1.0",
        "kind": "vendor.com/gpu",
        "devices": [{ "name": "0", "containerEdits": edits }],
    })
}

pub(crate) fn write(name: &str, text: &str) -> PathBuf {
    fs::create_dir_all(directory()).unwrap();
    let path = directory().join(name);
    fs::write(&path, text).unwrap();
    path
}

pub(crate) fn node(path: &str, minor: i64, permissions: &str) -> Value {
    json!({
        "path": path, "type": "c", "major": NOTHING, "minor": minor, "permissions": permissions,
    })
}

/// Prepares a call that searches this test's directory of CDI files.
fn call(container: &Container, verb: &str) -> Invocation {
    let call = container.command(verb, NO_FLAGS);
    call.arg_before_last("--cdi-dir")
        .arg_before_last(directory())
}

/// Prepares a call that requests the device.
pub(crate) fn asking(container: &Container, verb: &str) -> Invocation {
    let call = call(container, verb);
    call.arg_before_last("--device=vendor.com/gpu=0")
}

fn run(bundle: Bundle) -> Output {
    asking(&Container::new(bundle), "run").output()
}

pub(crate) fn errnos(output: &Output) -> Vec<String> {
    let answers = output.answers();
    let errno = |answer: &Value| answer["errno"].as_str().unwrap_or("ok").to_owned();
    answers.iter().map(errno).collect()
}

pub(crate) fn running(bundle: Bundle) -> Container {
    let container = Container::new(bundle);
    container.detach(asking(&container, "create")).ok();
    container.start().ok();
    container
}

/// Runs the probe's modes in a running container; returns the results of opening devices.
pub(crate) fn opens(container: &Container, modes: &str) -> Vec<String> {
    let words = modes.split(';').collect::<Vec<_>>().join(" -- ");
    let exec = container.command("exec", NO_FLAGS).args(["/probe", "seq"]);
    errnos(&exec.args(words.split_whitespace()).output())
}

pub(crate) fn describe_nodes() {
    describe(&json!({ "deviceNodes": [
        node("/dev/gpu0", 1, "rw"), node("/dev/read", 2, "r"), node("/dev/none", 3, "none"),
        node("/dev/all", 4, ""), node("/dev/deep/er/gpu", 5, "rwm"),
    ] }));
}

pub(crate) const OPENS: &str = "open /dev/gpu0 rw; open /dev/read r; open /dev/read w; open /dev/none r; \
                     open /dev/all rw; open /dev/deep/er/gpu rw";
pub(crate) const OPENED: [&str; 6] = ["ENXIO", "ENXIO", "EPERM", "EPERM", "ENXIO", "ENXIO"];

fn a_device_is_a_node_and_a_rule() {
    needs(&[Root, Teu]);
    describe_nodes();
    assert_eq!(errnos(&run(Bundle::new().probe(OPENS))), OPENED);
    // A container from the same bundle that does not request the device has none.
    let output = Bundle::new().probe(OPENS).run();
    assert_eq!(errnos(&output), ["ENOENT"; 6]);
}

fn a_device_stays_whatever_is_updated() {
    needs(&[Root, Teu, Controller("pids")]);
    describe_nodes();
    let container = running(Bundle::new().probe("sleep"));
    assert_eq!(opens(&container, OPENS), OPENED);
    // Neither the files nor the host's nodes are read again.
    fs::remove_dir_all(directory()).unwrap();
    let update = |words: &[&str]| container.command("update", words).output().ok();
    update(&["--pids-limit", "30"]);
    assert_eq!(opens(&container, OPENS), OPENED);
    let rule = json!({ "allow": true, "type": "c", "major": NOTHING, "minor": 3, "access": "r" });
    let resources = container.command("update", ["--resources", "-"]);
    resources
        .stdin(json!({ "devices": [rule] }).to_string())
        .output()
        .ok();
    let mut opened = OPENED;
    opened[3] = "ENXIO";
    assert_eq!(opens(&container, OPENS), opened);
    update(&["--pids-limit", "31"]);
    assert_eq!(opens(&container, OPENS), opened);
}

fn on_v2_alone_a_device_is_the_same() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    a_device_is_a_node_and_a_rule();
}

fn describe_everything() {
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let mut file = file(&json!({
        "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/zero", "fileMode": 0o640, "gid": 7 }],
        "additionalGids": [44],
        "env": ["FROM_DEVICE=1", "REPLACED=device"],
    }));
    file["containerEdits"] = json!({
        "mounts": [{
            "hostPath": library, "containerPath": "/usr/lib/library", "options": ["ro", "bind"],
        }],
        "env": ["FROM_FILE=1"],
    });
    write("vendor.json", &file.to_string());
}

fn what_a_device_brings_is_there() {
    needs(&[Root, Teu]);
    describe_everything();
    let modes = "report; stat /dev/gpu0; read /usr/lib/library; write /usr/lib/library x";
    let output = run(Bundle::new().env("REPLACED=image").probe(modes));
    let answers = output.answers();
    let env = &answers[0]["env"];
    assert_eq!(env["REPLACED"], "device", "{env}");
    assert_eq!(
        (&env["FROM_DEVICE"], &env["FROM_FILE"]),
        (&json!("1"), &json!("1"))
    );
    assert_eq!(answers[0]["groups"], json!([44]));
    let node = &answers[1]["ok"];
    assert_eq!(
        (&node["major"], &node["minor"]),
        (&json!(1), &json!(5)),
        "{node}"
    );
    assert_eq!((&node["mode"], &node["gid"]), (&json!("0640"), &json!(7)));
    assert_eq!(answers[2]["ok"], "library");
    assert_eq!(answers[3]["errno"], "EROFS");
}

fn further_processes_have_it_too() {
    needs(&[Root, Teu]);
    describe_everything();
    let container = running(Bundle::new().env("REPLACED=image").probe("sleep"));
    let own = container.command("exec", ["--user", "5", "--env", "FROM_FILE=2"]);
    let seen = own.args(["/probe", "report"]).output().ok().probe();
    assert_eq!(seen["env"]["REPLACED"], "device");
    assert_eq!(
        (&seen["env"]["FROM_DEVICE"], &seen["env"]["FROM_FILE"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!((&seen["uid"], &seen["groups"]), (&json!(5), &json!([44])));
    // A process that an engine describes in full has its own variables.
    let process = scratch().join("process.json");
    let described = json!({ "args": ["/probe", "report"], "cwd": "/", "env": ["REPLACED=engine"] });
    fs::write(&process, described.to_string()).unwrap();
    let exec = container
        .command("exec", NO_FLAGS)
        .arg_before_last("--process")
        .arg_before_last(process);
    let seen = exec.output().ok().probe();
    assert_eq!(
        (&seen["env"]["REPLACED"], &seen["env"]["FROM_DEVICE"]),
        (&json!("engine"), &json!("1"))
    );
    assert_eq!(seen["groups"], json!([44]));
}

fn annotations_ask_for_devices() {
    needs(&[Root, Teu]);
    describe_nodes();
    let container = |key: &str| {
        let bundle = Bundle::new().probe("open /dev/gpu0 rw");
        Container::new(bundle.set("/annotations", json!({ key: "vendor.com/gpu=0" })))
    };
    let own = container("run.teu/devices");
    assert_eq!(errnos(&call(&own, "run").output()), ["ENXIO"]);
    // Engines handle these annotations themselves.
    let engines = container("cdi.k8s.io/vendor_0");
    assert_eq!(errnos(&call(&engines, "run").output()), ["ENOENT"]);
    let switched_on = call(&engines, "run").arg_before_last("--cdi-annotations");
    assert_eq!(errnos(&switched_on.output()), ["ENXIO"]);
}

/// A restore has to request the devices again.
fn a_restored_container_has_its_devices() {
    needs(&[Root, Criu, Teu]);
    describe_nodes();
    let container = Container::new(Bundle::new().probe("count /dev/shm/count"));
    let silent = "exec </dev/null >/dev/null 2>&1";
    let run = asking(&container, "run").arg_before_last("--detach");
    container.detach(run.after_shell(silent)).ok();
    let criu = |call: Invocation| {
        let call = call
            .arg_before_last("--image-path")
            .arg_before_last(scratch().join("images"));
        call.arg_before_last("--manage-cgroups-mode=ignore")
            .env("PATH", criu_path())
    };
    criu(container.command("checkpoint", NO_FLAGS))
        .output()
        .ok();
    let restore = criu(asking(&container, "restore")).arg_before_last("--detach");
    let restore = restore
        .arg_before_last("--bundle")
        .arg_before_last(&container.bundle.directory);
    restore.after_shell(silent).output().ok();
    container.found_again();
    assert_eq!(opens(&container, OPENS), OPENED);
}

/// The container gets a bind mount of the host's node, which may have another path. A runtime
/// without CAP_MKNOD cannot give it anything else.
fn a_user_namespace_gets_the_hosts_node() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Tool("setpriv"), Teu]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    describe(&json!({
        "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/zero" }],
        "mounts": [{ "hostPath": library, "containerPath": "/mnt/library", "options": ["ro", "bind"] }],
    }));
    let modes = "stat /dev/gpu0; open /dev/gpu0 rw; stat /mnt/library";
    for lacking in [None, Some("-mknod")] {
        let container = Container::new(Bundle::new().user_namespace().probe(modes));
        let mut run = asking(&container, "run");
        if let Some(lacking) = lacking {
            let without = ["setpriv", "--bounding-set", lacking].map(PathBuf::from);
            run = run.with_program(without.into_iter().chain([runtime()]));
        }
        let output = run.output().ok();
        let answers = output.answers();
        assert_eq!(answers[0]["ok"]["minor"], 5, "{output}");
        assert_eq!(answers[1]["ok"], true, "{output}");
        // The host's root user is root in the container.
        assert_eq!(answers[2]["ok"]["uid"], 0, "{output}");
    }
}

/// Where idmapped mounts are not possible.
fn a_user_without_privileges_gets_the_hosts_node() {
    needs(&[Root, UserNamespaces, Teu]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    describe(&json!({
        "deviceNodes": [{ "path": "/dev/gpu0", "hostPath": "/dev/zero" }],
        "mounts": [{ "hostPath": library, "containerPath": "/mnt/library", "options": ["ro", "bind"] }],
    }));
    let modes = "stat /dev/gpu0; open /dev/gpu0 rw; read /mnt/library";
    let container = Container::new(rootless_bundle(modes));
    let call = rootless::call(["run", "--device=vendor.com/gpu=0", "--cdi-dir"]).arg(directory());
    let call = call
        .arg("--bundle")
        .arg(&container.bundle.directory)
        .arg(&container.id);
    let output = call.output().ok();
    let answers = output.answers();
    assert_eq!(answers[0]["ok"]["minor"], 5, "{output}");
    assert_eq!(
        (&answers[1]["ok"], &answers[2]["ok"]),
        (&json!(true), &json!("library")),
        "{output}"
    );
}

/// The files and devices that a call opens. This test's directory is among those searched for
/// CDI files.
fn looked_at(bundle: Bundle, asks: bool) -> Vec<String> {
    let container = Container::new(bundle);
    let log = scratch().join("strace");
    let tracer = ["strace", "-fqq", "--trace=%file", "-o"].map(PathBuf::from);
    let tracer = tracer.into_iter().chain([log.clone(), runtime()]);
    let run = if asks {
        asking(&container, "run")
    } else {
        call(&container, "run")
    };
    run.with_program(tracer).output().ok();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("config.json"), "{log}");
    let of_devices = [
        "/cdi",
        "\"/proc/driver",
        "\"/sys/bus",
        "\"/sys/class",
        "\"/sys/dev",
    ];
    log.lines()
        .filter(|line| of_devices.iter().any(|path| line.contains(path)))
        .filter(|line| !line.contains("exec"))
        .map(str::to_owned)
        .collect()
}

/// Without a request, and with requests that only images or engines would make, nothing is
/// searched.
fn without_a_request_nothing_is_looked_for() {
    needs(&[Root, Teu, Tool("strace")]);
    describe_nodes();
    let image = || {
        let bundle = Bundle::new()
            .env("NVIDIA_VISIBLE_DEVICES=all")
            .env("AMD_VISIBLE_DEVICES=all");
        let annotations = json!({ "cdi.k8s.io/x": "vendor.com/gpu=0" });
        bundle
            .env("NVIDIA_DRIVER_CAPABILITIES=all")
            .set("/annotations", annotations)
    };
    assert_eq!(looked_at(image(), false), [""; 0]);
    assert!(
        looked_at(image(), true)
            .iter()
            .any(|line| line.contains("vendor.json"))
    );
}

fn what_cannot_be_had_is_told() {
    needs(&[Root, Teu]);
    let container = Container::new(Bundle::new());
    let refusal = |device: &str| {
        let call = call(&container, "create").arg_before_last(format!("--device={device}"));
        let output = call.output().exits(1);
        assert!(!container.has_state());
        output
    };
    refusal("vendor.com/gpu=0").says(&format!(
        "unresolvable CDI devices vendor.com/gpu=0 in {}",
        quoted(&directory())
    ));
    describe_nodes();
    let path = write(
        "broken.yaml",
        "cdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices:\n- nam: 1\n",
    );
    let output = refusal("vendor.com/gpu=1");
    let output = output
        .says(r#"unresolvable CDI devices vendor.com/gpu=1 in "#)
        .says(r#" (is \"vendor.com/gpu=0\" meant?); "#);
    output.says(&format!(
        "; {}: devices[0]: unknown field `nam` (is `name` meant?) at line 4 column 3",
        quoted(&path)
    ));
    refusal("gpu0").says(
        r#"--device: invalid CDI device name \"gpu0\": it is not of the form vendor/class=name"#,
    );
    let path = describe(&json!({ "deviceNodes": [{ "path": "/dev/nowhere" }] }));
    refusal("vendor.com/gpu=0").says(&format!(
        r#"CDI device \"vendor.com/gpu=0\" in \"{}\": device node \"/dev/nowhere\": the host's \"/dev/nowhere\": no such file"#,
        path.display()
    ));
    let call = call(&container, "create").arg_before_last("--cdi-hooks=some");
    call.output()
        .exits(1)
        .says(r#"--cdi-hooks \"some\": not one of all, known, none"#);
}

const OTHERS: &str = "others than root can write to it";

fn mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A user who can write a CDI file can put any part of the host into a container.
fn files_of_others_are_not_read() {
    needs(&[Root, Teu]);
    describe_nodes();
    let bundle = || Bundle::new().probe("open /dev/gpu0 rw");
    let refused = |what: &str| {
        let output = run(bundle()).exits(1).says("unresolvable CDI devices");
        assert!(output.stderr.contains(OTHERS), "{what}: {output}");
    };
    let taken = |what: &str| assert_eq!(errnos(&run(bundle())), ["ENXIO"], "{what}");
    let file = directory().join("vendor.json");
    taken("a file of root's");
    chown(&file, Some(1000), None).unwrap();
    refused("a file of another user's");
    chown(&file, Some(0), None).unwrap();
    for writable in [0o664, 0o646] {
        mode(&file, writable);
        refused("a file that others can write to");
    }
    mode(&file, 0o644);
    for writable in [0o775, 0o757, 0o1777] {
        mode(directory(), writable);
        refused("a directory that others can write to");
    }
    mode(directory(), 0o755);
    chown(directory(), Some(1000), None).unwrap();
    refused("a directory of another user's");
    chown(directory(), Some(0), None).unwrap();
    taken("as it was");

    // A link that root made to a directory where other users can replace the file.
    let theirs = scratch().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::rename(&file, theirs.join("file")).unwrap();
    symlink(theirs.join("file"), &file).unwrap();
    taken("a link to a file of root's");
    mode(&theirs, 0o777);
    refused("a link to where others can write");
    mode(&theirs, 0o755);
    let between = scratch().join("between");
    symlink(&theirs, &between).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(between.join("file"), &file).unwrap();
    taken("a link by way of a link");
    chown(&theirs, Some(1000), None).unwrap();
    refused("a link by way of a link to where others can write");
}

/// Writes a script to this path that records that it ran.
fn script(path: &Path) -> PathBuf {
    let ran = scratch().join("ran");
    fs::write(path, format!("#!/bin/sh\necho >{}\n", ran.display())).unwrap();
    mode(path, 0o755);
    ran
}

/// Hooks run with all privileges, and are named by the CDI file, not by the engine.
fn hooks_of_others_do_not_run() {
    needs(&[Root, Teu]);
    let directory = scratch().join("hooks");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("hook");
    let ran = script(&path);
    let describe_hook = |path: &Path| {
        describe(&json!({ "hooks": [{ "hookName": "createRuntime", "path": path }] }))
    };
    describe_hook(&path);
    run(Bundle::new()).ok();
    assert!(ran.exists());
    fs::remove_file(&ran).unwrap();
    let refused = |words: &str| {
        let output = run(Bundle::new()).exits(1);
        output
            .says(r#"CDI device \"vendor.com/gpu=0\" in "#)
            .says(words);
        assert!(!ran.exists());
    };
    chown(&path, Some(1000), None).unwrap();
    refused("others than root can write to the hook");
    chown(&path, Some(0), None).unwrap();
    mode(&path, 0o757);
    refused("others than root can write to the hook");
    mode(&path, 0o755);
    mode(&directory, 0o777);
    refused("others than root can write to the hook");
    mode(&directory, 0o755);
    let link = scratch().join("link");
    symlink(&path, &link).unwrap();
    chown(&path, Some(1000), None).unwrap();
    describe_hook(&link);
    refused("others than root can write to the hook");
    describe_hook(Path::new("hooks/hook"));
    refused(r#"the hook \"hooks/hook\": path \"hooks/hook\" is not absolute"#);
}

fn hooks_can_be_forbidden() {
    needs(&[Root, Teu]);
    let path = scratch().join("hook");
    let ran = script(&path);
    describe(&json!({ "hooks": [{ "hookName": "poststop", "path": path }] }));
    let container = Container::new(Bundle::new());
    let call = asking(&container, "create").arg_before_last("--cdi-hooks=none");
    call.output()
        .exits(1)
        .says(r#"and --cdi-hooks is \"none\""#);
    assert!(!ran.exists() && !container.has_state());
    // A device without hooks is not affected.
    describe(&json!({ "env": ["A=b"] }));
    let call = asking(&container, "run").arg_before_last("--cdi-hooks=none");
    assert_eq!(call.output().ok().probe()["env"]["A"], "b");
}

/// CVE-2025-23266: a hook with the image's environment loaded a library that the environment
/// named.
fn hooks_see_nothing_of_the_image() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new()
        .env("LD_PRELOAD=/proc/self/cwd/evil.so")
        .env("OF_IMAGE=1");
    let record = scratch().join("record");
    let hook = |name: &str| json!({ "hookName": name, "path": bundle.host_probe(), "args": [name, "hook", record] });
    let hooks = ["prestart", "createRuntime", "createContainer", "poststop"].map(hook);
    describe(&json!({ "hooks": hooks }));
    run(bundle).ok();
    let record = fs::read_to_string(record).unwrap();
    assert_eq!(record.lines().count(), 4);
    assert!(
        !record.contains("LD_PRELOAD") && !record.contains("OF_IMAGE"),
        "{record}"
    );
}

fn disks_and_memory_are_not_given() {
    needs(&[Root, Teu]);
    let container = Container::new(Bundle::new().probe("open /dev/x rw"));
    let words = r#"which only \"--cdi-devices any\" allows"#;
    for (kind, major, minor) in [
        ("b", NOTHING, 1),
        ("c", 1, 1),
        ("c", 1, 2),
        ("c", 1, 4),
        ("u", 1, 2),
    ] {
        let node = json!({ "path": "/dev/x", "hostPath": "/nowhere", "type": kind, "major": major, "minor": minor });
        describe(&json!({ "deviceNodes": [node] }));
        let output = asking(&container, "create").output().exits(1);
        output
            .says(r#"CDI device \"vendor.com/gpu=0\" in "#)
            .says(r#"the device node \"/dev/x\" is "#)
            .says(words);
        assert!(!container.has_state());
    }
    let call = asking(&container, "create").arg_before_last("--cdi-devices=some");
    let words = r#"--cdi-devices \"some\": not one of usual, any"#;
    call.output().exits(1).says(words);
    describe(&json!({ "deviceNodes": [
        { "path": "/dev/x", "type": "b", "major": NOTHING, "minor": 1 },
    ] }));
    let call = asking(&container, "run").arg_before_last("--cdi-devices=any");
    assert_eq!(errnos(&call.output()), ["ENXIO"]);
}

fn directories_of_the_host_are_not_given() {
    needs(&[Root, Teu]);
    let describe_mount = |source: &Path| {
        describe(&json!({ "mounts": [
            { "hostPath": source, "containerPath": "/mnt/own", "options": ["rbind"] },
        ] }))
    };
    let container = Container::new(Bundle::new().probe("stat /mnt/own"));
    let link = scratch().join("link");
    symlink("/etc", &link).unwrap();
    let own = state_root().join("some");
    fs::create_dir_all(&own).unwrap();
    let (state, own) = (state_root(), own.as_path());
    let system = [
        "/",
        "//",
        "/etc",
        "/etc/",
        "/proc",
        "/sys",
        "/proc/self/root",
    ]
    .map(Path::new);
    // A mount of a directory above the state would include the state.
    let above = scratch();
    for source in system.into_iter().chain([&*link, &*state, own, &*above]) {
        describe_mount(source);
        let output = asking(&container, "create").output().exits(1);
        output
            .says(r#"CDI device \"vendor.com/gpu=0\" in "#)
            .says(r#": no container gets \"/"#);
    }
    assert!(!container.has_state());
    // Files in these directories are allowed.
    describe_mount(Path::new("/etc/passwd"));
    fs::remove_dir(own).unwrap();
    let output = asking(&container, "run").output().ok();
    assert_eq!(output.answers()[0]["errno"], Value::Null, "{output}");
}

fn mounts_bring_no_privileges() {
    needs(&[Root, Teu]);
    let library = scratch().join("library");
    fs::create_dir(&library).unwrap();
    describe(&json!({ "mounts": [
        { "hostPath": library, "containerPath": "/mnt/own", "options": ["bind", "suid", "dev"] },
    ] }));
    let seen = run(Bundle::new()).ok().probe();
    let mounts = seen["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["target"] == "/mnt/own");
    let options = mount.unwrap()["options"].to_string();
    assert!(
        options.contains("nosuid") && options.contains("nodev"),
        "{options}"
    );
}

/// Makes a link in the image to a directory that exists on the host and in the image. Returns
/// the link and the directory in the image.
pub(crate) fn link(bundle: &Bundle) -> (PathBuf, PathBuf) {
    let outside = scratch().join("outside");
    let inside = bundle.rootfs().join(outside.strip_prefix("/").unwrap());
    for directory in [&outside, &inside] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(&outside, bundle.rootfs().join("mnt/link")).unwrap();
    (outside, inside)
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// CVE-2024-0132 and later CVEs of the kind.
fn mounts_follow_no_link_out_of_the_image() {
    needs(&[Root, Teu]);
    let library = scratch().join("library");
    fs::write(&library, "library").unwrap();
    let mount =
        |path: &str| json!({ "hostPath": library, "containerPath": path, "options": ["bind"] });
    let bundle = Bundle::new();
    let (outside, inside) = link(&bundle);
    symlink("../../../../../../..", bundle.rootfs().join("mnt/up")).unwrap();
    let up = format!("/mnt/up{}/up", outside.display());
    describe(
        &json!({ "mounts": [mount("/mnt/link/file"), mount("/mnt/link/deep/er"), mount(&up)] }),
    );
    let output = run(bundle.probe("read /mnt/link/file; read /mnt/link/deep/er")).ok();
    let answers = output.answers();
    assert_eq!(
        (&answers[0]["ok"], &answers[1]["ok"]),
        (&json!("library"), &json!("library"))
    );
    assert_eq!(names(&outside), [""; 0]);
    let mut inside = names(&inside);
    inside.sort();
    assert_eq!(inside, ["deep", "file", "up"]);
}

fn nodes_follow_no_link_out_of_the_image() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new();
    let (outside, inside) = link(&bundle);
    describe(&json!({ "deviceNodes": [node("/mnt/link/gpu", 1, "rw")] }));
    let output = run(bundle.probe("open /mnt/link/gpu rw"));
    assert_eq!(errnos(&output), ["ENXIO"]);
    assert_eq!(names(&outside), [""; 0]);
    assert_eq!(names(&inside), ["gpu"]);
}

/// Prepares a call of `teu devices`, with two directories of this test.
fn devices<const N: usize>(words: [&str; N]) -> Invocation {
    let later = scratch().join("later");
    fs::create_dir_all(&later).unwrap();
    let call = teu(["devices"]).arg("--cdi-dir").arg(directory());
    call.arg("--cdi-dir").arg(later).args(words)
}

/// Writes three CDI files with five names, some of which are equal.
fn describe_many() -> [PathBuf; 3] {
    let described = |kind: &str, names: &[&str]| {
        let devices = names
            .iter()
            .map(|name| json!({ "name": name, "containerEdits": { "env": ["A=b"] } }));
        let devices: Vec<Value> = devices.collect();
        json!({ "cdiVersion": "0.6.0", "kind": kind, "devices": devices }).to_string()
    };
    let first = write("a.json", &described("v.com/a", &["x", "long-name", "z"]));
    let second = write("b.yaml", &described("v.com/a", &["z"]));
    let later = scratch().join("later/c.json");
    fs::create_dir_all(later.parent().unwrap()).unwrap();
    fs::write(&later, described("v.com/a", &["x"])).unwrap();
    [first, second, later]
}

fn devices_are_listed() {
    needs(&[Teu]);
    assert_eq!(devices(["list"]).output().ok().stdout, "");
    assert_eq!(devices(["list", "--json"]).output().ok().json(), json!([]));
    let paths = describe_many();
    let [first, second, later] = paths.each_ref().map(|path| path.display());
    let output = devices(["list"]).output().ok();
    assert_eq!(
        output.stdout,
        format!(
            "v.com/a=long-name  {first}\n\
             v.com/a=x          {first} (shadowed)\n\
             v.com/a=x          {later}\n\
             v.com/a=z          {first} (conflicting)\n\
             v.com/a=z          {second} (conflicting)\n"
        )
    );
    let words = "conflicting device \"v.com/a=z\": another file has it, too";
    assert_eq!(
        output.stderr,
        format!(
            "{first:?}: {words}\n{second:?}: {words}\n",
            first = paths[0],
            second = paths[1]
        )
    );
    let list = devices(["--json", "list"]).output().ok().json();
    assert_eq!(
        list[1],
        json!({ "name": "v.com/a=x", "path": paths[0], "priority": 0, "standing": "shadowed" })
    );
    devices(["list", "v.com/a=x"])
        .output()
        .exits(1)
        .says(r#"(is \"inspect\" meant?)"#);
    devices(["show"])
        .output()
        .exits(1)
        .says(r#"\"show\": not one of list, validate, inspect"#);
}

fn devices_are_inspected() {
    needs(&[Teu]);
    describe(&json!({
        "env": ["A=b c"],
        "deviceNodes": [{ "path": "/dev/nowhere", "permissions": "rw" }],
        "mounts": [{ "hostPath": "/a", "containerPath": "/b", "options": ["ro", "bind"] }],
        "additionalGids": [5, 6],
    }));
    let path = directory().join("vendor.json");
    let output = devices(["inspect", "vendor.com/gpu=0"]).output().ok();
    let device = format!("CDI device \"vendor.com/gpu=0\" in {path:?}");
    assert_eq!(
        output.stdout,
        format!(
            "{path:?}\n{device}\n  \
               additionalGids  5\n  \
               additionalGids  6\n  \
               deviceNodes     path=/dev/nowhere permissions=rw\n  \
               env             A=b c\n  \
               mounts          containerPath=/b hostPath=/a options=ro,bind\n"
        )
    );
    let fault = format!(
        "{device}: device node \"/dev/nowhere\": the host's \"/dev/nowhere\": no such file or directory\n"
    );
    assert_eq!(output.stderr, fault);
    let parts = devices(["inspect", "--json", "vendor.com/gpu=0"])
        .output()
        .ok()
        .json();
    assert_eq!(parts[1]["of"], device);
    assert_eq!(parts[1]["edits"]["additionalGids"], json!([5, 6]));
    let unknown = devices(["inspect", "vendor.com/gpu=1"]).output().exits(1);
    unknown.says(r#" (is \"vendor.com/gpu=0\" meant?)"#);
    devices(["inspect"])
        .output()
        .exits(1)
        .says("inspect needs the name of a device");
    devices(["inspect", "x"])
        .output()
        .exits(1)
        .says(r#"invalid CDI device name \"x\""#);
}

/// Invalid also if the machine lacks other devices of the file.
fn what_run_refuses_is_no_valid_file() {
    needs(&[Root, Teu]);
    let container = Container::new(Bundle::new());
    let node = |path: &str, host: &str, more: Value| {
        let mut node = json!({ "path": path, "hostPath": host });
        node.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "deviceNodes": [{ "path": "/dev/nowhere" }, node] })
    };
    let mount = |source: &str, destination: &str, option: &str, kind: &str| json!({ "mounts": [{ "hostPath": source, "containerPath": destination, "options": [option], "type": kind }] });
    let hook = |path: &str, timeout: i64| json!({ "hooks": [{ "hookName": "createRuntime", "path": path, "timeout": timeout }] });
    let all = json!({ "type": "c", "major": NOTHING, "minor": 1 });
    let block = json!({ "type": "b", "major": NOTHING, "minor": 1 });
    let mode = json!({ "type": "c", "major": NOTHING, "minor": 1, "fileMode": 1 << 20 });
    for (edits, words) in [
        (
            node("dev/x", "/dev/null", json!({})),
            "the device node \"dev/x\": its path is not absolute",
        ),
        (
            node("/", "/nowhere", all.clone()),
            "the device node \"/\": path is empty",
        ),
        (
            node("/dev/x", "dev/x", json!({})),
            "the host's path \"dev/x\" is not absolute",
        ),
        (
            node("/dev/x", "/nowhere", block),
            "which only \"--cdi-devices any\" allows",
        ),
        (
            node("/dev/x", "/nowhere", mode),
            "the device node \"/dev/x\": 0o4000000 is no mode of a file",
        ),
        (node("/dev/x", "/dev/null", all), "is c 1:3, not c"),
        (
            mount("/usr", "usr", "bind", ""),
            "the mount on \"usr\": its path is not absolute",
        ),
        (
            mount("/usr", "/a/..", "bind", ""),
            "it would cover the whole root filesystem",
        ),
        (
            mount("/usr", "/proc/sys", "remount", ""),
            "option \"remount\"",
        ),
        (
            mount("usr", "/mnt/own", "rbind", ""),
            "the host's path \"usr\" is not absolute",
        ),
        (
            mount("/proc/self/root/etc", "/mnt/own", "bind", ""),
            "no container gets \"/etc\" of the host",
        ),
        (
            mount("proc", "/mnt/own", "ro", "proc"),
            "no device brings a \"proc\"",
        ),
        (
            hook("bin/true", 1),
            "the hook \"bin/true\": path \"bin/true\" is not absolute",
        ),
        (
            hook("/bin/true", -1),
            "the hook \"/bin/true\": timeout -1 is not above 0 seconds",
        ),
        (
            node("/dev/x", "/dev/null/x", json!({})),
            "the host's \"/dev/null/x\": not a directory",
        ),
    ] {
        let path = describe(&edits);
        let of = format!("CDI device \"vendor.com/gpu=0\" in {path:?}: ");
        let output = devices(["validate"]).output().exits(1);
        let is_told = output.stdout.starts_with(&format!("{path:?}: {of}"));
        assert!(
            is_told && output.stdout.contains(words),
            "{edits}: {output}"
        );
        let mut edits = edits;
        // The first node is for `validate` alone, which asks for one.
        if let Some(nodes) = edits.get_mut("deviceNodes").and_then(Value::as_array_mut) {
            nodes.remove(0);
        }
        describe(&edits);
        let output = asking(&container, "create").output().exits(1);
        output.says(&words.replace('"', "\\\""));
        assert!(!container.has_state());
    }
    for edits in [
        node("/dev/x", "/dev/null", json!({})),
        mount("tmpfs", "/mnt/own", "ro", "tmpfs"),
        mount("/usr", "/mnt/own", "rbind", "bind"),
    ] {
        describe(&edits);
        assert_eq!(devices(["validate"]).output().ok().stdout, "");
    }
}

fn files_are_validated() {
    needs(&[Teu]);
    let [good, conflicting, _] = describe_many();
    let words = |path: &PathBuf| vec!["validate".to_owned(), path.to_str().unwrap().to_owned()];
    let validate = |words: &[String]| devices([]).args(words).output();
    assert_eq!(validate(&words(&good)).ok().stdout, "");
    // Without the other file, it is valid.
    validate(&words(&conflicting)).ok();
    let all = validate(&["validate".to_owned()]).exits(1);
    assert!(
        all.stdout.contains("conflicting device \"v.com/a=z\""),
        "{all}"
    );
    let bad = write(
        "bad.yaml",
        "cdiVersion: 0.5.0\nkind: v/c\ndevices:\n- name: a\n  containerEdits:\n    env: [A]\n",
    );
    let output = validate(&words(&bad)).exits(1);
    assert_eq!(
        output.stdout,
        format!(
            "{bad:?}: device \"a\": devices[0].containerEdits: env: \"A\" is not of the form NAME=VALUE \
             at line 6 column 5\n"
        )
    );
    let mut json = words(&bad);
    json.push("--json".to_owned());
    let problems = validate(&json).exits(1).json();
    assert_eq!(problems[0]["path"], json!(bad));
    assert!(
        problems[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("device \"a\": ")
    );
    validate(&words(&scratch().join("missing"))).exits(1);
}
