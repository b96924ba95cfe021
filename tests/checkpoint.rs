//! `checkpoint` and `restore`: saves containers in files and restores them, with everything
//! that they share with the host.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::*;

tests![
    container_goes_on_where_it_was,
    container_goes_on_under_another_name_and_cgroup,
    container_may_be_left_running,
    paused_container_is_stored_too,
    foreground_restore_ends_as_the_container,
    foreground_restore_passes_signals_on,
    others_work_on_a_restored_container_meanwhile,
    interrupted_restore_is_finished_or_undone,
    all_processes_come_back,
    terminal_comes_back_to_the_console_socket,
    terminal_of_a_foreground_restore_is_the_callers,
    pipes_are_those_of_the_new_caller,
    mounts_of_the_host_are_mounted_again,
    mountpoints_are_made_again,
    links_lead_to_the_mountpoint,
    masks_and_limits_hold_again,
    network_namespace_is_joined_again,
    other_namespaces_are_joined_again,
    cgroup_namespace_is_made_again,
    scope_of_systemd_is_made_again,
    user_namespace_comes_back,
    hooks_run_at_a_restore,
    annotation_names_crius_configuration,
    memory_may_be_stored_before,
    lazy_pages_are_announced,
    only_what_runs_is_stored,
    refused_options_change_nothing,
    container_runs_on_when_it_cannot_be_stored,
    refused_restore_leaves_nothing,
    failed_restore_leaves_nothing,
    failed_hook_undoes_a_restore,
    killed_restore_leaves_what_delete_removes,
    idmapped_mounts_are_refused,
    without_criu_nothing_happens,
];

/// Prepares a call of the runtime that finds CRIU, with its images in `images()`.
fn criu<S: AsRef<OsStr>>(
    container: &Container,
    verb: &str,
    flags: impl IntoIterator<Item = S>,
) -> Invocation {
    let call = container.command(verb, ["--image-path"]);
    // Before the name, because flags may follow.
    let call = call.arg_before_last(images());
    let call = match verb {
        "restore" => call.arg("--bundle").arg(&container.bundle.directory),
        _ => call,
    };
    call.arg("--manage-cgroups-mode=ignore")
        .args(flags)
        .env("PATH", criu_path())
}

fn images() -> PathBuf {
    scratch().join("images")
}

/// A container that counts in memory and writes the number to a file, without streams of the
/// host.
fn counting(bundle: Bundle) -> Container {
    run_silent(bundle.probe("count /dev/shm/count"))
}

/// A counting container that runs another mode of the probe first.
fn counting_with(mode: &str) -> Container {
    run_silent(Bundle::new().probe(&format!("{mode}count /dev/shm/count")))
}

fn run_silent(bundle: Bundle) -> Container {
    let container = Container::new(bundle);
    let call = container.command("run", ["--detach"]);
    container.detach(call.after_shell(SILENT)).ok();
    container
}

const SILENT: &str = "exec </dev/null >/dev/null 2>&1";

/// The path on the host of a file in a running container.
fn inside(container: &Container, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{path}", container.pid()))
}

