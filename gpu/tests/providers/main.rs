//! What containers get of hosts of many kinds: trees of files below a directory.

mod tree;

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::FileType;
use serde_json::json;
use teu_gpu::cdi::File;
use teu_gpu::{Capabilities, Finder, LibraryDirs, Request, Vendor, Which};

use tree::{DEVICES, Tree, UUIDS, VERSION, bound_into, of};

const DEBIAN: &str = "/usr/lib/x86_64-linux-gnu";

/// Where Debian's libraries are on this machine.
fn native() -> String {
    LibraryDirs::debian().native.display().to_string()
}

fn request(words: &str) -> Result<Request, String> {
    words.parse()
}

// What is asked for.

#[test]
fn requests_are_read_as_dockers() {
    let named = |names: &[&str]| Which::Named(names.iter().map(|name| (*name).into()).collect());
    for (words, which) in [
        ("all", Which::All),
        ("1", Which::Count(1)),
        ("16", Which::Count(16)),
        ("0,1", named(&["0", "1"])),
        ("1,0,1", named(&["1", "0"])),
        ("GPU-1", named(&["GPU-1"])),
        ("0:0,MIG-1", named(&["0:0", "MIG-1"])),
        ("0,all", Which::All),
        ("device=0", named(&["0"])),
        ("\"device=0,1\"", named(&["0", "1"])),
        ("device=0,1,driver=nvidia", named(&["0", "1"])),
        ("count=2", Which::Count(2)),
        ("count=-1,capabilities=compute", Which::All),
        ("count=all", Which::All),
        ("driver=nvidia", Which::Count(1)),
    ] {
        assert_eq!(request(words).expect(words).which, which, "{words}");
    }
    let all = request("all,\"capabilities=utility,graphics,gpu\",imex=0,channel7,driver=nvidia");
    let all = all.expect("all fields");
    let asked = Capabilities::UTILITY | Capabilities::GRAPHICS;
    assert_eq!((all.which, all.capabilities), (Which::All, Some(asked)));
    assert_eq!(all.imex_channels, [0, 7]);
    assert_eq!(all.vendor, Some(Vendor::Nvidia));
    // Which somebody else may say.
    assert_eq!(request("all").expect("all").capabilities, None);
    let default = request("all,capabilities=gpu").expect("all").capabilities;
    let usual = Capabilities::UTILITY | Capabilities::COMPUTE;
    assert_eq!(default, Some(usual));
    let every = request("all,capabilities=all").expect("all").capabilities;
    assert_eq!(every, Some(Capabilities::all()));
}

#[test]
fn requests_that_are_none_are_told_why() {
    for (words, reason) in [
        ("", "no GPUs are named"),
        (",", "no GPUs are named"),
        (
            "0",
            "count \"0\": neither all nor a number from 1 on; the first GPU is \"device=0\"",
        ),
        ("count=x", "count \"x\": neither all nor a number from 1 on"),
        (
            "count=1,device=0",
            "there is more than one count, or a count and names",
        ),
        (
            "devices=0",
            "field \"devices\": not one of device, count, capabilities, driver, imex",
        ),
        (
            "all,capabilities=cuda",
            "capability \"cuda\": not one of compute, utility, graphics, video, display, ngx, \
             compat32, all",
        ),
        (
            "all,driver=vendor",
            "driver \"vendor\": not one of nvidia, amd, intel, drm",
        ),
        ("all,driver=amd,intel", "there is more than one driver"),
        ("all,imex=x", "IMEX channel \"x\": not a number"),
    ] {
        assert_eq!(request(words).expect_err(words), reason, "{words}");
    }
}

#[test]
fn variables_are_read_as_nvidias_runtime_does() {
    let which = |devices: &str| {
        let request = Request::from_variable(Vendor::Nvidia, devices);
        request.map(|request| request.which)
    };
    let named = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).into());
        Some(Which::Named(names.collect()))
    };
    for (value, expected) in [
        ("", None),
        ("void", None),
        ("0,void", None),
        (" , ", None),
        ("all", Some(Which::All)),
        ("1,all,none", Some(Which::All)),
        ("none,all", named(&[])),
        // A number is a name, and one asked for twice is one.
        ("0", named(&["0"])),
        ("0, 0,GPU-1", named(&["0", "GPU-1"])),
    ] {
        assert_eq!(which(value), expected, "{value:?}");
    }
    let asked: Capabilities = "video,ngx".parse().expect("capabilities");
    assert_eq!(asked, Capabilities::VIDEO | Capabilities::NGX);
    let none: Capabilities = "".parse().expect("capabilities");
    assert_eq!(none, Capabilities::default());
}

// NVIDIA: GPUs and nodes.

#[test]
fn a_container_has_the_nodes_of_its_gpus_and_no_others() {
    let tree = Tree::with_two_gpus();
    let control = [
        "/dev/nvidiactl 195:255 666 rw",
        "/dev/nvidia-uvm 510:0 666 rw",
        "/dev/nvidia-uvm-tools 510:1 666 rw",
    ];
    let (first, second) = ("/dev/nvidia0 195:0 666 rw", "/dev/nvidia1 195:1 666 rw");
    let uuid = UUIDS[1].to_lowercase();
    for (words, gpus) in [
        ("all", &[first, second][..]),
        ("1", &[first]),
        ("2", &[first, second]),
        ("device=0", &[first]),
        ("device=1", &[second]),
        ("1,0", &[second, first]),
        (UUIDS[0], &[first]),
        (&*uuid, &[second]),
        ("0000:0a:00.0", &[second]),
        // By two of its names, but once.
        (&*format!("1,{}", UUIDS[1]), &[second]),
    ] {
        let lines = tree.asked(words).expect(words);
        assert_eq!(of(&lines, "node"), [&control, gpus].concat(), "{words}");
        assert_eq!(of(&lines, "env"), ["NVIDIA_VISIBLE_DEVICES=void"]);
        assert_eq!(of(&lines, "gid"), [""; 0]);
    }
    let utility = tree
        .asked("device=1,capabilities=utility")
        .expect("utility");
    assert_eq!(of(&utility, "node"), [control[0], second]);
    let mut none = Request::from_variable(Vendor::Nvidia, "none").expect("a request");
    none.capabilities = Some(Capabilities::UTILITY);
    let none = teu_gpu::edits(&tree.roots(), &none, &LibraryDirs::other()).expect("none");
    assert_eq!(of(&tree.lines(&none), "node"), [control[0]]);
}

