//! Containers with GPUs that this machine does not have. Fake files take the place of
//! /proc/driver and /proc/devices in the mount namespace of the calls, and the driver's files are
//! below --driver-root. The search for GPUs on different machines is tested in gpu/tests/.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::*;
use crate::machine::{Tree, UUIDS, VERSION};
use crate::rootless::{self, rootless_bundle};

tests![
    a_gpu_is_its_nodes_and_the_files_of_its_driver,
    gpus_that_there_are_not_are_told,
    a_debian_image_has_its_own_directory,
    a_name_without_a_file_is_a_gpu_of_the_machine,
    the_image_chooses_files_of_the_driver_not_gpus,
    variables_ask_where_they_may,
    nvidias_hook_is_taken_over,
    nvidias_hook_is_kept,
    nvidias_hook_is_refused,
    a_link_for_docker_is_no_hook,
    of_proc_only_its_own_is_seen,
    a_user_namespace_has_gpus,
    a_user_without_privileges_has_gpus,
    a_group_that_is_not_mapped_is_left_out,
    who_has_all_devices_is_warned,
    links_of_the_image_lead_nowhere,
    links_are_made_once,
    a_driver_of_others_is_not_used,
    nvidias_files_need_no_hooks,
    a_gpu_comes_and_goes,
    what_gpus_share_goes_with_the_last,
    gpus_of_the_creation_go_by_their_names,
    updates_keep_gpus,
    a_failure_takes_gpus_back,
    links_of_the_image_stay,
    egl_is_told_of_the_gpus_that_are_left,
    a_mask_is_not_taken_for_a_cover,
    a_user_namespace_gets_another_gpu,
];

/// A fake machine with two GPUs, and a driver with more files than are used by default.
struct Machine(Tree);

/// The directory of libraries in an image that is not Debian's.
const LIBRARIES: &str = "/usr/lib64";

impl Machine {
    fn new() -> Machine {
        let tree = Tree::with_two_gpus();
        let libraries = [("libnvidia-ml", "1"), ("libnvidia-encode", "1")];
        tree.libraries("usr/lib/x86_64-linux-gnu", VERSION, &libraries);
        tree.file("usr/bin/nvidia-smi", "");
        Machine(tree)
    }

    /// Makes a call run on this machine.
    fn on_machine(&self, call: Invocation) -> Invocation {
        let script = r#"mount --bind "$0/proc/driver" /proc/driver &&
            mount --bind "$0/proc/devices" /proc/devices && exec "$@""#;
        let own = ["unshare", "--mount", "sh", "-c", script].map(PathBuf::from);
        call.behind(own.into_iter().chain([self.0.path("/")]))
    }

    fn call(&self, container: &Container, verb: &str, options: &[&str]) -> Invocation {
        self.on_machine(self.asking(container, verb, options))
    }

    fn asking(&self, container: &Container, verb: &str, options: &[&str]) -> Invocation {
        let mut call = container.command(verb, NO_FLAGS);
        for option in options {
            call = call.arg_before_last(option);
        }
        let root = self.0.path("/");
        call.arg_before_last("--driver-root").arg_before_last(root)
    }

    fn run(&self, bundle: Bundle, options: &[&str]) -> Output {
        self.call(&Container::new(bundle), "run", options).output()
    }

    /// The answers to the probe's modes in a container with GPUs of these options.
    #[track_caller]
    fn says(&self, bundle: Bundle, options: &[&str], modes: &str) -> Vec<String> {
        words(&self.run(bundle.probe(modes), options))
    }
}

/// The answers in a word each: an errno, or the text that was read.
fn words(output: &Output) -> Vec<String> {
    let word = |answer: &Value| match (&answer["errno"], &answer["ok"]) {
        (Value::String(errno), _) => errno.clone(),
        (_, Value::String(text)) => text.clone(),
        (_, Value::Array(names)) => {
            let mut names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            names.join(" ")
        }
        _ => "ok".to_owned(),
    };
    output.answers().iter().map(word).collect()
}

const OPENS: &str = "open /dev/nvidia0 rw; open /dev/nvidia1 rw; open /dev/nvidiactl rw; \
                     mknod /dev/other c 195 1; open /dev/other r";
/// The first GPU is in the container but has no driver; the second is neither there nor allowed.
const FIRST: [&str; 5] = ["ENXIO", "ENOENT", "ENXIO", "ok", "EPERM"];
const NONE: [&str; 5] = ["ENOENT", "ENOENT", "ENOENT", "ok", "EPERM"];

fn with_mknod() -> Bundle {
    Bundle::new().capabilities(["CAP_MKNOD"])
}

