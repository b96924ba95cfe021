//! Shims that are killed at any moment: the engine's cleanup must leave nothing.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use teu_shim::proto::task::{ConnectRequest, PidsRequest};

use super::client::Client;
use super::engine::{
    Bootstrap, Engine, Streams, create_request_with_overlay, exec_request, has_rootfs_mounted,
    kill_request, start,
};
use crate::harness::{
    Bundle, Container, HostSnapshot, Overlayfs, Root, Seconds, needs, rounds, run_first, tests,
};

tests![
    shims_killed_at_any_moment_leave_nothing,
    killed_shim_listens_no_longer_than_it_answers,
    engine_that_comes_back_finds_its_tasks
];

/// The time after its first call within which a shim is killed.
const LIFE: Duration = Duration::from_millis(40);

fn shims_killed_at_any_moment_leave_nothing() {
    needs(&[Root, Overlayfs, Seconds(300)]);
    let engine = Engine::new();
    let before = HostSnapshot::take();
    let many = rounds(100);
    for number in 0..many {
        let container = Container::new(Bundle::new().probe("sleep"));
        let create = create_request_with_overlay(&engine, &container);
        let mut shim = engine.start(&container, Bootstrap::Flags);
        let id = &container.id;
        // The answers are not awaited, because the shim may be killed before them.
        shim.send(&create);
        let asked = shim.connect(shim.version);
        let asking = {
            let id = id.clone();
            std::thread::spawn(move || ask_on(asked, &id))
        };
        // The moments are spread evenly over the time, but not in order.
        std::thread::sleep(LIFE * (number * 37 % many) / many);
        shim.kill();
        asking.join().expect("ask until the end");
        engine.delete(&container);
        assert!(!container.has_state(), "the state is left");
        assert!(
            !has_rootfs_mounted(&container),
            "the root filesystem is still mounted"
        );
        before.assert_unchanged();
    }
}

/// An engine runs `delete` as soon as its connection is closed. If a process still listens on the
/// socket then, `delete` takes it for the socket of a living shim and leaves it.
fn killed_shim_listens_no_longer_than_it_answers() {
    needs(&[Root]);
    let engine = Engine::new();
    for _ in 0..rounds(20) {
        let container = Container::new(Bundle::new().probe("sleep"));
        let shim = engine.start(&container, Bootstrap::Flags);
        let mut client = shim.connect(shim.version);
        // On a single processor this thread continues the moment its connection is closed, while
        // the shim still has to close the rest.
        let mut processor = CpuSet::new();
        processor.set(0).expect("a processor");
        for pid in [0, shim.pid] {
            sched_setaffinity(Pid::from_raw(pid), &processor).expect("share a processor");
        }
        match run_first() {
            // A cgroup may have no real-time budget. Then the number of rounds must suffice.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => panic!("become real-time: {error}"),
        }
        kill(Pid::from_raw(shim.pid), Signal::SIGKILL).expect("kill the shim");
        let connect = ConnectRequest {
            id: container.id.clone(),
        };
        while client.is_open_after(&connect) {}
        let path = shim.address.strip_prefix("unix://").expect("a path");
        let error = UnixStream::connect(path).expect_err("someone listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        engine.delete(&container);
        assert!(!Path::new(path).exists(), "the socket is left");
    }
}

/// Starts the container once it is created, then execs, until the shim is killed.
fn ask_on(mut client: Client, id: &str) {
    for number in 0.. {
        let exec = format!("exec-{number}");
        let is_there = client.is_open_after(&start(id, ""))
            && client.is_open_after(&exec_request(id, &exec, "sleep", &Streams::default()))
            && client.is_open_after(&start(id, &exec))
            && client.is_open_after(&kill_request(id, &exec, Signal::SIGKILL as i32));
        if !is_there {
            return;
        }
    }
}

/// Tasks survive when connections and receivers of events come and go.
fn engine_that_comes_back_finds_its_tasks() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("sleep"));
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let pid = shim.create(&engine, &container);
    let id = container.id.clone();
    for is_started in [false, true] {
        engine.events.close();
        shim.reconnect();
        let connected = shim.call(&ConnectRequest { id: id.clone() });
        assert_eq!(connected.expect("connect").task_pid, pid);
        let pids = shim.call(&PidsRequest { id: id.clone() });
        assert!(!pids.expect("pids").processes.is_empty());
        if !is_started {
            shim.start(&id, "");
        }
        engine.events.open();
    }
    shim.remove(&id);
    engine.events.wait_for("/tasks/delete", &id);
    engine.events.assert_in_order();
}
