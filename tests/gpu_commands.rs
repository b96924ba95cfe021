//! `teu gpu`, on fake machines made of files, and on containers that have lost devices.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use crate::cdi::{NOTHING, describe, directory, errnos, opens};
use crate::harness::*;
use crate::machine::{Tree, UUIDS, VERSION};

tests![
    gpus_are_listed,
    no_gpu_is_no_error,
    a_machine_is_checked,
    stale_files_are_found,
    a_cdi_file_is_for_another_container,
    a_cdi_file_is_replaced_as_a_whole,
    a_cdi_file_is_of_one_vendor,
    a_missing_node_is_found,
    another_node_is_found,
    a_rule_that_was_taken_away_is_found,
    rules_are_asked_of_the_kernel,
    on_v2_alone_they_are_asked_too,
    a_number_without_a_driver_is_found,
    what_cannot_be_asked_is_told,
    wrong_words_of_gpu_commands_are_refused,
];

/// Prepares a call of `teu gpu` on a fake machine: the tree holds the files of its kernel and
/// driver.
fn on<const N: usize>(tree: &Tree, words: [&str; N]) -> Invocation {
    let script = r#"mount --bind "$0/proc/driver" /proc/driver &&
        mount --bind "$0/proc/devices" /proc/devices && mount --bind "$0/sys" /sys && exec "$@""#;
    for name in ["proc/driver", "sys"] {
        fs::create_dir_all(tree.path(name)).unwrap();
    }
    if !tree.path("proc/devices").exists() {
        tree.file("proc/devices", "");
    }
    let around = ["unshare", "--mount", "sh", "-c", script].map(PathBuf::from);
    let call = teu(["gpu", "--cdi-dir"]).arg(directory());
    let call = call.arg("--driver-root").arg(tree.path("/")).args(words);
    call.with_program(around.into_iter().chain([tree.path("/"), runtime()]))
}

/// A fake machine with two GPUs, one of them divided, and everything that is needed to compute.
fn machine() -> Tree {
    let tree = Tree::with_two_gpus();
    tree.libraries(
        "usr/lib/x86_64-linux-gnu",
        VERSION,
        &[("libnvidia-ml", "1")],
    );
    tree.file("usr/bin/nvidia-smi", "");
    tree.file("etc/debian_version", "13\n");
    tree
}

fn gpus_are_listed() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    tree.instance(0, (1, 0), (3, 4));
    let card = "0000:0a:00.0";
    tree.card(
        card,
        Some(("0x10de", "0x2330")),
        &[("card1", 1), ("renderD129", 129)],
    );
    tree.link(
        &format!("sys/devices/pci0/{card}/driver"),
        "../../../bus/pci/drivers/nvidia",
    );
    let output = on(&tree, ["list"]).output().ok();
    let [first, second] = UUIDS;
    assert_eq!(
        output.stdout,
        format!(
            "INDEX  VENDOR  MODEL  UUID                                      BUS           MIG  NODES\n\
             0      nvidia  Tesla  {first}  0000:06:00.0  0:0  /dev/nvidia0\n\
             1      nvidia  Tesla  {second}  0000:0a:00.0  -    \
             /dev/nvidia1,/dev/dri/card1,/dev/dri/renderD129\n\
             NVIDIA's driver: {VERSION}\n"
        )
    );
    assert_eq!(output.stderr, "");
    let listed = on(&tree, ["list", "--json"]).output().ok().json();
    assert_eq!(listed["nvidiaVersion"], VERSION);
    assert_eq!(listed["problems"], json!([]));
    assert_eq!(
        listed["gpus"][0],
        json!({
            "vendor": "nvidia", "index": 0, "uuid": UUIDS[0], "aliases": [],
            "bus": "0000:06:00.0", "model": "Tesla", "minor": 0, "drm": [], "kfd": false,
            "instances": [{ "name": "0:0", "gpuInstance": 1, "computeInstance": 0 }],
            "nodes": ["/dev/nvidia0"],
        })
    );
    assert_eq!(
        listed["gpus"][1]["drm"][1],
        json!({ "name": "renderD129", "major": 226, "minor": 129 })
    );
    // Problems of the GPUs are reported on stderr.
    fs::remove_dir_all(tree.path("usr/lib")).unwrap();
    let output = on(&tree, ["list"]).output().ok();
    assert!(
        output.stderr.contains(", but no library of it is below "),
        "{output}"
    );
    assert!(output.stdout.contains(first), "{output}");
}