fn a_gpu_is_its_nodes_and_the_files_of_its_driver() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let gpus = ["--gpus", "device=0"];
    assert_eq!(machine.says(with_mknod(), &gpus, OPENS), FIRST);
    assert_eq!(machine.says(with_mknod(), &[], OPENS), NONE);
    let modes = format!(
        "list {LIBRARIES}; readlink {LIBRARIES}/libcuda.so.1; readlink {LIBRARIES}/libcuda.so; \
         stat {LIBRARIES}/libcuda.so; write {LIBRARIES}/libcuda.so.1 x; stat /usr/bin/nvidia-smi"
    );
    assert_eq!(
        machine.says(Bundle::new(), &gpus, &modes),
        [
            &*format!(
                "libcuda.so libcuda.so.1 libcuda.so.{VERSION} libnvidia-ml.so.1 \
                 libnvidia-ml.so.{VERSION}"
            ),
            &*format!("libcuda.so.{VERSION}"),
            &*format!("libcuda.so.{VERSION}"),
            "ok",
            "EROFS",
            "ok",
        ]
    );
    // The variable tells a runtime in the container to add nothing.
    let seen = machine.run(Bundle::new(), &gpus).ok().probe();
    assert_eq!(seen["env"]["NVIDIA_VISIBLE_DEVICES"], "void");
    // The rules stay through updates.
    let container = Container::new(with_mknod().probe("sleep"));
    container
        .detach(machine.call(&container, "create", &gpus))
        .ok();
    container.start().ok();
    let opens = || {
        let modes = OPENS.split(';').collect::<Vec<_>>().join(" -- ");
        let exec = container.command("exec", NO_FLAGS).args(["/probe", "seq"]);
        words(&exec.args(modes.split_whitespace()).output())
    };
    assert_eq!(opens(), FIRST);
    let update = container
        .command("update", NO_FLAGS)
        .arg_before_last("--cpu-share=500");
    update.output().ok();
    assert_eq!(opens()[..3], FIRST[..3]);
    let exec = container.command("exec", NO_FLAGS);
    let seen = exec.args(["/probe", "report"]).output().ok().probe();
    assert_eq!(seen["env"]["NVIDIA_VISIBLE_DEVICES"], "void");
}

fn gpus_that_there_are_not_are_told() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let refused = |words: &str, reason: &str| {
        let output = machine.run(Bundle::new(), &["--gpus", words]);
        output.exits(1).says(reason);
    };
    refused("3", "3 GPUs are asked for, and there are 2");
    refused("device=2", r#"no GPU \"2\": there are \"0\", "#);
    refused("GPU-edfee158-11c1-52b8-0517-92f30e7fac80", UUIDS[0]);
    refused("0", r#"the first GPU is \"device=0\""#);
    // This machine itself has no driver.
    let container = Container::new(Bundle::new());
    let call = container.command("run", ["--gpus=driver=nvidia"]);
    call.output().exits(1).says("NVIDIA's driver is not loaded");
    for (option, word) in [("--gpu-env", "some"), ("--nvidia-hook", "drop")] {
        let call = container.command("run", [option, word]);
        let output = call.output().exits(1);
        output.says(&format!(r#"{option} \"{word}\": not one of "#));
    }
}

fn a_debian_image_has_its_own_directory() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let own = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let modes = format!("stat {own}/libcuda.so.1; stat {LIBRARIES}");
    let debian = || Bundle::new().file("etc/debian_version", "13\n");
    let made = || {
        let bundle = Bundle::new();
        fs::create_dir_all(bundle.rootfs().join(&own[1..])).unwrap();
        bundle
    };
    for bundle in [debian(), made()] {
        let says = machine.says(bundle, &["--gpus", "all"], &modes);
        assert_eq!(says, ["ok", "ENOENT"]);
    }
    // A link in the image that leads to a file of the host does not make the image Debian's.
    let bundle = Bundle::new();
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    symlink("/etc/passwd", bundle.rootfs().join("etc/debian_version")).unwrap();
    let says = machine.says(bundle, &["--gpus", "all"], &modes);
    assert_eq!(says, ["ENOENT", "ok"]);
}

fn a_name_without_a_file_is_a_gpu_of_the_machine() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let nowhere = scratch().join("cdi");
    let nowhere = nowhere.to_str().unwrap();
    let by_name = ["--cdi-dir", nowhere, "--device", "nvidia.com/gpu=0"];
    assert_eq!(machine.says(with_mknod(), &by_name, OPENS), FIRST);
    let annotations = json!({ "run.teu/devices": format!("nvidia.com/gpu={}", UUIDS[0]) });
    let annotated = with_mknod().set("/annotations", annotations);
    assert_eq!(
        machine.says(annotated, &["--cdi-dir", nowhere], OPENS),
        FIRST
    );
    let unknown = ["--cdi-dir", nowhere, "--device", "nvidia.com/gpu=7"];
    let output = machine.run(Bundle::new(), &unknown).exits(1);
    output.says(r#"no GPU \"7\""#);
    // A CDI file with devices of this kind replaces the search.
    fs::create_dir_all(nowhere).unwrap();
    let file = json!({ "cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [
        { "name": "1", "containerEdits": { "env": ["FROM=file"] } },
    ] });
    fs::write(Path::new(nowhere).join("nvidia.json"), file.to_string()).unwrap();
    let output = machine.run(Bundle::new(), &by_name).exits(1);
    output.says("unresolvable CDI devices nvidia.com/gpu=0");
    let described = ["--cdi-dir", nowhere, "--device", "nvidia.com/gpu=1"];
    let seen = machine.run(Bundle::new(), &described).ok().probe();
    assert_eq!(seen["env"]["FROM"], "file");
}

const ENCODES: &str = "stat /usr/lib64/libnvidia-encode.so.1; stat /usr/lib64/libcuda.so.1";

fn the_image_chooses_files_of_the_driver_not_gpus() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let image = || {
        let bundle = with_mknod().env("NVIDIA_VISIBLE_DEVICES=all");
        bundle.env("NVIDIA_DRIVER_CAPABILITIES=video")
    };
    assert_eq!(machine.says(image(), &[], OPENS), NONE);
    let gpus = ["--gpus", "device=0"];
    assert_eq!(machine.says(image(), &gpus, OPENS), FIRST);
    assert_eq!(machine.says(image(), &gpus, ENCODES), ["ok", "ENOENT"]);
    // The option that requests the GPU may name the capabilities.
    let compute = ["--gpus", "device=0,capabilities=compute"];
    assert_eq!(machine.says(image(), &compute, ENCODES), ["ENOENT", "ok"]);
    let wrong = Bundle::new().env("NVIDIA_DRIVER_CAPABILITIES=cuda");
    let output = machine.run(wrong, &gpus).exits(1);
    output.says(r#"NVIDIA_DRIVER_CAPABILITIES: capability \"cuda\": not one of "#);
}

fn variables_ask_where_they_may() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let image = || with_mknod().env("NVIDIA_VISIBLE_DEVICES=0");
    let env = |word| ["--gpu-env", word];
    assert_eq!(machine.says(image(), &env("never"), OPENS), NONE);
    assert_eq!(machine.says(image(), &env("privileged"), OPENS), NONE);
    assert_eq!(machine.says(image(), &env("always"), OPENS), FIRST);
    let mut privileged = image().capabilities(["CAP_MKNOD", "CAP_SYS_ADMIN"]);
    assert_eq!(machine.says(privileged, &env("privileged"), OPENS), FIRST);
    // The variable adds nothing to the option's request.
    privileged = with_mknod().env("NVIDIA_VISIBLE_DEVICES=all");
    let both = ["--gpu-env", "always", "--gpus", "device=0"];
    assert_eq!(machine.says(privileged, &both, OPENS), FIRST);
    let void = with_mknod().env("NVIDIA_VISIBLE_DEVICES=void");
    assert_eq!(machine.says(void, &env("always"), OPENS), NONE);
}