/// By which a container that has several can lose one.
#[test]
fn each_gpu_has_a_name_and_brings_what_it_would_alone() {
    let tree = Tree::with_two_gpus();
    tree.instance(0, (2, 0), (21, 22));
    let (roots, dirs) = (tree.roots(), LibraryDirs::debian());
    let mut finder = Finder::new(&roots, &dirs);
    for (words, names) in [
        ("all", &["0", "1"][..]),
        (UUIDS[1], &["1"]),
        ("0:0,device=1", &["0:0", "1"]),
    ] {
        let each = finder.each(&request(words).expect(words)).expect(words);
        assert_eq!(each.len(), names.len(), "{words}");
        for ((name, request), word) in each.iter().zip(names) {
            assert_eq!(*name, format!("nvidia.com/gpu={word}"));
            let edits = finder.edits(request).expect(word);
            let alone = tree.asked(&format!("device={word}")).expect(word);
            assert_eq!(tree.lines(&edits), alone);
        }
    }
    let none = Request::from_variable(Vendor::Nvidia, "none").expect("a request");
    let none = finder.each(&none).expect("none");
    assert_eq!(none[0].0, "nvidia.com/gpu=none");
}

#[test]
fn gpus_are_counted_in_the_order_of_the_bus() {
    let tree = Tree::with_two_gpus();
    tree.gpu("0000:01:00.0", 5, "GPU-5");
    tree.gpu(
        "10000:00:00.0",
        6,
        "GPU-????????-????-????-????-????????????",
    );
    let gpus = teu_gpu::gpus(&tree.roots()).expect("GPUs");
    let seen: Vec<_> = gpus.iter().map(|gpu| (gpu.index, gpu.minor)).collect();
    assert_eq!(
        seen,
        [(0, 5), (1, 0), (2, 1), (3, 6)].map(|(index, minor)| (Some(index), Some(minor)))
    );
    assert_eq!(gpus[3].uuid, None);
    assert_eq!(gpus[0].model.as_deref(), Some("Tesla"));
    let lines = tree.asked("device=3").expect("the last");
    assert!(lines.contains(&"node /dev/nvidia6 195:6 666 rw".into()));
}

#[test]
fn a_gpu_that_is_excluded_is_no_ones() {
    let tree = Tree::with_two_gpus();
    let path = tree.path("proc/driver/nvidia/gpus/0000:06:00.0/information");
    let text = std::fs::read_to_string(&path).expect("information");
    std::fs::write(&path, text.replace("Excluded:\t No", "Excluded:\t Yes")).expect("write");
    for words in ["all", "1", "device=0"] {
        let nodes = of(&tree.asked(words).expect(words), "node");
        assert!(
            nodes.contains(&"/dev/nvidia1 195:1 666 rw".into()),
            "{words}"
        );
        assert_eq!(nodes.len(), 4, "{words}: {nodes:?}");
    }
    let error = tree.refused(UUIDS[0]);
    assert!(error.contains("was told to leave alone"), "{error}");
    assert_eq!(tree.refused("2"), "2 GPUs are asked for, and there are 1");
}

#[test]
fn one_that_is_not_there_is_told_with_those_that_are() {
    let tree = Tree::with_two_gpus();
    let known = format!(
        "there are \"0\", {:?}, \"0000:06:00.0\", \"1\", {:?}, \"0000:0a:00.0\"",
        UUIDS[0], UUIDS[1]
    );
    assert_eq!(tree.refused("0,2"), format!("no GPU \"2\": {known}"));
    let near = UUIDS[0].replace("52b8", "52b9");
    let meant = format!("no GPU {near:?} (is {:?} meant?): {known}", UUIDS[0]);
    assert_eq!(tree.refused(&near), meant);
    let error = tree.refused("MIG-01234567-89ab-cdef-0123-456789abcdef");
    assert!(
        error.contains("the driver tells UUIDs of instances"),
        "{error}"
    );
    let empty = Tree::with_module(VERSION);
    assert_eq!(empty.refused("all"), "there is no GPU");
    assert_eq!(empty.refused("device=0"), "no GPU \"0\": there is none");
}

#[test]
fn the_hosts_nodes_have_to_be_those_devices() {
    let tree = Tree::with_two_gpus();
    if !tree.node("dev/nvidia0", FileType::CharacterDevice, (195, 0)) {
        return;
    }
    tree.node("dev/nvidiactl", FileType::CharacterDevice, (195, 255));
    let lines = tree.asked("device=0").expect("good nodes");
    assert!(
        lines.contains(&"node /dev/nvidia0 195:0 660 rw".into()),
        "{lines:?}"
    );
    assert_eq!(teu_gpu::problems(&tree.roots()), [""; 0]);
    for (kind, number, reason) in [
        (
            FileType::CharacterDevice,
            (1, 1),
            "it is c 1:1, not c 195:1",
        ),
        (
            FileType::CharacterDevice,
            (195, 0),
            "it is c 195:0, not c 195:1",
        ),
        (
            FileType::BlockDevice,
            (195, 1),
            "it is b 195:1, not c 195:1",
        ),
        (FileType::RegularFile, (0, 0), "not a device node"),
    ] {
        tree.node("dev/nvidia1", kind, number);
        let expected = format!("device node {:?}: {reason}", tree.path("dev/nvidia1"));
        assert_eq!(tree.refused("all"), expected);
        // The other GPU has nothing to do with it.
        tree.asked("device=0").expect("the other");
        assert_eq!(teu_gpu::problems(&tree.roots()), [expected]);
        std::fs::remove_file(tree.path("dev/nvidia1")).expect("remove");
    }
    tree.link("dev/nvidia1", "nvidia0");
    assert!(tree.refused("all").ends_with("not a device node"));
}

#[test]
fn a_group_that_a_node_is_for_is_the_containers() {
    let tree = Tree::with_two_gpus();
    tree.file(
        "proc/driver/nvidia/params",
        "DeviceFileUID: 0\nDeviceFileGID: 44\nDeviceFileMode: 432\n",
    );
    let lines = tree.asked("1,capabilities=utility").expect("a GPU");
    assert!(lines.contains(&"node /dev/nvidia0 195:0 660 rw".into()));
    assert_eq!(of(&lines, "gid"), ["44"]);
}

