//! The shim's command line: starting a server, `-info`, `delete`, and the server's end.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, seteuid};
use prost::Message;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::Value;
use teu_shim::proto::Any;
use teu_shim::proto::bootstrap::BootstrapResult;
use teu_shim::proto::task::{ConnectRequest, ShutdownRequest};
use teu_shim::proto::types::RuntimeInfo;

use super::engine::{Bootstrap, Engine, create_request_with_overlay, has_rootfs_mounted, sleeping};
use crate::harness::{
    Bundle, CgroupFiles, Container, Controller, Overlayfs, Root, Teu, is_alive, marker, needs,
    patience, process, tests, wait_until,
};

tests![
    start_answers_as_it_is_asked,
    start_finds_the_shim_of_the_sandbox,
    start_takes_over_from_a_killed_shim,
    shim_can_be_reached_by_its_owner_alone,
    shim_is_killed_before_its_engine,
    shim_has_the_cgroup_that_it_is_given,
    info_tells_what_the_runtime_can_do,
    version_is_told,
    wrong_words_of_the_shim_are_refused,
    shutdown_waits_for_the_last_container,
    shutdown_waits_for_no_engine_that_stands_still,
    shutdown_ends_all_that_was_started,
    signal_ends_a_shim,
    delete_cleans_up_after_a_killed_shim,
    delete_of_what_is_gone_succeeds,
    delete_of_what_never_was_succeeds,
];

/// `start` answers flags with an address, which all versions of containerd read, and a message
/// with a message.
fn start_answers_as_it_is_asked() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (shim, answer) = engine.start_with_answer(&container, Bootstrap::Flags);
    let answer = String::from_utf8(answer).expect("UTF-8");
    if engine.is_ours() {
        assert_eq!(answer, shim.address);
    } else {
        assert!(answer.contains(&shim.address), "{answer}");
        return;
    }
    drop(shim);
    let (shim, answer) = engine.start_with_answer(&container, Bootstrap::Message);
    let result = BootstrapResult::decode(answer.as_slice()).expect("a message");
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    assert_eq!(result.address, shim.address);
}

fn start_finds_the_shim_of_the_sandbox() {
    needs(&[Root]);
    let engine = Engine::new();
    for annotation in [
        "io.kubernetes.cri.sandbox-id",
        "io.containerd.runc.v2.group",
    ] {
        let pointer = format!("/annotations/{annotation}");
        let in_group =
            |name: &str| Container::new(Bundle::new().probe("sleep").set(&pointer, name));
        let (first, second, other) = (in_group("pod"), in_group("pod"), in_group("another"));
        let mut shim = engine.start(&first, Bootstrap::Flags);
        shim.create(&engine, &first);
        let mut same = engine.start(&second, Bootstrap::Flags);
        assert_eq!((&same.address, same.pid), (&shim.address, shim.pid));
        let another = engine.start(&other, Bootstrap::Flags);
        assert_ne!((&another.address, another.pid), (&shim.address, shim.pid));
        same.create(&engine, &second);
        // Removes one container; the other stays.
        shim.start(&first.id, "");
        shim.remove(&first.id);
        engine.delete(&first);
        shim.call(&ShutdownRequest {
            id: first.id.clone(),
            now: false,
        })
        .expect("shutdown");
        same.start(&second.id, "");
        same.remove(&second.id);
        engine.delete(&second);
        drop(same);
        wait_until("the shim has ended", || !is_alive(shim.pid));
    }
}

/// The socket that a killed shim left is replaced.
fn start_takes_over_from_a_killed_shim() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let killed = engine.start(&container, Bootstrap::Flags);
    killed.kill();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    assert_ne!(shim.pid, killed.pid);
    shim.create(&engine, &container);
    shim.start(&container.id, "");
    shim.remove(&container.id);
}

fn shim_can_be_reached_by_its_owner_alone() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let socket = shim
        .address
        .strip_prefix("unix://")
        .expect("a unix socket")
        .to_owned();
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("look at a path")
            .permissions()
            .mode()
            & 0o077
    };
    let socket = Path::new(&socket);
    assert_eq!(mode(socket), 0, "the socket's mode");
    assert_eq!(
        mode(socket.parent().expect("a parent")),
        0,
        "its directory's mode"
    );
    // A user whom file modes do not stop is not answered either.
    let mut stranger = connect_as_another(socket);
    assert_eq!(stranger.read(&mut [0]).expect("read"), 0);
    shim.shutdown();
    wait_until("the socket is gone", || !socket.exists());
}

/// Connects as another user with the capability to open every file.
fn connect_as_another(socket: &Path) -> UnixStream {
    let mut capabilities = capabilities(None).expect("capget");
    seteuid(Uid::from_raw(65534)).expect("seteuid");
    capabilities.effective = CapabilitySet::DAC_OVERRIDE;
    set_capabilities(None, capabilities).expect("capset");
    let stream = UnixStream::connect(socket).expect("connect");
    seteuid(Uid::from_raw(0)).expect("seteuid");
    stream
        .set_read_timeout(Some(patience(Duration::from_secs(5))))
        .expect("set a limit");
    stream
}

/// The kernel's OOM killer must choose the shim before the engine, which is the test here.
fn shim_is_killed_before_its_engine() {
    needs(&[Root]);
    let score = |pid: &str| -> i32 {
        let text =
            fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("read the score");
        text.trim().parse().expect("a number")
    };
    let engine = Engine::new();
    let container = sleeping();
    let shim = engine.start(&container, Bootstrap::Flags);
    assert_eq!(score(&shim.pid.to_string()), (score("self") + 1).min(1000));
}