/// A bundle as dockerd writes it for `--gpus device=0`: the hook is a program that records that
/// it ran, and Docker's variable comes after those of the image.
fn docker_bundle(name: &str) -> (Bundle, [PathBuf; 2]) {
    let ran = [
        scratch().join(format!("{name}-hook")),
        scratch().join(format!("{name}-next")),
    ];
    let bundle = with_mknod().env("NVIDIA_VISIBLE_DEVICES=all");
    let bundle = bundle.env("NVIDIA_VISIBLE_DEVICES=0");
    let hook = scratch().join(name);
    fs::copy(bundle.host_probe(), &hook).unwrap();
    let bundle = bundle.hook(
        "prestart",
        json!({ "path": hook, "args": [name, "hook", ran[0]] }),
    );
    let bundle = bundle.recording_hook("prestart", &ran[1]);
    (bundle, ran)
}

const HOOK: &str = "nvidia-container-runtime-hook";

fn nvidias_hook_is_taken_over() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    for name in [HOOK, "nvidia-container-toolkit"] {
        for options in [&[][..], &["--nvidia-hook", "take"]] {
            let (bundle, [hook, next]) = docker_bundle(name);
            assert_eq!(machine.says(bundle, options, OPENS), FIRST);
            assert!(!hook.exists() && next.exists());
            fs::remove_file(next).unwrap();
        }
    }
    let (bundle, _) = docker_bundle(HOOK);
    let seen = machine.run(bundle, &[]).ok().probe();
    assert_eq!(seen["env"]["NVIDIA_VISIBLE_DEVICES"], "void");
    // A machine without GPUs, and a request for them.
    let (bundle, [hook, _]) = docker_bundle(HOOK);
    let container = Container::new(bundle);
    let call = container.command("run", ["--nvidia-hook=take"]);
    call.output().exits(1).says("NVIDIA's driver is not loaded");
    assert!(!hook.exists());
}

fn nvidias_hook_is_kept() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let (bundle, [hook, _]) = docker_bundle(HOOK);
    let says = machine.says(bundle, &["--nvidia-hook", "keep"], OPENS);
    assert_eq!(says, NONE);
    assert!(hook.exists());
    fs::remove_file(&hook).unwrap();
    // A machine without a driver keeps the hook by default.
    let (bundle, _) = docker_bundle(HOOK);
    assert_eq!(words(&bundle.probe(OPENS).run()), NONE);
    assert!(hook.exists());
}