fn no_gpu_is_no_error() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = Tree::new();
    let output = on(&tree, ["list"]).output().ok();
    assert_eq!(
        output.stdout,
        "this machine has no GPU that a driver knows\n"
    );
    let listed = on(&tree, ["list", "--json"]).output().ok().json();
    assert_eq!(
        listed,
        json!({ "nvidiaVersion": null, "gpus": [], "problems": [] })
    );
    on(&tree, ["check"]).output().ok();
    on(&tree, ["cdi"])
        .output()
        .exits(1)
        .says("there is no GPU to describe");
}

fn a_machine_is_checked() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    let check = || on(&tree, ["check"]);
    let output = check().output().ok();
    assert!(output.stdout.contains("note: GPUs: 2; "), "{output}");
    assert!(
        output
            .stdout
            .contains("note: there is no \"/dev/nvidia0\"; "),
        "{output}"
    );
    // Another program that would change device rules is reported.
    let hook = scratch().join("bin/nvidia-container-runtime-hook");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "").unwrap();
    let path = format!(
        "{}:{}",
        hook.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = check().env("PATH", path).output().ok();
    assert!(
        output.stdout.contains(&format!("note: there is {hook:?}")),
        "{output}"
    );
    // The libraries were updated, and the module was not.
    fs::remove_dir_all(tree.path("usr/lib")).unwrap();
    tree.libraries("usr/lib/x86_64-linux-gnu", "999.99.01", &[("libcuda", "1")]);
    let output = check().output().exits(1);
    let words = format!("NVIDIA's kernel module is {VERSION} and its libraries are 999.99.01");
    assert!(output.stdout.starts_with(&words), "{output}");
    let report = check().arg("--json").output().exits(1).json();
    assert!(
        report["findings"][0]["what"]
            .as_str()
            .unwrap()
            .starts_with(&words)
    );
    // The module is not loaded.
    let bare = Tree::new();
    for (name, text) in [("vendor", "0x10de\n"), ("class", "0x030200\n")] {
        bare.file(&format!("sys/bus/pci/devices/0000:06:00.0/{name}"), text);
    }
    let output = on(&bare, ["check"]).output().exits(1);
    let words = "NVIDIA's GPU at 0000:06:00.0 has no driver (hint: modprobe nvidia)\n";
    assert!(output.stdout.starts_with(words), "{output}");
    bare.link("sys/bus/pci/devices/0000:06:00.0/driver", "../../drivers");
    fs::create_dir_all(bare.path("sys/bus/pci/drivers")).unwrap();
    on(&bare, ["check"]).output().ok();
}

fn stale_files_are_found() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    let check = || on(&tree, ["check"]).output();
    let library = scratch().join("libcuda.so.1");
    fs::write(&library, "").unwrap();
    let mount = json!({ "hostPath": library, "containerPath": "/usr/lib/libcuda.so.1" });
    let path = describe(&json!({
        "deviceNodes": [{ "path": "/dev/x", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5 }],
        "mounts": [mount, { "hostPath": "tmpfs", "containerPath": "/mnt", "type": "tmpfs" }],
    }));
    check().ok();
    fs::remove_file(&library).unwrap();
    let output = check().exits(1);
    let device = format!("CDI device \"vendor.com/gpu=0\" in {path:?}");
    assert!(
        output.stdout.starts_with(&format!(
            "{device}: there is no {library:?} to mount (hint: "
        )),
        "{output}"
    );
    describe(&json!({
        "deviceNodes": [{ "path": "/dev/x", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 6 }],
    }));
    let output = check().exits(1);
    assert!(
        output
            .stdout
            .starts_with(&format!("{device}: device node \"/dev/x\": ")),
        "{output}"
    );
    fs::write(&path, "{").unwrap();
    let output = check().exits(1);
    assert!(
        output.stdout.starts_with(&format!("{path:?}: ")),
        "{output}"
    );
    // A file that other users can write to.
    describe(&json!({ "env": ["A=b"] }));
    check().ok();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    check().exits(1);
}

fn a_cdi_file_is_for_another_container() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    fs::create_dir_all(directory()).unwrap();
    let path = directory().join("nvidia.yaml");
    // Others can read the file, whatever the umask of the user is.
    let call = on(&tree, ["cdi", "--output"]).arg(&path);
    call.after_shell("umask 077").output().ok();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o644
    );
    let validate = teu(["devices", "validate"]).arg(&path);
    assert_eq!(validate.output().ok().stdout, "");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("cdiVersion: 0."), "{text}");
    assert_eq!(on(&tree, ["cdi"]).output().ok().stdout, text);
    let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let modes = format!(
        "open /dev/nvidia0 rw; open /dev/nvidiactl rw; open /dev/nvidia1 rw; \
                 stat {libraries}/libcuda.so.1; stat /usr/bin/nvidia-smi"
    );
    let container = Container::new(Bundle::new().probe(&modes));
    let call = container.command("run", ["--device=nvidia.com/gpu=0"]);
    let call = call
        .arg_before_last("--cdi-dir")
        .arg_before_last(directory());
    assert_eq!(
        errnos(&call.output()),
        ["ENXIO", "ENXIO", "ENOENT", "ok", "ok"]
    );
}

