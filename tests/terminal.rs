//! Terminals that are sent over a socket, or are the caller's; and the pidfd socket.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::os::fd::AsFd;

use crate::harness::*;

tests![
    console_socket_gets_the_terminal,
    console_has_the_size_asked_for,
    console_is_the_controlling_terminal,
    foreground_terminal_is_the_callers,
    foreground_terminal_follows_the_size,
    pidfd_socket_gets_the_process,
    relative_sockets_are_in_the_bundle,
];

/// A container that was created with a console socket, and its terminal.
fn on_console(bundle: Bundle) -> (Container, Terminal) {
    let socket = FdSocket::new("console");
    let container = Container::new(bundle.terminal());
    container
        .create_with(["--console-socket", socket.path()])
        .ok();
    let terminal = socket.receive_terminal();
    (container, terminal)
}

fn console_socket_gets_the_terminal() {
    needs(&[Root]);
    let (container, mut terminal) = on_console(Bundle::new().probe("cat"));
    container.start().ok();
    terminal.write("word\n");
    // The terminal echoes the word, and the program prints it.
    terminal.expect("word\r\n");
    terminal.expect("word\r\n");
    terminal.write("\x04");
    assert_eq!(container.wait(), 0);
}

fn console_has_the_size_asked_for() {
    needs(&[Root]);
    let size = json!({ "height": 33, "width": 111 });
    let bundle = Bundle::new()
        .set("/process/consoleSize", size)
        .probe("winsize-watch");
    let (container, mut terminal) = on_console(bundle);
    container.start().ok();
    terminal.expect("33x111\r\n");
    terminal.resize(10, 20);
    terminal.expect("10x20\r\n");
}

fn console_is_the_controlling_terminal() {
    needs(&[Root]);
    let (container, mut terminal) = on_console(Bundle::new());
    container.start().ok();
    let report = terminal.read_to_end();
    let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
    assert_eq!(container.wait(), 0);
    for stream in ["stdin", "stdout", "stderr"] {
        assert_eq!(report["tty"][stream], true, "{stream}");
    }
    assert_eq!(report["tty"]["controlling"], "136:0");
    let devices = report["devices"].as_array().unwrap();
    let console = devices
        .iter()
        .find(|node| node["path"] == "/dev/console")
        .unwrap();
    assert_eq!(console["major"], 136);
    let numbers: Vec<_> = report["fds"].as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["0", "1", "2"]);
}

fn foreground_terminal_is_the_callers() {
    needs(&[Root]);
    let (mut terminal, other_side) = Terminal::pair();
    let container = Container::new(Bundle::new().terminal().probe("cat; exit 7"));
    let running = container
        .command("run", NO_FLAGS)
        .on_terminal(other_side)
        .spawn();
    container.wait_for_status("running");
    terminal.write("word\r");
    terminal.expect("word\r\n");
    terminal.expect("word\r\n");
    terminal.write("\x04");
    running.wait().exits(7);
}

fn foreground_terminal_follows_the_size() {
    needs(&[Root]);
    let (mut terminal, other_side) = Terminal::pair();
    terminal.resize(24, 81);
    let container = Container::new(Bundle::new().terminal().probe("winsize-watch"));
    let running = container
        .command("run", NO_FLAGS)
        .on_terminal(other_side)
        .spawn();
    terminal.expect("24x81\r\n");
    terminal.resize(40, 132);
    terminal.expect("40x132\r\n");
    container.kill("KILL").ok();
    running.wait().exits(137);
}

fn pidfd_socket_gets_the_process() {
    needs(&[Root, Teu]);
    let socket = FdSocket::new("pidfd");
    let container = Container::new(Bundle::new().probe("exit 0"));
    container
        .create_with(["--pidfd-socket", socket.path()])
        .ok();
    let (text, pidfd) = socket.receive();
    assert_eq!(text, "standard");
    let has_ended = |milliseconds: u16| {
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(milliseconds)).expect("poll the pidfd") == 1
    };
    assert!(!has_ended(0));
    container.start().ok();
    assert!(
        has_ended(10_000),
        "the pidfd is readable when the process ends"
    );
}

fn relative_sockets_are_in_the_bundle() {
    needs(&[Root]);
    let (console, pidfd) = (FdSocket::new("console"), FdSocket::new("pidfd"));
    let container = Container::new(Bundle::new().terminal().probe("sleep"));
    for (socket, name) in [(&console, "one"), (&pidfd, "two")] {
        let link = container.bundle.directory.join(name);
        std::os::unix::fs::symlink(socket.path(), link).unwrap();
    }
    let flags = ["--console-socket", "one", "--pidfd-socket", "two"];
    container.create_with(flags).ok();
    assert_eq!(pidfd.receive().0, "standard");
    // If it were closed, the terminal would hang up.
    let _terminal = console.receive();
    container.start().ok();
    // Without a file that describes the process, exec works in the bundle as well.
    let exec = container.command("exec", ["--tty", "--detach"].iter().chain(&flags));
    exec.args(["/probe", "exit", "0"]).output().ok();
    assert_eq!(pidfd.receive().0, "setns");
    console.receive();
}