#[test]
fn modules_that_are_not_loaded_are_missed_where_they_are_needed() {
    let tree = Tree::with_two_gpus();
    let asked = "device=0,capabilities=compute,display,graphics";
    let lines = tree.asked(asked).expect("without modeset");
    assert_eq!(of(&lines, "node /dev/nvidia-modeset"), [""; 0]);
    tree.file("sys/module/nvidia_modeset/refcnt", "0");
    let lines = tree.asked(asked).expect("with modeset");
    assert_eq!(of(&lines, "node /dev/nvidia-modeset"), ["195:254 666 rw"]);
    // Before version 550 it was called otherwise.
    tree.file(
        "proc/devices",
        "Character devices:\n195 nvidia-frontend\n\nBlock devices:\n510 nvidia-uvm\n",
    );
    let lines = tree.asked("1,capabilities=utility").expect("without uvm");
    assert_eq!(of(&lines, "node /dev/nvidia0"), ["195:0 666 rw"]);
    assert_eq!(
        tree.refused("1,capabilities=compute"),
        "the kernel has no driver \"nvidia-uvm\" (modprobe nvidia-uvm?), see /proc/devices"
    );
}

#[test]
fn instances_are_had_one_by_one_or_with_their_gpu() {
    let tree = Tree::with_two_gpus();
    tree.instance(0, (2, 0), (21, 22));
    tree.instance(0, (10, 0), (91, 92));
    tree.instance(0, (10, 1), (91, 93));
    let caps = |minors: &[u32]| -> Vec<String> {
        let caps = minors.iter();
        caps.map(|minor| format!("nvidia-cap{minor} 511:{minor} 444 rw"))
            .collect()
    };
    let old = format!("MIG-{}/10/1", UUIDS[0]);
    for (words, minors) in [
        ("0:0", &[21, 22][..]),
        ("0:1", &[91, 92]),
        ("0:2", &[91, 93]),
        (&*old, &[91, 93]),
        ("device=0", &[21, 22, 91, 92, 93]),
        ("device=1", &[]),
        ("all", &[21, 22, 91, 92, 93]),
    ] {
        let lines = tree.asked(words).expect(words);
        assert_eq!(
            of(&lines, "node /dev/nvidia-caps/"),
            caps(minors),
            "{words}"
        );
        let texts = of(&lines, "text /proc/driver/nvidia/capabilities/");
        assert_eq!(texts.len(), minors.len(), "{words}: {texts:?}");
    }
    let one = tree.asked("0:2").expect("an instance");
    assert!(one.contains(&"node /dev/nvidia0 195:0 666 rw".into()));
    assert_eq!(
        of(&one, "text /proc/driver/nvidia/capabilities/"),
        ["gpu0/mig/gi10/access", "gpu0/mig/gi10/ci1/access"]
    );
    assert!(tree.refused("0:3").contains("there are \"0\", "));
}

#[test]
fn channels_are_given_if_asked_for_and_only_then() {
    let tree = Tree::with_two_gpus();
    let channels = |lines: &[String]| of(lines, "node /dev/nvidia-caps-imex-channels/");
    let lines = tree.asked("all,capabilities=all").expect("all");
    assert_eq!(channels(&lines), [""; 0]);
    let lines = tree.asked("all,imex=0,2047").expect("channels");
    assert_eq!(
        channels(&lines),
        ["channel0 512:0 666 rw", "channel2047 512:2047 666 rw"]
    );
    assert_eq!(
        tree.refused("all,imex=1048576"),
        "IMEX channel 1048576: the last is 1048575"
    );
}

// NVIDIA: what is seen in /proc.

#[test]
fn of_proc_a_container_sees_what_is_of_its_gpus() {
    let tree = Tree::with_two_gpus();
    let request = request("device=1,capabilities=graphics").expect("a request");
    let edits = teu_gpu::edits(&tree.roots(), &request, &LibraryDirs::other()).expect("edits");
    let [proc, profile] = &edits.covers[..] else {
        panic!("{:?}", edits.covers);
    };
    assert_eq!(proc.path, Path::new("/proc/driver/nvidia"));
    let seen: Vec<_> = proc
        .files
        .keys()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(
        seen,
        [
            "gpus/0000:0a:00.0/information",
            "params",
            "registry",
            "version"
        ]
    );
    let params = proc.files[Path::new("params")].text();
    assert!(params.contains("\nModifyDeviceFiles: 0\n"), "{params}");
    assert!(proc.files[Path::new("version")].text().contains(VERSION));
    let text = profile.files[Path::new("10-container.conf")].text();
    assert!(text.contains("\"EGLVisibleDGPUDevices\",0x2"), "{text}");
    let plain = tree.asked("device=1").expect("edits");
    assert_eq!(of(&plain, "text /etc"), [""; 0]);
    // Two requests show what is of either.
    let other: Request = "device=0,capabilities=graphics".parse().expect("a request");
    let mut both = teu_gpu::edits(&tree.roots(), &other, &LibraryDirs::other()).expect("edits");
    both.append(edits);
    let shown = of(&tree.lines(&both), "text /proc/driver/nvidia/gpus");
    assert_eq!(shown.len(), 2, "{shown:?}");
    let [_, profile] = &both.covers[..] else {
        panic!("{:?}", both.covers);
    };
    let text = profile.files[Path::new("10-container.conf")].text();
    assert!(text.contains("\"EGLVisibleDGPUDevices\",0x3"), "{text}");
}

