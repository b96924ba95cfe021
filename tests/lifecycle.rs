//! create, start, state, kill, delete and list, each in every state of a container.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::*;

tests![
    program_waits_for_start,
    container_without_a_process_is_not_started,
    status_follows_the_life,
    status_is_creating_meanwhile,
    state_describes_the_container,
    annotations_are_in_the_state,
    created_container_can_be_deleted,
    running_container_is_not_deleted,
    force_deletes_in_every_state,
    force_delete_of_nothing_succeeds,
    delete_leaves_nothing,
    signals_are_named_in_many_ways,
    stopped_container_is_not_killed,
    kill_reaches_everything_in_a_shared_pid_namespace,
    start_works_once,
    duplicate_id_is_refused,
    bad_ids_are_refused,
    unknown_id_does_not_exist,
    create_writes_the_pid_file,
    killed_create_leaves_what_delete_removes,
    init_ends_with_a_killed_create,
    interrupted_creation_is_finished_or_undone,
    one_of_many_creates_wins,
    list_shows_all_containers,
    list_is_empty_without_containers,
    list_filters,
    init_that_died_before_start_is_stopped,
    signal_before_the_start_ends_it,
    signal_right_after_the_creation_ends_it,
    mounts_on_the_host_end_with_the_container,
    mounts_on_the_host_end_with_a_failed_creation,
];

fn program_waits_for_start() {
    needs(&[Root]);
    let container = Container::created(Bundle::new().probe("echo up; sleep"));
    assert_eq!(container.stdout(), "");
    container.start().ok();
    container.wait_for_output("up");
}

fn container_without_a_process_is_not_started() {
    needs(&[Root, Teu]);
    let container = Container::created(Bundle::new().remove("/process"));
    let words = "process property must not be empty";
    for _ in 0..2 {
        container.start().exits(1).says(words);
        assert_eq!(container.status(), "created");
    }
    let exec = container.command("exec", NO_FLAGS).arg("/probe");
    exec.output().exits(255).says(words);
    container.delete().ok();
}

fn status_follows_the_life() {
    needs(&[Root]);
    let container = Container::created(Bundle::new().probe("trap TERM; exit 9"));
    assert_eq!(container.status(), "created");
    container.start().ok();
    container.wait_for_output("ready");
    assert_eq!(container.status(), "running");
    container.kill("TERM").ok();
    assert_eq!(container.wait(), 9);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
}

fn status_is_creating_meanwhile() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new();
    let fifo = scratch().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hook = json!({ "path": "/bin/cat", "args": ["cat", fifo] });
    let container = Container::new(bundle.hook("createRuntime", hook));
    let create = container.command("create", NO_FLAGS).spawn();
    container.wait_for_status("creating");
    let list = teu(["list"]).output().ok();
    assert!(list.stdout.contains("creating"), "{list}");
    // Lets the hook end.
    fs::write(&fifo, "").unwrap();
    create.wait().ok();
    assert_eq!(container.status(), "created");
}

fn state_describes_the_container() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    let state = container.state();
    assert_eq!(state["id"], container.id);
    assert_eq!(state["bundle"], json!(container.bundle.directory));
    assert_eq!(state["rootfs"], json!(container.bundle.rootfs()));
    assert_eq!(state["pid"], container.pid());
    assert!(is_alive(container.pid()));
    let created = state["created"].as_str().unwrap();
    assert!(created.contains('T') && created.ends_with('Z'), "{created}");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
}

fn annotations_are_in_the_state() {
    needs(&[Root]);
    let annotations = json!({ "org.example.colour": "green", "org.example.size": "" });
    let container = Container::created(Bundle::new().set("/annotations", annotations.clone()));
    assert_eq!(container.state()["annotations"], annotations);
}

fn created_container_can_be_deleted() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    container.delete().ok();
    assert!(!container.has_state());
    wait_until("init is gone", || !is_alive(container.pid()));
}

fn running_container_is_not_deleted() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("sleep"));
    container
        .delete()
        .exits(1)
        .says("cannot delete container")
        .says("that is not stopped");
    assert!(is_alive(container.pid()));
}

fn force_deletes_in_every_state() {
    needs(&[Root]);
    let created = Container::created(Bundle::new());
    let running = Container::running(Bundle::new().probe("sleep"));
    let stopped = Container::running(Bundle::new().probe("exit 0"));
    stopped.wait();
    for container in [created, running, stopped] {
        container.delete_force().ok();
        assert!(!container.has_state());
        assert!(!is_alive(container.pid()));
    }
}

fn force_delete_of_nothing_succeeds() {
    needs(&[Root]);
    let output = teu(["delete", "--force", "never-was"]).output().ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}

fn delete_leaves_nothing() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let container = Container::running(Bundle::new().namespace("cgroup").probe("exit 0"));
    container.wait();
    container.delete().ok();
    before.assert_unchanged();
}