fn count(container: &Container) -> u64 {
    let text = fs::read_to_string(inside(container, "/dev/shm/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

#[track_caller]
fn wait_for_count(container: &Container, least: u64) {
    wait_until(&format!("it has counted to {least}"), || {
        count(container) >= least
    });
}

/// Makes a checkpoint of a container and restores it, detached.
#[track_caller]
fn there_and_back(container: &Container) {
    criu(container, "checkpoint", NO_FLAGS).output().ok();
    restore_silent(container, NO_FLAGS).ok();
}

#[track_caller]
fn restore_silent<S: AsRef<OsStr>>(
    container: &Container,
    flags: impl IntoIterator<Item = S>,
) -> Output {
    let call = criu(container, "restore", ["--detach"]).args(flags);
    let output = call.after_shell("exec </dev/null >/dev/null").output();
    if output.status.success() {
        container.found_again();
    }
    output
}

fn container_goes_on_where_it_was() {
    needs(&[Root, Criu]);
    let before = HostSnapshot::take();
    let container = counting(Bundle::new());
    wait_for_count(&container, 30);
    let (old, created) = (container.pid(), container.state()["created"].clone());
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    assert!(!container.has_state() && !is_alive(old));
    before.assert_unchanged();

    let pid_file = scratch().join("pid");
    let output = restore_silent(&container, ["--pid-file", pid_file.to_str().unwrap()]).ok();
    assert_eq!(output.stderr, "");
    let state = container.state();
    assert_eq!(state["status"], "running");
    assert_ne!(state["created"], created);
    let pid = fs::read_to_string(pid_file).unwrap();
    assert_eq!(pid, container.pid().to_string());
    // A container that was started anew would begin with 1.
    assert!(count(&container) >= 30);
    wait_for_count(&container, count(&container) + 5);
    let seen = container
        .command("exec", NO_FLAGS)
        .args(["/probe", "report"]);
    let seen = seen.output().ok().probe();
    assert_eq!(seen["hostname"], "teu");
    assert_eq!(seen["processes"][0], 1);

    container.kill("KILL").ok();
    assert_eq!(container.wait(), 137);
    container.delete().ok();
    before.assert_unchanged();
}

fn container_goes_on_under_another_name_and_cgroup() {
    needs(&[Root, Criu, Controller("pids")]);
    let container = counting(Bundle::new());
    wait_for_count(&container, 10);
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let mut other = Container::new(Bundle::new());
    other
        .bundle
        .directory
        .clone_from(&container.bundle.directory);
    restore_silent(&other, NO_FLAGS).ok();
    assert!(count(&other) >= 10);
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", other.pid())).unwrap();
    assert!(cgroups.contains(&other.id) && !cgroups.contains(&format!("{}\n", container.id)));
    other.delete_force().ok();
}

fn container_may_be_left_running() {
    needs(&[Root, Criu]);
    let container = counting(Bundle::new());
    criu(&container, "checkpoint", ["--leave-running"])
        .output()
        .ok();
    assert_eq!(container.status(), "running");
    wait_for_count(&container, count(&container) + 5);
    assert!(images().join("inventory.img").exists());
}

fn paused_container_is_stored_too() {
    needs(&[Root, Criu]);
    let container = counting(Bundle::new());
    wait_for_count(&container, 10);
    container.command("pause", NO_FLAGS).output().ok();
    criu(&container, "checkpoint", ["--leave-running"])
        .output()
        .ok();
    assert_eq!(container.status(), "paused");
    there_and_back(&container);
    assert_eq!(container.status(), "running");
    wait_for_count(&container, count(&container) + 5);
}

fn foreground_restore_ends_as_the_container() {
    needs(&[Root, Criu]);
    let container = counting(Bundle::new());
    wait_for_count(&container, 10);
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let restore = criu(&container, "restore", NO_FLAGS).after_shell("exec </dev/null >/dev/null");
    let running = restore.spawn();
    container.wait_for_status("running");
    container.found_again();
    fs::write(inside(&container, "/dev/shm/count.stop"), "").unwrap();
    let output = running.wait();
    assert_eq!((output.code(), output.stderr.as_str()), (7, ""));
    assert!(!container.has_state());

    let running = criu(&container, "restore", NO_FLAGS)
        .after_shell("exec </dev/null >/dev/null")
        .spawn();
    container.wait_for_status("running");
    container.kill("KILL").ok();
    assert_eq!(running.wait().code(), 137);
    assert!(!container.has_state());
}

fn foreground_restore_passes_signals_on() {
    needs(&[Root, Criu]);
    let container = run_silent(Bundle::new().probe("trap USR1"));
    wait_until("it waits for the signal", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid()));
        stat.is_ok_and(|stat| stat.contains("(probe) S "))
    });
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let running = criu(&container, "restore", NO_FLAGS)
        .after_shell("exec </dev/null >/dev/null")
        .spawn();
    container.wait_for_status("running");
    running.signal(Signal::SIGUSR1);
    assert_eq!(running.wait().code(), 0);
}

/// The command in the foreground holds the container, not its state.
fn others_work_on_a_restored_container_meanwhile() {
    needs(&[Root, Criu, Controller("pids")]);
    let container = Container::new(Bundle::new().probe("count /dev/shm/count"));
    let in_front = |verb| {
        let call = match verb {
            "run" => container.command(verb, NO_FLAGS),
            _ => criu(&container, verb, NO_FLAGS),
        };
        let running = call.after_shell(SILENT).spawn();
        container.wait_for_status("running");
        container.found_again();
        wait_for_count(&container, 1);
        running
    };
    let limit = Duration::from_secs(8);
    for verb in ["run", "restore"] {
        let running = in_front(verb);
        for (other, flags) in [
            ("pause", None),
            ("resume", None),
            ("update", Some("--pids-limit=99")),
        ] {
            container.command(other, flags).within(limit).output().ok();
        }
        criu(&container, "checkpoint", NO_FLAGS)
            .within(limit)
            .output()
            .ok();
        running.wait().exits(128 + 9);
        assert!(!container.has_state());
    }
    let running = in_front("restore");
    container
        .command("delete", ["--force"])
        .within(limit)
        .output()
        .ok();
    running.wait().exits(128 + 9);
    assert!(!container.has_state());
}

