//! Attacks: each test is a container that tries to escape or to gain privileges.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::mount::MsFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::fs::{RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::harness::*;

tests![
    masked_path_behind_a_symlink_stays_inside,
    readonly_path_behind_a_symlink_stays_inside,
    mountpoints_that_change_places_stay_masked,
    device_behind_a_symlink_stays_inside,
    bind_destination_does_not_climb_out,
    image_cannot_replace_what_is_mounted_over_proc,
    runtime_cannot_be_overwritten,
    init_runs_from_a_sealed_view,
    sealed_copy_is_executed_where_the_kernel_wants_that,
    view_of_another_file_is_not_used,
    overlay_that_can_be_written_to_is_no_sealed_view,
    restore_runs_from_a_sealed_copy,
    exec_asks_by_no_file_of_the_container,
    log_follows_no_link_of_others,
    init_reads_no_time_zone_of_the_container,
    a_user_namespace_trusts_nobodys_directory,
    capability_is_not_kept_for_want_of_an_answer,
    ambient_capability_is_not_kept_for_want_of_an_answer,
    nobody_looks_into_an_init_that_waits,
    start_container_hooks_cannot_look_into_init,
    parent_processes_are_out_of_sight,
    descriptor_of_the_runtime_is_not_inherited,
];

/// Makes a link in the image to a directory that exists on the host and in the container.
/// Returns the directory.
fn link_to_a_place_of_the_host(bundle: &Bundle) -> PathBuf {
    let outside = scratch().join("outside");
    let inside = bundle.rootfs().join(outside.strip_prefix("/").unwrap());
    for directory in [&outside, &inside] {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("file"), "text").unwrap();
    }
    symlink(&outside, bundle.rootfs().join("mnt/link")).unwrap();
    outside
}

/// The container's mount points below this directory.
fn mountpoints_below(container: &Container, directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(PathBuf::from);
    points
        .filter(|point| point.starts_with(directory))
        .collect()
}

/// The target of the link in the container is masked; not the host's, and not nothing.
fn masked_path_behind_a_symlink_stays_inside() {
    needs(&[Root]);
    let bundle = Bundle::new().push("/linux/maskedPaths", "/mnt/link/file");
    let place = link_to_a_place_of_the_host(&bundle);
    let file = place.join("file");
    let text = |path: &str| format!("read {path}");
    let modes = [text("/mnt/link/file"), text(&file.display().to_string())];
    let container = Container::created(bundle.probe(&format!("{};sleep", modes.join(";"))));
    assert_eq!(mountpoints_below(&container, &place), [&*file]);
    container.start().ok();
    let masked = json!({ "ok": "" }).to_string();
    wait_until("it has read", || container.stdout().lines().count() == 2);
    assert!(container.stdout().lines().all(|line| line == masked));
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

/// Read-only paths behind links, as with masked paths.
fn readonly_path_behind_a_symlink_stays_inside() {
    needs(&[Root]);
    let bundle = Bundle::new().push("/linux/readonlyPaths", "/mnt/link");
    let place = link_to_a_place_of_the_host(&bundle);
    let container = Container::created(bundle.probe("write /mnt/link/file x;sleep"));
    assert_eq!(mountpoints_below(&container, &place), [&*place]);
    container.start().ok();
    container.wait_for_output("EROFS");
    fs::write(place.join("file"), "text").expect("the directory is as writable as before");
}

/// An attacker who can write to the root filesystem exchanges the directories /proc and /sys with
/// others while containers start. The mounts may end up under either name, but never unmasked.
fn mountpoints_that_change_places_stay_masked() {
    needs(&[Root, Seconds(300)]);
    let rounds = rounds(200);
    let bundle = Bundle::new().set("/linux/maskedPaths", json!(["/proc/keys", "/sys/devices"]));
    let modes = ["proc", "proc2"].map(|proc| {
        format!(
            "stat /{proc}/keys; open /{proc}/sysrq-trigger w; \
             open /{proc}/sys/kernel/core_pattern w"
        )
    });
    let modes = format!(
        "{}; list /sys/devices; list /sys2/devices",
        modes.join("; ")
    );
    let rootfs = File::open(bundle.rootfs()).unwrap();
    for name in ["proc2", "sys2"] {
        fs::create_dir(bundle.rootfs().join(name)).unwrap();
    }
    let container = Container::new(bundle.probe(&modes));
    let exchange = |name: &str| {
        let (other, flags) = (format!("{name}2"), RenameFlags::EXCHANGE);
        renameat_with(&rootfs, name, &rootfs, other.as_str(), flags).unwrap();
    };
    let done = AtomicBool::new(false);
    let (mut started, mut exchanged, mut unmasked) = (0, 0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                exchange("proc");
                exchange("sys");
            }
        });
        let _done = SetAtTheEnd(&done);
        for _ in 0..rounds {
            let output = container.run();
            started += u32::from(!output.stdout.is_empty());
            let answers = output.answers();
            // The first answer about /proc2 tells whether it has a procfs.
            let of_proc2 = answers.get(3);
            exchanged += u64::from(of_proc2.is_some_and(|answer| answer["ok"].is_object()));
            unmasked.extend(answers.into_iter().find(is_unmasked));
        }
    });
    let count = unmasked.len();
    assert!(
        count == 0,
        "{count} of {started} are unmasked: {unmasked:#?}"
    );
    assert!(started > rounds / 2, "only {started} of {rounds} started");
    assert!(exchanged > 0, "no exchange met one of {started} containers");
}

