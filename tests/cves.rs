//! Published vulnerabilities of other runtimes, by number, tried on this one. Attacks that
//! need more than a few lines are in the modules of what they attack. docs/threat-model.md
//! lists all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::{Value, json};

use crate::exec::{exec, sleeping};
use crate::harness::*;
use crate::rootless;

tests![
    cve_2019_5736_a_program_that_is_the_runtime_cannot_change_it,
    cve_2021_30465_mounts_stay_inside_while_their_way_changes,
    cve_2021_43784_long_fields_are_no_other_fields,
    cve_2022_24769_no_capability_is_inheritable_unless_asked_for,
    cve_2022_29162_exec_gives_no_inheritable_capability,
    cve_2023_25809_cgroups_of_others_cannot_be_written_to,
    cve_2023_25809_hierarchies_are_read_only_for_root_too,
    cve_2024_21626_working_directory_does_not_lead_out,
    cve_2024_21626_working_directory_of_exec_does_not_lead_out,
    cve_2024_21626_program_of_the_caller_is_not_executed,
    cve_2024_21626_exec_executes_no_program_of_the_caller,
    cve_2024_45310_nothing_is_made_outside_while_the_way_changes,
    cve_2025_31133_null_device_of_the_image_masks_nothing,
    cve_2025_31133_null_device_that_changes_masks_all_or_nothing_starts,
    cve_2025_52565_console_of_the_image_leads_nowhere,
    cve_2025_52881_sysctls_reach_the_kernel_while_proc_changes,
    cve_2025_54867_links_in_place_of_kernel_filesystems_lead_nowhere,
    cve_2026_41579_devices_of_the_image_lead_nowhere,
];

/// A directory of the host with a file in it, to which a link in an image leads.
struct Outside(PathBuf);

impl Outside {
    fn new() -> Outside {
        let path = scratch().join("outside");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), "text").unwrap();
        Outside(path)
    }

    /// Asserts that nothing in the directory was added, removed or changed.
    #[track_caller]
    fn assert_untouched(&self) {
        let entries = fs::read_dir(&self.0).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        assert_eq!(fs::read_to_string(self.0.join("file")).unwrap(), "text");
    }
}

/// Does `work` while another thread exchanges two names again and again. Asserts that they were
/// exchanged at least once.
#[track_caller]
fn while_exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    let exchanged = std::thread::scope(|scope| {
        let _done = SetAtTheEnd(&is_done);
        let exchanging = scope.spawn(|| {
            let mut exchanged = 0;
            while !is_done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                exchanged += 1;
            }
            exchanged
        });
        work();
        is_done.store(true, Ordering::Relaxed);
        exchanging.join().unwrap()
    });
    assert!(exchanged >= rounds(100), "only {exchanged} exchanges");
}

/// Repeats an attack, as many times as `rounds(full)` says, and up to four times `full` until
/// the container has started in a tenth of the rounds: if fewer start, the attack was hardly
/// tried on them. On a slow machine, more exchanges fall into one creation, and few succeed.
/// `starts` tries once, and returns whether the container started.
#[track_caller]
fn repeat_attack(full: u32, mut starts: impl FnMut() -> bool) {
    let (rounds, mut started) = (rounds(full), 0);
    let (enough, most) = (rounds.div_ceil(10), 4 * rounds.max(full));
    for round in 0..most {
        if round >= rounds && started >= enough {
            return;
        }
        started += u32::from(starts());
    }
    assert!(started >= enough, "only {started} of {most} started");
}