fn interrupted_restore_is_finished_or_undone() {
    needs(&[Root, Criu]);
    const STEPS: u32 = 12;
    let container = counting(Bundle::new());
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let whole = restore_silent(&container, NO_FLAGS).ok().took;
    container.delete_force().ok();
    let before = HostSnapshot::take();
    let (mut finished, mut undone) = (0, 0);
    // As for creations in lifecycle.rs.
    for step in 0..STEPS {
        let restore = criu(&container, "restore", ["--detach"]).after_shell(SILENT);
        let running = restore.spawn();
        std::thread::sleep(whole * (step * step) / (STEPS * STEPS));
        running.signal(Signal::SIGTERM);
        let was_alive = is_alive(running.pid);
        match running.wait().code() {
            0 => {
                assert_eq!(container.status(), "running");
                finished += i32::from(was_alive);
                container.delete_force().ok();
            }
            code => {
                assert_eq!(code, -15);
                assert!(!container.has_state(), "after {step}");
                undone += 1;
            }
        }
    }
    let both = finished > 0 && undone > 0;
    assert!(both, "{finished} were finished, {undone} undone");
    before.assert_unchanged();
}

fn all_processes_come_back() {
    needs(&[Root, Criu]);
    let container = counting_with("fork 3;");
    let pids = || {
        let call = container.command("ps", ["--format", "json"]);
        call.output().ok().json().as_array().unwrap().len()
    };
    wait_for_count(&container, 5);
    assert_eq!(pids(), 4);
    there_and_back(&container);
    assert_eq!(pids(), 4);
    let names = fs::read_dir(inside(&container, "/proc")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut inner: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    inner.sort_unstable();
    assert_eq!(inner, [1, 2, 3, 4]);
}

fn terminal_comes_back_to_the_console_socket() {
    needs(&[Root, Criu]);
    let socket = FdSocket::new("console");
    let container = Container::new(Bundle::new().terminal().probe("cat"));
    let flags = ["--detach", "--console-socket", socket.path()];
    container.detach(container.command("run", flags)).ok();
    let mut terminal = socket.receive_terminal();
    terminal.write("before\n");
    terminal.expect("before\r\nbefore\r\n");
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    criu(&container, "restore", flags).output().ok();
    container.found_again();
    let mut terminal = socket.receive_terminal();
    terminal.write("after\n");
    terminal.expect("after\r\nafter\r\n");

    // A restore without a receiver for the terminal is refused before anything is made.
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let output = criu(&container, "restore", ["--detach"]).output();
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("console socket"), "{output}");
    assert!(!container.has_state());
}

fn terminal_of_a_foreground_restore_is_the_callers() {
    needs(&[Root, Criu, Tool("setsid")]);
    let socket = FdSocket::new("console");
    let container = Container::new(Bundle::new().terminal().probe("cat"));
    let flags = ["--detach", "--console-socket", socket.path()];
    container.detach(container.command("run", flags)).ok();
    let _kept = socket.receive_terminal();
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let (mut terminal, slave) = Terminal::pair();
    let running = criu(&container, "restore", NO_FLAGS)
        .on_terminal(slave)
        .spawn();
    container.wait_for_status("running");
    terminal.write("word\r");
    terminal.expect("word\r\nword\r\n");
    terminal.write("\x04");
    assert_eq!(running.wait().code(), 0);
}

