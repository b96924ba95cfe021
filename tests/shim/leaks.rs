//! Leaks of a shim: compares its descriptors, threads and memory before and after much work.

use std::fs;

use super::client::Client;
use super::engine::{Bootstrap, Engine, Shim, Streams, exec_request};
use super::streams::Fifo;
use crate::harness::{Bundle, Container, Root, Seconds, needs, process, rounds, tests};

tests![execs_leave_nothing_behind, containers_leave_nothing_behind];

/// The growth of memory that is allowed, for single pages and buffers.
const ROOM_KIB: u64 = 128;
/// The least work that shows a leak of one or a few KiB each time.
const FEWEST_EXECS: u32 = 100;
const FEWEST_CONTAINERS: u32 = 30;

/// The resources of a shim's processes, without those of its containers.
#[derive(Debug, PartialEq)]
struct Footprint {
    /// The targets of the descriptors, by process.
    descriptors: Vec<Vec<String>>,
    threads: Vec<usize>,
    private_kib: u64,
}

impl Footprint {
    fn of(shim: &Shim) -> Footprint {
        let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let own = program(shim.pid);
        let below = process::descendants(shim.pid)
            .into_iter()
            .filter(|pid| program(*pid) == own);
        let pids: Vec<i32> = [shim.pid].into_iter().chain(below).collect();
        Footprint {
            descriptors: pids.iter().map(|pid| descriptors(*pid)).collect(),
            threads: pids
                .iter()
                .map(|pid| count(&format!("/proc/{pid}/task")))
                .collect(),
            private_kib: pids.iter().map(|pid| private_kib(*pid)).sum(),
        }
    }
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).expect("list the threads").count()
}

/// The targets of descriptors; sockets and pipes without their numbers.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("list descriptors")
        .flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = links.map(|link| {
        let link = link.display().to_string();
        link.split(":[").next().unwrap_or_default().to_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The private memory without that of files, which the kernel drops and reads again.
fn private_kib(pid: i32) -> u64 {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("read the memory used");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[track_caller]
fn compare(before: &Footprint, after: &Footprint) {
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.threads, before.threads);
    let most = before.private_kib + ROOM_KIB;
    assert!(
        after.private_kib <= most,
        "{} KiB, before {}",
        after.private_kib,
        before.private_kib
    );
}

/// Runs an exec; every other exec has streams.
fn exec(client: &mut Client, id: &str, number: u32) {
    let exec = format!("exec-{number}");
    if number.is_multiple_of(2) {
        client.add(id, &exec, "exit 5");
        client.start(id, &exec);
        assert_eq!(client.wait(id, &exec), 5);
    } else {
        let fifo = Fifo::new(&exec);
        let stdio = Streams::to(&fifo.name());
        let output = fifo.read();
        client
            .call(&exec_request(id, &exec, "echo words", &stdio))
            .expect("exec");
        client.start(id, &exec);
        assert_eq!(client.wait(id, &exec), 0);
        assert_eq!(output.join().expect("read"), b"words\n");
    }
    client.delete(id, &exec);
}

fn execs_leave_nothing_behind() {
    needs(&[Root, Seconds(300)]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("sleep"));
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.create(&engine, &container);
    shim.start(&container.id, "");
    for number in 0..50 {
        exec(&mut shim, &container.id, number);
    }
    let before = Footprint::of(&shim);
    if engine.is_ours() {
        assert!(
            before.threads.iter().all(|threads| *threads == 1),
            "{before:?}"
        );
    }
    for number in 0..rounds(500).max(FEWEST_EXECS) {
        exec(&mut shim, &container.id, number);
    }
    compare(&before, &Footprint::of(&shim));
    shim.remove(&container.id);
}

fn containers_leave_nothing_behind() {
    needs(&[Root, Seconds(300)]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("exit 7"));
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let mut live = |times| {
        for _ in 0..times {
            shim.create(&engine, &container);
            shim.start(&container.id, "");
            assert_eq!(shim.wait(&container.id, ""), 7);
            shim.delete(&container.id, "");
        }
        Footprint::of(&shim)
    };
    let before = live(20);
    compare(&before, &live(rounds(100).max(FEWEST_CONTAINERS)));
}