fn signals_are_named_in_many_ways() {
    needs(&[Root]);
    for name in ["TERM", "term", "SIGTERM", "15"] {
        let container = Container::running(Bundle::new().probe("trap TERM; exit 3"));
        container.wait_for_output("ready");
        container.kill(name).ok();
        assert_eq!(container.wait(), 3, "{name}");
    }
    // The default signal is SIGTERM; signal 0 checks whether a process exists.
    let container = Container::running(Bundle::new().probe("trap TERM; exit 3"));
    container.wait_for_output("ready");
    container.kill("0").ok();
    container.command("kill", NO_FLAGS).output().ok();
    assert_eq!(container.wait(), 3);
}

fn stopped_container_is_not_killed() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("exit 0"));
    container.wait();
    container
        .kill("TERM")
        .exits(1)
        .says("container not running");
    let call = teu(["kill", "--all", &container.id, "KILL"]);
    call.output().ok();
}

fn kill_reaches_everything_in_a_shared_pid_namespace() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .without_namespace("pid")
        .probe("fork 3; sleep");
    let container = Container::running(bundle);
    container.wait_for_output("ok");
    let pids: Vec<i32> = serde_json::from_value(
        serde_json::from_str::<serde_json::Value>(&container.stdout()).unwrap()["ok"].clone(),
    )
    .unwrap();
    assert!(
        pids.len() == 3 && pids.iter().all(|pid| is_alive(*pid)),
        "{pids:?}"
    );
    container.kill("KILL").ok();
    wait_until("all processes are gone", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
}

fn start_works_once() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("trap TERM"));
    container.wait_for_output("ready");
    container
        .start()
        .exits(1)
        .says("cannot start an already running container");
    container.kill("TERM").ok();
    container.wait();
    container
        .start()
        .exits(1)
        .says("cannot start a container that has stopped");
}

fn duplicate_id_is_refused() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    let words = "container with given ID already exists";
    let pid = container.pid();
    container
        .command("create", NO_FLAGS)
        .output()
        .exits(1)
        .says(words);
    container
        .command("run", NO_FLAGS)
        .output()
        .exits(1)
        .says(words);
    assert_eq!(container.status(), "created");
    assert!(is_alive(pid));
}

fn bad_ids_are_refused() {
    needs(&[Root]);
    let bundle = Bundle::new();
    bundle.write();
    let create = |id: &str| {
        teu(["create", "--bundle"])
            .arg(&bundle.directory)
            .arg(id)
            .output()
    };
    for id in ["..", ".", "a/b", "a b", "a:b", "../up", "ü"] {
        create(id).exits(1).says("invalid container ID format");
    }
    create("").exits(1).says("container id cannot be empty");
}

fn unknown_id_does_not_exist() {
    needs(&[Root]);
    for verb in ["state", "start", "kill", "delete"] {
        teu([verb, "never-was"])
            .output()
            .exits(1)
            .says("container does not exist");
    }
}

fn create_writes_the_pid_file() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    // A relative path is relative to the caller's working directory.
    container.create_with(["--pid-file", "pid"]).ok();
    let text = fs::read_to_string(scratch().join("pid")).unwrap();
    assert_eq!(text, container.pid().to_string());
}

fn killed_create_leaves_what_delete_removes() {
    needs(&[Root, Seconds(60)]);
    let before = HostSnapshot::take();
    // Kill at moments spread over the few milliseconds of a creation.
    for step in 0..20 {
        let container = Container::new(Bundle::new());
        let running = container.command("create", NO_FLAGS).spawn();
        std::thread::sleep(std::time::Duration::from_micros(step * 1000));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        container.delete_force().ok();
        assert!(!container.has_state());
    }
    before.assert_unchanged();
}

/// Init ends also while it does not listen to its parent, but waits for a hook of its own.
fn init_ends_with_a_killed_create() {
    needs(&[Root]);
    let bundle = Bundle::new();
    let file = scratch().join("hook");
    let hook = json!({ "path": bundle.host_probe(), "args": ["probe", "hook-sleep", "60"] });
    let bundle = bundle
        .recording_hook("createContainer", &file)
        .hook("createContainer", hook);
    let container = Container::new(bundle);
    let create = container.command("create", NO_FLAGS).spawn();
    wait_until("init runs its hooks", || file.exists());
    let processes = create.children();
    create.signal(Signal::SIGKILL);
    create.wait();
    wait_until("init has ended", || {
        !processes.iter().any(|pid| is_alive(*pid))
    });
    container.delete_force().ok();
}

fn interrupted_creation_is_finished_or_undone() {
    needs(&[Root]);
    const STEPS: u32 = 40;
    let before = HostSnapshot::take();
    let whole = Container::new(Bundle::new().probe("sleep"))
        .create()
        .ok()
        .took;
    let (mut finished, mut undone) = (0, 0);
    // Kill at moments spread over the time of a creation, most of them early: later it blocks
    // signals until it is done.
    for step in 0..STEPS {
        let container = Container::new(Bundle::new().probe("sleep"));
        let (verb, flags, status) = match step % 2 {
            0 => ("create", &[][..], "created"),
            _ => ("run", &["--detach"][..], "running"),
        };
        let running = container.command(verb, flags).spawn();
        std::thread::sleep(whole * (step * step) / (STEPS * STEPS));
        running.signal(Signal::SIGTERM);
        // Whether it was alive when the signal was sent.
        let was_alive = is_alive(running.pid);
        match running.wait().code() {
            0 => {
                assert_eq!(container.status(), status);
                finished += i32::from(was_alive);
            }
            code => {
                assert_eq!(code, -15);
                assert!(!container.has_state(), "{verb} after {step}");
                undone += 1;
            }
        }
    }
    let both = finished > 0 && undone > 0;
    assert!(both, "{finished} were finished, {undone} undone");
    before.assert_unchanged();
}