/// A fifo that is full: a process that writes to it waits until the fifo is closed.
fn full_fifo(place: &Path) -> File {
    mknodat(CWD, place, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    let mut fifo = options.open(place).unwrap();
    while fifo.write(&[0]).is_ok() {}
    fifo
}

/// The container's program is the runtime's executable: by name, by link and as an interpreter,
/// for run, for exec, and from within. A process that keeps it open could write to it when no
/// process runs it any more. CVE-2020-14298 was this vulnerability in another build of runc.
fn cve_2019_5736_a_program_that_is_the_runtime_cannot_change_it() {
    needs(&[Root]);
    // A copy that no other process runs, because a running program cannot be written to
    // (ETXTBSY).
    let copy = scratch().join("teu");
    fs::copy(runtime(), &copy).unwrap();
    let bundle = Bundle::new().file("/script", "#!/proc/self/exe\n");
    let script = bundle.rootfs().join("script");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", bundle.rootfs().join("link")).unwrap();
    let container = Container::new(bundle.probe("sleep"));
    let call = |verb, flags: &[&str]| container.command(verb, flags).with_program([&copy]);
    container.detach(call("create", &[])).ok();
    container.start().ok();
    for program in ["/proc/self/exe", "/link", "/script"] {
        let mut kept = Vec::new();
        let place = scratch().join(format!("full{}", program.replace('/', "-")));
        let full = full_fifo(&place);
        let exec = call("exec", &[]).args([program, "--version"]);
        let output = format!("exec >{} 2>&1", place.display());
        let exec = exec.after_shell(&output).spawn();
        let is_program = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !line.is_empty() && !line.starts_with(copy.as_os_str().as_bytes())
        };
        wait_until("the process waits as the program", || {
            let pids = exec.children();
            let open = |pid| File::open(format!("/proc/{pid}/exe"));
            kept.extend(pids.iter().flat_map(open));
            pids.iter().any(is_program)
        });
        drop(full);
        exec.wait();
        for kept in kept {
            let again = format!("/proc/self/fd/{}", kept.as_raw_fd());
            let file = File::options().write(true).open(again);
            let written = file.and_then(|file| file.write_at(b"#!/evil", 0));
            assert!(written.is_err(), "{program}: written to");
        }
    }
    container.delete_force().ok();
    for program in ["/proc/self/exe", "/link", "/script"] {
        let mut container = Container::new(Bundle::new());
        container.bundle.spec["process"]["args"] = json!([program, "--version"]);
        container.bundle.write();
        container
            .command("run", NO_FLAGS)
            .with_program([&copy])
            .output();
    }
    assert!(
        fs::read(&copy).unwrap() == fs::read(runtime()).unwrap(),
        "the runtime was overwritten"
    );
}

/// A bundle in which the directory `/way` is exchanged with a link to a place of the host.
/// Returns the paths of both, too.
fn way_and_link(outside: &Outside) -> (Bundle, PathBuf, PathBuf) {
    let bundle = Bundle::new();
    let [way, link] = ["way", "link"].map(|name| bundle.rootfs().join(name));
    fs::create_dir(&way).unwrap();
    symlink(&outside.0, &link).unwrap();
    (bundle, way, link)
}

/// Every mount must end up inside the container.
fn cve_2021_30465_mounts_stay_inside_while_their_way_changes() {
    needs(&[Root, Seconds(120)]);
    let outside = Outside::new();
    let (bundle, way, link) = way_and_link(&outside);
    fs::create_dir(way.join("mount")).unwrap();
    fs::create_dir(outside.0.join("mount")).unwrap();
    let source = scratch().join("source");
    fs::create_dir(&source).unwrap();
    let mount = json!({
        "destination": "/way/mount", "type": "bind", "source": source, "options": ["bind"],
    });
    let bundle = bundle.mount(mount).probe("read /proc/self/mountinfo");
    let container = Container::new(bundle);
    let source = source.to_str().unwrap();
    while_exchanging(&way, &link, || {
        repeat_attack(100, || {
            let output = container.run();
            let starts = output.status.success();
            if starts {
                let table = output.answer().to_string();
                assert!(table.contains(source), "mounted elsewhere: {table}");
            }
            starts
        });
    });
    fs::remove_dir(outside.0.join("mount")).unwrap();
    outside.assert_untouched();
}

/// Lengths that do not fit in 16 bits, followed by text that would be other settings.
fn cve_2021_43784_long_fields_are_no_other_fields() {
    needs(&[Root]);
    let long = "x".repeat(70_000) + "\0\0\0\u{1}CAP_SYS_ADMIN";
    let refused = |bundle: Bundle, words: &str| {
        bundle.run().exits(1).says(words);
    };
    let network = |path: String| Bundle::new().join_namespace("network", path);
    refused(
        network(format!("/proc/self/{long}")),
        "file name contained an unexpected NUL byte",
    );
    refused(
        network("/".repeat(70_000) + "proc/self/ns/net"),
        "file name too long",
    );
    let ids =
        (0..4000).map(|id| json!({ "containerID": id, "hostID": 100_000 + 2 * id, "size": 1 }));
    let ids = Value::Array(ids.collect());
    let bundle = || {
        let bundle = Bundle::new().without_mount("/sys").user_namespace();
        bundle.without_mount("/sys/fs/cgroup")
    };
    bundle().run().ok();
    let bundle = bundle().set("/linux/uidMappings", ids.clone());
    refused(
        bundle.set("/linux/gidMappings", ids),
        r#"gid_map\": invalid argument"#,
    );
    // A long argument is still an argument.
    let word = "y".repeat(100_000);
    let bundle = Bundle::new().args(["/probe", "echo", &word]);
    assert_eq!(bundle.run().ok().stdout.trim_end(), word);
}