/// Of a file that NVIDIA's tools wrote, with libraries where the image may not look.
#[test]
fn known_hooks_become_edits() {
    let tree = Tree::with_two_gpus();
    let file = |name: &str| tree.path("usr/lib/x86_64-linux-gnu").join(name);
    let (library, version) = (format!("libcuda.so.{VERSION}"), VERSION);
    let hook = |program: &str, words: &[&str]| {
        json!({
            "hookName": "createContainer", "path": format!("/usr/bin/{program}"),
            "args": ([&[program][..], words].concat()),
        })
    };
    let edits = json!({
        "deviceNodes": [
            { "path": "/dev/nvidia1", "hostPath": "/nowhere", "type": "c", "major": 195, "minor": 1 },
        ],
        "mounts": [
            { "hostPath": file(&library), "containerPath": format!("/usr/lib64/{library}") },
            { "hostPath": "/usr/bin/nvidia-smi", "containerPath": "/usr/bin/nvidia-smi" },
        ],
        "hooks": [
            hook("nvidia-cdi-hook", &[
                "create-symlinks", "--link", "libcuda.so.1::/usr/lib64/libcuda.so",
                "--link=../libnvidia-allocator.so.1::/usr/lib64/gbm/nvidia-drm_gbm.so",
            ]),
            hook("nvidia-ctk", &["hook", "update-ldcache", "--folder", "/usr/lib64"]),
            hook("nvidia-cdi-hook", &["enable-cuda-compat", "--host-driver-version", version]),
            hook("nvidia-cdi-hook", &["disable-device-node-modification"]),
            hook("nvidia-cdi-hook", &["chmod", "--mode", "755", "--path", "/dev/dri"]),
            hook("nvidia-cdi-hook", &["some-other"]),
            hook("other", &["create-symlinks", "--link", "a::/b"]),
        ],
    });
    let described = json!({
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
        "devices": [{ "name": "1", "containerEdits": edits }],
    });
    let described = File::parse(&described.to_string()).expect("a file");
    let taken = |dirs: &LibraryDirs| {
        let mut edits = described.devices[0]
            .container_edits
            .on_this_machine()
            .expect("edits");
        teu_gpu::take_known_hooks(&mut edits, &tree.roots(), dirs).expect("taken");
        let left: Vec<_> = edits
            .hooks
            .iter()
            .map(|(_, hook)| hook.args().clone())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        tree.lines(&edits)
    };
    let own = [
        "/usr/lib64/libcuda.so libcuda.so.1",
        "/usr/lib64/gbm/nvidia-drm_gbm.so ../libnvidia-allocator.so.1",
    ];
    let lines = taken(&LibraryDirs::other());
    let beside = format!("/usr/lib64/libcuda.so.1 {library}");
    assert_eq!(of(&lines, "link"), [own[0], own[1], &beside]);
    let shown = of(&lines, "text /proc/driver/nvidia/gpus/");
    assert_eq!(shown, ["0000:0a:00.0/information"]);
    assert_eq!(of(&lines, "text /etc"), [""; 0]);
    // A Debian looks elsewhere.
    let debian = LibraryDirs::debian();
    let native = debian.native.display();
    let lines = taken(&debian);
    let elsewhere = [
        format!("{native}/libcuda.so.1 /usr/lib64/{library}"),
        format!("{native}/{library} /usr/lib64/{library}"),
    ];
    assert_eq!(
        of(&lines, "link"),
        [own[0], own[1], &elsewhere[0], &elsewhere[1]]
    );
}

// NVIDIA: layouts.

/// Debian's: alternatives lead to a directory of their own, and other libraries are
/// beside it.
fn debian() -> Tree {
    let tree = Tree::with_module(VERSION);
    tree.gpu("0000:06:00.0", 0, UUIDS[0]);
    let (usual, current) = (&DEBIAN[1..], format!("{}/nvidia/current", &DEBIAN[1..]));
    for (stem, number) in [
        ("libcuda", "1"),
        ("libnvidia-ml", "1"),
        ("libGLX_nvidia", "0"),
    ] {
        tree.libraries(&current, VERSION, &[(stem, number)]);
        let soname = format!("{stem}.so.{number}");
        let alternative = format!("etc/alternatives/glx--{soname}");
        tree.link(&format!("{usual}/{soname}"), &format!("/{alternative}"));
        tree.link(&alternative, &format!("/{current}/{soname}"));
    }
    tree.library(&format!("{usual}/libnvidia-glcore.so.{VERSION}"));
    tree.libraries(
        &format!("{usual}/vdpau"),
        VERSION,
        &[("libvdpau_nvidia", "1")],
    );
    tree.link("usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi");
    tree.link(
        "etc/alternatives/nvidia--nvidia-smi",
        "/usr/lib/nvidia/current/nvidia-smi",
    );
    tree.file("usr/lib/nvidia/current/nvidia-smi", "");
    tree.link("lib", "usr/lib");
    tree.file(
        &format!("usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"),
        "",
    );
    tree.file("usr/lib/firmware/nvidia/1.2.3/gsp_ga10x.bin", "");
    tree
}

#[test]
fn debians_alternatives_are_followed() {
    let tree = debian();
    let lines = tree.asked("all,capabilities=all").expect("all");
    let names = [
        "libGLX_nvidia",
        "libcuda",
        "libnvidia-glcore",
        "libnvidia-ml",
    ];
    let names = names.map(|stem| format!("{stem}.so.{VERSION}"));
    let vdpau = format!("libvdpau_nvidia.so.{VERSION}");
    assert_eq!(
        bound_into(&lines, &native()),
        [&names[..], &[vdpau]].concat()
    );
    for line in [
        format!(
            "bind {DEBIAN}/nvidia/current/libcuda.so.{VERSION} {}/libcuda.so.{VERSION}",
            native()
        ),
        "bind /usr/lib/nvidia/current/nvidia-smi /usr/bin/nvidia-smi".into(),
        format!(
            "bind /usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin \
             /lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin"
        ),
        format!("link {}/libcuda.so.1 libcuda.so.{VERSION}", native()),
        format!("link {}/libcuda.so libcuda.so.{VERSION}", native()),
        format!(
            "link {}/libGLX_nvidia.so.0 libGLX_nvidia.so.{VERSION}",
            native()
        ),
        format!(
            "link {}/libGLX_indirect.so.0 libGLX_nvidia.so.{VERSION}",
            native()
        ),
        format!(
            "link {}/libvdpau_nvidia.so.1 libvdpau_nvidia.so.{VERSION}",
            native()
        ),
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("1.2.3")));
}