fn nvidias_hook_is_refused() {
    needs(&[Root, Teu, Tool("unshare")]);
    let (bundle, [hook, _]) = docker_bundle(HOOK);
    let container = Container::new(bundle);
    let call = container.command("create", ["--nvidia-hook=refuse"]);
    let output = call.output().exits(1);
    output.says(r#"and --nvidia-hook is \"refuse\""#);
    assert!(!hook.exists() && !container.has_state());
    let other = Container::new(Bundle::new());
    let call = other.command("run", ["--nvidia-hook=refuse"]);
    call.output().ok();
}

/// Docker needs a program of that name. If a runtime runs it as a hook, it must fail, because the
/// container would start without its GPU.
fn a_link_for_docker_is_no_hook() {
    needs(&[Teu]);
    let link = scratch().join(HOOK);
    symlink(runtime(), &link).unwrap();
    let call = Invocation::new(&link).arg("prestart").stdin("{}");
    let output = call.output().exits(1);
    output.says("is a link to teu, which gives GPUs without a hook");
}

/// Mounts the machine's own /proc, because a new procfs lacks the fake driver's files, and because
/// a user namespace cannot mount a new procfs while files cover a part of the machine's.
fn with_hosts_proc(bundle: Bundle) -> Bundle {
    let proc = json!({ "destination": "/proc", "source": "/proc", "options": ["rbind"] });
    bundle.without_mount("/proc").mount(proc)
}

fn of_proc_only_its_own_is_seen() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let modes = "list /proc/driver/nvidia/gpus; list /proc/driver/nvidia; \
                 read /proc/driver/nvidia/params; mkdir /proc/driver/nvidia/gpus/x";
    let says = machine.says(
        with_hosts_proc(Bundle::new()),
        &["--gpus", "device=1"],
        modes,
    );
    assert_eq!(says[..2], ["0000:0a:00.0", "gpus params registry version"]);
    // Otherwise NVIDIA's programs would make nodes.
    assert!(says[2].contains("ModifyDeviceFiles: 0"), "{says:?}");
    assert_eq!(says[3..], ["EROFS"]);
    let seen = machine
        .run(with_hosts_proc(Bundle::new()), &["--gpus", "1"])
        .ok()
        .probe();
    let mounts = seen["mounts"].as_array().unwrap();
    let cover = mounts
        .iter()
        .find(|mount| mount["target"] == "/proc/driver/nvidia");
    let options = cover.unwrap()["options"].to_string();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains(option), "{options}");
    }
    // Two kinds of requests together.
    let both = [
        "--gpus",
        "device=1",
        "--device",
        "nvidia.com/gpu=0",
        "--cdi-dir",
        "/nowhere",
    ];
    let says = machine.says(with_hosts_proc(Bundle::new()), &both, modes);
    assert_eq!(says[0], "0000:06:00.0 0000:0a:00.0");
    // The machine's own files are unchanged.
    let says = machine.says(with_hosts_proc(Bundle::new()), &[], modes);
    assert_eq!(says[0], "0000:06:00.0 0000:0a:00.0");
}

fn a_user_namespace_has_gpus() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Teu, Tool("unshare")]);
    let machine = Machine::new();
    let modes = format!(
        "open /dev/nvidia0 rw; open /dev/nvidia1 rw; stat {LIBRARIES}/libcuda.so.1; \
         list {LIBRARIES}"
    );
    let says = machine.says(
        with_hosts_proc(Bundle::new()).user_namespace(),
        &["--gpus", "device=0"],
        &modes,
    );
    assert_eq!(says[..3], ["ENXIO", "ENOENT", "ok"]);
    assert!(says[3].contains("libcuda.so.1 "), "{says:?}");
}

/// Runs the call with a small /dev of its own that has nodes of GPUs with this mode and group. A
/// caller without privileges needs them, because it cannot make nodes itself.
fn with_nodes(call: Invocation, mode: &str, group: &str) -> Invocation {
    let script = r#"mount -t tmpfs none /dev && cd /dev && mkdir pts shm mqueue &&
        for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 \
            nvidiactl:195:255 nvidia0:195:0 nvidia1:195:1; do
            mknod -m 666 "${node%%:*}" c $(echo "${node#*:}" | tr : " ") || exit
        done
        chown ":$1" nvidia* && chmod "$0" nvidia* && shift && cd / && exec "$@""#;
    call.behind(["sh", "-c", script, mode, group])
}

/// The container gets bind mounts of the machine's own nodes, because this caller cannot make
/// nodes.
fn a_user_without_privileges_has_gpus() {
    needs(&[Root, UserNamespaces, Teu, Tool("unshare"), Tool("setpriv")]);
    let machine = Machine::new();
    let modes = "open /dev/nvidia0 rw; open /dev/nvidia1 rw; open /dev/null rw; list /usr/lib64";
    let container = Container::new(with_hosts_proc(rootless_bundle(modes)));
    let call = rootless::call([
        "run",
        "--gpus=device=0,capabilities=utility",
        "--driver-root",
    ]);
    let call = call.arg(machine.0.path("/")).arg("--bundle");
    let call = call.arg(&container.bundle.directory).arg(&container.id);
    let user = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"];
    let call = call.behind(user).by_user(0);
    let output = machine
        .on_machine(with_nodes(call, "666", "0"))
        .output()
        .ok();
    let says = words(&output);
    let libraries = format!("libnvidia-ml.so.1 libnvidia-ml.so.{VERSION}");
    assert_eq!(says, ["ENXIO", "ENOENT", "ok", &*libraries], "{output}");
}

fn a_group_that_is_not_mapped_is_left_out() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Teu, Tool("unshare")]);
    let machine = Machine::new();
    let groups = |bundle: Bundle, group: &str| {
        let gpus = ["--gpus", "1,capabilities=utility"];
        let call = machine.asking(&Container::new(bundle), "run", &gpus);
        let call = with_nodes(call, "660", group);
        machine.on_machine(call).output().ok().probe()["groups"].clone()
    };
    assert_eq!(groups(Bundle::new(), "70000"), json!([70000]));
    assert_eq!(
        groups(with_hosts_proc(Bundle::new()).user_namespace(), "44"),
        json!([44])
    );
    assert_eq!(
        groups(with_hosts_proc(Bundle::new()).user_namespace(), "70000"),
        json!([])
    );
}