fn a_cdi_file_is_replaced_as_a_whole() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    let path = scratch().join("out/nvidia.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let cdi = || on(&tree, ["cdi", "--output"]).arg(&path).output();
    fs::write(&path, "older").unwrap();
    let kept = scratch().join("kept");
    fs::hard_link(&path, &kept).unwrap();
    cdi().ok();
    let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(file["kind"], "nvidia.com/gpu");
    let names = file["devices"].as_array().unwrap().iter();
    let names: Vec<&str> = names
        .map(|device| device["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"0") && names.contains(&UUIDS[1]) && names.contains(&"all"),
        "{names:?}"
    );
    assert_eq!(fs::read_to_string(kept).unwrap(), "older");
    // If the driver has problems, the file is left as it is.
    fs::remove_dir_all(tree.path("usr/lib")).unwrap();
    let before = fs::read_to_string(&path).unwrap();
    cdi().exits(1).says("no library of it is below");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

fn a_cdi_file_is_of_one_vendor() {
    needs(&[Root, Teu, Tool("unshare")]);
    let tree = machine();
    tree.card(
        "0000:03:00.0",
        Some(("0x1002", "0x740f")),
        &[("card0", 0), ("renderD128", 128)],
    );
    // The display adapter of a server's console.
    tree.card("0000:01:00.0", Some(("0x1a03", "0x2000")), &[("card2", 2)]);
    let text = on(&tree, ["cdi"]).output().ok().stdout;
    let kinds = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("kind: "));
        lines.map(|line| line[6..].to_owned()).collect()
    };
    assert_eq!(kinds(&text), ["nvidia.com/gpu", "amd.com/gpu"]);
    let path = scratch().join("gpus.yaml");
    let write = |vendor: &[&str]| {
        on(&tree, ["cdi", "--output"])
            .arg(&path)
            .args(vendor)
            .output()
    };
    let output = write(&[]).exits(1);
    output.says("there are nvidia.com/gpu, amd.com/gpu (hint: --vendor)");
    assert!(!path.exists());
    for (vendor, kind) in [("amd", "amd.com/gpu"), ("drm", "drm/gpu")] {
        write(&["--vendor", vendor]).ok();
        assert_eq!(kinds(&fs::read_to_string(&path).unwrap()), [kind]);
    }
    write(&["--vendor", "intel"])
        .exits(1)
        .says("there is no GPU to describe");
}

/// The minor number of the device in these tests. No driver has it, but a driver has the major
/// number.
const MINOR: u64 = 200;

fn describe_device() {
    describe(&json!({ "deviceNodes": [
        { "path": "/dev/gpu0", "type": "c", "major": 1, "minor": MINOR, "permissions": "rw" },
    ] }));
}

fn running(bundle: Bundle) -> Container {
    describe_device();
    let container = Container::new(bundle.probe("sleep"));
    let call = container.command("create", ["--device=vendor.com/gpu=0"]);
    let call = call
        .arg_before_last("--cdi-dir")
        .arg_before_last(directory());
    container.detach(call).ok();
    container.start().ok();
    container
}

fn check(container: &Container) -> Output {
    container.command("gpu", ["check"]).output()
}

/// The only problem found, without the advice.
#[track_caller]
fn finding(container: &Container) -> String {
    let report = container
        .command("gpu", ["--json", "check"])
        .output()
        .exits(1)
        .json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{report}");
    findings[0]["what"].as_str().unwrap().to_owned()
}

fn node_in(container: &Container) -> PathBuf {
    Path::new(&format!("/proc/{}/root/dev/gpu0", container.pid())).to_owned()
}

fn make_node(path: &Path, minor: u64) {
    mknod(
        path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, minor),
    )
    .unwrap();
}

fn update(container: &Container, option: &str) {
    let call = container.command("update", [option, "vendor.com/gpu=0"]);
    call.arg_before_last("--cdi-dir")
        .arg_before_last(directory())
        .output()
        .ok();
}

const GPU: &str = "device \"/dev/gpu0\" (c 1:200): ";

fn a_missing_node_is_found() {
    needs(&[Root, Teu]);
    let container = running(Bundle::new());
    let output = check(&container).ok();
    assert_eq!(output.stdout, "note: devices that are there: 7\n");
    fs::remove_file(node_in(&container)).unwrap();
    let output = check(&container).exits(1);
    let id = &container.id;
    assert_eq!(
        output.stdout,
        format!(
            "{GPU}it is not there (hint: \"teu update --device-rm \
             vendor.com/gpu=0 {id}\", and then the same with --device-add)\n\
             note: devices that are there: 6\n"
        )
    );
    // Following the advice helps.
    update(&container, "--device-rm");
    update(&container, "--device-add");
    check(&container).ok();
    fs::remove_file(node_in(&container).with_file_name("zero")).unwrap();
    let output = check(&container).exits(1);
    assert!(
        output.stdout.starts_with("device \"/dev/zero\" (c 1:5): "),
        "{output}"
    );
    assert!(
        output.stdout.contains("(hint: make the container again)"),
        "{output}"
    );
}

