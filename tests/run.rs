//! `run`: the life of a container in a single command, its streams and its exit status.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::harness::*;

tests![
    exit_status_is_the_programs,
    death_by_signal_is_128_and_the_number,
    program_is_pid_one_of_its_session,
    streams_pass_through,
    output_may_be_large,
    signals_are_forwarded,
    signal_ends_it_while_it_reads_its_input,
    others_work_on_it_meanwhile,
    error_ends_no_later_container_of_the_name,
    detached_container_outlives_the_command,
    kept_container_stays_as_stopped,
    pid_file_holds_the_pid_alone,
    bundle_is_the_current_directory,
    only_the_standard_descriptors_are_open,
    preserved_descriptors_arrive,
    socket_activation_arrives,
    ready_message_reaches_the_notify_socket,
    root_can_be_changed_without_pivot,
    root_directory_may_be_missing,
    single_dash_options_are_long_ones,
];

fn exit_status_is_the_programs() {
    needs(&[Root]);
    for code in [0, 1, 77, 255] {
        Bundle::new()
            .probe(&format!("exit {code}"))
            .run()
            .exits(code);
    }
}

fn death_by_signal_is_128_and_the_number() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("echo up; sleep"));
    let running = container.command("run", NO_FLAGS).spawn();
    wait_until("the program runs", || running.stdout().contains("up"));
    container.kill("KILL").ok();
    running.wait().exits(128 + 9);
}

fn program_is_pid_one_of_its_session() {
    needs(&[Root]);
    let seen = Bundle::new().run().probe();
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["ppid"], 0);
    assert_eq!(seen["session"], 1);
    assert_eq!(seen["processes"], serde_json::json!([1]));
}

fn streams_pass_through() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("cat; say oops"));
    let output = container
        .command("run", NO_FLAGS)
        .stdin("one\ntwo\n")
        .output()
        .ok();
    assert_eq!(output.stdout, "one\ntwo\n");
    assert_eq!(output.stderr, "oops\n");
}

fn output_may_be_large() {
    needs(&[Root]);
    let text = "0123456789abcdef".repeat(1 << 16);
    let container = Container::new(Bundle::new().probe("cat"));
    let output = container
        .command("run", NO_FLAGS)
        .stdin(text.clone())
        .output()
        .ok();
    assert!(
        output.stdout == text,
        "{} bytes of {}",
        output.stdout.len(),
        text.len()
    );
}

fn signals_are_forwarded() {
    needs(&[Root]);
    for signal in [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGHUP] {
        let name = signal.as_str().trim_start_matches("SIG");
        let container = Container::new(Bundle::new().probe(&format!("trap {name}; exit 4")));
        let running = container.command("run", NO_FLAGS).spawn();
        wait_until("the program waits", || running.stdout().contains("ready"));
        running.signal(signal);
        let output = running.wait().exits(4);
        assert_eq!(output.stdout, format!("ready\ntrapped {name}\n"));
    }
}

fn signal_ends_it_while_it_reads_its_input() {
    needs(&[Root, Teu]);
    let container = Container::new(Bundle::new());
    let config = container.bundle.directory.join("config.json");
    fs::remove_file(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let running = container.command("run", NO_FLAGS).spawn();
    let mut writer = OpenOptions::new();
    writer.write(true).custom_flags(libc::O_NONBLOCK);
    let mut writer_end = None;
    wait_until("it reads from the fifo", || {
        writer_end = writer.open(&config).ok();
        writer_end.is_some()
    });
    running.signal(Signal::SIGTERM);
    running.wait().exits(-15);
    assert!(!container.has_state());
}

/// The command in the foreground holds the container, not its state.
fn others_work_on_it_meanwhile() {
    needs(&[Root, Controller("pids")]);
    let container = Container::new(Bundle::new().probe("echo up; sleep"));
    let running = container.command("run", NO_FLAGS).spawn();
    wait_until("the program runs", || running.stdout().contains("up"));
    let start = Instant::now();
    container.command("pause", NO_FLAGS).output().ok();
    container.command("resume", NO_FLAGS).output().ok();
    let limit = container.command("update", ["--pids-limit", "99"]);
    limit.output().ok();
    container.delete_force().ok();
    assert!(start.elapsed() < patience(Duration::from_secs(8)));
    let output = running.wait().exits(128 + 9);
    assert_eq!(output.stderr, "");
}

/// The command in the foreground fails after its container was deleted and another of its name
/// was made.
fn error_ends_no_later_container_of_the_name() {
    needs(&[Root, Teu, Tool("strace")]);
    let container = Container::new(Bundle::new().probe("echo up; sleep"));
    // The first signal that the command forwards.
    let tracer = "strace -D -qq -o /dev/null -e inject=pidfd_send_signal:error=EPERM:when=1";
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.push(runtime().into());
    let call = container.command("run", NO_FLAGS).with_program(program);
    let running = call.spawn();
    wait_until("the program runs", || running.stdout().contains("up"));
    // Wait until the command releases its lock, because the program may print before that.
    let directory = File::open(state_root().join(&container.id)).unwrap();
    drop(Flock::lock(directory, FlockArg::LockExclusive).unwrap());
    running.signal(Signal::SIGSTOP);
    wait_until("the command has stopped", || is_stopped(running.pid));
    container.delete_force().ok();
    container.create().ok();
    running.signal(Signal::SIGUSR1);
    running.signal(Signal::SIGCONT);
    running.wait().exits(1).says("operation not permitted");
    assert_eq!(container.status(), "created");
    container.start().ok();
}

fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.contains(") T ") || stat.contains(") t ")
}