fn who_has_all_devices_is_warned() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let privileged = || {
        let rules = json!([{ "allow": true, "access": "rwm" }]);
        Bundle::new().set("/linux/resources/devices", rules)
    };
    let warning = "the container may use all devices, also GPUs that were not asked for";
    let output = machine.run(privileged(), &["--gpus", "device=0"]).ok();
    output.says(warning);
    for (bundle, gpus) in [(privileged(), "all"), (Bundle::new(), "device=0")] {
        let output = machine.run(bundle, &["--gpus", gpus]).ok();
        assert!(!output.stderr.contains(warning), "{output}");
    }
}

/// CVE-2024-0132, CVE-2025-23359 and similar: in the image, names of libraries are links to the
/// host.
fn links_of_the_image_lead_nowhere() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let outside = scratch().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("file"), "host").unwrap();
    let bundle = Bundle::new();
    let rootfs = bundle.rootfs();
    // The directory of libraries, and the directory above that of programs.
    fs::create_dir_all(rootfs.join("usr")).unwrap();
    symlink(&outside, rootfs.join("usr/lib64")).unwrap();
    symlink("../../../../../../../../../../..", rootfs.join("usr/bin")).unwrap();
    machine.run(bundle, &["--gpus", "all"]).ok();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let inside = rootfs.join(outside.strip_prefix("/").unwrap());
    assert!(fs::symlink_metadata(inside.join("libcuda.so.1")).is_ok());
    assert!(rootfs.join("nvidia-smi").exists());
    assert!(!Path::new("/nvidia-smi").exists());
    // The names of links, and of mounted files.
    let bundle = Bundle::new();
    let libraries = bundle.rootfs().join("usr/lib64");
    fs::create_dir_all(&libraries).unwrap();
    let file = outside.join("file");
    symlink(&file, libraries.join("libcuda.so.1")).unwrap();
    symlink(&file, libraries.join(format!("libcuda.so.{VERSION}"))).unwrap();
    fs::write(libraries.join("libcuda.so"), "the image's").unwrap();
    let modes = "readlink /usr/lib64/libcuda.so.1; readlink /usr/lib64/libcuda.so; \
                 stat /usr/lib64/libcuda.so";
    let says = machine.says(bundle, &["--gpus", "all"], modes);
    assert_eq!(
        says,
        [
            &*format!("libcuda.so.{VERSION}"),
            &*format!("libcuda.so.{VERSION}"),
            "ok"
        ]
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "host");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // A directory to be covered, behind a link.
    let bundle = Bundle::new();
    let profiles = bundle
        .rootfs()
        .join("etc/nvidia/nvidia-application-profiles-rc.d");
    fs::create_dir_all(profiles.parent().unwrap()).unwrap();
    symlink(&outside, &profiles).unwrap();
    let asked = ["--gpus", "all,capabilities=graphics"];
    machine.run(bundle, &asked).ok();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // A name that is a directory causes an error.
    let bundle = Bundle::new();
    fs::create_dir_all(bundle.rootfs().join("usr/lib64/libcuda.so.1")).unwrap();
    let output = machine.run(
        bundle,
        &asked[..1].iter().copied().chain(["1"]).collect::<Vec<_>>(),
    );
    output
        .exits(1)
        .says(r#"make link \"/usr/lib64/libcuda.so.1\""#);
}

/// The root filesystem is shared by several containers, or read-only.
fn links_are_made_once() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let bundle = Bundle::new().set("/root/readonly", true);
    let libraries = bundle.rootfs().join("usr/lib64");
    let container = Container::new(bundle);
    let run = || {
        machine
            .call(&container, "run", &["--gpus", "1"])
            .output()
            .ok()
    };
    run();
    let made = fs::symlink_metadata(libraries.join("libcuda.so.1")).unwrap();
    run();
    let found = fs::symlink_metadata(libraries.join("libcuda.so.1")).unwrap();
    assert_eq!(made.modified().unwrap(), found.modified().unwrap());
    let rootfs = container.bundle.rootfs();
    let _readonly = {
        let bound = Mounted::bind(&rootfs, &rootfs);
        readonly(&rootfs);
        bound
    };
    run();
}

fn readonly(path: &Path) {
    let flags = nix::mount::MsFlags::MS_REMOUNT
        | nix::mount::MsFlags::MS_BIND
        | nix::mount::MsFlags::MS_RDONLY;
    let none = None::<&str>;
    nix::mount::mount(none, path, none, flags, none).unwrap();
}

fn a_driver_of_others_is_not_used() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let root = machine.0.path("/");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o777);
    let output = machine.run(Bundle::new(), &["--gpus", "1"]).exits(1);
    output.says("others than root can write to --driver-root");
    mode(0o755);
    machine.run(Bundle::new(), &["--gpus", "1"]).ok();
}

