//! The effects of calls, as the kernel and the runtime see them beside the shim.

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::mount::{MountFlags, mount_remount};
use serde_json::json;
use teu_shim::proto::Any;
use teu_shim::proto::events::{Event as _, TaskCreate, TaskExit, TaskOOM};
use teu_shim::proto::options::runc;
use teu_shim::proto::options::runtime;
use teu_shim::proto::task::*;

use super::engine::{
    Bootstrap, Engine, Shim, Streams, create_request, create_request_with_overlay, exec_request,
    has_rootfs_mounted, kill_request, running, sleeping, wait,
};
use super::streams::Fifo;
use crate::harness::{
    self, Alone, Bundle, CgroupFiles, Container, Controller, Criu, Overlayfs, Root, Teu, criu_path,
    is_alive, needs, scratch, tests, teu, wait_until,
};

tests![
    runtime_sees_the_container,
    runtime_may_end_the_container,
    oom_is_told_before_the_exit,
    all_who_wait_are_told,
    kill_of_all_reaches_execs,
    the_socket_of_containerds_service_is_not_handed_on,
    end_of_init_ends_what_shares_the_pid_namespace,
    pause_stops_a_program,
    update_reaches_the_cgroup,
    statistics_count,
    root_filesystem_is_mounted_and_unmounted,
    failed_create_through_the_shim_leaves_nothing,
    checkpoint_and_restore,
    options_in_toml,
    other_runtime_is_run,
    half_a_call_blocks_nobody,
    broken_frame_ends_its_connection_only,
    too_long_a_call_is_refused,
];

fn runtime_sees_the_container() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let pid = shim.create(&engine, &container);
    assert_eq!(
        (container.status().as_str(), &container.state()["pid"]),
        ("created", &json!(pid))
    );
    shim.start(&container.id, "");
    let list = teu(["list", "--format", "json"]).output().ok().json();
    assert_eq!(
        (&list[0]["id"], &list[0]["status"]),
        (&json!(container.id), &json!("running"))
    );
    let output = container
        .command("exec", harness::NO_FLAGS)
        .args(["/probe", "echo", "words"])
        .output();
    assert_eq!(output.ok().stdout, "words\n");
    shim.kill_with(&container.id, "", Signal::SIGKILL);
    shim.wait(&container.id, "");
    assert_eq!(container.status(), "stopped");
    shim.delete(&container.id, "");
    assert!(!container.has_state());
}

/// Ends a container by `teu kill` and `teu delete`, which the shim does not see: the kernel
/// tells the shim, and the shim's own delete succeeds.
fn runtime_may_end_the_container() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    container.delete_force().ok();
    assert_eq!(shim.wait(&container.id, ""), 137);
    assert_eq!(shim.delete(&container.id, ""), 137);
    engine.events.wait_for("/tasks/delete", &container.id);
    engine.events.assert_in_order();
}

fn oom_is_told_before_the_exit() {
    needs(&[Root, Controller("memory")]);
    let engine = Engine::new();
    let limit = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    let bundle = Bundle::new()
        .probe("allocate 268435456")
        .set("/linux/resources/memory", limit);
    let container = Container::new(bundle);
    let (mut shim, _) = running(&engine, &container);
    assert_eq!(shim.wait(&container.id, ""), 137);
    engine.events.wait_for(TaskExit::TOPIC, &container.id);
    engine.events.wait_for(TaskOOM::TOPIC, &container.id);
    let heard = engine.events.heard();
    let place = |topic| heard.iter().position(|event| event.topic == topic);
    assert!(place(TaskOOM::TOPIC) < place(TaskExit::TOPIC), "{heard:?}");
    // An engine reads the statistics after the end.
    shim.call(&StatsRequest {
        id: container.id.clone(),
    })
    .expect("statistics");
    shim.delete(&container.id, "");
}

