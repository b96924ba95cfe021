//! The order of events under stress: processes that end at once or while others start, and a
//! receiver that is slow or absent.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use teu_shim::proto::events::*;

use super::client::Client;
use super::engine::{Bootstrap, Engine, kill_request, start};
use super::events::{Event, faults};
use crate::harness::{
    Bundle, Container, Root, Seconds, needs, patience, rounds, tests, wait_until,
};

tests![
    checker_finds_what_is_out_of_order,
    programs_that_end_at_once,
    execs_that_end_at_once,
    init_is_killed_while_execs_start,
    receiver_that_stalls,
    receiver_that_comes_back,
];

/// The checker itself must find mistakes, because the other tests rely on it.
fn checker_finds_what_is_out_of_order() {
    let container_id = || "box".to_owned();
    let create = Event::of(&TaskCreate {
        container_id: container_id(),
        ..TaskCreate::default()
    });
    let start = Event::of(&TaskStart {
        container_id: container_id(),
        ..TaskStart::default()
    });
    let exit = |id: &str| {
        let id = id.to_owned();
        Event::of(&TaskExit {
            container_id: container_id(),
            id,
            ..TaskExit::default()
        })
    };
    let end = exit("box");
    let delete = Event::of(&TaskDelete {
        container_id: container_id(),
        ..TaskDelete::default()
    });
    let oom = Event::of(&TaskOOM {
        container_id: container_id(),
    });
    let (container_id, exec_id) = (container_id(), "exec".to_owned());
    let exec = Event::of(&TaskExecStarted {
        container_id,
        exec_id,
        pid: 0,
    });
    let exec_end = exit("exec");
    for (events, fault) in [
        (
            vec![
                &create, &start, &exec, &exec_end, &oom, &end, &delete, &create, &end, &delete,
            ],
            "",
        ),
        (vec![&start, &create, &end], "before the container's create"),
        (vec![&create, &create], "created twice"),
        (vec![&create, &end, &start], "started after its exit"),
        (vec![&create, &start, &end, &end], "ended twice"),
        (
            vec![&create, &start, &exec, &end, &exec_end],
            "ended after init",
        ),
        (
            vec![&create, &start, &end, &exec],
            "started after init's exit",
        ),
        (
            vec![&create, &start, &exec_end, &end],
            "ended before its start",
        ),
        (vec![&create, &start, &end, &oom], "OOM after init's exit"),
        (
            vec![&create, &start, &delete, &end],
            "deleted before its exit",
        ),
        (
            vec![&create, &end, &delete, &oom],
            "after the container's delete",
        ),
        (vec![&create, &start, &exec, &end], "no exit: box exec"),
        (vec![&create, &start], "no exit: box"),
        (
            vec![&create, &start, &exec, &end, &delete, &create, &end],
            "no exit: box exec",
        ),
    ] {
        let events: Vec<Event> = events.into_iter().cloned().collect();
        let faults = faults(&events);
        let is_found = match fault {
            "" => faults.is_empty(),
            fault => faults.iter().any(|found| found.starts_with(fault)),
        };
        assert!(is_found, "{fault:?} is not in {faults:?}");
    }
}

/// The time limit of a client; a slow machine does fewer rounds.
const ENOUGH: Duration = Duration::from_secs(40);
/// The number of clients at the same time.
const CLIENTS: u32 = 4;

/// Runs several clients that do `work`, each with its own container, until the work was done
/// `count` times.
fn repeat(
    engine: &Engine,
    bundle: fn() -> Bundle,
    count: u32,
    work: impl Fn(&mut Client, &Container) + Sync,
) {
    let containers: Vec<Container> = (0..CLIENTS).map(|_| Container::new(bundle())).collect();
    let shim = engine.start(&containers[0], Bootstrap::Flags);
    let end = Instant::now() + patience(ENOUGH);
    std::thread::scope(|scope| {
        for container in containers {
            let mut client = shim.connect(shim.version);
            let work = &work;
            scope.spawn(move || {
                for _ in 0..count / CLIENTS {
                    work(&mut client, &container);
                    if Instant::now() > end {
                        break;
                    }
                }
            });
        }
    });
}