/// The inheritable and the ambient capabilities of a process.
fn inherited(report: &Value) -> [&Value; 2] {
    ["inheritable", "ambient"].map(|set| &report["capabilities"][set]["names"])
}

fn cve_2022_24769_no_capability_is_inheritable_unless_asked_for() {
    needs(&[Root]);
    let bundle = Bundle::new();
    let directory = bundle.directory.to_str().unwrap().to_owned();
    teu(["spec", "--bundle", &directory]).output().ok();
    let sets = bundle.read().spec["process"]["capabilities"].clone();
    assert!(sets["bounding"].is_array());
    assert_eq!(
        (&sets["inheritable"], &sets["ambient"]),
        (&Value::Null, &Value::Null)
    );
    let bundle = Bundle::new().set("/process/capabilities", sets);
    assert_eq!(inherited(&bundle.run().ok().probe()), [&json!([]); 2]);
}

fn cve_2022_29162_exec_gives_no_inheritable_capability() {
    needs(&[Root]);
    let container = Container::running(
        Bundle::new()
            .remove("/process/capabilities/inheritable")
            .probe("sleep"),
    );
    let exec = container.command("exec", ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_TIME"]);
    let report = exec.args(["/probe", "report"]).output().ok().probe();
    assert!(
        report["capabilities"]["effective"]
            .to_string()
            .contains("CAP_NET_ADMIN"),
        "{report}"
    );
    assert_eq!(inherited(&report), [&json!([]); 2]);
}

/// A cgroup that a user owns, as a service manager delegates it. When dropped, removes the
/// cgroup and what a container has made in it.
struct UsersCgroup(PathBuf);

impl UsersCgroup {
    fn new() -> UsersCgroup {
        let own = CgroupFiles::of(std::process::id().cast_signed());
        let path = own.make_below("pids", &marker());
        for path in [path.clone(), path.join("cgroup.procs")] {
            chown(path, Some(rootless::USER), Some(rootless::USER)).unwrap();
        }
        UsersCgroup(path)
    }
}

impl Drop for UsersCgroup {
    fn drop(&mut self) {
        // The first exists only if a container could make it.
        for path in [self.0.join("made"), self.0.clone()] {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    eprintln!("remove {path:?}: {error}");
                }
                _ => {}
            }
        }
    }
}

/// A container of a user, without a cgroup namespace, sees the cgroups of the host but may
/// not write there, not even where the user may.
fn cve_2023_25809_cgroups_of_others_cannot_be_written_to() {
    needs(&[Root, UserNamespaces, Controller("pids")]);
    let cgroup = UsersCgroup::new();
    // On v1 the container sees the cgroup of its caller in the place of the hierarchy.
    let below = Path::new("/sys/fs/cgroup/pids").join(cgroup.0.file_name().unwrap());
    let modes = [&cgroup.0, &below].map(|path| {
        let path = path.display();
        format!("stat {path}/cgroup.procs; write {path}/cgroup.procs 1; mkdir {path}/made")
    });
    let bundle = rootless::rootless_bundle(&modes.join("; ")).without_namespace("cgroup");
    let container = Container::new(bundle);
    let run = rootless::call(["run", "--bundle"]).arg(&container.bundle.directory);
    let answers = run.arg(&container.id).output().answers();
    assert_cgroups_are_read_only(&answers);
}

/// Takes three answers for each place: of stat, write and mkdir. Asserts that a cgroup was found, and
/// that write and mkdir failed in each one found, because the file system is read-only.
#[track_caller]
fn assert_cgroups_are_read_only(answers: &[Value]) {
    let is_found = |answers: &&[Value]| answers[0]["ok"].is_object();
    let found: Vec<&[Value]> = answers.chunks(3).filter(is_found).collect();
    for answers in &found {
        let refused = json!({ "errno": "EROFS" });
        assert_eq!(answers[1..], [refused.clone(), refused]);
    }
    assert!(!found.is_empty(), "{answers:?}");
}