/// teu does the work of NVIDIA's hooks itself. The hooks would run with the host's privileges and
/// with an environment that the image chooses (CVE-2025-23266, CVE-2025-23267).
fn nvidias_files_need_no_hooks() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let ran = scratch().join("ran");
    let bundle = || with_hosts_proc(Bundle::new());
    let program = scratch().join("nvidia-cdi-hook");
    fs::copy(bundle().host_probe(), &program).unwrap();
    let library = machine
        .0
        .path(&format!("usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}"));
    let describe = |words: &[&str]| {
        let hook = |words: Vec<&str>| {
            let args: Vec<&str> = ["nvidia-cdi-hook"].into_iter().chain(words).collect();
            json!({ "hookName": "createContainer", "path": program, "args": args })
        };
        let edits = json!({
            "deviceNodes": [
                { "path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0 },
            ],
            "mounts": [{
                "hostPath": library, "containerPath": format!("/opt/lib/libcuda.so.{VERSION}"),
                "options": ["ro", "bind"],
            }],
            "hooks": [
                hook(vec!["create-symlinks", "--link", "libcuda.so.1::/opt/lib/libcuda.so"]),
                hook(vec!["update-ldcache", "--folder", "/opt/lib"]),
                hook(vec!["disable-device-node-modification"]),
                hook(words.to_vec()),
            ],
        });
        let file = json!({ "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [
            { "name": "0", "containerEdits": edits },
        ] });
        let directory = scratch().join("cdi");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("nvidia.json"), file.to_string()).unwrap();
        directory
    };
    let directory = describe(&["chmod", "--mode", "755", "--path", "/dev/dri"]);
    let directory = directory.to_str().unwrap();
    let asked = |hooks| {
        [
            "--cdi-dir",
            directory,
            "--device=nvidia.com/gpu=0",
            "--cdi-hooks",
            hooks,
        ]
    };
    let modes = "readlink /opt/lib/libcuda.so; stat /usr/lib64/libcuda.so.1; \
                 list /proc/driver/nvidia/gpus; open /dev/nvidia0 rw";
    let says = machine.says(bundle(), &asked("known"), modes);
    assert_eq!(says, ["libcuda.so.1", "ok", "0000:06:00.0", "ENXIO"]);
    // Other hooks are refused.
    describe(&["hook", ran.to_str().unwrap()]);
    let output = machine.run(bundle(), &asked("known")).exits(1);
    output.says(r#"and --cdi-hooks is \"known\""#);
    assert!(!ran.exists());
}

/// A GPU with all its files, added to and removed from a running container.
fn a_gpu_comes_and_goes() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let container = Container::running(Bundle::new().probe("sleep"));
    let update = |option: &str| {
        let options = ["--cdi-dir", "/nowhere", option];
        machine.call(&container, "update", &options).output()
    };
    let says = || {
        let modes = "open /dev/nvidia0 rw -- open /dev/nvidia1 rw -- \
                     readlink /usr/lib64/libcuda.so.1";
        let exec = container.command("exec", NO_FLAGS).args(["/probe", "seq"]);
        words(&exec.args(modes.split_whitespace()).output())
    };
    let library = format!("libcuda.so.{VERSION}");
    update("--device-add=nvidia.com/gpu=0").ok();
    assert_eq!(says(), ["ENXIO", "ENOENT", &*library]);
    update("--device-add=nvidia.com/gpu=1").ok();
    assert_eq!(says(), ["ENXIO", "ENXIO", &*library]);
    // Files that the other GPU needs, too, stay.
    update("--device-rm=nvidia.com/gpu=0").ok();
    assert_eq!(says(), ["ENOENT", "ENXIO", &*library]);
    update("--device-rm=nvidia.com/gpu=1").ok();
    assert_eq!(says(), ["ENOENT", "ENOENT", "ENOENT"]);
    update("--device-add=nvidia.com/gpu=2")
        .exits(1)
        .says(r#"no GPU \"2\""#);
}

/// Starts a container on the machine, with the machine's /proc.
fn running(machine: &Machine, bundle: Bundle, options: &[&str]) -> Container {
    let container = Container::new(with_hosts_proc(bundle).probe("sleep"));
    container
        .detach(machine.call(&container, "create", options))
        .ok();
    container.start().ok();
    container
}

/// Calls `update` with these options, without CDI files.
fn update(machine: &Machine, container: &Container, options: &[&str]) -> Output {
    let options = [&["--cdi-dir", "/nowhere"], options].concat();
    machine.call(container, "update", &options).output()
}

/// The container's answers about the files of GPUs: those of both GPUs, those that they share, and
/// those in /proc.
fn seen(container: &Container) -> Vec<String> {
    let modes = format!(
        "open /dev/nvidia0 rw -- open /dev/nvidia1 rw -- open /dev/nvidiactl rw -- \
         open /dev/nvidia-uvm rw -- stat {LIBRARIES}/libcuda.so.{VERSION} -- \
         readlink {LIBRARIES}/libcuda.so.1 -- list /proc/driver/nvidia/gpus"
    );
    let exec = container.command("exec", NO_FLAGS).args(["/probe", "seq"]);
    words(&exec.args(modes.split_whitespace()).output())
}

