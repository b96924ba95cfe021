//! The root filesystem: mounts with their options, devices, masked paths.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use nix::mount::MsFlags;
use serde_json::{Value, json};

use crate::harness::*;

tests![
    directory_is_bound,
    file_is_bound,
    bind_options_restrict,
    readonly_bind_can_be_recursive,
    plain_bind_leaves_submounts_out,
    missing_destination_is_made,
    relative_destination_is_below_the_root,
    mounts_come_in_order,
    tmpfs_takes_its_options,
    tmpfs_keeps_the_mode_of_its_place,
    tmpfs_copies_up,
    holes_of_files_are_copied_up_as_holes,
    a_long_option_costs_no_other,
    overlay_of_many_layers_is_whole,
    options_that_no_call_takes_are_refused,
    propagation_is_set,
    mount_stays_in_the_container,
    shared_source_propagates_into_a_slave,
    idmapped_mount_shifts_owners,
    source_closed_to_the_container_root_is_mounted,
    source_of_a_user_namespace_keeps_its_locked_flags,
    symlink_does_not_lead_out_of_the_root,
    proc_is_mounted_on_a_directory_only,
    nothing_is_mounted_inside_proc,
    missing_source_is_named,
    readonly_root_refuses_writes,
    default_devices_are_there,
    null_streams_are_the_containers,
    devices_are_made,
    device_links_are_there,
    masked_paths_are_hidden,
    readonly_paths_refuse_writes,
    cgroup_mount_shows_the_own_cgroup,
    cgroup2_mount_shows_the_own_cgroup,
    filesystem_of_type_cgroup2_is_of_the_cgroup_namespace,
    cgroup_mount_has_its_flags,
    root_is_private_by_default,
    root_propagation_is_set,
    missing_rootfs_is_refused,
];

/// Makes a directory beside the bundle, with a file called `name`.
fn source(name: &str) -> PathBuf {
    let directory = scratch().join(format!("source-{name}"));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), name).unwrap();
    directory
}

fn bind(source: impl Into<PathBuf>, destination: &str, options: &[&str]) -> Value {
    let source: PathBuf = source.into();
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

/// The last mount on `target` in a report.
fn mount_on<'a>(report: &'a Value, target: &str) -> &'a Value {
    let mounts = report["mounts"].as_array().unwrap();
    let found = mounts.iter().rfind(|mount| mount["target"] == target);
    found.unwrap_or_else(|| panic!("nothing is mounted on {target}: {mounts:#?}"))
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().unwrap().contains(&json!(word))
}

fn ok(value: Value) -> Value {
    json!({ "ok": value })
}

fn errno(name: &str) -> Value {
    json!({ "errno": name })
}

fn directory_is_bound() {
    needs(&[Root]);
    let bundle = Bundle::new().mount(bind(source("here"), "/mnt", &["bind"]));
    let output = bundle.probe("list /mnt; write /mnt/new text").run().ok();
    assert_eq!(output.answers(), [ok(json!(["here"])), ok(json!(true))]);
    assert_eq!(
        fs::read_to_string(source("here").join("new")).unwrap(),
        "text"
    );
}

fn file_is_bound() {
    needs(&[Root]);
    let file = source("file").join("file");
    let bundle = Bundle::new().mount(bind(file, "/etc/deep/file", &["bind", "ro"]));
    let output = bundle
        .probe("read /etc/deep/file; open /etc/deep/file w")
        .run()
        .exits(1);
    assert_eq!(output.answers(), [ok(json!("file")), errno("EROFS")]);
}

fn bind_options_restrict() {
    needs(&[Root]);
    let options = ["bind", "ro", "nosuid", "nodev", "noexec", "noatime"];
    let seen = Bundle::new()
        .mount(bind(source("x"), "/mnt", &options))
        .run()
        .probe();
    let mount = mount_on(&seen, "/mnt");
    for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(has(&mount["options"], option), "{option} is not in {mount}");
    }
}