/// Root cannot write to the cgroups of others either, in any hierarchy.
fn cve_2023_25809_hierarchies_are_read_only_for_root_too() {
    needs(&[Root]);
    let places = ["", "/pids", "/memory", "/systemd", "/unified"];
    let modes = places.map(|place| {
        let place = format!("/sys/fs/cgroup{place}");
        format!("stat {place}/cgroup.procs; write {place}/cgroup.procs 1; mkdir {place}/made")
    });
    let bundle = Bundle::new().without_namespace("cgroup");
    let answers = bundle.probe(&modes.join("; ")).run().answers();
    assert_cgroups_are_read_only(&answers);
}

/// Missing mount points are made for directories and files, and nodes for devices.
fn cve_2024_45310_nothing_is_made_outside_while_the_way_changes() {
    needs(&[Root, Seconds(120)]);
    let outside = Outside::new();
    let (bundle, way, link) = way_and_link(&outside);
    let file = scratch().join("source");
    fs::write(&file, "").unwrap();
    let mount = |kind: &str, source: &Path, destination: &str| json!({ "destination": destination, "type": kind, "source": source, "options": ["bind"] });
    let mut tmpfs = mount("tmpfs", Path::new("tmpfs"), "/way/a/b/c");
    tmpfs["options"] = json!([]);
    let bundle = bundle
        .mount(tmpfs)
        .mount(mount("bind", &file, "/way/made/file"))
        .push(
            "/linux/devices",
            json!({ "path": "/way/node", "type": "c", "major": 1, "minor": 3 }),
        )
        .set("/process/cwd", "/way/work")
        .probe("list /way");
    let container = Container::new(bundle);
    while_exchanging(&way, &link, || {
        repeat_attack(100, || {
            let starts = container.run().status.success();
            outside.assert_untouched();
            // Remove them under both names, so that they are made again.
            for name in [&way, &link] {
                if name.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                    for made in ["a", "made", "work"] {
                        fs::remove_dir_all(name.join(made)).ok();
                    }
                    fs::remove_file(name.join("node")).ok();
                }
            }
            starts
        });
    });
}

/// The image has its own /dev, and nothing is mounted there.
fn with_devices_of_the_image() -> Bundle {
    let bundle = Bundle::new();
    ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]
        .into_iter()
        .fold(bundle, Bundle::without_mount)
}

const MASKED: &str = "/etc/secret";

/// The image's null device is a link to a file that must not be written to. A runtime that
/// masks with it would mount that file over the masked files.
fn cve_2025_31133_null_device_of_the_image_masks_nothing() {
    needs(&[Root]);
    for target in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/etc/other",
    ] {
        let bundle = with_devices_of_the_image()
            .file(MASKED, "secret")
            .file("/etc/other", "other")
            .set("/linux/maskedPaths", json!([MASKED]))
            .probe(&format!("stat {MASKED}; open {MASKED} w"));
        symlink(target, bundle.rootfs().join("dev/null")).unwrap();
        let other = bundle.rootfs().join("etc/other");
        bundle
            .run()
            .exits(1)
            .says("file exists and is not this device");
        assert_eq!(fs::read_to_string(other).unwrap(), "other");
    }
}

/// Asserts that a program that ran saw the null device in place of the masked file.
#[track_caller]
fn assert_masked(output: &Output) {
    if let Some(masked) = output.answers().first() {
        assert_eq!(masked["ok"]["type"], "char", "{output}");
        assert_eq!(masked["ok"]["major"], 1, "{output}");
        assert_eq!(masked["ok"]["minor"], 3, "{output}");
    }
}

fn cve_2025_31133_null_device_that_changes_masks_all_or_nothing_starts() {
    needs(&[Root, Seconds(120)]);
    let bundle = with_devices_of_the_image()
        .file(MASKED, "secret")
        .set("/linux/maskedPaths", json!([MASKED]))
        .probe(&format!("stat {MASKED}"));
    let device = bundle.rootfs().join("dev/null");
    let link = bundle.rootfs().join("dev/link");
    symlink("/proc/sys/kernel/core_pattern", &link).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, &device, FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
    let container = Container::new(bundle);
    while_exchanging(&device, &link, || {
        repeat_attack(100, || {
            let output = container.run();
            assert_masked(&output);
            !output.stdout.is_empty()
        });
    });
}