fn all_who_wait_are_told() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    let id = &container.id;
    shim.add(id, "exec", "sleep");
    shim.start(id, "exec");
    let mut others = [shim.connect(shim.version), shim.connect(shim.version)];
    let early: Vec<_> = (0..3).map(|_| shim.send(&wait(id, "exec"))).collect();
    let of_init: Vec<_> = others
        .iter_mut()
        .map(|other| other.send(&wait(id, "")))
        .collect();
    // One of the waiting clients disconnects.
    let mut gone = shim.connect(shim.version);
    gone.send(&wait(id, ""));
    drop(gone);
    shim.kill_with(id, "exec", Signal::SIGTERM);
    for sent in early {
        assert_eq!(shim.receive(sent).expect("wait").exit_status, 143);
    }
    shim.kill_with(id, "", Signal::SIGKILL);
    for (other, sent) in others.iter_mut().zip(of_init) {
        let reply = other.receive(sent).expect("wait");
        assert_eq!(reply.exit_status, 137);
        assert!(reply.exited_at.is_some_and(|time| time.seconds > 0));
    }
    assert_eq!(shim.delete(id, "exec"), 143);
    assert_eq!(shim.delete(id, ""), 137);
}

/// Or a container would say for containerd that it is ready, and its start wait for that.
fn the_socket_of_containerds_service_is_not_handed_on() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let socket = scratch().join("notify.sock");
    let mut shim = engine.start_with(&container, ("NOTIFY_SOCKET", socket.as_os_str()));
    let server = fs::read_to_string(format!("/proc/{}/environ", shim.pid)).unwrap();
    assert!(!server.contains("NOTIFY_SOCKET"), "{server:?}");
    let pid = shim.create(&engine, &container);
    shim.start(&container.id, "");
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environment.contains("NOTIFY_SOCKET"), "{environment:?}");
    shim.remove(&container.id);
}

fn kill_of_all_reaches_execs() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    let id = &container.id;
    shim.add(id, "exec", "sleep");
    shim.start(id, "exec");
    let all = KillRequest {
        all: true,
        ..kill_request(id, "", Signal::SIGKILL as i32)
    };
    shim.call(&all).expect("kill");
    assert_eq!(shim.wait(id, "exec"), 137);
    assert_eq!(shim.wait(id, ""), 137);
    shim.delete(id, "exec");
    shim.delete(id, "");
    engine.events.assert_in_order();
}

/// Without a pid namespace of its own, the shim must kill the other processes, not the kernel;
/// init's exit is reported after that.
fn end_of_init_ends_what_shares_the_pid_namespace() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("sleep").without_namespace("pid"));
    let (mut shim, _) = running(&engine, &container);
    let id = &container.id;
    shim.add(id, "exec", "sleep");
    shim.start(id, "exec");
    shim.kill_with(id, "", Signal::SIGKILL);
    assert_eq!(shim.wait(id, ""), 137);
    assert_eq!(shim.wait(id, "exec"), 137);
    shim.delete(id, "exec");
    shim.delete(id, "");
    engine.events.wait_for("/tasks/delete", id);
    engine.events.assert_in_order();
}

fn pause_stops_a_program() {
    needs(&[Root, Controller("freezer")]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("count /tmp/number"));
    let (mut shim, _) = running(&engine, &container);
    let file = container.bundle.rootfs().join("tmp/number");
    let number = || fs::read_to_string(&file).unwrap_or_default();
    wait_until("the program counts", || !number().is_empty());
    shim.call(&PauseRequest {
        id: container.id.clone(),
    })
    .expect("pause");
    assert_eq!(container.status(), "paused");
    let paused = number();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(number(), paused);
    shim.call(&ResumeRequest {
        id: container.id.clone(),
    })
    .expect("resume");
    wait_until("the program counts on", || number() != paused);
    shim.remove(&container.id);
}

fn update_reaches_the_cgroup() {
    needs(&[Root, Controller("pids")]);
    let engine = Engine::new();
    let container = Container::new(
        Bundle::new()
            .probe("sleep")
            .set("/linux/resources/pids/limit", 64),
    );
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let pid = shim.create(&engine, &container).try_into().expect("a pid");
    shim.start(&container.id, "");
    let resources = Any {
        type_url: String::new(),
        value: br#"{"pids":{"limit":77}}"#.to_vec(),
    };
    let resources = Some(resources);
    shim.call(&UpdateTaskRequest {
        id: container.id.clone(),
        resources,
        ..UpdateTaskRequest::default()
    })
    .expect("update");
    assert_eq!(
        CgroupFiles::of(pid)
            .read("pids", "pids.max", "pids.max")
            .trim(),
        "77"
    );
    shim.remove(&container.id);
}