/// The expected answers of a container with these GPUs.
fn has(gpus: [bool; 2]) -> Vec<String> {
    let node = |is_there| if is_there { "ENXIO" } else { "ENOENT" };
    let buses = ["0000:06:00.0", "0000:0a:00.0"].into_iter().zip(gpus);
    let buses: Vec<&str> = buses
        .filter_map(|(bus, is_there)| is_there.then_some(bus))
        .collect();
    let library = format!("libcuda.so.{VERSION}");
    let says = match gpus {
        [false, false] => [node(false); 6],
        [first, second] => [node(first), node(second), "ENXIO", "ENXIO", "ok", &library],
    };
    // A container without GPUs sees what a container without a request sees.
    let shown = match gpus {
        [false, false] => "0000:06:00.0 0000:0a:00.0".to_owned(),
        _ => buses.join(" "),
    };
    says.map(str::to_owned).into_iter().chain([shown]).collect()
}

fn mounts(container: &Container) -> String {
    fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap()
}

fn what_gpus_share_goes_with_the_last() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let container = running(&machine, Bundle::new(), &[]);
    let before = mounts(&container);
    for order in [[0, 1], [1, 0]] {
        let add = |gpu| format!("--device-add=nvidia.com/gpu={gpu}");
        let remove = |gpu| format!("--device-rm=nvidia.com/gpu={gpu}");
        let one = |gpu| [gpu == 0, gpu == 1];
        update(&machine, &container, &[&add(order[0])]).ok();
        assert_eq!(seen(&container), has(one(order[0])));
        let covered = mounts(&container).matches(" /proc/driver/nvidia ").count();
        update(&machine, &container, &[&add(order[1])]).ok();
        assert_eq!(seen(&container), has([true, true]));
        let now = mounts(&container).matches(" /proc/driver/nvidia ").count();
        assert_eq!((covered, now), (1, 1));
        update(&machine, &container, &[&remove(order[0])]).ok();
        assert_eq!(seen(&container), has(one(order[1])));
        // One GPU is exchanged for the other.
        let both = [&*remove(order[1]), &*add(order[0])];
        update(&machine, &container, &both).ok();
        assert_eq!(seen(&container), has(one(order[0])));
        let output = update(&machine, &container, &[&remove(order[0])]).ok();
        assert_eq!(output.stderr, "");
        assert_eq!(seen(&container), has([false, false]));
        assert_eq!(mounts(&container), before);
    }
}