fn shim_has_the_cgroup_that_it_is_given() {
    needs(&[Root, Controller("pids")]);
    let v2 = Path::new("/sys/fs/cgroup");
    let hierarchy = match v2.join("cgroup.controllers").exists() {
        true => v2.to_owned(),
        false => v2.join("pids"),
    };
    let name = format!("{}shim", marker());
    let directory = hierarchy.join(&name);
    fs::create_dir(&directory).expect("make a cgroup");
    let mut engine = Engine::new();
    engine.cgroup = format!("/{name}");
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let of = |pid: i32| CgroupFiles::of(pid).directory("pids");
    assert_eq!(of(shim.pid), directory);
    let init = shim.create(&engine, &container).cast_signed();
    assert_ne!(of(init), directory);
    shim.remove(&container.id);
    shim.shutdown();
    process::wait(shim.pid);
    wait_until("the shim has left its cgroup", || {
        fs::remove_dir(&directory).is_ok()
    });
}

fn info_tells_what_the_runtime_can_do() {
    needs(&[Root]);
    let engine = Engine::new();
    for options in [Vec::new(), Any::new(&engine.options()).encode_to_vec()] {
        let answer = engine.run(&["-info"], &options).ok();
        let info = RuntimeInfo::decode(answer.stdout.as_slice()).expect("decode the answer");
        assert!(!info.name.is_empty() && info.version.is_some(), "{info:?}");
        let features = info.features.expect("features");
        let url = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
        assert_eq!(features.type_url, url);
        let features: Value = serde_json::from_slice(&features.value).expect("JSON");
        let mount_options = features["mountOptions"].as_array().expect("a list");
        assert!(mount_options.contains(&"rro".into()), "{features}");
    }
}

fn version_is_told() {
    needs(&[Root]);
    let answer = Engine::new().run(&["-v"], &[]).ok();
    let text = String::from_utf8(answer.stdout).expect("UTF-8");
    assert!(text.contains("Version:"), "{text}");
}

fn wrong_words_of_the_shim_are_refused() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    for words in [
        &["-frobnicate", "start"][..],
        &["-namespace"],
        &["frobnicate"],
    ] {
        let answer = engine.run(words, &[]);
        assert!(answer.is_refusal(), "{words:?}: {answer:?}");
    }
    let garbage = engine.run(
        &["-namespace", "state", "-id", "x", "start"],
        b"\xff\xff\xff",
    );
    assert!(garbage.is_refusal(), "{garbage:?}");
}

fn shutdown_waits_for_the_last_container() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.create(&engine, &container);
    let shutdown = ShutdownRequest {
        id: container.id.clone(),
        now: false,
    };
    shim.call(&shutdown).expect("shutdown");
    shim.start(&container.id, "");
    shim.call(&shutdown).expect("shutdown");
    shim.remove(&container.id);
    let connected = shim
        .call(&ConnectRequest {
            id: container.id.clone(),
        })
        .expect("connect");
    assert_eq!(connected.task_pid, 0);
    shim.shutdown();
    // The shim sends its events before it ends.
    engine.events.wait_for("/tasks/delete", &container.id);
    engine.events.assert_in_order();
}

fn shutdown_waits_for_no_engine_that_stands_still() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.create(&engine, &container);
    engine.events.stall();
    shim.remove(&container.id);
    shim.shutdown();
}

fn shutdown_ends_all_that_was_started() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let below = crate::harness::process::descendants(shim.pid);
    shim.shutdown();
    wait_until("its helpers have ended", || {
        !below.iter().any(|pid| is_alive(*pid))
    });
}

/// Containers survive the shim's end; the engine decides about them.
fn signal_ends_a_shim() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let pid = shim.create(&engine, &container);
    shim.start(&container.id, "");
    kill(Pid::from_raw(shim.pid), Signal::SIGTERM).expect("signal the shim");
    wait_until("the shim has ended", || !is_alive(shim.pid));
    assert!(is_alive(pid.try_into().expect("a pid")));
    assert_eq!(engine.delete(&container).exit_status, 137);
    wait_until("init has ended", || {
        !is_alive(pid.try_into().expect("a pid"))
    });
}

fn delete_cleans_up_after_a_killed_shim() {
    needs(&[Root, Controller("pids"), Overlayfs]);
    let engine = Engine::new();
    let container = sleeping();
    let request = create_request_with_overlay(&engine, &container);
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let pid: i32 = shim
        .call(&request)
        .expect("create")
        .pid
        .try_into()
        .expect("a pid");
    shim.start(&container.id, "");
    let cgroup = CgroupFiles::of(pid).directory("pids");
    assert!(has_rootfs_mounted(&container) && cgroup.exists() && container.has_state());
    shim.kill();
    let answer = engine.delete(&container);
    assert_eq!(
        (answer.exit_status, answer.exited_at.is_some()),
        (137, true)
    );
    assert!(
        !has_rootfs_mounted(&container),
        "the root filesystem is still mounted"
    );
    assert!(!cgroup.exists() && !container.has_state());
    wait_until("init has ended", || !is_alive(pid));
    assert_eq!(engine.delete(&container).exit_status, 137);
}

fn delete_of_what_is_gone_succeeds() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.create(&engine, &container);
    shim.start(&container.id, "");
    shim.remove(&container.id);
    drop(shim);
    engine.delete(&container);
    engine.delete(&container);
}

fn delete_of_what_never_was_succeeds() {
    needs(&[Root]);
    let engine = Engine::new();
    engine.delete(&sleeping());
}