fn pipes_are_those_of_the_new_caller() {
    needs(&[Root, Criu]);
    let container = Container::new(Bundle::new().probe("cat"));
    let script = |verb: &str, out: &Path| {
        let runtime = runtime().display().to_string();
        let flags = match verb {
            "run" => "--detach".to_owned(),
            _ => format!(
                "--detach --manage-cgroups-mode=ignore --image-path {}",
                images().display()
            ),
        };
        format!(
            "(sleep 1; echo word-{verb}; sleep 3) | {runtime} --root {root} {verb} {flags} \
             --bundle {bundle} {id} 2>/dev/null | cat >{out}",
            root = state_root().display(),
            bundle = container.bundle.directory.display(),
            id = container.id,
            out = out.display(),
        )
    };
    let (first, second) = (scratch().join("first"), scratch().join("second"));
    let shell = |text: String| {
        Invocation::new("sh")
            .args(["-c", &text])
            .env("PATH", criu_path())
    };
    let running = shell(script("run", &first)).spawn();
    container.wait_for_status("running");
    wait_until("the word came through", || {
        fs::read_to_string(&first).unwrap_or_default() == "word-run\n"
    });
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    running.wait();
    let noted: Value =
        serde_json::from_slice(&fs::read(images().join("descriptors.json")).unwrap()).unwrap();
    assert!(noted[0].as_str().unwrap().starts_with("pipe:["), "{noted}");

    let running = shell(script("restore", &second)).spawn();
    wait_until("the word came through the new pipes", || {
        fs::read_to_string(&second).unwrap_or_default() == "word-restore\n"
    });
    // The program ends with its input, and the command with the program.
    running.wait();
    container.wait_for_status("stopped");
}

/// A bind mount of the directory `name` beside the bundle.
fn bound(name: &str, destination: &str) -> Value {
    let source = scratch().join(name);
    fs::create_dir_all(&source).unwrap();
    json!({
        "destination": destination, "source": source, "type": "bind", "options": ["bind", "rw"],
    })
}

fn mounts_of_the_host_are_mounted_again() {
    needs(&[Root, Criu]);
    let mut readonly = bound("data", "/mnt/readonly");
    readonly["options"] = json!(["bind", "ro", "nosuid"]);
    let bundle = Bundle::new()
        .mount(bound("data", "/mnt/data"))
        .mount(readonly);
    let container = counting(bundle);
    fs::write(scratch().join("data/word"), "before").unwrap();
    wait_for_count(&container, 5);
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    fs::write(scratch().join("data/word"), "after").unwrap();
    restore_silent(&container, NO_FLAGS).ok();
    let path = inside(&container, "/mnt/data/word");
    assert_eq!(fs::read_to_string(path).unwrap(), "after");
    let call = container.command("exec", NO_FLAGS);
    let call = call.args(["/probe", "write", "/mnt/readonly/word", "x"]);
    assert_eq!(call.output().answer(), "EROFS");
    // A restored container can be saved again.
    there_and_back(&container);
    let path = inside(&container, "/mnt/data/word");
    assert_eq!(fs::read_to_string(path).unwrap(), "after");
}

fn mountpoints_are_made_again() {
    needs(&[Root, Criu]);
    let bundle = Bundle::new()
        .mount(bound("outer", "/mnt/new/outer"))
        .mount(bound("inner", "/mnt/new/outer/deep/inner"));
    let container = counting(bundle);
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    fs::remove_dir_all(scratch().join("outer/deep")).unwrap();
    fs::remove_dir_all(container.bundle.rootfs().join("mnt/new")).unwrap();
    fs::write(scratch().join("inner/word"), "here").unwrap();
    restore_silent(&container, NO_FLAGS).ok();
    let path = inside(&container, "/mnt/new/outer/deep/inner/word");
    assert_eq!(fs::read_to_string(path).unwrap(), "here");
    assert!(scratch().join("outer/deep/inner").is_dir());
}

fn links_lead_to_the_mountpoint() {
    needs(&[Root, Criu]);
    let bundle = Bundle::new().mount(bound("data", "/link/below"));
    symlink("/mnt", bundle.rootfs().join("link")).unwrap();
    let container = counting(bundle);
    fs::write(scratch().join("data/word"), "here").unwrap();
    there_and_back(&container);
    let path = inside(&container, "/mnt/below/word");
    assert_eq!(fs::read_to_string(path).unwrap(), "here");
}