/// Whether an answer in [`mountpoints_that_change_places_stay_masked`] shows a file behind a mask,
/// or a file that could be opened for writing.
fn is_unmasked(answer: &Value) -> bool {
    match &answer["ok"] {
        Value::Null => false,
        Value::Array(names) => !names.is_empty(),
        answer => answer["type"] != "char",
    }
}

fn device_behind_a_symlink_stays_inside() {
    needs(&[Root]);
    let outside = scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    let node = json!({ "path": "/mnt/link/node", "type": "c", "major": 1, "minor": 3 });
    let bundle = Bundle::new().set("/linux/devices", json!([node]));
    symlink(&outside, bundle.rootfs().join("mnt/link")).unwrap();
    let output = bundle.run();
    assert!(
        !outside.join("node").exists(),
        "made a node on the host: {output}"
    );
}

fn bind_destination_does_not_climb_out() {
    needs(&[Root]);
    let source = scratch().join("source");
    fs::create_dir(&source).unwrap();
    for destination in ["/../../../../../../climbed", "/mnt/up/climbed"] {
        let bundle = Bundle::new().mount(json!({
            "destination": destination, "type": "bind", "source": source, "options": ["bind"],
        }));
        symlink("../../../../../../..", bundle.rootfs().join("mnt/up")).unwrap();
        let directory = bundle.directory.clone();
        let output = bundle.run();
        assert!(!std::path::Path::new("/climbed").exists(), "{output}");
        assert!(!directory.join("climbed").exists(), "{output}");
    }
}

/// CVE-2019-16884 and CVE-2021-30465: in the image, /proc is not a directory.
fn image_cannot_replace_what_is_mounted_over_proc() {
    needs(&[Root]);
    let bundle = Bundle::new();
    let proc = bundle.rootfs().join("proc");
    fs::remove_dir(&proc).unwrap();
    fs::create_dir(bundle.rootfs().join("fake")).unwrap();
    symlink("fake", &proc).unwrap();
    bundle.run().exits(1);
}

/// CVE-2019-5736: a process of the container keeps the runtime's executable open, and writes to it
/// when no process runs it any more.
fn runtime_cannot_be_overwritten() {
    needs(&[Root]);
    // A copy, because an executable that another process runs cannot be written to anyway.
    let copy = scratch().join("teu");
    fs::copy(runtime(), &copy).unwrap();
    let kept = |pid: i32| File::open(format!("/proc/{pid}/exe")).unwrap();
    let container = Container::new(Bundle::new().probe("sleep"));
    let call = |verb, flags: &[&str]| container.command(verb, flags).with_program([&copy]);
    container.detach(call("create", &[])).ok();
    let of_create = kept(container.pid());
    container.start().ok();
    let exec = call("exec", &[]).args(["/probe", "sleep"]).spawn();
    wait_until("the process runs", || runs_the_probe(&exec));
    let of_exec = kept(exec.pid);
    container.delete_force().ok();
    exec.wait();

    let run = call("run", &[]).spawn();
    wait_until("the container runs", || runs_the_probe(&run));
    let of_run = kept(run.pid);
    container.kill("KILL").ok();
    run.wait();

    for (verb, kept) in [("create", of_create), ("exec", of_exec), ("run", of_run)] {
        let again = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let file = File::options().write(true).open(again);
        let written = file.and_then(|file| file.write_at(b"#!/evil", 0));
        assert!(written.is_err(), "wrote to what {verb} runs from");
    }
    assert!(
        fs::read(&copy).unwrap() == fs::read(runtime()).unwrap(),
        "the runtime was overwritten"
    );
}