/// Fedora's: 64 bits in lib64, 32 in lib.
fn fedora() -> Tree {
    let tree = Tree::with_module(VERSION);
    tree.gpu("0000:06:00.0", 0, UUIDS[0]);
    let names = [
        ("libcuda", "1"),
        ("libnvidia-ml", "1"),
        ("libnvidia-allocator", "1"),
    ];
    tree.libraries("usr/lib64", VERSION, &names);
    tree.library("usr/lib64/libnvidia-egl-gbm.so.1.1.2");
    tree.link(
        "usr/lib64/libnvidia-egl-gbm.so.1",
        "libnvidia-egl-gbm.so.1.1.2",
    );
    tree.elf(&format!("usr/lib/libcuda.so.{VERSION}"), 3);
    tree.link("usr/lib/libcuda.so.1", &format!("libcuda.so.{VERSION}"));
    tree.link("lib64", "usr/lib64");
    tree.link("lib", "usr/lib");
    tree.file("usr/bin/nvidia-smi", "");
    tree.file("usr/share/vulkan/icd.d/nvidia_icd.x86_64.json", "{}");
    tree.file("etc/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n");
    tree
}

#[test]
fn fedoras_directories_have_libraries_of_both_widths() {
    let tree = fedora();
    let request = |words: &str| {
        let edits = teu_gpu::edits(
            &tree.roots(),
            &request(words).expect(words),
            &LibraryDirs::other(),
        );
        tree.lines(&edits.expect(words))
    };
    let lines = request("all,capabilities=compute,graphics");
    let cuda = format!("libcuda.so.{VERSION}");
    let allocator = format!("libnvidia-allocator.so.{VERSION}");
    assert_eq!(
        bound_into(&lines, "/usr/lib64"),
        [&cuda, &allocator, "libnvidia-egl-gbm.so.1.1.2"]
    );
    assert_eq!(bound_into(&lines, "/usr/lib"), [""; 0]);
    for line in [
        "link /usr/lib64/libnvidia-egl-gbm.so.1 libnvidia-egl-gbm.so.1.1.2".to_owned(),
        format!("link /usr/lib64/gbm/nvidia-drm_gbm.so ../{allocator}"),
        "bind /usr/share/vulkan/icd.d/nvidia_icd.x86_64.json \
         /etc/vulkan/icd.d/nvidia_icd.x86_64.json"
            .to_owned(),
        "bind /etc/OpenCL/vendors/nvidia.icd /etc/OpenCL/vendors/nvidia.icd".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    let lines = request("all,capabilities=compute,compat32");
    assert_eq!(bound_into(&lines, "/usr/lib"), [&*cuda]);
    assert!(lines.contains(&format!("link /usr/lib/libcuda.so.1 {cuda}")));
    // What is no library is bound by no name.
    tree.file(&format!("usr/lib64/libnvidia-opencl.so.{VERSION}"), "text");
    assert_eq!(bound_into(&request("all"), "/usr/lib64").len(), 3);
}

/// Ubuntu's: all in one directory, with the older version's files not yet gone.
fn ubuntu() -> Tree {
    let tree = Tree::with_module(VERSION);
    tree.gpu("0000:06:00.0", 0, UUIDS[0]);
    let names: Vec<(&str, &str)> = [
        "libcuda",
        "libnvidia-ml",
        "libnvidia-cfg",
        "libnvidia-encode",
        "libnvidia-opticalflow",
        "libnvidia-ngx",
        "libnvidia-ptxjitcompiler",
        "libnvoptix",
    ]
    .map(|stem| (stem, "1"))
    .into();
    tree.libraries(&DEBIAN[1..], VERSION, &names);
    tree.library(&format!("{DEBIAN}/libcuda.so.998.1"));
    tree.library(&format!("{DEBIAN}/libc.so.6"));
    for name in ["nvidia-smi", "nvidia-cuda-mps-control", "nvidia-xconfig"] {
        tree.file(&format!("usr/bin/{name}"), "");
    }
    tree
}

#[test]
fn each_capability_has_its_files() {
    let tree = ubuntu();
    let libraries = |words: &str| {
        let lines = tree
            .asked(&format!("all,capabilities={words}"))
            .expect(words);
        let libraries = bound_into(&lines, &native()).into_iter();
        let stems = libraries.map(|name| name.replace(&format!(".so.{VERSION}"), ""));
        (stems.collect::<Vec<_>>(), bound_into(&lines, "/usr/bin"))
    };
    for (words, stems, programs) in [
        (
            "utility",
            &["libnvidia-cfg", "libnvidia-ml"][..],
            &["nvidia-smi"][..],
        ),
        (
            "compute",
            &["libcuda", "libnvidia-ptxjitcompiler"],
            &["nvidia-cuda-mps-control"],
        ),
        ("video", &["libnvidia-encode", "libnvidia-opticalflow"], &[]),
        ("graphics", &["libnvoptix"], &[]),
        ("ngx", &["libnvidia-ngx"], &[]),
        ("display", &[], &["nvidia-xconfig"]),
        ("compat32", &[], &[]),
    ] {
        let (seen, seen_programs) = libraries(words);
        assert_eq!(seen, stems, "{words}");
        assert_eq!(seen_programs, programs, "{words}");
    }
    let (all, _) = libraries("all");
    assert_eq!(all.len(), 8);
}

#[test]
fn a_driver_container_is_a_root_of_its_own() {
    let tree = Tree::with_module(VERSION);
    tree.gpu("0000:06:00.0", 0, UUIDS[0]);
    let driver = "run/nvidia/driver";
    tree.libraries(
        &format!("{driver}{DEBIAN}"),
        VERSION,
        &[("libnvidia-ml", "1")],
    );
    // Absolute, as seen in the container.
    tree.link(&format!("{driver}/usr/bin/nvidia-smi"), "/opt/nvidia-smi");
    tree.file(&format!("{driver}/opt/nvidia-smi"), "");
    tree.link(
        &format!("{driver}/usr/bin/nvidia-debugdump"),
        "../../../../../secret",
    );
    tree.file("secret", "");
    let request = request("all").expect("a request");
    let mut roots = tree.roots();
    let error = teu_gpu::edits(&roots, &request, &LibraryDirs::debian()).expect_err("no driver");
    let error = error.to_string();
    assert!(error.contains("no library of it is below"), "{error}");
    roots.driver = tree.path(driver);
    let edits = teu_gpu::edits(&roots, &request, &LibraryDirs::debian()).expect("edits");
    let lines = tree.lines(&edits);
    assert_eq!(
        of(&lines, "bind"),
        [
            format!(
                "/{driver}{DEBIAN}/libnvidia-ml.so.{VERSION} {}/libnvidia-ml.so.{VERSION}",
                native()
            ),
            format!("/{driver}/opt/nvidia-smi /usr/bin/nvidia-smi"),
        ]
    );
    roots.driver = tree.path("nowhere");
    let error = teu_gpu::edits(&roots, &request, &LibraryDirs::debian()).expect_err("no root");
    let error = error.to_string();
    assert!(error.starts_with("root of the driver "), "{error}");
}

/// A machine with one H100, whose driver is below /usr/local/nvidia, with links in
/// /usr/lib.
fn h100() -> Tree {
    let tree = Tree::with_module("580.159.04");
    tree.gpu("0000:00:06.0", 0, UUIDS[0]);
    let devices = DEVICES
        .replace("510", "238")
        .replace("511", "241")
        .replace("512", "242");
    tree.file("proc/devices", &devices);
    tree.link("lib", "usr/lib");
    for line in include_str!("data/h100")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        match &line.split(' ').collect::<Vec<_>>()[..] {
            ["f", path] if path.contains("/lib64/") => tree.library(path),
            ["f", path] => tree.file(path, ""),
            ["l", path, target] => tree.link(path, target),
            _ => panic!("{line}"),
        }
    }
    tree
}

