//! Calls that cross each other, and calls that are invalid: each is answered once, and others
//! are not affected.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use teu_shim::proto::task::*;
use teu_shim::proto::ttrpc::Status;

use super::engine::{
    Bootstrap, Engine, Streams, create_request, exec_request, kill_request, running, sleeping,
    start, wait,
};
use super::streams::Fifo;
use crate::harness::{
    Bundle, Container, Root, Seconds, Teu, is_alive, needs, scratch, tests, wait_until,
};

tests![
    task_is_there_once_it_is_created,
    two_deletes_are_both_answered,
    task_of_an_old_name_is_a_new_one,
    who_waits_for_what_is_deleted_is_told,
    exec_without_its_streams_does_not_go_on,
    container_without_its_streams_is_removed,
    logger_that_is_never_ready_does_not_keep_init,
    logger_that_is_never_ready_is_given_up,
    names_of_tasks_are_no_options,
    names_of_execs_are_names_of_files,
    fifos_in_a_bundle_block_nobody,
    create_after_shutdown_is_served,
];

const NOT_FOUND: i32 = 5;

fn delete_request(id: &str, exec: &str) -> DeleteRequest {
    DeleteRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
    }
}

/// A terminal with an input fifo that does not exist yet.
fn terminal_without_input(output: &Fifo, input: &str) -> Streams {
    Streams::to(&output.name()).from(input).terminal()
}

fn task_is_there_once_it_is_created() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let create = shim.send(&create_request(&engine, &container, &Streams::default()));
    let again = shim.send(&create_request(&engine, &container, &Streams::default()));
    let delete = shim.send(&delete_request(id, ""));
    let kill = shim.send(&kill_request(id, "", Signal::SIGKILL as i32));
    let code = |status: Status| status.code;
    assert_eq!(shim.receive(delete).map_err(code), Err(NOT_FOUND));
    assert_eq!(shim.receive(kill).map_err(code), Err(NOT_FOUND));
    shim.receive(create).expect("create");
    shim.receive(again).expect_err("create again");
    shim.start(id, "");
    shim.remove(id);
    engine.events.wait_for("/tasks/delete", id);
    engine.events.assert_in_order();
}

fn two_deletes_are_both_answered() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    shim.kill_with(id, "", Signal::SIGKILL);
    shim.wait(id, "");
    let deletes = [(); 2].map(|()| shim.send(&delete_request(id, "")));
    for delete in deletes {
        assert_eq!(shim.receive(delete).expect("delete").exit_status, 137);
    }
    let late = shim.call(&delete_request(id, "")).expect_err("a third");
    assert_eq!(late.code, NOT_FOUND);
    engine.events.wait_for("/tasks/delete", id);
    engine.events.assert_in_order();
}

/// A call about a task must not affect a later task of the same name.
fn task_of_an_old_name_is_a_new_one() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let mut shim = engine.start(&container, Bootstrap::Flags);
    for _ in 0..20 {
        shim.create(&engine, &container);
        shim.start(id, "");
        shim.kill_with(id, "", Signal::SIGKILL);
        shim.wait(id, "");
        let delete = shim.send(&delete_request(id, ""));
        let late: Vec<_> = (0..3)
            .map(|_| {
                shim.send(&KillRequest {
                    all: true,
                    ..kill_request(id, "", Signal::SIGKILL as i32)
                })
            })
            .collect();
        shim.receive(delete).expect("delete");
        shim.create(&engine, &container);
        for kill in late {
            // The call may have come too late.
            drop(shim.receive(kill));
        }
        let state = StateRequest {
            id: id.clone(),
            ..StateRequest::default()
        };
        const CREATED: i32 = 1;
        assert_eq!(shim.call(&state).expect("state").status, CREATED);
        shim.remove(id);
    }
}

fn who_waits_for_what_is_deleted_is_told() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    for exec in ["one", "two"] {
        shim.add(id, exec, "sleep");
    }
    let [one, two] = ["one", "two"].map(|exec| shim.send(&wait(id, exec)));
    shim.delete(id, "one");
    shim.receive(one).expect("wait for the first");
    shim.remove(id);
    shim.receive(two).expect("wait for the second");
}

/// The exec's terminal has arrived when its input turns out not to open.
fn exec_without_its_streams_does_not_go_on() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    let input = scratch().join("input");
    let input = input.to_str().expect("a path in UTF-8");
    let output = Fifo::new("output");
    let stdio = terminal_without_input(&output, input);
    shim.call(&exec_request(id, "exec", "sleep", &stdio))
        .expect("exec");
    shim.call(&start(id, "exec")).expect_err("start");
    let pids = PidsRequest { id: id.clone() };
    wait_until("the exec has ended", || {
        shim.call(&pids).expect("pids").processes.len() == 1
    });
    // The exec may be tried again.
    mkfifo(input, Mode::S_IRWXU).expect("make a fifo");
    let pid = shim.start(id, "exec").try_into().expect("a pid");
    let waiting = shim.send(&wait(id, "exec"));
    assert!(is_alive(pid));
    shim.kill_with(id, "exec", Signal::SIGKILL);
    assert_eq!(shim.receive(waiting).expect("wait").exit_status, 137);
    shim.remove(id);
    engine.events.assert_in_order();
}