fn masks_and_limits_hold_again() {
    needs(&[Root, Criu, Controller("pids")]);
    let bundle = Bundle::new()
        .set("/root/readonly", true)
        .set("/linux/resources/pids", json!({ "limit": 9 }));
    let container = counting(bundle);
    there_and_back(&container);
    let ask = |modes: &str| {
        let call = container.command("exec", ["--cap", "CAP_MKNOD"]);
        let call = call.arg("/probe").args(modes.split_whitespace());
        call.output().answer()
    };
    for (modes, errno) in [
        ("write /proc/sys/kernel/hostname x", "EROFS"),
        ("write /new x", "EROFS"),
    ] {
        assert_eq!(ask(modes), errno, "{modes}");
    }
    assert_eq!(
        ask("stat /proc/keys")["type"],
        ask("stat /dev/null")["type"]
    );
    assert_eq!(ask("read /proc/keys"), "");
    assert_eq!(ask("list /sys/firmware"), json!([]));
    let state = fs::read(state_root().join(&container.id).join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    let cgroup = |name: &str| {
        let path = state["cgroup"].get(name).or(state["cgroup"].get(""));
        PathBuf::from(path.unwrap().as_str().unwrap())
    };
    let limit = fs::read_to_string(cgroup("pids").join("pids.max")).unwrap();
    assert_eq!(limit.trim(), "9");
    // Block devices are still denied, with any node.
    assert_eq!(ask("mknod /dev/disk b 7 0"), true);
    assert_eq!(ask("open /dev/disk r"), "EPERM");
}

/// Starts a process that sleeps in new namespaces.
fn holder(flags: &[&str]) -> Running {
    let call = Invocation::new("unshare").args(flags);
    let running = call.args(["sleep", "60"]).spawn();
    wait_until("it sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", running.pid)).unwrap_or_default() == "sleep\n"
    });
    running
}

fn namespace(pid: i32, kind: &str) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}"))
        .unwrap()
        .ino()
}

fn network_namespace_is_joined_again() {
    needs(&[Root, Criu, Tool("unshare")]);
    let holder = holder(&["--net"]);
    let path = format!("/proc/{}/ns/net", holder.pid);
    let container = counting(Bundle::new().join_namespace("network", &path));
    for _ in 0..2 {
        there_and_back(&container);
        assert_eq!(
            namespace(container.pid(), "net"),
            namespace(holder.pid, "net")
        );
    }
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    drop(holder);
    let output = restore_silent(&container, NO_FLAGS);
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("/ns/net"), "{output}");
    assert!(!container.has_state());
}

fn other_namespaces_are_joined_again() {
    needs(&[Root, Criu, Tool("unshare")]);
    let holder = holder(&["--uts", "--ipc"]);
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", holder.pid);
    let bundle = Bundle::new()
        .join_namespace("uts", path("uts"))
        .join_namespace("ipc", path("ipc"))
        .remove("/hostname")
        // The mount shows the queues of another ipc namespace, which CRIU does not mount.
        .without_mount("/dev/mqueue");
    let container = counting(bundle);
    there_and_back(&container);
    for kind in ["uts", "ipc"] {
        assert_eq!(
            namespace(container.pid(), kind),
            namespace(holder.pid, kind),
            "{kind}"
        );
    }
}

fn cgroup_namespace_is_made_again() {
    // On v2, CRIU would mount the machine's hierarchy with other options.
    needs(&[Root, Criu, CgroupV1]);
    let container = counting(Bundle::new().namespace("cgroup"));
    // With `ignore`, CRIU makes no cgroup.
    let soft = ["--manage-cgroups-mode=soft"];
    criu(&container, "checkpoint", soft).output().ok();
    restore_silent(&container, soft).ok();
    assert_ne!(
        namespace(container.pid(), "cgroup"),
        namespace(std::process::id().try_into().unwrap(), "cgroup")
    );
    let call = container
        .command("exec", NO_FLAGS)
        .args(["/probe", "report"]);
    call.output().ok().probe();
}

fn scope_of_systemd_is_made_again() {
    needs(&[Seconds(120), Systemd, Root, Criu, Tool("systemctl")]);
    let container = Container::new(Bundle::new().probe("count /dev/shm/count"));
    let call = container.command("run", ["--systemd-cgroup", "--detach"]);
    container.detach(call.after_shell(SILENT)).ok();
    wait_for_count(&container, 1);
    let unit = format!("teu-{}.scope", container.id);
    let is_active = || {
        let call = Invocation::new("systemctl").args(["is-active", "--quiet", &unit]);
        call.output().status.success()
    };
    assert!(is_active());
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    wait_until("the unit is gone", || !is_active());

    restore_silent(&container, ["--systemd-cgroup"]).ok();
    assert!(is_active());
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(
        cgroup.contains(&format!("/system.slice/{unit}\n")),
        "{cgroup}"
    );
    let counted = count(&container);
    wait_for_count(&container, counted + 5);
    container.delete_force().ok();
    wait_until("the unit is gone", || !is_active());
}