/// Whether the process that the runtime started has executed the container's program.
fn runs_the_probe(running: &Running) -> bool {
    let is_probe =
        |pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("probe"));
    running.children().into_iter().any(is_probe)
}

/// CVE-2019-5736: /proc/PID/exe of a process of teu that the container can see does not lead to
/// the runtime's file. In all other respects the process is as if it had executed that file.
fn init_runs_from_a_sealed_view() {
    needs(&[Root, Overlayfs]);
    for environment in [&[][..], &["A=1", "B=two"]] {
        let container = created_with(environment, runtime());
        assert_is_sealed(&container, environment);
    }
}

/// The link to the executable, for a sealed copy.
const SEALED_COPY: &str = "/memfd:teu:sealed (deleted)";

/// Overlayfs takes a directory with a colon in its name for two.
fn sealed_copy_is_executed_where_the_kernel_wants_that() {
    needs(&[Root]);
    let directory = scratch().join("not:one");
    fs::create_dir(&directory).unwrap();
    let copy = directory.join("teu");
    fs::copy(runtime(), &copy).unwrap();
    let container = created_with(&["A=1"], copy);
    let init = container.pid();
    let exe = fs::read_link(format!("/proc/{init}/exe")).unwrap();
    assert_eq!(exe, Path::new(SEALED_COPY));
    assert_environment_was(init, &["A=1"]);
}

/// A writable overlay must not pass for a sealed view, even if it is executed by descriptor.
fn overlay_that_can_be_written_to_is_no_sealed_view() {
    needs(&[Root, Overlayfs]);
    let [lower, top, view] = ["lower", "top", "view"].map(|name| scratch().join(name));
    fs::create_dir(&lower).unwrap();
    // An upper directory may not be on an overlay, as /tmp may be.
    let _top = Mounted::new("tmpfs", &top, "");
    let [upper, work] = ["upper", "work"].map(|name| top.join(name));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    fs::copy(runtime(), lower.join("teu")).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let _view = Mounted::with_flags("overlay", &view, MsFlags::MS_RDONLY, &options);
    let container = Container::new(Bundle::new());
    let call = container
        .command("create", NO_FLAGS)
        .with_program(["/dev/fd/9"])
        .after_shell(&format!("exec 9<{}/teu", view.display()));
    container.detach(call).ok();
    let exe = fs::read_link(format!("/proc/{}/exe", container.pid())).unwrap();
    assert_eq!(exe, Path::new(SEALED_COPY));
}