#[test]
fn a_driver_below_another_prefix_is_found_by_links_and_by_the_cache() {
    let tree = h100();
    let by_links = tree.asked("all,capabilities=all").expect("by links");
    let libraries = bound_into(&by_links, &native());
    assert_eq!(libraries.len(), 26, "{libraries:#?}");
    assert!(
        libraries
            .iter()
            .all(|name| name.ends_with(".so.580.159.04"))
    );
    for line in [
        "node /dev/nvidia-uvm 238:0 666 rw".to_owned(),
        "bind /usr/local/nvidia/bin/nvidia-smi /usr/bin/nvidia-smi".to_owned(),
        "bind /usr/local/nvidia/firmware/nvidia/580.159.04/gsp_ga10x.bin \
         /lib/firmware/nvidia/580.159.04/gsp_ga10x.bin"
            .to_owned(),
        "bind /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /etc/vulkan/icd.d/nvidia_icd.json"
            .to_owned(),
        format!("link {}/libnvidia-nvvm.so.4 libnvidia-nvvm.so.580.159.04", native()),
    ] {
        assert!(by_links.contains(&line), "{line} is not in {by_links:#?}");
    }
    // Each has the link by which the dynamic linker looks for it, if it has another
    // name of its own.
    let sonames = of(&by_links, "link").into_iter().filter(|link| {
        let (link, _) = link.split_once(' ').expect("a target");
        !link.ends_with(".so")
    });
    assert_eq!(sonames.count(), 18 + 1);
    assert!(!by_links.iter().any(|line| line.contains("outside")));

    for name in [
        "libcuda.so.1",
        "libcuda.so",
        "libnvidia-ml.so.1",
        "libnvidia-ml.so",
    ] {
        std::fs::remove_file(tree.path(&format!("usr/lib/{name}"))).expect("remove");
    }
    let error = tree.refused("all");
    assert!(error.contains("no library of it is below"), "{error}");
    tree.cache(&[
        ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
        ("libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1"),
        ("libcuda.so.1", "/lib/libcuda.so.1"),
    ]);
    let by_cache = tree.asked("all,capabilities=all").expect("by the cache");
    assert_eq!(by_cache, by_links);
}

#[test]
fn a_cache_that_is_broken_is_told() {
    let tree = Tree::with_module(VERSION);
    tree.gpu("0000:06:00.0", 0, UUIDS[0]);
    tree.file("etc/ld.so.cache", "glibc-ld.so.cache1.1");
    let cache = tree.path("etc/ld.so.cache");
    let error = tree.refused("all");
    assert_eq!(error, format!("{cache:?}: its header is cut off"));
    // Paths lead nowhere but below the root.
    tree.cache(&[
        ("libcuda.so.1", "../../../../../../etc/passwd"),
        ("libcuda.so.1", ""),
    ]);
    assert!(tree.refused("all").contains("no library of it is below"));
}

#[test]
fn libraries_of_another_version_are_refused() {
    let tree = Tree::with_two_gpus();
    for name in [format!("libcuda.so.{VERSION}"), "libcuda.so.1".into()] {
        std::fs::remove_file(tree.path(&format!("{DEBIAN}/{name}"))).expect("remove");
    }
    tree.libraries(DEBIAN, "999.90", &[("libcuda", "1"), ("libnvidia-ml", "1")]);
    let error = tree.refused("all");
    assert_eq!(
        error,
        "NVIDIA's kernel module is 999.88.77 and its libraries are 999.90: restart the machine, \
         or load the module anew (rmmod, modprobe), so that both are the same"
    );
    assert_eq!(teu_gpu::problems(&tree.roots()), [error]);
    assert_eq!(
        teu_gpu::nvidia_version(&tree.roots())
            .expect("a version")
            .as_deref(),
        Some(VERSION)
    );
}

#[test]
fn sockets_are_bound_if_nobody_else_can_have_put_them_there() {
    let tree = Tree::with_two_gpus();
    let sockets = || {
        let lines = tree.asked("all").expect("edits");
        of(&lines, "bind")
            .into_iter()
            .filter(|line| line.starts_with("/run") || line.starts_with("/tmp"))
            .count()
    };
    assert_eq!(sockets(), 0);
    tree.link("tmp/nvidia-mps", "../etc");
    tree.file("etc/passwd", "");
    assert_eq!(sockets(), 0, "a link to what is not theirs");
    std::fs::remove_file(tree.path("tmp/nvidia-mps")).expect("remove");
    tree.file("tmp/nvidia-mps", "");
    assert_eq!(sockets(), 0, "a file");
    std::fs::remove_file(tree.path("tmp/nvidia-mps")).expect("remove");
    tree.file("tmp/nvidia-mps/control", "");
    if rustix::process::geteuid().is_root() {
        assert_eq!(sockets(), 1, "root's directory");
        let owner = Some(rustix::process::Uid::from_raw(1000));
        rustix::fs::chown(tree.path("tmp/nvidia-mps"), owner, None).expect("chown");
    } else {
        eprintln!("skipped in part: needs root");
    }
    assert_eq!(sockets(), 0, "another user's directory");
}