fn user_namespace_comes_back() {
    needs(&[Root, Criu, UserNamespaces]);
    let bundle = Bundle::new().user_namespace();
    // The root user of the user namespace must reach the bundle.
    for directory in scratch().ancestors().take(2) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let container = counting(bundle);
    wait_for_count(&container, 5);
    there_and_back(&container);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).unwrap();
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "65536"]);
    wait_for_count(&container, count(&container) + 5);
}

fn hooks_run_at_a_restore() {
    needs(&[Root, Criu]);
    let record = scratch().join("calls");
    let mut bundle = Bundle::new();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        let hook = json!({
            "path": bundle.host_probe(), "args": [kind, "hook", record],
        });
        bundle = bundle.hook(kind, hook);
    }
    let container = counting(bundle);
    let calls = || -> Vec<Value> {
        let text = fs::read_to_string(&record).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let kinds = |calls: &[Value]| -> Vec<String> {
        let kind = |call: &Value| call["argv"][0].as_str().unwrap().to_owned();
        calls.iter().map(kind).collect()
    };
    assert_eq!(kinds(&calls()), ["prestart", "createRuntime", "poststart"]);
    fs::remove_file(&record).unwrap();
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    assert_eq!(kinds(&calls()), ["poststop"]);
    fs::remove_file(&record).unwrap();
    restore_silent(&container, NO_FLAGS).ok();
    let calls = calls();
    assert_eq!(kinds(&calls), ["prestart", "createRuntime"]);
    assert_eq!(calls[0]["state"]["status"], "creating");
    assert_eq!(calls[0]["state"]["pid"], container.pid());
}

fn annotation_names_crius_configuration() {
    needs(&[Root, Criu]);
    let file = scratch().join("criu.conf");
    fs::write(&file, "log-file=other.log\n").unwrap();
    let container = counting(Bundle::new().set("/annotations", json!({ "org.criu.config": file })));
    let work = scratch().join("work");
    let flags = ["--work-path", work.to_str().unwrap()];
    criu(&container, "checkpoint", flags).output().ok();
    assert!(work.join("other.log").exists() && !work.join("dump.log").exists());
    fs::remove_file(work.join("other.log")).unwrap();
    restore_silent(&container, flags).ok();
    assert!(work.join("other.log").exists() && !work.join("restore.log").exists());
}

fn memory_may_be_stored_before() {
    needs(&[Root, Criu, CriuFeature("mem_dirty_track")]);
    let container = counting(Bundle::new());
    wait_for_count(&container, 10);
    let before = scratch().join("before");
    let call = container.command("checkpoint", ["--pre-dump", "--image-path"]);
    let call = call.arg_before_last(&before).env("PATH", criu_path());
    // Without the flag, CRIU mounts the hierarchies, which changes the machine's options.
    let call = call.arg("--manage-cgroups-mode=ignore");
    call.output().ok();
    assert_eq!(container.status(), "running");
    assert!(before.join("pagemap-1.img").exists());
    assert!(!before.join("descriptors.json").exists());
    wait_for_count(&container, count(&container) + 5);
    criu(&container, "checkpoint", ["--parent-path", "../before"])
        .output()
        .ok();
    let parent = fs::read_link(images().join("parent")).unwrap();
    assert_eq!(parent, Path::new("../before"));
    restore_silent(&container, NO_FLAGS).ok();
    wait_for_count(&container, count(&container) + 5);
}

fn lazy_pages_are_announced() {
    needs(&[Root, Criu, CriuFeature("uffd-noncoop")]);
    let container = counting(Bundle::new());
    wait_for_count(&container, 10);
    let ready = scratch().join("ready");
    let flags = [
        "--lazy-pages",
        "--page-server",
        "127.0.0.1:27278",
        "--status-fd",
        "7",
    ];
    let running = criu(&container, "checkpoint", flags)
        .after_shell(&format!("exec 7>{}", ready.display()))
        .spawn();
    wait_until("the pages may be fetched", || {
        fs::read(&ready).unwrap_or_default() == [0]
    });
    assert!(images().join("inventory.img").exists());
    assert!(container.has_state());
    // No process fetches the pages. When CRIU is told to stop, the container continues.
    let served = running.children();
    assert_eq!(served.len(), 1, "one criu serves the command");
    running.signal(Signal::SIGTERM);
    running.wait();
    wait_until("criu ended", || {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(served[0]), Signal::SIGTERM).ok();
        !is_alive(served[0])
    });

    for (number, words) in [("99", "bad file descriptor"), ("8", "not writable")] {
        let flags = ["--lazy-pages", "--status-fd", number];
        let output = criu(&container, "checkpoint", flags)
            .after_shell("exec 8</dev/null")
            .output();
        assert_eq!(output.code(), 1);
        let wanted = format!("invalid --status-fd argument {number}: {words}");
        assert!(output.stderr.contains(&wanted), "{output}");
    }
}