fn restore_runs_from_a_sealed_copy() {
    needs(&[Root, Teu]);
    let [place, programs, images, seen] =
        ["runtime", "programs", "images", "seen"].map(|name| scratch().join(name));
    fs::create_dir(&programs).unwrap();
    fs::create_dir(&images).unwrap();
    fs::write(images.join("descriptors.json"), r#"["", "", ""]"#).unwrap();
    let criu = programs.join("criu");
    let script = format!("#!/bin/sh\nreadlink /proc/$PPID/exe >{}\n", seen.display());
    fs::write(&criu, script).unwrap();
    fs::set_permissions(&criu, Permissions::from_mode(0o755)).unwrap();
    // A sealed view cannot be made of a bind mount.
    fs::write(&place, "").unwrap();
    let _runtime = Mounted::bind(&runtime(), &place);
    let container = Container::new(Bundle::new());
    let call = container.command("restore", ["--image-path"]);
    let call = call.arg_before_last(&images).arg("--bundle");
    let call = call.arg(&container.bundle.directory);
    let path = format!("{}:/bin:/usr/bin", programs.display());
    call.with_program([&place])
        .env("PATH", path)
        .output()
        .exits(1);
    let exe = fs::read_to_string(&seen).unwrap();
    assert_eq!(exe.trim_end(), SEALED_COPY);
}

/// The middle process of exec asks the kernel whether a file could be executed, while it is still
/// outside of the container's pid namespace and filter. A container that replaces /dev/null by a
/// directory with a program must not choose the file that is asked about.
fn exec_asks_by_no_file_of_the_container() {
    needs(&[Root]);
    let limit = json!([{ "type": "RLIMIT_NPROC", "hard": 4096, "soft": 4096 }]);
    let bundle = Bundle::new().set("/process/rlimits", limit);
    let container = Container::new(bundle.probe("sleep"));
    container.detach(container.command("create", NO_FLAGS)).ok();
    container.start().ok();
    let root = format!("/proc/{}/root", container.pid());
    let null = Path::new(&root).join("dev/null");
    fs::remove_file(&null).unwrap();
    fs::create_dir(&null).unwrap();
    fs::copy(Path::new(&root).join("probe"), null.join("none")).unwrap();
    let exec = container.command("exec", NO_FLAGS);
    exec.args(["/probe", "exit", "3"]).output().exits(3);
}

/// If the link of another user were followed, root's log would be appended to a file of root's.
fn log_follows_no_link_of_others() {
    needs(&[Root, Teu]);
    let directory = |name: &str, mode, owner| {
        let path = scratch().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(owner), Some(owner)).unwrap();
        path
    };
    let ours = directory("ours", 0o755, 0);
    let file = ours.join("file");
    fs::write(&file, "").unwrap();
    let log = |path: &Path| {
        let call = teu(["state", "never-was"]).arg("--log").arg(path);
        call.output().exits(1)
    };
    for (name, mode, owner) in [
        ("everybodys", 0o777, 0),
        ("theirs", 0o755, 1000),
        ("groups", 0o770, 1000),
        ("our_groups", 0o770, 0),
    ] {
        let others = directory(name, mode, owner);
        symlink(&file, others.join("log")).unwrap();
        symlink(&ours, others.join("way")).unwrap();
        symlink(others.join("log"), ours.join(name)).unwrap();
        for path in [others.join("log"), others.join("way/file"), ours.join(name)] {
            log(&path).says("links lead there");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "", "{name}");
        // Whether to trust files in such a directory is the caller's decision.
        log(&others.join("plain")).says("does not exist");
        assert!(others.join("plain").exists());
    }
    // Links of the user are followed, also in a sticky directory, and so are the kernel's.
    let sticky = directory("sticky", 0o1777, 0);
    symlink(&file, sticky.join("log")).unwrap();
    log(&sticky.join("log")).says("does not exist");
    symlink(&ours, ours.join("way")).unwrap();
    symlink("way/file", ours.join("log")).unwrap();
    log(&ours.join("log")).says("does not exist");
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("does not exist")
    );
    let output = log(Path::new("/dev/stderr")).says("does not exist");
    assert!(output.stderr.starts_with("time="), "{output}");
}

/// Makes init log a warning when the container's /etc/localtime is in the place of the host's.
/// The C library does not expect that file to be an attacker's.
fn init_reads_no_time_zone_of_the_container() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .set("/process/capabilities/inheritable", json!([]))
        .set("/process/capabilities/ambient", json!(["CAP_CHOWN"]));
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    let zone = bundle.rootfs().join("etc/localtime");
    fs::write(&zone, "zone").unwrap();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    inotify.add_watch(&zone, AddWatchFlags::IN_OPEN).unwrap();
    let opened = || inotify.read_events().is_ok();
    // With a zone in the environment, the C library would not look for the file.
    let call = Container::new(bundle).command("run", [] as [&str; 0]);
    let output = call.without_env("TZ").output().ok();
    output.says("can't raise ambient capability");
    assert!(!opened());
    fs::read(&zone).unwrap();
    assert!(opened(), "opens are seen");
}

/// There every user of the machine outside of the namespace has one number, root too.
fn a_user_namespace_trusts_nobodys_directory() {
    needs(&[Root, Teu, UserNamespaces, Tool("unshare"), Tool("setpriv")]);
    let sticky = scratch().join("sticky");
    let theirs = sticky.join("theirs");
    fs::create_dir_all(&theirs).unwrap();
    fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).unwrap();
    let file = scratch().join("file");
    fs::write(&file, "").unwrap();
    symlink(&file, theirs.join("log")).unwrap();
    chown(&theirs, Some(54321), Some(54321)).unwrap();
    for path in [&file, &scratch()] {
        chown(path, Some(54322), Some(54322)).unwrap();
    }
    let log_to = |log: &str, before: &str| {
        let shell = format!("{before}; exec \"$@\"");
        let call = Invocation::new("setpriv").args(["--reuid", "54322", "--regid", "54322"]);
        let call = call.args(["--clear-groups", "unshare", "--map-root-user", "--mount"]);
        let call = call.args(["sh", "-ec", &shell, "sh"]).arg(runtime());
        let call = call.arg("--root").arg(state_root()).args(["--log", log]);
        call.args(["state", "never-was"]).output()
    };
    let output = log_to(theirs.join("log").to_str().unwrap(), ":");
    output.says("links lead there through a directory that others can write to");
    assert_eq!(fs::read_to_string(&file).unwrap(), "");

    // What is mounted there, as rootless Docker mounts the host's /run, nobody else can replace.
    let roots = scratch().join("roots");
    let own = roots.join("own");
    fs::create_dir_all(&own).unwrap();
    chown(&own, Some(54322), Some(54322)).unwrap();
    let mounts = format!(
        "mount -t tmpfs -o mode=1777 none /mnt; mkdir /mnt/roots; \
         mount --bind {} /mnt/roots; ln -s /mnt/roots/own /mnt/link",
        roots.display()
    );
    log_to("/mnt/link/log", &mounts).says("does not exist");
    assert!(own.join("log").exists());
}