fn another_node_is_found() {
    needs(&[Root, Teu]);
    let container = running(Bundle::new());
    fs::remove_file(node_in(&container)).unwrap();
    make_node(&node_in(&container), 5);
    assert_eq!(finding(&container), format!("{GPU}something else is there"));
    // A link that leads out of the container is not followed.
    fs::remove_file(node_in(&container)).unwrap();
    std::os::unix::fs::symlink("/proc/self/root/dev/gpu0", node_in(&container)).unwrap();
    assert!(finding(&container).starts_with(GPU));
}

fn a_rule_that_was_taken_away_is_found() {
    needs(&[Root, CgroupV1, Controller("devices"), Teu]);
    let container = running(Bundle::new());
    check(&container).ok();
    let cgroup = CgroupFiles::of(container.pid()).directory("devices");
    fs::write(cgroup.join("devices.deny"), format!("c 1:{MINOR} w")).unwrap();
    assert_eq!(
        finding(&container),
        format!("{GPU}its rule is gone: the kernel denies writing")
    );
    assert_eq!(
        opens(&container, "open /dev/gpu0 w; open /dev/gpu0 r"),
        ["EPERM", "ENXIO"]
    );
}

fn rules_are_asked_of_the_kernel() {
    needs(&[Root, Teu]);
    let container = running(Bundle::new());
    let path = state_root().join(&container.id).join("state.json");
    let state = fs::read_to_string(&path).unwrap();
    // The kernel allows more than the state records.
    assert!(state.contains("+c 1:200 rw"), "{state}");
    fs::write(&path, state.replace("+c 1:200 rw", "+c 1:200 r")).unwrap();
    let words = format!("{GPU}its rules deny, and the kernel allows writing");
    assert_eq!(finding(&container), words);
    fs::write(&path, &state).unwrap();
    check(&container).ok();
    // The kernel allows less.
    update(&container, "--device-rm");
    check(&container).ok();
    fs::write(&path, &state).unwrap();
    make_node(&node_in(&container), MINOR);
    let output = check(&container).exits(1);
    for word in ["reading", "writing"] {
        let words = format!("{GPU}its rule is gone: the kernel denies {word} (hint: ");
        assert!(output.stdout.contains(&words), "{output}");
    }
    update(&container, "--device-rm");
    update(&container, "--device-add");
    check(&container).ok();
}

fn a_number_without_a_driver_is_found() {
    needs(&[Root, Teu]);
    let device = json!({ "path": "/dev/old", "type": "c", "major": NOTHING, "minor": 1 });
    let bundle = Bundle::new().set("/linux/devices", json!([device]));
    let container = Container::running(bundle.probe("sleep"));
    let words = "no driver uses this number; perhaps the driver was loaded again and got another";
    assert_eq!(
        finding(&container),
        format!("device \"/dev/old\" (c {NOTHING}:1): {words}")
    );
}

fn on_v2_alone_they_are_asked_too() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    rules_are_asked_of_the_kernel();
}

fn what_cannot_be_asked_is_told() {
    needs(&[Root, Teu]);
    let container = running(Bundle::new());
    container.command("pause", NO_FLAGS).output().ok();
    let output = check(&container).ok();
    assert!(output.stdout.contains("note: it is paused, "), "{output}");
    container.command("resume", NO_FLAGS).output().ok();
    container.kill("KILL");
    container.wait();
    check(&container).exits(1).says("container not running");
    teu(["gpu", "check", "nobody"])
        .output()
        .exits(1)
        .says("container does not exist");
}

fn wrong_words_of_gpu_commands_are_refused() {
    needs(&[Teu]);
    for (words, reason) in [
        (&["show"][..], r#"\"show\": not one of list, check, cdi"#),
        (&["list", "box"], r#"list takes no container, as \"box\""#),
        (&["list", "--output", "x"], r#"--output: only for \"cdi\""#),
        (
            &["cdi", "--vendor", "any"],
            r#"--vendor: driver \"any\": not one of nvidia, "#,
        ),
        (
            &["cdi", "--capabilities", "cuda"],
            r#"--capabilities: capability \"cuda\": not one of "#,
        ),
    ] {
        teu(["gpu"]).args(words).output().exits(1).says(reason);
    }
}