fn only_what_runs_is_stored() {
    needs(&[Root]);
    let container = Container::created(Bundle::new().probe("exit 0"));
    let refused = |status: &str| {
        let output = container.command("checkpoint", ["--image-path"]);
        let output = output.arg_before_last(images()).output();
        assert_eq!(output.code(), 1);
        let words = format!("Container cannot be checkpointed in {status} state");
        assert!(output.stderr.contains(&words), "{output}");
        assert!(!images().exists());
    };
    refused("created");
    container.start().ok();
    container.wait();
    refused("stopped");
    container.delete().ok();
    let output = container.command("checkpoint", NO_FLAGS).output();
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("container does not exist"),
        "{output}"
    );
}

fn refused_options_change_nothing() {
    needs(&[Root]);
    let container = counting(Bundle::new());
    let cases = [
        (["--parent-path", "/tmp"], "--parent-path must be relative"),
        (["--parent-path", "../none"], "invalid --parent-path"),
        (
            ["--manage-cgroups-mode", "some"],
            "invalid manage-cgroups-mode value \\\"some\\\"",
        ),
        (
            ["--empty-ns", "uts"],
            "namespace \\\"uts\\\" is not supported",
        ),
        (
            ["--page-server", "host"],
            "Use --page-server ADDRESS:PORT to specify page server",
        ),
        (["--page-server", "host:port"], "Invalid port number"),
        (["--status-fd", "x"], "invalid value"),
    ];
    for (flags, words) in cases {
        let call = container.command("checkpoint", ["--image-path"]);
        let output = call.arg_before_last(images()).args(flags).output();
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.stderr.contains(words), "{output}");
        assert!(!images().exists(), "{output}");
    }
    wait_for_count(&container, count(&container) + 5);
}

fn container_runs_on_when_it_cannot_be_stored() {
    needs(&[Root, Criu]);
    // CRIU cannot find the container's stdout again, because it is a file of the host.
    let container = Container::new(Bundle::new().probe("count /dev/shm/count"));
    container
        .detach(container.command("run", ["--detach"]))
        .ok();
    wait_for_count(&container, 5);
    let before = HostSnapshot::take();
    let output = criu(&container, "checkpoint", NO_FLAGS).output();
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.contains("criu failed: type DUMP errno 0"),
        "{output}"
    );
    let log = images().join("dump.log");
    assert!(output.stderr.contains(log.to_str().unwrap()), "{output}");
    assert!(output.stderr.contains("Error"), "{output}");
    assert_eq!(container.status(), "running");
    wait_for_count(&container, count(&container) + 5);
    before.assert_unchanged();
}

fn refused_restore_leaves_nothing() {
    needs(&[Root, Criu]);
    let before = HostSnapshot::take();
    let container = Container::new(Bundle::new());
    let refused = |words: &str| {
        let output = restore_silent(&container, NO_FLAGS);
        assert_eq!(output.code(), 1);
        assert!(output.stderr.contains(words), "{output}");
        assert!(!container.has_state(), "{output}");
        before.assert_unchanged();
    };
    refused("no such file or directory");
    assert!(!images().exists());
    fs::create_dir(images()).unwrap();
    refused("descriptors.json");
    fs::write(images().join("descriptors.json"), "[1]").unwrap();
    refused("descriptors.json");
    fs::write(images().join("descriptors.json"), "[]").unwrap();
    refused("criu failed: type RESTORE");
    fs::write(container.bundle.directory.join("config.json"), "{").unwrap();
    refused("config.json");
}