fn created_with(environment: &[&str], program: PathBuf) -> Container {
    let container = Container::new(Bundle::new());
    let mut words = vec!["env".into(), "-i".into()];
    words.extend(environment.iter().map(PathBuf::from));
    words.push(program);
    let call = container.command("create", NO_FLAGS);
    container.detach(call.with_program(words)).ok();
    container
}

/// Asserts that a waiting init has overwritten its parent's environment: the kernel still reports
/// as many bytes.
#[track_caller]
fn assert_environment_was(init: i32, environment: &[&str]) {
    let length = environment.iter().map(|word| word.len() + 1).sum::<usize>();
    wait_until("the environment is gone", || {
        fs::read(format!("/proc/{init}/environ")).unwrap() == vec![0; length]
    });
}

#[track_caller]
fn assert_is_sealed(container: &Container, environment: &[&str]) {
    let init = container.pid();
    let path = PathBuf::from(format!("/proc/{init}/exe"));
    let (own, seen) = (fs::metadata(runtime()), fs::metadata(&path));
    assert_ne!(own.unwrap().dev(), seen.unwrap().dev());
    let error = File::options().write(true).open(&path).unwrap_err();
    // Writing to the runtime's file itself, which runs, would fail with ETXTBSY.
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    let flags = statvfs(&path).unwrap().flags();
    assert!(flags.contains(FsFlags::ST_RDONLY), "{flags:?}");
    // In the view, the file's directory is the root.
    let name = runtime().file_name().unwrap().to_owned();
    let mapped = fs::read_to_string(format!("/proc/{init}/maps")).unwrap();
    let files: Vec<&str> = mapped
        .lines()
        .filter_map(|line| Some(line.split_once('/')?.1))
        .collect();
    assert!(
        !files.is_empty() && files.iter().all(|file| *file == name),
        "{mapped}"
    );
    // The kernel reports about it as about any process.
    let words = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{init}/{name}")).unwrap();
        let words = text.split_terminator('\0').map(str::to_owned);
        words.collect::<Vec<String>>()
    };
    let line = words("cmdline");
    assert_eq!(Path::new(&line[0]), runtime());
    assert_eq!(line.last(), Some(&container.id));
    assert_environment_was(init, environment);
}

/// The directory of the runtime's file, on which the view is based, may have another file of that
/// name below a mount, if the runtime's file is bind-mounted.
fn view_of_another_file_is_not_used() {
    needs(&[Root, Overlayfs]);
    let place = scratch().join("runtime");
    for other in [&b""[..], &fs::read("/bin/true").unwrap()] {
        fs::write(&place, other).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
        let _runtime = Mounted::bind(&runtime(), &place);
        let container = Container::new(Bundle::new());
        let call = container.command("create", NO_FLAGS);
        container.detach(call.with_program([&place])).ok();
        let exe = fs::read_link(format!("/proc/{}/exe", container.pid())).unwrap();
        assert_eq!(exe, Path::new(SEALED_COPY));
    }
}

/// A capability set that differs from the plan must be an error.
fn capability_is_not_kept_for_want_of_an_answer() {
    needs(&[Root]);
    const PR_CAPBSET_DROP: u32 = 24;
    const SYS_ADMIN: u32 = 21;
    // The filter makes the drop seem to succeed.
    let drop = [PR_CAPBSET_DROP, SYS_ADMIN];
    while_call_is_answered(libc::SYS_prctl, &drop, 0, || {
        let output = Bundle::new().run().exits(1);
        assert_eq!(output.stdout, "", "{output}");
        output.says("bounding set");
    });
    // The filter makes setting the other sets seem to succeed.
    while_call_is_answered(libc::SYS_capset, &[], 0, || {
        let output = Bundle::new().run().exits(1);
        assert_eq!(output.stdout, "", "{output}");
        output.says("unable to apply caps: they are");
    });
}