/// Runs a container for the shortest possible time.
fn live(engine: &Engine, client: &mut Client, container: &Container) {
    client.create(engine, container);
    client.start(&container.id, "");
    assert_eq!(client.wait(&container.id, ""), 7);
    assert_eq!(client.delete(&container.id, ""), 7);
}

fn short() -> Bundle {
    Bundle::new().probe("exit 7")
}

fn long() -> Bundle {
    Bundle::new().probe("sleep")
}

fn programs_that_end_at_once() {
    needs(&[Root, Seconds(300)]);
    let engine = Engine::new();
    repeat(&engine, short, rounds(1000), |client, container| {
        live(&engine, client, container)
    });
    engine.events.assert_in_order();
}

fn execs_that_end_at_once() {
    needs(&[Root, Seconds(300)]);
    let engine = Engine::new();
    repeat(&engine, long, rounds(50), |client, container| {
        let id = &container.id;
        client.create(&engine, container);
        client.start(id, "");
        for number in 0..20 {
            let exec = format!("exec-{number}");
            client.add(id, &exec, "exit 5");
            client.start(id, &exec);
            assert_eq!(client.wait(id, &exec), 5);
            assert_eq!(client.delete(id, &exec), 5);
        }
        client.remove(id);
    });
    engine.events.assert_in_order();
}

/// In the events, too, no exec may outlive init, whichever ended first.
fn init_is_killed_while_execs_start() {
    needs(&[Root, Seconds(300)]);
    let engine = Engine::new();
    repeat(&engine, long, rounds(200), |client, container| {
        let id = &container.id;
        client.create(&engine, container);
        client.start(id, "");
        for exec in ["one", "two"] {
            client.add(id, exec, "sleep");
        }
        let starts = ["one", "two"].map(|exec| (exec, client.send(&start(id, exec))));
        let kill = client.send(&kill_request(id, "", Signal::SIGKILL as i32));
        client.receive(kill).expect("kill");
        for (exec, sent) in starts {
            if client.receive(sent).is_ok() {
                assert_eq!(client.wait(id, exec), 137);
            }
            client.delete(id, exec);
        }
        assert_eq!(client.wait(id, ""), 137);
        assert_eq!(client.delete(id, ""), 137);
    });
    engine.events.assert_in_order();
}

/// Waits until the ends of all processes are reported.
#[track_caller]
fn wait_for_exits(engine: &Engine, count: usize) {
    let exits = || {
        engine
            .events
            .heard()
            .iter()
            .filter(|event| event.topic == "/tasks/exit")
            .count()
    };
    wait_until(&format!("{count} ends are heard of"), || exits() >= count);
    engine.events.assert_in_order();
}

fn receiver_that_stalls() {
    needs(&[Root, Seconds(180)]);
    let engine = Engine::new();
    let container = Container::new(short());
    let mut shim = engine.start(&container, Bootstrap::Flags);
    live(&engine, &mut shim, &container);
    engine.events.stall();
    let stalled = Instant::now();
    let mut lives = 1;
    // Longer than any time limit of the shim for an event.
    while stalled.elapsed() < Duration::from_secs(30) {
        let begin = Instant::now();
        live(&engine, &mut shim, &container);
        lives += 1;
        assert!(
            begin.elapsed() < patience(Duration::from_secs(5)),
            "calls wait for events"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    engine.events.go_on();
    live(&engine, &mut shim, &container);
    wait_for_exits(&engine, lives + 1);
}

fn receiver_that_comes_back() {
    needs(&[Root, Seconds(120)]);
    let engine = Engine::new();
    let container = Container::new(short());
    let mut shim = engine.start(&container, Bootstrap::Flags);
    for _ in 0..3 {
        live(&engine, &mut shim, &container);
        engine.events.close();
        live(&engine, &mut shim, &container);
        live(&engine, &mut shim, &container);
        engine.events.open();
        live(&engine, &mut shim, &container);
    }
    wait_for_exits(&engine, 12);
}