/// Windows' subsystem for Linux.
fn wsl() -> Tree {
    let tree = Tree::new();
    tree.file("proc/misc", "229 fuse\n 63 dxg\n");
    for name in [
        "libdxcore.so",
        "libcuda.so",
        "libcuda.so.1.1",
        "libnvidia-ml.so.1",
        "libd3d12.so",
        "libnvidia-encode.so.1",
        "nvidia-smi",
        "libnvoptix_loader.so.1",
    ] {
        tree.file(&format!("usr/lib/wsl/lib/{name}"), "");
    }
    tree.file(
        "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0/libcuda.so.1.1",
        "",
    );
    tree
}

#[test]
fn windows_libraries_come_with_their_store() {
    let tree = wsl();
    let lines = tree.asked("all").expect("edits");
    assert_eq!(of(&lines, "node"), ["/dev/dxg 10:63 666 rw"]);
    assert_eq!(
        bound_into(&lines, &native()),
        [
            "libcuda.so",
            "libcuda.so.1.1",
            "libdxcore.so",
            "libnvidia-ml.so.1"
        ]
    );
    assert_eq!(bound_into(&lines, "/usr/bin"), ["nvidia-smi"]);
    assert!(lines.contains(&"bind /usr/lib/wsl/drivers /usr/lib/wsl/drivers".into()));
    assert_eq!(
        of(&lines, "link"),
        [format!("{}/libcuda.so.1 libcuda.so.1.1", native())]
    );
    let lines = tree.asked("1,capabilities=graphics,video").expect("edits");
    assert_eq!(
        bound_into(&lines, &native()),
        [
            "libd3d12.so",
            "libdxcore.so",
            "libnvidia-encode.so.1",
            "libnvoptix_loader.so.1"
        ]
    );
    assert!(
        tree.refused("device=1")
            .starts_with("no GPU \"1\": there are \"0\", \"dxg\"")
    );
}

#[test]
fn without_a_gpu_that_is_said() {
    let tree = Tree::new();
    assert_eq!(
        tree.refused("all"),
        "there is no GPU of NVIDIA, AMD or Intel, or its driver is not loaded"
    );
    assert!(
        tree.refused("all,driver=nvidia")
            .starts_with("NVIDIA's driver is not loaded")
    );
    assert_eq!(
        tree.refused("all,driver=amd"),
        "there is no GPU for the driver \"amd\""
    );
    assert!(teu_gpu::gpus(&tree.roots()).expect("none").is_empty());
    assert_eq!(teu_gpu::problems(&tree.roots()), [""; 0]);
    let broken = Tree::new();
    broken.file("proc/driver/nvidia/version", "no numbers here\n");
    let reason = broken.refused("all");
    assert!(reason.ends_with("no version in it"), "{reason}");
    assert_eq!(teu_gpu::problems(&broken.roots()), [reason]);
}

// Others.

#[test]
fn nvidias_nodes_for_graphics_are_had_with_the_capability() {
    let tree = Tree::with_two_gpus();
    tree.card(
        "0000:0a:00.0",
        Some(("0x10de", "0x2330")),
        &[("card1", 1), ("renderD128", 128)],
    );
    let lines = tree.asked("device=1,capabilities=graphics").expect("edits");
    assert_eq!(
        of(&lines, "node /dev/dri/"),
        ["card1 226:1 600 rw", "renderD128 226:128 600 rw"]
    );
    assert_eq!(
        of(&lines, "link /dev/dri/by-path/"),
        [
            "pci-0000:0a:00.0-card ../card1",
            "pci-0000:0a:00.0-render ../renderD128"
        ]
    );
    for words in ["device=0,capabilities=graphics", "device=1"] {
        let lines = tree.asked(words).expect(words);
        assert_eq!(of(&lines, "node /dev/dri/"), [""; 0], "{words}");
    }
    let driver = "sys/devices/pci0/0000:0a:00.0/driver";
    for (name, count) in [("nvidia", 2), ("nouveau", 3)] {
        tree.link(driver, &format!("../../../bus/pci/drivers/{name}"));
        let gpus = teu_gpu::gpus(&tree.roots()).expect("GPUs");
        assert_eq!(gpus.len(), count, "with {name}");
        std::fs::remove_file(tree.path(driver)).expect("remove");
    }
}

/// Two GPUs of AMD's that compute, of which the second on the bus is the first to
/// compute, and a third that only draws; one of Intel's, and a server's console.
fn mixed() -> Tree {
    let tree = Tree::new();
    let amd = Some(("0x1002", "0x74a1"));
    tree.card("0000:03:00.0", amd, &[("card1", 1), ("renderD128", 128)]);
    tree.card("0000:23:00.0", amd, &[("card2", 2), ("renderD129", 129)]);
    tree.card("0000:43:00.0", amd, &[("card3", 3), ("renderD130", 130)]);
    tree.card(
        "0000:00:02.0",
        Some(("0x8086", "0xa7a0")),
        &[("card0", 0), ("renderD131", 131)],
    );
    tree.card("0000:02:00.0", Some(("0x1a03", "0x2000")), &[("card4", 4)]);
    tree.file("sys/class/drm/card1-DP-1/status", "connected\n");
    tree.file("sys/class/drm/version", "drm 1.1.0\n");
    tree.file("sys/class/kfd/kfd/dev", "234:0\n");
    let nodes = "sys/class/kfd/kfd/topology/nodes";
    tree.file(
        &format!("{nodes}/0/properties"),
        "cpu_cores_count 64\ndrm_render_minor 0\n",
    );
    for (number, minor, id) in [(1, 129, "2594073385365405696"), (2, 128, "0")] {
        let text = format!("simd_count 1216\nunique_id {id}\ndrm_render_minor {minor}\n");
        tree.file(&format!("{nodes}/{number}/properties"), &text);
    }
    tree
}