/// The terminal is mounted on /dev/console, which the image may make a link.
fn cve_2025_52565_console_of_the_image_leads_nowhere() {
    needs(&[Root]);
    let outside = Outside::new();
    let file = outside.0.join("file");
    for target in [
        file.to_str().unwrap(),
        "/proc/sysrq-trigger",
        "/proc/self/fd/3",
    ] {
        let devpts = json!({
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["newinstance", "ptmxmode=0666"],
        });
        let bundle = with_devices_of_the_image().mount(devpts).terminal();
        symlink(target, bundle.rootfs().join("dev/console")).unwrap();
        let socket = FdSocket::new("console");
        let container = Container::new(bundle);
        let created = container.create_with(["--console-socket", socket.path()]);
        let link = container.bundle.rootfs().join("dev/console");
        if created.status.success() {
            assert!(mountpoints(container.pid()).contains(&"/dev/console".to_owned()));
            container.delete_force().ok();
        } else {
            created.says("too many levels of symbolic links");
        }
        assert!(link.symlink_metadata().is_ok(), "the link went");
        outside.assert_untouched();
        fs::remove_file(socket.path()).unwrap();
    }
}

fn mountpoints(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(str::to_owned).collect()
}

/// The image exchanges /proc while a sysctl is written. The kernel must get it in each container
/// that starts, and no file may get it.
fn cve_2025_52881_sysctls_reach_the_kernel_while_proc_changes() {
    needs(&[Root, Seconds(120), Tool("nsenter"), Tool("cat")]);
    let bundle = Bundle::new()
        .file("/fake/sys/kernel/domainname", "nothing\n")
        .set("/linux/sysctl", json!({ "kernel.domainname": "written" }))
        .probe("sleep");
    let [proc, fake] = ["proc", "fake"].map(|name| bundle.rootfs().join(name));
    let container = Container::new(bundle);
    while_exchanging(&proc, &fake, || {
        repeat_attack(50, || {
            let starts = container.create().status.success();
            if starts {
                let pid = container.pid().to_string();
                let words = [
                    "--uts",
                    "--target",
                    &pid,
                    "cat",
                    "/proc/sys/kernel/domainname",
                ];
                let said = Invocation::new("nsenter").args(words).output().ok();
                assert_eq!(said.stdout, "written\n");
                container.delete_force().ok();
            }
            starts
        });
    });
    let file = "sys/kernel/domainname";
    let texts = [proc, fake].map(|directory| fs::read_to_string(directory.join(file)));
    let texts: Vec<_> = texts.into_iter().flatten().collect();
    assert_eq!(texts, ["nothing\n"], "the image's file was written to");
}

/// The image has a link to a place of the host where a kernel filesystem is mounted.
fn cve_2025_54867_links_in_place_of_kernel_filesystems_lead_nowhere() {
    needs(&[Root]);
    let outside = Outside::new();
    for name in ["proc", "sys"] {
        let bundle = Bundle::new().probe("list /");
        let place = bundle.rootfs().join(name);
        fs::remove_dir(&place).unwrap();
        symlink(&outside.0, &place).unwrap();
        let output = bundle.run().exits(1);
        output.says("must be mounted on ordinary directory");
        outside.assert_untouched();
    }
}

/// The image's /dev is a link to a place of the host, where the runtime would replace `ptmx` and
/// make links and nodes.
fn cve_2026_41579_devices_of_the_image_lead_nowhere() {
    needs(&[Root]);
    let outside = Outside::new();
    for kept in ["ptmx", "fd", "console"] {
        fs::write(outside.0.join(kept), "kept").unwrap();
    }
    let bundle = with_devices_of_the_image().probe("list /dev");
    let devices = bundle.rootfs().join("dev");
    fs::remove_dir(&devices).unwrap();
    symlink(&outside.0, &devices).unwrap();
    // They are made inside, where the link leads in the container.
    let made = bundle.run().ok().answer().to_string();
    assert!(made.contains("\"null\""), "{made}");
    for kept in ["ptmx", "fd", "console"] {
        let kept = outside.0.join(kept);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        fs::remove_file(kept).unwrap();
    }
    outside.assert_untouched();
}