fn one_of_many_creates_wins() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("sleep"));
    let calls: Vec<Running> = (0..4)
        .map(|_| container.command("create", NO_FLAGS).spawn())
        .collect();
    let outputs: Vec<Output> = calls.into_iter().map(Running::wait).collect();
    let winners = outputs.iter().filter(|output| output.code() == 0).count();
    assert_eq!(winners, 1, "{outputs:?}");
    assert_eq!(container.status(), "created");
    container.start().ok();
}

fn list_shows_all_containers() {
    needs(&[Root]);
    let first = Container::created(Bundle::new());
    let second = Container::running(Bundle::new().probe("sleep"));
    let table = teu(["list"]).output().ok().stdout;
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        header,
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!(table.lines().count(), 3, "{table}");
    let line = table
        .lines()
        .find(|line| line.starts_with(&second.id))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        words[1..3],
        [second.pid().to_string(), "running".to_owned()]
    );
    assert_eq!(words[5], "root");

    let all = teu(["list", "--format", "json"]).output().ok().json();
    let ids: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert!(
        ids.contains(&json!(first.id)) && ids.contains(&json!(second.id)),
        "{ids:?}"
    );

    let quiet = teu(["list", "-q"]).output().ok().stdout;
    assert_eq!(quiet.lines().count(), 2);
    assert!(quiet.lines().any(|line| line == first.id), "{quiet}");
}

fn list_is_empty_without_containers() {
    needs(&[Root]);
    assert_eq!(teu(["list"]).output().ok().stdout.lines().count(), 1);
    assert_eq!(
        teu(["list", "-f", "json"]).output().ok().json(),
        json!(null)
    );
    assert_eq!(teu(["list", "-q"]).output().ok().stdout, "");
}

fn list_filters() {
    needs(&[Root, Teu]);
    let labelled = Bundle::new().set("/annotations", json!({ "app": "web" }));
    let first = Container::created(labelled);
    let second = Container::running(Bundle::new().probe("exit 0"));
    second.wait();
    let ids = |filter| teu(["list", "-q", "--filter", filter]).output().ok().stdout;
    assert_eq!(ids("app=web").trim(), first.id);
    assert_eq!(ids("status=stopped").trim(), second.id);
    assert_eq!(ids("status=running"), "");
}

fn init_that_died_before_start_is_stopped() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    container.kill("KILL").ok();
    container.wait();
    assert_eq!(container.status(), "stopped");
    container.start().exits(1);
    container.delete().ok();
}

fn signal_before_the_start_ends_it() {
    needs(&[Root, Teu]);
    let container = Container::created(Bundle::new());
    container.kill("WINCH").ok();
    assert_eq!(container.status(), "created");
    container.kill("TERM").ok();
    container.wait();
    assert_eq!(container.status(), "stopped");
}

fn signal_right_after_the_creation_ends_it() {
    needs(&[Root, Teu]);
    for _ in 0..10 {
        let container = Container::new(Bundle::new());
        let file = scratch().join("pid");
        let create = container.command("create", ["--pid-file"]);
        create.arg_before_last(&file).output().ok();
        let pid = fs::read_to_string(&file).unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        wait_until("init has ended", || !is_alive(pid));
    }
}

fn mounts_on_the_host_end_with_the_container() {
    needs(&[Root, Teu]);
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/a b", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/a b/c", "type": "tmpfs", "source": "tmpfs" },
    ]);
    let bundle = Bundle::new()
        .without_namespace("mount")
        .set("/mounts", mounts)
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths")
        .probe("sleep");
    let mounted = mount_counter(&bundle);
    let container = Container::running(bundle);
    assert_eq!(mounted(), 3);
    container.delete_force().ok();
    assert_eq!(mounted(), 0);
}

fn mounts_on_the_host_end_with_a_failed_creation() {
    needs(&[Root, Teu]);
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/mnt", "type": "no-such-filesystem", "source": "none" },
    ]);
    let bundle = Bundle::new()
        .without_namespace("mount")
        .set("/mounts", mounts)
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let mounted = mount_counter(&bundle);
    Container::new(bundle).create().exits(1);
    assert_eq!(mounted(), 0);
}

/// Counts this namespace's mounts in the bundle's root filesystem.
fn mount_counter(bundle: &Bundle) -> impl Fn() -> usize + use<> {
    let rootfs = bundle.rootfs().display().to_string();
    move || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().filter(|line| line.contains(&rootfs)).count()
    }
}