#[test]
fn amds_compute_by_one_node_and_their_own() {
    let tree = mixed();
    let kfd = "/dev/kfd 234:0 600 rw";
    let first = [
        "/dev/dri/card2 226:2 600 rw",
        "/dev/dri/renderD129 226:129 600 rw",
    ];
    let id = 2_594_073_385_365_405_696_u64;
    for words in [
        "1",
        "device=0",
        &*format!("{id:#x}"),
        &*format!("GPU-{id:016x}"),
        "0000:23:00.0",
    ] {
        let lines = tree.asked(words).expect(words);
        assert_eq!(of(&lines, "node"), [&[kfd], &first[..]].concat(), "{words}");
        assert_eq!(of(&lines, "bind"), [""; 0]);
    }
    let all = tree.asked("all").expect("all of AMD's");
    assert_eq!(of(&all, "node").len(), 1 + 2 * 3);
    let last = tree.asked("device=2").expect("the one that draws");
    assert!(last.contains(&"node /dev/dri/renderD130 226:130 600 rw".into()));
}

#[test]
fn intels_and_any_other_have_nodes_in_dri() {
    let tree = mixed();
    let intel = [
        "/dev/dri/card0 226:0 600 rw",
        "/dev/dri/renderD131 226:131 600 rw",
    ];
    for words in [
        "all",
        "device=0",
        "device=0000:00:02.0",
        "device=0000-00-02-0-0xa7a0",
    ] {
        let lines = tree.asked(&format!("{words},driver=intel")).expect(words);
        assert_eq!(of(&lines, "node"), intel, "{words}");
    }
    let other = tree.asked("all,driver=drm").expect("the console");
    assert_eq!(of(&other, "node"), ["/dev/dri/card4 226:4 600 rw"]);
    let gpus = teu_gpu::gpus(&tree.roots()).expect("GPUs");
    let vendors: Vec<_> = gpus.iter().map(|gpu| gpu.vendor.word()).collect();
    assert_eq!(vendors, ["amd", "amd", "amd", "intel", "drm"]);
}

#[test]
fn a_node_in_dri_is_the_hosts_with_its_group() {
    let tree = mixed();
    if !tree.node("dev/dri/renderD131", FileType::CharacterDevice, (226, 131)) {
        return;
    }
    let group = Some(rustix::process::Gid::from_raw(109));
    rustix::fs::chown(tree.path("dev/dri/renderD131"), None, group).expect("chown");
    let lines = tree.asked("all,driver=intel").expect("edits");
    assert!(
        lines.contains(&"node /dev/dri/renderD131 226:131 660 rw".into()),
        "{lines:?}"
    );
    assert_eq!(of(&lines, "gid"), ["109"]);
}

// CDI files.

fn generated(tree: &Tree, capabilities: Capabilities) -> Vec<File> {
    let files = teu_gpu::generate(&tree.roots(), capabilities, &LibraryDirs::debian());
    let files = files.expect("files");
    // What was written is what is read.
    for file in &files {
        let text = serde_yaml_ng::to_string(file).expect("YAML");
        assert_eq!(
            &File::parse(&text).expect("what was written"),
            file,
            "{text}"
        );
    }
    files
}

#[test]
fn a_file_has_a_device_for_each_name() {
    let tree = Tree::with_two_gpus();
    tree.instance(1, (2, 0), (21, 22));
    let files = generated(&tree, Capabilities::default());
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    assert_eq!(
        (&*file.kind, &*file.cdi_version),
        ("nvidia.com/gpu", "0.5.0")
    );
    let devices: Vec<_> = file.devices.iter().map(|device| &*device.name).collect();
    assert_eq!(
        devices,
        [
            "0",
            UUIDS[0],
            "0000:06:00.0",
            "1",
            UUIDS[1],
            "0000:0a:00.0",
            "1:0",
            "all"
        ]
    );
    let nodes = |at: usize| -> Vec<&str> {
        let nodes = file.devices[at].container_edits.device_nodes.iter();
        nodes.map(|node| &*node.path).collect()
    };
    let caps = [
        "/dev/nvidia-caps/nvidia-cap21",
        "/dev/nvidia-caps/nvidia-cap22",
    ];
    assert_eq!(nodes(0), ["/dev/nvidia0"]);
    assert_eq!(nodes(3), [&["/dev/nvidia1"], &caps[..]].concat());
    assert_eq!(
        nodes(7),
        [&["/dev/nvidia0", "/dev/nvidia1"], &caps[..]].concat()
    );
    let common = &file.container_edits;
    assert_eq!(common.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    assert_eq!(common.device_nodes.len(), 3);
    // The host has none of these nodes, so the file says which they are.
    let uvm = &common.device_nodes[1];
    assert_eq!(
        (&*uvm.kind, uvm.major, uvm.minor, &*uvm.permissions),
        ("c", 510, 0, "rw")
    );
    // Without links, each library is bound under each of its names.
    let names: BTreeSet<_> = common
        .mounts
        .iter()
        .map(|mount| &*mount.container_path)
        .collect();
    let expected =
        ["", ".1", &format!(".{VERSION}")].map(|end| format!("{}/libcuda.so{end}", native()));
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    let sources: BTreeSet<_> = common.mounts.iter().map(|mount| &mount.host_path).collect();
    assert_eq!(sources.len(), 1);
    assert!(common.hooks.is_empty());
}

#[test]
fn a_node_of_the_host_is_named_without_its_number() {
    let tree = Tree::with_two_gpus();
    if !tree.node("dev/nvidia0", FileType::CharacterDevice, (195, 0)) {
        return;
    }
    let files = generated(&tree, Capabilities::default());
    let node = &files[0].devices[0].container_edits.device_nodes[0];
    assert_eq!((&*node.kind, node.major), ("", 0));
    assert_eq!(Path::new(&node.host_path), tree.path("dev/nvidia0"));
}

#[test]
fn every_vendor_has_a_file() {
    let files = generated(&mixed(), Capabilities::default());
    let kinds: Vec<_> = files.iter().map(|file| &*file.kind).collect();
    assert_eq!(kinds, ["amd.com/gpu", "intel.com/gpu", "drm/gpu"]);
    let all = files[0].devices.last().expect("all");
    assert_eq!(all.container_edits.device_nodes.len(), 6);
    assert_eq!(files[0].container_edits.device_nodes[0].path, "/dev/kfd");
    for tree in [debian(), fedora(), ubuntu(), h100(), wsl()] {
        let files = generated(&tree, Capabilities::all());
        assert!(files[0].container_edits.mounts.len() > 3);
    }
    for tree in [Tree::new(), Tree::with_module(VERSION)] {
        assert!(generated(&tree, Capabilities::all()).is_empty());
    }
}