fn detached_container_outlives_the_command() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("echo up; trap TERM; exit 6"));
    container
        .detach(container.command("run", ["--detach"]))
        .ok();
    container.wait_for_output("ready");
    assert_eq!(container.status(), "running");
    container.kill("TERM").ok();
    assert_eq!(container.wait(), 6);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
}

fn kept_container_stays_as_stopped() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("exit 5"));
    container.command("run", ["--keep"]).output().exits(5);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    assert!(!container.has_state());
}

fn pid_file_holds_the_pid_alone() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("sleep"));
    let file = scratch().join("pid");
    container
        .detach(container.command("run", ["--detach", "--pid-file", "pid"]))
        .ok();
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        container.pid().to_string()
    );
}

fn bundle_is_the_current_directory() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("exit 8"));
    let bundle = &container.bundle.directory;
    teu(["run", &container.id])
        .in_directory(bundle)
        .output()
        .exits(8);
}

fn only_the_standard_descriptors_are_open() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("fds"));
    let call = container
        .command("run", NO_FLAGS)
        .after_shell("exec 7</dev/null 5</");
    let open = call.output().ok().answer();
    assert_eq!(
        open.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
}

fn preserved_descriptors_arrive() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("fds"));
    let call = container.command("run", ["--preserve-fds", "2"]);
    let open = call
        .after_shell("exec 3</dev/zero 4</dev/full 5</")
        .output()
        .ok()
        .answer();
    assert_eq!(
        open.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4"]
    );
    assert_eq!(open["3"], "/dev/zero");
    assert_eq!(open["4"], "/dev/full");
}

fn socket_activation_arrives() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let call = container.command("run", NO_FLAGS);
    let shell = "exec 3</dev/zero; export LISTEN_FDS=1 LISTEN_PID=$$";
    let seen = call.after_shell(shell).output().probe();
    assert_eq!(seen["env"]["LISTEN_FDS"], "1");
    assert_eq!(seen["env"]["LISTEN_PID"], "1");
    assert_eq!(seen["fds"]["3"], "/dev/zero");
}

fn ready_message_reaches_the_notify_socket() {
    needs(&[Root]);
    let path = scratch().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(patience(Duration::from_secs(10))))
        .unwrap();
    let container = Container::new(Bundle::new().probe("notify; sleep"));
    let running = container
        .command("run", NO_FLAGS)
        .env("NOTIFY_SOCKET", &path)
        .spawn();
    let mut buffer = [0; 512];
    let length = socket
        .recv(&mut buffer)
        .expect("a message on the notify socket");
    assert!(
        buffer[..length].starts_with(b"READY=1"),
        "{:?}",
        &buffer[..length]
    );
    drop(socket);
    container.kill("KILL").ok();
    running.wait().exits(137);
}

fn root_can_be_changed_without_pivot() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let seen = container.command("run", ["--no-pivot"]).output().probe();
    assert!(
        seen["root_entries"]
            .as_array()
            .unwrap()
            .contains(&"probe".into())
    );
}

fn root_directory_may_be_missing() {
    needs(&[Root]);
    let root = scratch().join("not/yet");
    let container = Container::new(Bundle::new().probe("exit 3"));
    let call = Invocation::new(runtime())
        .arg("--root")
        .arg(&root)
        .args(["run", "--bundle"]);
    call.arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(3);
    fs::remove_dir_all(root).unwrap();
}

fn single_dash_options_are_long_ones() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().probe("exit 3"));
    let call = Invocation::new(runtime()).arg("-root").arg(state_root());
    let call = call.args(["run", "-no-subreaper", "-bundle"]);
    call.arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(3);
}