/// A directory with a tmpfs mounted in it, in the mount namespace of the test.
fn nested(name: &str) -> (PathBuf, Mounted) {
    let directory = source(name);
    let below = Mounted::new("tmpfs", directory.join("below"), "");
    (directory, below)
}

fn readonly_bind_can_be_recursive() {
    needs(&[Root, Kernel(5, 12)]);
    let (directory, _below) = nested("nested");
    let write = "write /mnt/below/file text";
    let plain = Bundle::new().mount(bind(&directory, "/mnt", &["rbind", "ro"]));
    assert_eq!(plain.probe(write).run().answer(), true);
    let recursive = Bundle::new().mount(bind(&directory, "/mnt", &["rbind", "rro"]));
    assert_eq!(recursive.probe(write).run().answer(), "EROFS");
}

fn plain_bind_leaves_submounts_out() {
    needs(&[Root]);
    let (directory, _below) = nested("nested");
    let seen = Bundle::new()
        .mount(bind(&directory, "/mnt", &["bind"]))
        .run()
        .probe();
    let mounts = seen["mounts"].as_array().unwrap();
    assert!(!mounts.iter().any(|mount| mount["target"] == "/mnt/below"));
    let seen = Bundle::new()
        .mount(bind(&directory, "/mnt", &["rbind"]))
        .run()
        .probe();
    mount_on(&seen, "/mnt/below");
}

fn missing_destination_is_made() {
    needs(&[Root]);
    let bundle = Bundle::new().mount(tmpfs("/not/yet/there", &[]));
    let output = bundle
        .probe("stat /not/yet; stat /not/yet/there")
        .run()
        .ok();
    assert_eq!(output.answers()[0]["ok"]["mode"], "0755");
    assert_eq!(output.answers()[1]["ok"]["type"], "directory");
}

fn relative_destination_is_below_the_root() {
    needs(&[Root]);
    let seen = Bundle::new().mount(tmpfs("mnt", &[])).run().probe();
    assert_eq!(mount_on(&seen, "/mnt")["type"], "tmpfs");
}

fn mounts_come_in_order() {
    needs(&[Root]);
    let bundle = Bundle::new().mount(bind(source("first"), "/mnt", &["bind"]));
    let bundle = bundle.mount(bind(source("second"), "/mnt", &["bind"]));
    assert_eq!(bundle.probe("list /mnt").run().answer(), json!(["second"]));
}

fn tmpfs_takes_its_options() {
    needs(&[Root]);
    let options = ["size=1m", "mode=0711", "nosuid", "noexec", "uid=12"];
    let seen = Bundle::new().mount(tmpfs("/mnt", &options)).run().probe();
    let mount = mount_on(&seen, "/mnt");
    assert!(has(&mount["super_options"], "size=1024k"), "{mount}");
    assert!(has(&mount["super_options"], "mode=711"), "{mount}");
    assert!(has(&mount["super_options"], "uid=12"), "{mount}");
    assert!(has(&mount["options"], "noexec"), "{mount}");
}

fn tmpfs_keeps_the_mode_of_its_place() {
    needs(&[Root]);
    let bundle = Bundle::new().mount(tmpfs("/tmp", &[]));
    assert_eq!(bundle.probe("stat /tmp").run().answer()["mode"], "1777");
}

fn tmpfs_copies_up() {
    needs(&[Root]);
    let bundle = Bundle::new().file("/etc/deep/file", "text");
    let bundle = bundle.mount(tmpfs("/etc", &["tmpcopyup"]));
    let rootfs = bundle.rootfs();
    let output = bundle
        .probe("read /etc/deep/file; write /etc/deep/file other")
        .run()
        .ok();
    assert_eq!(output.answers(), [ok(json!("text")), ok(json!(true))]);
    assert_eq!(
        fs::read_to_string(rootfs.join("etc/deep/file")).unwrap(),
        "text"
    );
}