fn failed_restore_leaves_nothing() {
    needs(&[Root, Criu]);
    let before = HostSnapshot::take();
    let container = counting(Bundle::new());
    wait_for_count(&container, 5);
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let core = images().join("core-1.img");
    let whole = fs::read(&core).unwrap();
    fs::write(&core, &whole[..whole.len() / 2]).unwrap();
    let output = restore_silent(&container, NO_FLAGS);
    assert_eq!(output.code(), 1);
    let log = images().join("restore.log");
    assert!(
        output.stderr.contains("criu failed: type RESTORE"),
        "{output}"
    );
    assert!(output.stderr.contains(log.to_str().unwrap()), "{output}");
    assert!(!container.has_state());
    before.assert_unchanged();
    // The failed restore left the name free and the images unchanged.
    fs::write(&core, whole).unwrap();
    restore_silent(&container, NO_FLAGS).ok();
    wait_for_count(&container, count(&container) + 5);
    let taken = restore_silent(&container, NO_FLAGS);
    assert_eq!(taken.code(), 1);
    assert!(
        taken
            .stderr
            .contains("container with given ID already exists"),
        "{taken}"
    );
    assert_eq!(container.status(), "running");
}

fn failed_hook_undoes_a_restore() {
    needs(&[Root, Criu]);
    let container = counting(Bundle::new());
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let before = HostSnapshot::take();
    let hook = json!({
        "path": container.bundle.host_probe(), "args": ["probe", "hook-fail", "3"],
    });
    let mut bundle = Bundle::new();
    bundle.directory.clone_from(&container.bundle.directory);
    bundle.spec.clone_from(&container.bundle.spec);
    bundle.hook("createRuntime", hook).write();
    let output = restore_silent(&container, NO_FLAGS);
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("createRuntime hook #0"), "{output}");
    assert!(!container.has_state());
    before.assert_unchanged();
    container.bundle.write();
    restore_silent(&container, NO_FLAGS).ok();
}

fn killed_restore_leaves_what_delete_removes() {
    needs(&[Root, Criu]);
    let container = counting(Bundle::new());
    criu(&container, "checkpoint", NO_FLAGS).output().ok();
    let before = HostSnapshot::take();
    let hook = json!({
        "path": container.bundle.host_probe(), "args": ["probe", "hook-sleep", "3"],
    });
    let mut bundle = Bundle::new();
    bundle.directory.clone_from(&container.bundle.directory);
    bundle.spec.clone_from(&container.bundle.spec);
    bundle.hook("createRuntime", hook).write();
    let running = criu(&container, "restore", ["--detach"])
        .after_shell(SILENT)
        .spawn();
    wait_until("the hook runs", || running.children().len() >= 3);
    running.signal(Signal::SIGKILL);
    running.wait();
    wait_until("all that criu made has ended", || {
        container.delete_force().status.success() && before.differences().is_empty()
    });
    assert!(!container.has_state());
}

fn idmapped_mounts_are_refused() {
    needs(&[Root, Criu, Kernel(5, 12)]);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let mut mount = bound("data", "/mnt/data");
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    let container = counting(Bundle::new().mount(mount));
    let output = criu(&container, "checkpoint", NO_FLAGS).output();
    assert_eq!(output.code(), 1);
    let words = "CRIU cannot restore such mounts";
    assert!(output.stderr.contains(words), "{output}");
    wait_for_count(&container, count(&container) + 5);
    fs::create_dir(images()).unwrap();
    fs::write(images().join("descriptors.json"), "[]").unwrap();
    container.delete_force().ok();
    let output = restore_silent(&container, NO_FLAGS);
    assert!(output.stderr.contains(words), "{output}");
    assert!(!container.has_state());
}

fn without_criu_nothing_happens() {
    needs(&[Root]);
    let container = counting(Bundle::new());
    let words = "CRIU version check failed: exec: \\\"criu\\\": executable file not found in $PATH";
    let call = container.command("checkpoint", ["--image-path"]);
    let output = call
        .arg_before_last(images())
        .env("PATH", "/nonexistent")
        .output();
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains(words), "{output}");
    assert!(!images().exists());
    wait_for_count(&container, count(&container) + 5);
    // Another program of CRIU's name.
    let directory = scratch().join("bin");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("criu"), "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(directory.join("criu"), fs::Permissions::from_mode(0o755)).unwrap();
    let call = container.command("checkpoint", ["--image-path"]);
    let output = call
        .arg_before_last(images())
        .env("PATH", &directory)
        .output();
    assert_eq!(output.code(), 1);
    let words = "CRIU version check failed: criu ended without an answer";
    assert!(output.stderr.contains(words), "{output}");
    assert_eq!(container.status(), "running");
}