fn container_without_its_streams_is_removed() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("sleep").terminal());
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let output = Fifo::new("output");
    let stdio = terminal_without_input(&output, "/missing");
    shim.try_create(&engine, &container, &stdio)
        .expect_err("create");
    assert!(!container.has_state(), "the state is left");
}

fn to_logger_that_is_never_ready() -> Streams {
    let logger = scratch().join("logger");
    fs::write(&logger, "#!/bin/sh\nexec sleep 1000\n").expect("write a logger");
    fs::set_permissions(&logger, Permissions::from_mode(0o755)).expect("chmod");
    Streams::both_to(&format!("binary-v2://{}", logger.display()))
}

/// An exec waits for the logger, and init's end waits for the exec's.
fn logger_that_is_never_ready_does_not_keep_init() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    let stdio = to_logger_that_is_never_ready();
    shim.call(&exec_request(id, "exec", "sleep", &stdio))
        .expect("exec");
    let starting = shim.send(&start(id, "exec"));
    shim.remove(id);
    shim.receive(starting).expect_err("start");
    engine.events.wait_for("/tasks/delete", id);
    engine.events.assert_in_order();
}

fn logger_that_is_never_ready_is_given_up() {
    needs(&[Root, Teu, Seconds(90)]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    let stdio = to_logger_that_is_never_ready();
    let refused = shim.call(&create_request(&engine, &container, &stdio));
    let words = refused.expect_err("a container").message;
    assert!(
        words.contains("logging binary did not call ready"),
        "{words}"
    );
    assert!(!container.has_state());
    // Now the container can be created.
    shim.create(&engine, &container);
    shim.remove(&container.id);
}

fn names_of_tasks_are_no_options() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let mut shim = engine.start(&container, Bootstrap::Flags);
    for id in ["-h", "--version", "-"] {
        let mut request = create_request(&engine, &container, &Streams::default());
        request.id = id.to_owned();
        const INVALID: i32 = 3;
        let refused = shim.call(&request).expect_err(id);
        assert_eq!(refused.code, INVALID, "{id:?}: {refused:?}");
    }
    shim.create(&engine, &container);
    shim.remove(&container.id);
}

fn names_of_execs_are_names_of_files() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, pid) = running(&engine, &container);
    for name in ["", "../outside", "/tmp/x", "a\0b"] {
        let request = exec_request(id, name, "exit 3", &Streams::default());
        const INVALID: i32 = 3;
        let refused = shim.call(&request).expect_err(name);
        assert_eq!(refused.code, INVALID, "{name:?}: {refused:?}");
    }
    for name in ["with space", "new\nline", "-x", "%s", "init", "spawner"] {
        shim.add(id, name, "exit 3");
        shim.start(id, name);
        assert_eq!(shim.wait(id, name), 3, "{name:?}");
        shim.delete(id, name);
    }
    let pid_of_init = fs::read_to_string(container.bundle.directory.join("init.pid")).unwrap();
    assert_eq!(pid_of_init, pid.to_string());
    let name = "x".repeat(300);
    shim.add(id, &name, "exit 3");
    shim.call(&start(id, &name)).expect_err("too long");
    shim.delete(id, &name);
    shim.remove(id);
    engine.events.assert_in_order();
}

fn fifos_in_a_bundle_block_nobody() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    for name in ["config.json", "options.json"] {
        let other = sleeping();
        let path = other.bundle.directory.join(name);
        // Only one of the two files exists.
        drop(fs::remove_file(&path));
        mkfifo(&path, Mode::S_IRWXU).expect("make a fifo");
        shim.try_create(&engine, &other, &Streams::default())
            .expect_err(name);
    }
    let log = Fifo::new("log");
    let stdio = Streams::both_to(&format!("file://{}", log.name()));
    shim.call(&exec_request(&container.id, "exec", "exit 1", &stdio))
        .expect("exec");
    shim.call(&start(&container.id, "exec")).expect_err("start");
    shim.remove(&container.id);
}

/// The server was told to end while it had no tasks, but still has events to send.
fn create_after_shutdown_is_served() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let id = &container.id;
    let (mut shim, _) = running(&engine, &container);
    engine.events.stall();
    shim.remove(id);
    shim.call(&ShutdownRequest::default()).expect("shutdown");
    shim.create(&engine, &container);
    engine.events.go_on();
    engine.events.wait_for("/tasks/delete", id);
    std::thread::sleep(Duration::from_millis(100));
    shim.start(id, "");
    shim.remove(id);
}