/// A working directory through an open descriptor of the caller or of the runtime.
fn cve_2024_21626_working_directory_does_not_lead_out() {
    needs(&[Root, Tool("sh")]);
    let bundle = Bundle::new().probe("list ../../../..");
    symlink("/proc/self/fd/4", bundle.rootfs().join("mnt/link")).unwrap();
    let mut container = Container::new(bundle);
    let own = (3..16).map(|number| format!("/proc/self/fd/{number}"));
    let mut refused = 0;
    for directory in own.chain(["/mnt/link".to_owned()]) {
        container.bundle.spec["process"]["cwd"] = json!(directory);
        container.bundle.write();
        let call = container.command("run", ["--preserve-fds", "3"]);
        let output = call.after_shell(HOST_DIRECTORIES).output();
        refused += i32::from(output.stderr.contains("possible container breakout"));
        assert!(leads_nowhere(&output), "{output}");
    }
    assert!(refused >= 4, "the host's directories were tried: {refused}");
}

/// Opens three directories of the host. The started program may be told to preserve them; the
/// runtime closes the others.
const HOST_DIRECTORIES: &str = "exec 3</ 4</etc 5</usr";

/// Whether the program ran, if at all, in a directory of the container, whose root contains the
/// probe.
fn leads_nowhere(output: &Output) -> bool {
    output.code() != 0 || output.answer().to_string().contains("\"probe\"")
}

fn cve_2024_21626_working_directory_of_exec_does_not_lead_out() {
    needs(&[Root, Tool("sh")]);
    let container = sleeping(Bundle::new());
    let mut refused = 0;
    for number in 3..20 {
        let directory = format!("/proc/self/fd/{number}");
        let flags = ["--cwd", &directory, "--preserve-fds", "3"];
        let call = exec(&container, flags, "/probe list ../../../..");
        let output = call.after_shell(HOST_DIRECTORIES).output();
        refused += i32::from(output.stderr.contains("possible container breakout"));
        assert!(leads_nowhere(&output), "{output}");
    }
    assert!(refused >= 3, "the host's directories were tried: {refused}");
}

/// With `--process`, the caller's descriptors are open until then.
fn cve_2024_21626_exec_executes_no_program_of_the_caller() {
    needs(&[Root, Tool("sh")]);
    let container = sleeping(Bundle::new());
    let file = scratch().join("process.json");
    assert_callers_program_is_not_executed(|args, flags| {
        let process = json!({ "args": args, "cwd": "/" });
        fs::write(&file, process.to_string()).unwrap();
        let call = exec(&container, ["--process", file.to_str().unwrap()], "");
        flags.iter().fold(call, Invocation::arg_before_last)
    });
}

/// execve(2) opens its program before it closes descriptors with the flag close-on-exec.
fn cve_2024_21626_program_of_the_caller_is_not_executed() {
    needs(&[Root, Tool("sh")]);
    assert_callers_program_is_not_executed(|args, flags| {
        let bundle = Bundle::new().set("/process/args", args);
        Container::new(bundle).command("run", flags)
    });
}

/// A preserved descriptor of the caller may be executed. A descriptor with another number, such as
/// one of the runtime's own, must not be. `call` prepares a call with a program and flags.
#[track_caller]
fn assert_callers_program_is_not_executed(call: impl Fn(Value, &[&str]) -> Invocation) {
    let caller = format!("exec 3<{}", scratch().join("../probe").display());
    let output = |program: &str, flags: &[&str]| {
        let call = call(json!([program, "exit", "7"]), flags);
        call.after_shell(&caller).output()
    };
    output("/proc/self/fd/3", &["--preserve-fds", "1"]).exits(7);
    for number in 3..12 {
        let program = format!("/proc/self/fd/{number}");
        let refused = output(&program, &[]).says(&program);
        let causes = [
            "no such file or directory",
            "permission denied",
            "is a directory",
        ];
        let words = refused.stderr.trim_end_matches(['\n', '"']);
        let is_refused = causes.iter().any(|cause| words.ends_with(cause));
        assert!(is_refused && matches!(refused.code(), 1 | 255), "{refused}");
    }
}