fn holes_of_files_are_copied_up_as_holes() {
    needs(&[Root]);
    let bundle = Bundle::new().file("/etc/begun", "text");
    for name in ["begun", "empty"] {
        let file = fs::File::options()
            .create(true)
            .append(true)
            .open(bundle.rootfs().join("etc").join(name));
        file.unwrap().set_len(50 << 20).unwrap();
    }
    // There is room only for a file's data, not for its holes.
    let bundle = bundle.mount(tmpfs("/etc", &["tmpcopyup", "size=64k"]));
    let output = bundle.probe("stat /etc/begun; stat /etc/empty").run().ok();
    for answer in output.answers() {
        assert_eq!(answer["ok"]["size"], 50 << 20);
    }
}

fn a_long_option_costs_no_other() {
    needs(&[Root]);
    let size = format!("size={}1m", "0".repeat(300));
    let bundle = Bundle::new()
        .file("/etc/deep/file", "text")
        .mount(tmpfs("/etc", &["tmpcopyup", &size]))
        .mount(tmpfs("/tmp", &[&size]));
    let output = bundle
        .probe("read /etc/deep/file; stat /tmp; read /proc/self/mountinfo")
        .run()
        .ok();
    let answers = output.answers();
    assert_eq!(answers[0], ok(json!("text")));
    assert_eq!(answers[1]["ok"]["mode"], "1777");
    let table = answers[2]["ok"].as_str().unwrap();
    for target in [" /etc ", " /tmp "] {
        let there = table.lines().filter(|line| line.contains(target));
        let there: Vec<&str> = there.collect();
        assert_eq!(there.len(), 1, "{table}");
        assert!(there[0].contains("size=1024k"), "{table}");
    }
}

/// Makes directories with a file each, whose joined names are longer than a page.
fn many_layers() -> Vec<String> {
    let layers = (0..40).map(|number| {
        let name = format!("{}-layer-{number}", "x".repeat(100));
        let layer = scratch().join(name);
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("file-{number}")), "").unwrap();
        layer.to_str().unwrap().to_owned()
    });
    layers.collect()
}

fn overlay_of_many_layers_is_whole() {
    needs(&[Root, Overlayfs, Kernel(6, 7), Teu]);
    let layers = many_layers();
    let top = scratch().join("top");
    // An upper directory may not be on an overlay, as /tmp may be.
    let _top = Mounted::new("tmpfs", &top, "");
    let [upper, work] = ["upper", "work"].map(|name| top.join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let options = [
        format!("lowerdir={}", layers.join(":")),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let overlay = json!({ "destination": "/mnt", "type": "overlay", "source": "overlay", "options": options });
    let output = Bundle::new()
        .mount(overlay)
        .probe("list /mnt; write /mnt/new text")
        .run()
        .ok();
    let answers = output.answers();
    assert_eq!(answers[0]["ok"].as_array().unwrap().len(), layers.len());
    assert_eq!(answers[1], ok(json!(true)));
    assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "text");
}

fn options_that_no_call_takes_are_refused() {
    needs(&[Root, Teu]);
    // The last layer is data-only, for which there is no option here.
    let options = format!("lowerdir={}::/data", many_layers().join(":"));
    let overlay = json!({ "destination": "/mnt", "type": "overlay", "source": "overlay", "options": ["ro", options] });
    let refused = Bundle::new().mount(overlay).run().exits(1);
    let words = format!(
        "mounts[].options are {} bytes long, more than the 4095 of mount(2)",
        options.len()
    );
    assert!(refused.stderr.contains(&words), "{}", refused.stderr);
}

fn propagation_is_set() {
    needs(&[Root]);
    for (option, tag) in [
        ("private", None),
        ("shared", Some("shared:")),
        ("slave", Some("master:")),
    ] {
        let bundle = Bundle::new().mount(bind(source("x"), "/mnt", &["bind", option]));
        let seen = bundle.run().probe();
        let tags = mount_on(&seen, "/mnt")["propagation"].to_string();
        assert!(
            tag.map_or(tags == "[]", |tag| tags.contains(tag)),
            "{option}: {tags}"
        );
    }
}

fn mount_stays_in_the_container() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let bundle = Bundle::new()
        .capabilities(["CAP_SYS_ADMIN"])
        .mount(tmpfs("/mnt", &[]));
    let container = Container::running(bundle.probe("mount none /tmp tmpfs; trap TERM"));
    container.wait_for_output("ready");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("rootfs"), "{mounts}");
    drop(container);
    before.assert_unchanged();
}

