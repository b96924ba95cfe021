//! Servers that run out of resources, or whose clients misbehave.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use teu_shim::proto::task::ConnectRequest;
use teu_shim::proto::ttrpc::Request;

use super::client::frame;
use super::engine::{Engine, Shim, running, sleeping, wait};
use crate::harness::{Bundle, Container, Root, Teu, is_alive, needs, process, tests, wait_until};

tests![
    client_that_reads_nothing_is_not_read_from,
    server_without_descriptors_waits_for_some,
    server_may_open_as_many_files_as_it_can,
    server_that_is_not_needed_ends_well,
    server_that_is_told_to_end_leaves_containers,
    server_that_is_told_to_end_sends_its_events_first,
    server_that_is_told_to_end_does_not_wait_for_ever,
    who_hangs_up_waits_no_longer,
    server_ends_with_its_spawner,
];

fn open(shim: &Shim) -> UnixStream {
    let path = shim.address.strip_prefix("unix://").expect("a unix socket");
    UnixStream::connect(path).expect("connect")
}

fn connect(container: &Container) -> ConnectRequest {
    ConnectRequest {
        id: container.id.clone(),
    }
}

fn kill(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid");
    kill_process(pid, signal).expect("kill");
}

/// The memory of a process in KiB.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.expect("the memory").parse().expect("a number")
}

/// The CPU time of a process, in ticks of 10 ms.
fn time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read the stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let times = fields.split(' ').skip(11).take(2);
    times
        .map(|time| time.parse::<u64>().expect("a number"))
        .sum()
}

fn client_that_reads_nothing_is_not_read_from() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    let before = memory(shim.pid);
    let mut silent = open(&shim);
    silent
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("set the time to wait");
    const ENOUGH: usize = 32 << 20;
    let mut written = 0;
    for number in 0.. {
        let request = Request {
            service: "x".repeat(10_000),
            ..Request::default()
        };
        let call = frame(2 * number + 1, 1, &request.encode_to_vec());
        match silent.write_all(&call) {
            Err(err) if err.kind() == ErrorKind::WouldBlock => break,
            sent => sent.expect("send a call"),
        }
        written += call.len();
        assert!(written < ENOUGH, "the server reads on and on");
    }
    shim.call(&connect(&container)).expect("connect");
    let grown = memory(shim.pid) - before;
    assert!(
        grown < 4 << 10,
        "{grown} KiB for a client that reads nothing"
    );
    drop(silent);
    shim.remove(&container.id);
}

fn server_without_descriptors_waits_for_some() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    let limit = |soft: u64| {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(1024),
        };
        prlimit(Pid::from_raw(shim.pid), Resource::Nofile, limit).expect("limit the server");
    };
    limit(3);
    let mut late = open(&shim);
    let before = time(shim.pid);
    std::thread::sleep(Duration::from_millis(500));
    let spent = time(shim.pid) - before;
    assert!(spent < 10, "{spent} ticks for nothing");
    limit(1024);
    late.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("set the time to wait");
    let request = Request {
        service: "none".to_owned(),
        ..Request::default()
    };
    late.write_all(&frame(1, 1, &request.encode_to_vec()))
        .expect("send a call");
    super::client::Frame::read(&mut late).expect("an answer");
    shim.remove(&container.id);
}

fn server_may_open_as_many_files_as_it_can() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("sleep").remove("/process/rlimits"));
    let (mut shim, init) = running(&engine, &container);
    let limits = |pid: i32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("read the limits");
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let mut numbers = line
            .expect("the limit")
            .split_whitespace()
            .map(str::to_owned);
        (numbers.next(), numbers.next())
    };
    let (soft, hard) = limits(shim.pid);
    assert_eq!(soft, hard);
    assert_eq!(limits(init), limits(std::process::id().cast_signed()));
    shim.remove(&container.id);
}

fn server_that_is_not_needed_ends_well() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    shim.remove(&container.id);
    shim.shutdown();
    assert!(process::wait(shim.pid).success());
}

fn server_that_is_told_to_end_leaves_containers() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (shim, init) = running(&engine, &container);
    kill(shim.pid, Signal::TERM);
    wait_until("the shim has ended", || !is_alive(shim.pid));
    let status = process::wait(shim.pid);
    assert!(status.success(), "{:?}", status.signal());
    assert!(UnixStream::connect(shim.address.trim_start_matches("unix://")).is_err());
    assert!(is_alive(init));
    engine.delete(&container);
    assert!(!container.has_state());
}

fn server_that_is_told_to_end_sends_its_events_first() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    engine.events.wait_for("/tasks/start", id);
    engine.events.close();
    shim.kill_with(id, "", nix::sys::signal::Signal::SIGKILL);
    assert_eq!(shim.wait(id, ""), 137);
    shim.delete(id, "");
    kill(shim.pid, Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    engine.events.open();
    engine.events.wait_for("/tasks/delete", id);
    assert!(process::wait(shim.pid).success());
    engine.events.assert_in_order();
}

fn server_that_is_told_to_end_does_not_wait_for_ever() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    engine.events.close();
    shim.add(&container.id, "exec", "exit 3");
    kill(shim.pid, Signal::TERM);
    wait_until("the shim has ended", || !is_alive(shim.pid));
    assert!(process::wait(shim.pid).success());
    engine.delete(&container);
}

fn who_hangs_up_waits_no_longer() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    let waiting = Request {
        service: "containerd.task.v2.Task".to_owned(),
        method: "Wait".to_owned(),
        payload: wait(&container.id, "").encode_to_vec(),
        ..Request::default()
    };
    let waiting = waiting.encode_to_vec();
    let calls = (0..20_000).flat_map(|call| frame(2 * call + 1, 1, &waiting));
    let calls: Vec<u8> = calls.collect();
    let hang_up = || {
        let mut client = open(&shim);
        client.write_all(&calls).expect("call");
        client.shutdown(Shutdown::Write).expect("shut down");
        // Until the server has read everything and closed the connection.
        client.read_to_end(&mut Vec::new()).expect("the end");
    };
    hang_up();
    let before = memory(shim.pid);
    (0..10).for_each(|_| hang_up());
    // If each took 16 bytes, that would be 3 MiB.
    let more = memory(shim.pid).saturating_sub(before);
    assert!(more < 1024, "{more} KiB more");
    shim.remove(&container.id);
}

/// Finds the spawner: a child of the server with the server's name.
fn spawner(shim: &Shim) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", shim.pid);
    let children = fs::read_to_string(children).expect("read the children");
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).expect("a name");
    let mut children = children
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"));
    children
        .find(|pid| name(*pid) == name(shim.pid))
        .expect("a spawner")
}

fn server_ends_with_its_spawner() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (shim, init) = running(&engine, &container);
    let begin = Instant::now();
    kill(spawner(&shim), Signal::KILL);
    wait_until("the shim has ended", || !is_alive(shim.pid));
    assert!(begin.elapsed() < Duration::from_secs(5));
    let status = process::wait(shim.pid);
    assert_eq!(status.code(), Some(1), "{:?}", status.signal());
    assert!(UnixStream::connect(shim.address.trim_start_matches("unix://")).is_err());
    assert!(is_alive(init));
    engine.delete(&container);
    assert!(!container.has_state());
}