/// Tests only that the statistics are of this container. Their contents are tested beside the
/// messages.
fn statistics_count() {
    needs(&[Root, Controller("pids")]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("fork 6;sleep"));
    let (mut shim, _) = running(&engine, &container);
    let request = StatsRequest {
        id: container.id.clone(),
    };
    wait_until("seven processes are counted", || {
        let stats = shim
            .call(&request)
            .expect("statistics")
            .stats
            .expect("statistics");
        // The field `Metrics.pids`, and `current` in it.
        let pids = match stats.type_url.as_str() {
            "io.containerd.cgroups.v1.Metrics" => 0x12,
            "io.containerd.cgroups.v2.Metrics" => 0x0a,
            other => panic!("statistics of the type {other}"),
        };
        let mut places = stats.value.windows(4);
        places.any(|bytes| bytes[0] == pids && bytes[2..] == [0x08, 7])
    });
    let pids = shim
        .call(&PidsRequest {
            id: container.id.clone(),
        })
        .expect("pids");
    assert_eq!(pids.processes.len(), 7);
    shim.remove(&container.id);
}

fn root_filesystem_is_mounted_and_unmounted() {
    needs(&[Root, Overlayfs]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("write /tmp/file text;sleep"));
    let request = create_request_with_overlay(&engine, &container);
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.call(&request).expect("create");
    assert!(has_rootfs_mounted(&container));
    shim.start(&container.id, "");
    let written = container.bundle.directory.join("upper/tmp/file");
    wait_until("the program has written", || written.exists());
    shim.remove(&container.id);
    assert!(!has_rootfs_mounted(&container));
    let create = engine.events.wait_for(TaskCreate::TOPIC, &container.id);
    assert!(create.text.contains("overlay"), "{}", create.text);
}

fn failed_create_through_the_shim_leaves_nothing() {
    needs(&[Root, Overlayfs]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().args(["/no/such/program"]));
    let request = create_request_with_overlay(&engine, &container);
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let refused = shim
        .call(&request)
        .expect_err("a program that is not there");
    assert!(
        refused.message.contains("no such file or directory"),
        "{refused:?}"
    );
    assert!(!has_rootfs_mounted(&container) && !container.has_state());
    assert_eq!(engine.events.heard(), []);
}

fn checkpoint_and_restore() {
    needs(&[Root, Teu, Criu, Alone]);
    let _options = KeptOptions::new();
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("count /tmp/number"));
    let mut shim = engine.start_with(&container, ("PATH", &criu_path()));
    let id = &container.id;
    shim.create(&engine, &container);
    shim.start(id, "");
    let file = container.bundle.rootfs().join("tmp/number");
    let number = || {
        fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    wait_until("the program counts", || number() > Some(3));
    let images = scratch().join("images");
    let path = images.to_str().expect("a path in UTF-8").to_owned();
    let options = runc::CheckpointOptions {
        exit: true,
        ..runc::CheckpointOptions::default()
    };
    let options = Some(Any::new(&options));
    shim.call(&CheckpointTaskRequest {
        id: id.clone(),
        path: path.clone(),
        options,
    })
    .expect("checkpoint");
    shim.wait(id, "");
    let reached = number();
    shim.delete(id, "");

    let request = CreateTaskRequest {
        checkpoint: path,
        ..create_request(&engine, &container, &Streams::default())
    };
    assert_eq!(shim.call(&request).expect("create").pid, 0);
    let pid = shim.start(id, "").try_into().expect("a pid");
    assert!(is_alive(pid));
    wait_until("the program counts on", || number() > reached);
    fs::write(container.bundle.rootfs().join("tmp/number.stop"), "").expect("stop the program");
    assert_eq!(shim.wait(id, ""), 7);
    assert_eq!(shim.delete(id, ""), 7);
    engine.events.assert_in_order();
}

/// The options of the machine's v2 hierarchy, restored when dropped: CRIU mounts the hierarchy
/// without options, which changes those of the machine's mount, too.
struct KeptOptions(Option<CString>);

impl KeptOptions {
    const HIERARCHY: &str = "/sys/fs/cgroup";

    fn new() -> KeptOptions {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        let options = mounts.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - cgroup2 ")?;
            let (_, options) = filesystem.split_once(" rw,")?;
            let is_it = mount.contains(&format!(" {} ", KeptOptions::HIERARCHY));
            is_it.then(|| CString::new(options).expect("a line"))
        });
        KeptOptions(options)
    }
}