/// In whatever way they were requested.
fn gpus_of_the_creation_go_by_their_names() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let all = running(&machine, Bundle::new(), &["--gpus", "all"]);
    assert_eq!(seen(&all), has([true, true]));
    update(&machine, &all, &["--device-rm=nvidia.com/gpu=0"]).ok();
    assert_eq!(seen(&all), has([false, true]));
    let output = update(&machine, &all, &["--device-rm=nvidia.com/gpu=0"]).exits(1);
    output.says(r#"but [\"nvidia.com/gpu=1\"]"#);
    update(&machine, &all, &["--device-add=nvidia.com/gpu=0"]).ok();
    assert_eq!(seen(&all), has([true, true]));
    let (bundle, _) = docker_bundle(HOOK);
    let dockers = running(&machine, bundle, &[]);
    assert_eq!(seen(&dockers), has([true, false]));
    let output = update(&machine, &dockers, &["--device-add=nvidia.com/gpu=0"]).exits(1);
    output.says(r#"the container has the device \"nvidia.com/gpu=0\" already"#);
    update(&machine, &dockers, &["--device-add=nvidia.com/gpu=1"]).ok();
    update(&machine, &dockers, &["--device-rm=nvidia.com/gpu=0"]).ok();
    assert_eq!(seen(&dockers), has([false, true]));
    update(&machine, &dockers, &["--device-rm=nvidia.com/gpu=1"]).ok();
    // Mount points of the creation stay, as those of other mounts do.
    let mut none = has([false, false]);
    none[4] = "ok".to_owned();
    assert_eq!(seen(&dockers), none);
    // A GPU that is requested in two ways is added once.
    let twice = [
        "--gpus",
        "device=0",
        "--device=nvidia.com/gpu=0",
        "--cdi-dir",
        "/nowhere",
    ];
    let container = running(&machine, Bundle::new(), &twice);
    update(&machine, &container, &["--device-rm=nvidia.com/gpu=0"]).ok();
    assert_eq!(seen(&container), none);
}

/// GPUs of the creation and GPUs that were added later stay, whatever an update says of devices.
fn updates_keep_gpus() {
    needs(&[Root, Teu, Tool("unshare"), Controller("pids")]);
    let machine = Machine::new();
    let container = running(&machine, Bundle::new(), &["--gpus", "device=0"]);
    update(&machine, &container, &["--device-add=nvidia.com/gpu=1"]).ok();
    let denied = json!({ "allow": false, "type": "c", "major": 195, "access": "rwm" });
    for resources in [
        json!({ "devices": [] }),
        json!({ "devices": [denied] }),
        json!({ "pids": { "limit": 30 } }),
    ] {
        let call = container.command("update", ["--resources", "-"]);
        call.stdin(resources.to_string()).output().ok();
        assert_eq!(seen(&container), has([true, true]));
    }
}

fn a_failure_takes_gpus_back() {
    needs(&[Root, Teu, Tool("unshare"), Controller("cpuset")]);
    let machine = Machine::new();
    let bundle = Bundle::new();
    let library = bundle
        .rootfs()
        .join(&LIBRARIES[1..])
        .join("libnvidia-ml.so.1");
    fs::create_dir_all(&library).unwrap();
    let container = running(&machine, bundle, &[]);
    let before = mounts(&container);
    let output = update(&machine, &container, &["--device-add=nvidia.com/gpu=0"]).exits(1);
    output.says(r#"make link \"/usr/lib64/libnvidia-ml.so.1\""#);
    assert_eq!(seen(&container), has([false, false]));
    assert_eq!(mounts(&container), before);
    fs::remove_dir(&library).unwrap();
    // The update fails when everything is in place, with another GPU and without.
    let refused = ["--device-add=nvidia.com/gpu=1", "--cpuset-cpus=4095"];
    for gpus in [[false, false], [true, false]] {
        let before = mounts(&container);
        update(&machine, &container, &refused).exits(1);
        assert_eq!(seen(&container), has(gpus));
        assert_eq!(mounts(&container), before);
        if gpus == [false, false] {
            update(&machine, &container, &["--device-add=nvidia.com/gpu=0"]).ok();
        }
    }
}

/// Links that were correct before, so that they were not made for the GPU; and a link that was
/// made and has another target by now.
fn links_of_the_image_stay() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let bundle = Bundle::new();
    let libraries = bundle.rootfs().join(&LIBRARIES[1..]);
    fs::create_dir_all(&libraries).unwrap();
    let name = format!("libcuda.so.{VERSION}");
    symlink(&name, libraries.join("libcuda.so.1")).unwrap();
    let container = running(&machine, bundle, &[]);
    update(&machine, &container, &["--device-add=nvidia.com/gpu=0"]).ok();
    let other = libraries.join("libnvidia-ml.so.1");
    fs::remove_file(&other).unwrap();
    symlink("other", &other).unwrap();
    update(&machine, &container, &["--device-rm=nvidia.com/gpu=0"]).ok();
    let left = |name: &str| fs::read_link(libraries.join(name)).ok();
    assert_eq!(left("libcuda.so.1"), Some(name.into()));
    assert_eq!(left("libnvidia-ml.so.1"), Some("other".into()));
    assert_eq!(left("libcuda.so"), None);
}

/// The GPU has no cover, because the image lacks the directory to be covered. The container makes
/// a link from there to a masked path. Removing the GPU must not unmount the mask.
fn a_mask_is_not_taken_for_a_cover() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let bundle = Bundle::new().set("/linux/maskedPaths", json!(["/masked"]));
    fs::create_dir(bundle.rootfs().join("masked")).unwrap();
    fs::write(bundle.rootfs().join("masked/secret"), "").unwrap();
    let options = ["--gpus", "all,capabilities=graphics"];
    let container = running(&machine, bundle, &options);
    let directory = container.bundle.rootfs().join("etc/nvidia");
    let profiles = directory.join("nvidia-application-profiles-rc.d");
    assert!(!profiles.exists());
    fs::create_dir_all(&directory).unwrap();
    symlink("/masked", profiles).unwrap();
    let devices = [
        "--device-rm=nvidia.com/gpu=0",
        "--device-rm=nvidia.com/gpu=1",
    ];
    update(&machine, &container, &devices).ok();
    assert!(mounts(&container).contains(" /masked "));
    let exec = container.command("exec", NO_FLAGS);
    let seen = exec.args(["/probe", "list", "/masked"]).output().ok();
    assert!(!seen.stdout.contains("secret"), "{seen}");
}

fn egl_is_told_of_the_gpus_that_are_left() {
    needs(&[Root, Teu, Tool("unshare")]);
    let machine = Machine::new();
    let bundle = Bundle::new();
    let profiles = "/etc/nvidia/nvidia-application-profiles-rc.d";
    fs::create_dir_all(bundle.rootfs().join(&profiles[1..])).unwrap();
    let container = running(&machine, bundle, &["--gpus", "all,capabilities=graphics"]);
    let says = |mask: &str| {
        let exec = container.command("exec", NO_FLAGS);
        let exec = exec.args(["/probe", "read"]);
        let output = exec
            .arg(format!("{profiles}/10-container.conf"))
            .output()
            .ok();
        let text = output.answer().to_string();
        assert!(
            text.contains(&format!("EGLVisibleDGPUDevices\\\",{mask}]")),
            "{text}"
        );
    };
    says("0x3");
    update(&machine, &container, &["--device-rm=nvidia.com/gpu=1"]).ok();
    says("0x1");
}

/// In a user namespace, the cover of a part of /proc belongs to the container's root user.
fn a_user_namespace_gets_another_gpu() {
    needs(&[Root, UserNamespaces, Kernel(5, 12), Teu, Tool("unshare")]);
    let machine = Machine::new();
    let container = running(
        &machine,
        Bundle::new().user_namespace(),
        &["--gpus", "device=0"],
    );
    update(&machine, &container, &["--device-add=nvidia.com/gpu=1"]).ok();
    let shown = |gpus| has(gpus).pop();
    assert_eq!(seen(&container).pop(), shown([true, true]));
    update(&machine, &container, &["--device-rm=nvidia.com/gpu=0"]).ok();
    assert_eq!(seen(&container).pop(), shown([false, true]));
}