fn shared_source_propagates_into_a_slave() {
    needs(&[Root]);
    let (directory, _below) = nested("shared");
    let bundle = Bundle::new().mount(bind(&directory, "/mnt", &["rbind", "rslave"]));
    let bundle = bundle.set("/linux/rootfsPropagation", "slave");
    let container = Container::running(bundle.probe("trap USR1; list /mnt/below/later"));
    container.wait_for_output("ready");
    let later = directory.join("below/later");
    let _later = Mounted::new("tmpfs", &later, "");
    fs::write(later.join("file"), "").unwrap();
    container.kill("USR1").ok();
    assert_eq!(container.wait(), 0);
    assert!(
        container.stdout().contains(r#"{"ok":["file"]}"#),
        "{}",
        container.stdout()
    );
}

fn idmapped_mount_shifts_owners() {
    needs(&[Root, Kernel(5, 12), Teu]);
    let directory = source("owned");
    let map = json!([{ "containerID": 0, "hostID": 5000, "size": 1000 }]);
    let mut mount = bind(&directory, "/mnt", &["bind"]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let answer = Bundle::new()
        .mount(mount)
        .probe("stat /mnt/owned")
        .run()
        .answer();
    assert_eq!(
        (&answer["uid"], &answer["gid"]),
        (&json!(5000), &json!(5000))
    );
}

fn source_closed_to_the_container_root_is_mounted() {
    needs(&[Root, UserNamespaces]);
    let directory = source("closed");
    let parent = scratch().join("closed-parent");
    fs::create_dir_all(&parent).unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(&directory, parent.join("closed")).unwrap();
    let mount = bind(parent.join("closed"), "/mnt", &["bind", "ro"]);
    let bundle = Bundle::new().user_namespace().mount(mount);
    let answer = bundle.probe("list /mnt").run().answer();
    assert_eq!(answer, json!(["closed"]));
}

fn source_of_a_user_namespace_keeps_its_locked_flags() {
    needs(&[Root, UserNamespaces]);
    let directory = scratch().join("locked");
    let _locked = Mounted::with_flags("tmpfs", &directory, MsFlags::MS_NODEV, "");
    let with = |option: &str| {
        let mount = bind(&directory, "/mnt", &["bind", option]);
        Bundle::new().user_namespace().mount(mount).run()
    };
    let seen = with("ro").probe();
    let options = &mount_on(&seen, "/mnt")["options"];
    assert!(has(options, "ro") && has(options, "nodev"), "{options}");
    let refused = with("dev").exits(1);
    let words = "cannot clear locked flags nodev: operation not permitted";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
}

fn symlink_does_not_lead_out_of_the_root() {
    needs(&[Root]);
    let outside = source("outside");
    let bundle = Bundle::new().mount(tmpfs("/link/made", &[]));
    symlink(&outside, bundle.rootfs().join("link")).unwrap();
    let output = bundle.run();
    assert!(
        !outside.join("made").exists(),
        "made a directory on the host: {output}"
    );
}

fn proc_is_mounted_on_a_directory_only() {
    needs(&[Root]);
    let bundle = Bundle::new();
    fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    symlink("/tmp", bundle.rootfs().join("proc")).unwrap();
    bundle
        .run()
        .exits(1)
        .says("must be mounted on ordinary directory");
}

fn nothing_is_mounted_inside_proc() {
    needs(&[Root]);
    let output = Bundle::new().mount(tmpfs("/proc/fs", &[])).run();
    output.exits(1).says("because it is inside /proc");
}

fn missing_source_is_named() {
    needs(&[Root]);
    let output = Bundle::new()
        .mount(bind("/no/such/source", "/mnt", &["bind"]))
        .run();
    output
        .exits(1)
        .says("/no/such/source")
        .says("no such file or directory");
}

fn readonly_root_refuses_writes() {
    needs(&[Root]);
    let bundle = Bundle::new().set("/root/readonly", true);
    let output = bundle
        .probe("write /file text; mkdir /dev/shm/x")
        .run()
        .ok();
    assert_eq!(output.answers(), [errno("EROFS"), ok(json!(true))]);
}

fn default_devices_are_there() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    let devices = seen["devices"].as_array().unwrap();
    let numbers = [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ]
    .map(|(n, m)| (n, 1, m));
    for (name, major, minor) in numbers.into_iter().chain([("tty", 5, 0)]) {
        let path = format!("/dev/{name}");
        let node = devices
            .iter()
            .find(|node| node["path"] == *path)
            .expect(&path);
        assert_eq!(
            (&node["major"], &node["minor"]),
            (&json!(major), &json!(minor)),
            "{path}"
        );
        assert_eq!(
            (&node["mode"], &node["type"]),
            (&json!("0666"), &json!("char")),
            "{path}"
        );
        if name != "tty" {
            assert_eq!(
                (&node["read"], &node["write"]),
                (&json!("ok"), &json!("ok")),
                "{path}"
            );
        }
    }
}

/// With the host's null device, a process could find the host's /dev through its streams.
fn null_streams_are_the_containers() {
    needs(&[Root]);
    let modes = "stat /dev/null; stat /proc/self/fd/0";
    let answers = Bundle::new().probe(modes).run().ok().answers();
    for number in ["dev", "ino"] {
        assert_eq!(answers[0]["ok"][number], answers[1]["ok"][number]);
    }
}

fn devices_are_made() {
    needs(&[Root]);
    let node = json!({
        "path": "/dev/deep/node", "type": "c", "major": 1, "minor": 5,
        "fileMode": 0o640, "uid": 3, "gid": 4,
    });
    let fifo = json!({ "path": "/dev/fifo", "type": "p", "fileMode": 0o600 });
    let bundle = Bundle::new().set("/linux/devices", json!([node, fifo]));
    let output = bundle
        .probe("stat /dev/deep/node; stat /dev/fifo")
        .run()
        .ok();
    let node = &output.answers()[0]["ok"];
    assert_eq!(
        (&node["type"], &node["mode"]),
        (&json!("char"), &json!("0640"))
    );
    assert_eq!((&node["major"], &node["minor"]), (&json!(1), &json!(5)));
    assert_eq!((&node["uid"], &node["gid"]), (&json!(3), &json!(4)));
    assert_eq!(output.answers()[1]["ok"]["type"], "fifo");
}

fn device_links_are_there() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    let links = [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ];
    for (path, target) in links {
        let devices = seen["devices"].as_array().unwrap();
        let node = devices
            .iter()
            .find(|node| node["path"] == path)
            .expect(path);
        assert_eq!(node["target"], target, "{path}");
    }
}