/// The runtime may have been started with ambient capabilities.
fn ambient_capability_is_not_kept_for_want_of_an_answer() {
    needs(&[Root, Tool("setpriv")]);
    const PR_CAP_AMBIENT: u32 = 47;
    const CLEAR_ALL: u32 = 4;
    let sets = ["bounding", "effective", "permitted", "inheritable"];
    let sets: Value = sets.iter().map(|set| (*set, json!(["CAP_KILL"]))).collect();
    // The filter makes clearing them seem to succeed.
    let clear = [PR_CAP_AMBIENT, CLEAR_ALL];
    while_call_is_answered(libc::SYS_prctl, &clear, 0, || {
        let container = Container::new(Bundle::new().set("/process/capabilities", sets));
        let call = container.command("run", NO_FLAGS);
        let program = ["setpriv", "--inh-caps=+kill", "--ambient-caps=+kill"].map(OsString::from);
        let program = program.into_iter().chain([runtime().into()]);
        let output = call.with_program(program).output().exits(1);
        assert_eq!(output.stdout, "", "{output}");
        output.says("CAP_KILL is ambient");
    });
}

/// Until it executes the program, init has the runtime's memory with data of the engine. A process
/// of the container may have the same user and privileges.
fn nobody_looks_into_an_init_that_waits() {
    needs(&[Root]);
    const SECRET: &str = "of-the-host";
    let waiting = |bundle: Bundle| {
        let container = Container::new(bundle.probe("sleep"));
        let call = container.command("create", NO_FLAGS);
        container.detach(call.env("TEU_TEST_SECRET", SECRET)).ok();
        container
    };
    let attacks = |pid: i32| {
        ["read environ", "readlink fd/0", "open mem r", "open mem w"]
            .map(|attack| attack.replacen(' ', &format!(" /proc/{pid}/"), 1))
    };
    let refused = json!({ "errno": "EACCES" });
    let container = waiting(Bundle::new());
    for attack in attacks(1) {
        let exec = container.command("exec", NO_FLAGS).arg("/probe");
        let output = exec.args(attack.split(' ')).output();
        // The message does not show the memory that was read.
        let answers = output.answers();
        assert!(answers == std::slice::from_ref(&refused), "{attack}");
    }
    // Another container, which sees all processes.
    let attacks = attacks(container.pid()).join(";");
    let other = Bundle::new().without_namespace("pid").probe(&attacks);
    let output = other.run();
    assert!(output.answers() == vec![refused; 4], "{attacks}");
    // A process that may look into any process finds no data of the engine.
    let container = waiting(Bundle::new().capabilities(["CAP_SYS_PTRACE"]));
    wait_until("the environment is gone", || {
        let exec = container.command("exec", NO_FLAGS);
        let output = exec.args(["/probe", "read", "/proc/1/environ"]).output();
        !output.ok().stdout.contains(SECRET)
    });
    container.start().ok();
    assert_eq!(container.status(), "running");
}

fn start_container_hooks_cannot_look_into_init() {
    needs(&[Root]);
    for attack in [
        "read /proc/1/environ",
        "readlink /proc/1/fd/0",
        "open /proc/1/mem r",
    ] {
        let args: Vec<&str> = ["probe"].into_iter().chain(attack.split(' ')).collect();
        let hook = json!({ "path": "/probe", "args": args });
        let output = Bundle::new().hook("startContainer", hook).run();
        assert_ne!(output.code(), 0, "{attack}");
        output.says("EACCES");
    }
}

fn parent_processes_are_out_of_sight() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    assert_eq!(
        (&seen["ppid"], &seen["processes"]),
        (&json!(0), &json!([1]))
    );
}

fn descriptor_of_the_runtime_is_not_inherited() {
    needs(&[Root]);
    // Not even by a hook that runs in the container.
    let file = scratch().join("record");
    let bundle = Bundle::new().recording_hook("createRuntime", &file);
    let open: Value = bundle.probe("fds").run().ok().answer();
    assert_eq!(open.as_object().unwrap().len(), 3, "{open}");
}