impl Drop for KeptOptions {
    fn drop(&mut self) {
        if let Some(options) = &self.0 {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let flags = flags | MountFlags::RELATIME;
            let options = options.as_c_str();
            mount_remount(KeptOptions::HIERARCHY, flags, options).expect("remount");
        }
    }
}

/// Engines send the runc shim's options as TOML to a runtime that they do not know.
fn options_in_toml() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    if !engine.is_ours() {
        return;
    }
    let container = sleeping();
    let body = format!("Root = {:?}\nNoPivotRoot = true\n", scratch());
    let file = scratch().join("options.toml");
    fs::write(&file, &body).expect("write the options");
    let options = runtime::Options {
        config_body: body.into_bytes(),
        ..runtime::Options::default()
    };
    let config_path = file.to_str().expect("a path in UTF-8").to_owned();
    let by_path = runtime::Options {
        config_path,
        ..runtime::Options::default()
    };
    let mut shim = engine.start(&container, Bootstrap::Flags);
    for options in [options, by_path] {
        let request = CreateTaskRequest {
            options: Some(Any::new(&options)),
            ..create_request(&engine, &container, &Streams::default())
        };
        shim.call(&request).expect("create");
        assert_eq!(container.status(), "created");
        shim.start(&container.id, "");
        shim.remove(&container.id);
    }
}

/// `BinaryName` names another program: a script that writes its arguments down and calls teu.
fn other_runtime_is_run() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (program, log) = (scratch().join("other"), scratch().join("calls"));
    let runtime = harness::runtime();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n",
        log.display(),
        runtime.display()
    );
    fs::write(&program, script).expect("write the program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make it one");
    let binary_name = program.to_str().expect("a path in UTF-8").to_owned();
    let options = runc::Options {
        binary_name,
        ..engine.options()
    };
    let request = CreateTaskRequest {
        options: Some(Any::new(&options)),
        ..create_request(&engine, &container, &Streams::default())
    };
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let id = &container.id;
    shim.call(&request).expect("create");
    shim.start(id, "");
    let fifo = Fifo::new("stdout");
    let output = fifo.read();
    let stdio = Streams::to(&fifo.name());
    shim.call(&exec_request(id, "exec", "echo words", &stdio))
        .expect("exec");
    shim.start(id, "exec");
    assert_eq!(shim.wait(id, "exec"), 0);
    assert_eq!(output.join().expect("read"), b"words\n");
    shim.delete(id, "exec");
    shim.remove(id);
    let calls = fs::read_to_string(log).expect("read the calls");
    for command in [
        "create --bundle",
        "start",
        "exec --process",
        "kill",
        "delete",
    ] {
        assert!(
            calls.contains(&format!(" {command} ")),
            "{command:?} is missing in {calls}"
        );
    }
    engine.events.assert_in_order();
}

fn open(shim: &Shim) -> UnixStream {
    let path = shim.address.strip_prefix("unix://").expect("a unix socket");
    UnixStream::connect(path).expect("connect")
}

fn half_a_call_blocks_nobody() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let mut half = open(&shim);
    half.write_all(&[0, 0, 0, 100, 0, 0, 0, 1, 1, 0, 10, 5])
        .expect("send half a call");
    let mut silent = Vec::new();
    silent.resize_with(50, || open(&shim));
    shim.create(&engine, &container);
    shim.start(&container.id, "");
    shim.remove(&container.id);
}

fn broken_frame_ends_its_connection_only() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    for bytes in [
        &[0xff; 64][..],
        &[0, 0, 0, 3, 0, 0, 0, 1, 1, 0, 0xff, 0xff, 0xff],
    ] {
        let mut broken = open(&shim);
        // The shim may close the connection before all is sent.
        drop(broken.write_all(bytes));
        let connect = ConnectRequest {
            id: container.id.clone(),
        };
        shim.call(&connect).expect("connect");
    }
    shim.remove(&container.id);
}

fn too_long_a_call_is_refused() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let mut client = shim.connect(shim.version);
    let request = StateRequest {
        id: "x".repeat(5 << 20),
        ..StateRequest::default()
    };
    let refused = client.call(&request).expect_err("more than 4 MiB");
    assert_eq!(refused.code, 8, "{refused:?}");
    // The connection still works.
    let connect = ConnectRequest {
        id: container.id.clone(),
    };
    client.call(&connect).expect("connect");
    shim.call(&connect).expect("connect");
}