fn masked_paths_are_hidden() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .file("/etc/secret", "text")
        .file("/root/deep/secret", "text");
    let masked = json!(["/etc/secret", "/root/deep", "/not/there"]);
    let bundle = bundle.set("/linux/maskedPaths", masked);
    let output = bundle
        .probe("read /etc/secret; list /root/deep; write /root/deep/x y")
        .run();
    assert_eq!(
        output.answers(),
        [ok(json!("")), ok(json!([])), errno("EROFS")]
    );
}

fn readonly_paths_refuse_writes() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .push("/linux/readonlyPaths", "/etc")
        .file("/etc/file", "text");
    let modes = "open /proc/sys/kernel/core_pattern w; read /etc/file; open /etc/file w";
    let output = bundle.probe(modes).run().exits(1);
    assert_eq!(
        output.answers(),
        [errno("EROFS"), ok(json!("text")), errno("EROFS")]
    );
}

fn cgroup_mount_shows_the_own_cgroup() {
    needs(&[Root, CgroupV1, Controller("pids")]);
    for bundle in [Bundle::new(), Bundle::new().namespace("cgroup")] {
        let output = bundle
            .probe("read /sys/fs/cgroup/pids/cgroup.procs")
            .run()
            .ok();
        assert_eq!(output.answer(), "1\n");
    }
}

fn cgroup2_mount_shows_the_own_cgroup() {
    needs(&[Root, CgroupV2]);
    let own = Bundle::new()
        .namespace("cgroup")
        .probe("read /sys/fs/cgroup/cgroup.procs");
    assert_eq!(own.run().ok().answer(), "1\n");
    // Without a cgroup namespace, only the whole hierarchy can be mounted.
    let all = Bundle::new().probe("read /sys/fs/cgroup/cgroup.procs");
    let all = all.run().ok().answer().to_string();
    assert!(
        all.starts_with("\"0\\n") || all.contains("\\n1\\n"),
        "{all}"
    );
}

fn cgroup_mount_has_its_flags() {
    needs(&[Root, CgroupV1, Controller("pids")]);
    for bundle in [Bundle::new(), Bundle::new().namespace("cgroup")] {
        let seen = bundle.run().probe();
        let mounts = seen["mounts"].as_array().unwrap();
        let below = |mount: &&Value| {
            let target = mount["target"].as_str().unwrap();
            target.starts_with("/sys/fs/cgroup/")
        };
        let below: Vec<&Value> = mounts.iter().filter(below).collect();
        assert!(!below.is_empty(), "{mounts:#?}");
        for mount in below {
            let flags = ["ro", "nosuid", "nodev", "noexec"];
            let all = flags.iter().all(|flag| has(&mount["options"], flag));
            assert!(all, "{mount}");
        }
    }
}

/// In a cgroup namespace the mount shows the container's cgroup. A mount made before the
/// namespace is entered would show the whole hierarchy, which the container could freeze and
/// kill, and would change the options of the host's mount.
fn filesystem_of_type_cgroup2_is_of_the_cgroup_namespace() {
    // If the hierarchy is not in use, all processes are in its root.
    needs(&[Root, UnifiedHierarchy, UserNamespaces]);
    let mount = json!({
        "destination": "/mnt", "type": "cgroup2", "source": "cgroup2", "options": ["rw"],
    });
    let before = HostSnapshot::take();
    for bundle in [Bundle::new(), Bundle::new().user_namespace()] {
        // No other mount makes init enter the namespace earlier.
        let bundle = bundle.without_mount("/sys/fs/cgroup").namespace("cgroup");
        let container = Container::new(bundle.mount(mount.clone()).probe("read /mnt/cgroup.procs"));
        assert_eq!(
            container.run().ok().answer(),
            "1\n",
            "more than its own cgroup"
        );
    }
    before.assert_unchanged();
}

/// Later mounts of the host in the root filesystem do not appear in the container.
fn root_is_private_by_default() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    assert_eq!(mount_on(&seen, "/")["propagation"], json!([]));
    let container = Container::running(Bundle::new().probe("trap USR1; list /mnt"));
    container.wait_for_output("ready");
    let later = Mounted::new("tmpfs", container.bundle.rootfs().join("mnt"), "");
    fs::write(container.bundle.rootfs().join("mnt/file"), "").unwrap();
    container.kill("USR1").ok();
    assert_eq!(container.wait(), 0);
    container.wait_for_output(r#"{"ok":[]}"#);
    drop(later);
}

fn root_propagation_is_set() {
    needs(&[Root]);
    let seen = Bundle::new()
        .set("/linux/rootfsPropagation", "shared")
        .run()
        .probe();
    assert!(
        mount_on(&seen, "/")["propagation"]
            .to_string()
            .contains("shared")
    );
}

fn missing_rootfs_is_refused() {
    needs(&[Root]);
    let output = Bundle::new().set("/root/path", "elsewhere").run();
    output.exits(1).says("elsewhere");
}
