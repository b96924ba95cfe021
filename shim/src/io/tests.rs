//! Tests of streams. Clients and processes are threads; pipes, fifos and terminals are real.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, mkfifoat};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{getgid, getuid};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

use super::*;
use crate::job::Work;

const TOKEN: Token = 0x700;
const MIB: usize = 1 << 20;

/// A directory for a client's fifos, and the loop.
struct Rig {
    directory: PathBuf,
    poll: Poll,
    /// The number of events handled.
    turns: usize,
}

impl Rig {
    fn new() -> Rig {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("teu-io-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).expect("mkdir");
        let poll = Poll::new().expect("epoll");
        Rig {
            directory,
            poll,
            turns: 0,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .join(name)
            .into_os_string()
            .into_string()
            .expect("UTF-8")
    }

    fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o700)).expect("mkfifo");
        path
    }

    fn try_open(&self, stdio: &Stdio) -> Result<(Streams, ChildEnds)> {
        let process = Process {
            namespace: "ns",
            id: "id",
            owner: (getuid(), getgid()),
            sockets: &self.directory,
        };
        Streams::new(&self.poll, TOKEN, stdio, &process, Instant::now())
    }

    fn open(&self, stdio: &Stdio) -> (Streams, ChildEnds) {
        self.try_open(stdio).expect("streams")
    }

    /// Runs the loop while `goes_on` returns true.
    fn run(&mut self, streams: &mut Streams, mut goes_on: impl FnMut(&mut Streams) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while goes_on(streams) {
            assert!(Instant::now() < end, "this takes too long");
            let wait = streams
                .deadline()
                .map(|time| time.saturating_duration_since(Instant::now()));
            let wait = wait.map_or(Duration::from_millis(5), |wait| {
                wait.min(Duration::from_millis(5))
            });
            for (token, _) in self.poll.wait(Some(wait)).expect("epoll_wait") {
                self.turns += 1;
                streams.ready(&self.poll, token);
            }
            streams.tick(&self.poll, Instant::now());
        }
    }

    /// Runs the loop until all output is read or dropped.
    fn drain(&mut self, streams: &mut Streams) {
        self.run(streams, |streams| {
            !streams.is_drained() || streams.deadline().is_some()
        });
    }

    fn run_until<T>(&mut self, streams: &mut Streams, thread: JoinHandle<T>) -> T {
        self.run(streams, |_| !thread.is_finished());
        thread.join().expect("the thread")
    }

    fn run_for(&mut self, streams: &mut Streams, time: Duration) {
        let end = Instant::now() + time;
        self.run(streams, |_| Instant::now() < end);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).expect("remove the test's directory");
    }
}

fn output(stdout: &str) -> Stdio {
    Stdio {
        stdout: stdout.to_owned(),
        ..Stdio::default()
    }
}

/// Bytes of which each position can be recognised.
fn sample(size: usize) -> Vec<u8> {
    let mut word = 0_u64;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_add(1).wrapping_mul(6_364_136_223_846_793_005);
        word.to_be_bytes()
    });
    words.flatten().take(size).collect()
}

fn read_all(mut file: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    bytes
}

/// Starts a client that reads to the end, with pauses.
fn reader(path: &str, pause: Duration) -> JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    thread::spawn(move || {
        let mut fifo = File::open(path).expect("open");
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
        loop {
            match fifo.read(&mut buffer).expect("read") {
                0 => return bytes,
                count => bytes.extend(&buffer[..count]),
            }
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
    })
}

/// Starts a thread that writes and closes.
fn writer(to: impl Into<OwnedFd>, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut file = File::from(to.into());
    thread::spawn(move || file.write_all(&bytes).expect("write"))
}

fn open_for_writing(path: &str) -> File {
    OpenOptions::new().write(true).open(path).expect("open")
}

#[test]
fn output_arrives_byte_for_byte_at_a_slow_reader_and_nobody_spins() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let (mut streams, ends) = rig.open(&output(&stdout));
    let bytes = sample(64 * MIB);
    let client = reader(&stdout, Duration::from_millis(1));
    let process = writer(ends.stdout, bytes.clone());
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), bytes);
    process.join().expect("process");
    // At most two events for each page; a busy loop would have millions.
    assert!(rig.turns < 2 * bytes.len() / 4096, "{}", rig.turns);
}

#[test]
fn nothing_turns_while_a_reader_sleeps_and_the_process_has_ended() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let _reader = File::from(open_reader(&stdout));
    let (mut streams, ends) = rig.open(&output(&stdout));
    drop(ends.stdin);
    let process = writer(ends.stdout, sample(100 << 10));
    rig.run_until(&mut streams, process);
    rig.run_for(&mut streams, Duration::from_millis(20));
    rig.turns = 0;
    rig.run_for(&mut streams, Duration::from_millis(50));
    assert_eq!((rig.turns, streams.is_drained()), (0, false));
}

fn open_reader(path: &str) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).expect("open")
}

#[test]
fn a_reader_that_is_late_gets_all_of_a_short_program() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let (mut streams, ends) = rig.open(&output(&stdout));
    File::from(ends.stdout).write_all(b"short").expect("write");
    streams.process_ended(&rig.poll);
    rig.run_for(&mut streams, Duration::from_millis(300));
    assert!(!streams.is_drained());
    // By now the checks for a reader are rare.
    assert!(streams.deadline().is_some());
    let client = reader(&stdout, Duration::ZERO);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"short");
    assert_eq!(streams.deadline(), None);
}

#[test]
fn a_reader_that_goes_and_comes_again_finds_what_was_written_in_between() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let (mut streams, ends) = rig.open(&output(&stdout));
    let mut process = File::from(ends.stdout);
    let path = stdout.clone();
    let client = thread::spawn(move || {
        let mut bytes = [0; 3];
        File::open(path)
            .expect("open")
            .read_exact(&mut bytes)
            .expect("read");
        bytes
    });
    process.write_all(b"one").expect("write");
    assert_eq!(&rig.run_until(&mut streams, client), b"one");
    process.write_all(b"two").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    let client = reader(&stdout, Duration::ZERO);
    process.write_all(b"three").expect("write");
    drop(process);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"twothree");
}

#[test]
fn what_the_last_reader_left_waits_for_the_next_one() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let reader_that_goes = open_reader(&stdout);
    let (mut streams, ends) = rig.open(&output(&stdout));
    drop(reader_that_goes);
    File::from(ends.stdout).write_all(b"left").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    // Unread output in the fifo does not delay the deletion of the task.
    assert!(streams.is_drained() && streams.deadline().is_some());
    let client = reader(&stdout, Duration::ZERO);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"left");
}

#[test]
fn a_client_sees_the_end_with_the_last_writer() {
    let mut rig = Rig::new();
    let stdout = rig.fifo("stdout");
    let (mut streams, ends) = rig.open(&output(&stdout));
    let client = reader(&stdout, Duration::ZERO);
    let child = ends.stdout.try_clone().expect("dup");
    drop(ends.stdout);
    streams.process_ended(&rig.poll);
    rig.run_for(&mut streams, Duration::from_millis(20));
    assert!(!client.is_finished() && !streams.is_drained());
    File::from(child).write_all(b"late").expect("write");
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"late");
}

#[test]
fn output_that_does_not_end_is_given_up() {
    let mut rig = Rig::new();
    let (stdout, stderr) = (rig.fifo("stdout"), rig.fifo("stderr"));
    let stdio = Stdio {
        stderr,
        ..output(&stdout)
    };
    let (mut streams, _ends) = rig.open(&stdio);
    // The process keeps the first output open; the second has no reader.
    let client = reader(&stdout, Duration::ZERO);
    let begin = Instant::now();
    streams.give_up_at(begin + Duration::from_millis(100));
    rig.drain(&mut streams);
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(client.join().expect("client"), b"");
}

#[test]
fn input_ends_when_it_is_closed_and_every_writer_has_gone() {
    let mut rig = Rig::new();
    let stdin = rig.fifo("stdin");
    let (mut streams, ends) = rig.open(&Stdio {
        stdin: stdin.clone(),
        ..Stdio::default()
    });
    let process = thread::spawn(move || read_all(File::from(ends.stdin)));
    open_for_writing(&stdin).write_all(b"one").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    let mut second = open_for_writing(&stdin);
    streams.close_stdin();
    second.write_all(b"two").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    assert!(!process.is_finished());
    drop(second);
    assert_eq!(rig.run_until(&mut streams, process), b"onetwo");
}

#[test]
fn input_ends_at_once_if_it_is_closed_and_nobody_came() {
    let mut rig = Rig::new();
    let stdin = rig.fifo("stdin");
    let (mut streams, ends) = rig.open(&Stdio {
        stdin,
        ..Stdio::default()
    });
    streams.close_stdin();
    let process = thread::spawn(move || read_all(File::from(ends.stdin)));
    assert_eq!(rig.run_until(&mut streams, process), b"");
}

#[test]
fn input_that_nobody_reads_is_refused() {
    let mut rig = Rig::new();
    let stdin = rig.fifo("stdin");
    let (mut streams, ends) = rig.open(&Stdio {
        stdin: stdin.clone(),
        ..Stdio::default()
    });
    let mut client = open_for_writing(&stdin);
    drop(ends.stdin);
    client.write_all(b"x").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    let refused = client.write_all(b"x").expect_err("no reader");
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn much_goes_both_ways_at_once() {
    let mut rig = Rig::new();
    let (stdin, stdout, stderr) = (rig.fifo("stdin"), rig.fifo("stdout"), rig.fifo("stderr"));
    let stdio = Stdio {
        stdin: stdin.clone(),
        stdout: stdout.clone(),
        stderr: stderr.clone(),
        terminal: false,
    };
    let (mut streams, ends) = rig.open(&stdio);
    let bytes = sample(32 * MIB);
    let clients = [&stdout, &stderr].map(|path| reader(path, Duration::ZERO));
    let feeder = writer(open_for_writing(&stdin), bytes.clone());
    streams.close_stdin();
    let process = thread::spawn(move || {
        let [mut stdin, mut stdout, mut stderr] =
            [ends.stdin, ends.stdout, ends.stderr].map(File::from);
        let mut buffer = vec![0; 100_000];
        loop {
            match stdin.read(&mut buffer).expect("read") {
                0 => break,
                count => {
                    stdout.write_all(&buffer[..count]).expect("write");
                    stderr.write_all(&buffer[..count]).expect("write");
                }
            }
        }
    });
    rig.drain(&mut streams);
    process.join().expect("process");
    feeder.join().expect("feeder");
    for client in clients {
        assert!(client.join().expect("client") == bytes);
    }
}

#[test]
fn what_is_not_wanted_is_the_null_device() {
    let mut rig = Rig::new();
    let null = fs::metadata("/dev/null").expect("stat").rdev();
    let is_null = |fd: OwnedFd| File::from(fd).metadata().expect("stat").rdev() == null;
    let (streams, ends) = rig.open(&Stdio::default());
    assert!(streams.is_drained() && ends.logger.is_none());
    assert!(
        [ends.stdin, ends.stdout, ends.stderr]
            .into_iter()
            .all(is_null)
    );

    let stdout = rig.fifo("stdout");
    let (mut streams, ends) = rig.open(&output(&stdout));
    let client = reader(&stdout, Duration::ZERO);
    assert!(is_null(ends.stderr));
    drop(ends.stdout);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"");
}

#[test]
fn two_streams_through_one_fifo_keep_their_order() {
    let mut rig = Rig::new();
    let both = rig.fifo("both");
    let stdio = Stdio {
        stderr: both.clone(),
        ..output(&both)
    };
    let (mut streams, ends) = rig.open(&stdio);
    let client = reader(&both, Duration::ZERO);
    let [mut stdout, mut stderr] = [ends.stdout, ends.stderr].map(File::from);
    for _ in 0..100 {
        stdout.write_all(b"o").expect("write");
        stderr.write_all(b"e").expect("write");
    }
    drop((stdout, stderr));
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"oe".repeat(100));
}

#[test]
fn the_pipes_belong_to_the_process() {
    let rig = Rig::new();
    let (stdin, stdout) = (rig.fifo("stdin"), rig.fifo("stdout"));
    let process = Process {
        namespace: "ns",
        id: "id",
        owner: (Uid::from_raw(1234), Gid::from_raw(5678)),
        sockets: &rig.directory,
    };
    let stdio = Stdio {
        stdin,
        ..output(&stdout)
    };
    let opened = Streams::new(&rig.poll, TOKEN, &stdio, &process, Instant::now());
    if !getuid().is_root() {
        assert!(opened.is_err(), "only root may give a pipe away");
        return;
    }
    let (_streams, ends) = opened.expect("streams");
    for end in [ends.stdin, ends.stdout] {
        let metadata = File::from(end).metadata().expect("stat");
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678));
    }
}

#[test]
fn files_are_appended_to_by_the_process_itself() {
    let rig = Rig::new();
    let log = rig.path("a/b/log");
    for text in ["one\n", "two\n"] {
        let (streams, ends) = rig.open(&output(&format!("file://{log}?x=y")));
        assert!(streams.is_drained());
        File::from(ends.stdout)
            .write_all(text.as_bytes())
            .expect("write");
        File::from(ends.stderr).write_all(b"err\n").expect("write");
    }
    let (_, ends) = rig.open(&Stdio {
        stdin: log.clone(),
        stderr: log.clone(),
        ..output(&log)
    });
    File::from(ends.stderr)
        .write_all(b"by path\n")
        .expect("write");
    let text = read_all(File::from(ends.stdin));
    assert_eq!(text, b"one\nerr\ntwo\nerr\nby path\n");
}

#[test]
fn what_no_shim_knows_is_refused() {
    let rig = Rig::new();
    let refusal = |stdio| format!("{:#}", rig.try_open(&stdio).expect_err("refused"));
    let words = "unknown STDIO scheme http";
    assert_eq!(refusal(output("http://example.org/")), words);
    let terminal = Stdio {
        terminal: true,
        ..output("http://example.org/")
    };
    assert_eq!(refusal(terminal), words);
    let missing = refusal(output("/nowhere/stdout"));
    assert!(
        missing.starts_with("find the stream \"/nowhere/stdout\": "),
        "{missing}"
    );
}

#[test]
fn a_logger_is_started_with_the_pipes_and_says_when_it_is_ready() {
    let rig = Rig::new();
    let uri = "binary:///bin/logger?level=info&quiet&env.A=b&env.CONTAINER_ID=no";
    let (streams, ends) = rig.open(&output(uri));
    assert!(streams.is_drained());
    let logger = ends.logger.expect("logger");
    let Work::Program { path, args, env } = logger.work else {
        panic!("{:?}", logger.work);
    };
    assert_eq!(path, PathBuf::from("/bin/logger"));
    assert_eq!(args, ["level", "info", "quiet", ""]);
    assert_eq!(env, ["CONTAINER_ID=id", "CONTAINER_NAMESPACE=ns", "A=b"]);
    let [_, _, _, stdout, stderr, ready] = descriptors(logger.fds);
    assert!(!logger.readiness.look().expect("not yet"));
    drop(ready);
    assert!(logger.readiness.look().expect("the end is enough"));
    File::from(ends.stdout).write_all(b"out").expect("write");
    File::from(ends.stderr).write_all(b"err").expect("write");
    assert_eq!(read_all(File::from(stdout)), b"out");
    assert_eq!(read_all(File::from(stderr)), b"err");
}

fn descriptors(fds: Vec<OwnedFd>) -> [OwnedFd; 6] {
    fds.try_into().expect("0 to 5")
}

#[test]
fn a_logger_of_the_second_kind_must_say_a_word() {
    let rig = Rig::new();
    let open = || {
        rig.open(&output("binary-v2:///bin/logger"))
            .1
            .logger
            .expect("logger")
    };
    let logger = open();
    drop(logger.fds);
    let error = logger.readiness.look().expect_err("no word");
    let words = "logging binary did not call ready (it may have crashed or exited prematurely)";
    assert_eq!(error.to_string(), words);

    let Logger { fds, readiness, .. } = open();
    let [.., ready] = descriptors(fds);
    File::from(ready).write_all(b"x").expect("write");
    assert!(readiness.look().expect("ready"));
}

/// Makes a terminal and sends it, as a runtime does; returns the process's side.
fn send_terminal(streams: &Streams) -> OwnedFd {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("openpt");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    send(streams, &master);
    ioctl_tiocgptpeer(&master, flags).expect("open the terminal")
}

fn send(streams: &Streams, fd: impl AsFd) {
    let socket = UnixStream::connect(streams.console_socket().expect("socket")).expect("connect");
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let name = [IoSlice::new(b"/dev/ptmx")];
    sendmsg(socket, &name, &mut control, SendFlags::empty()).expect("send");
}

fn terminal(rig: &Rig) -> (Streams, OwnedFd, Stdio) {
    let stdio = Stdio {
        stdin: rig.fifo("stdin"),
        terminal: true,
        ..output(&rig.fifo("stdout"))
    };
    let (mut streams, _ends) = rig.open(&stdio);
    let socket = streams.console_socket().expect("socket").to_owned();
    let mode = fs::metadata(&socket).expect("stat").mode();
    assert_eq!(mode & 0o777, 0o600);
    let process = send_terminal(&streams);
    streams
        .receive_terminal(&rig.poll, Instant::now())
        .expect("terminal");
    assert!(!socket.exists() && streams.console_socket().is_none());
    (streams, process, stdio)
}

fn make_raw(terminal: &OwnedFd) {
    let mut settings = tcgetattr(terminal).expect("tcgetattr");
    settings.make_raw();
    tcsetattr(terminal, OptionalActions::Now, &settings).expect("tcsetattr");
}

#[test]
fn a_terminal_has_its_size() {
    let rig = Rig::new();
    let (streams, process, _) = terminal(&rig);
    streams.resize(132, 43).expect("resize");
    let size = tcgetwinsize(&process).expect("size");
    assert_eq!((size.ws_col, size.ws_row), (132, 43));
    let (streams, _) = rig.open(&Stdio::default());
    streams.resize(1, 1).expect("no terminal, no error");
}

#[test]
fn a_terminal_brings_all_its_output_to_a_slow_reader_and_takes_input() {
    let mut rig = Rig::new();
    let (mut streams, process, stdio) = terminal(&rig);
    make_raw(&process);
    let client = reader(&stdio.stdout, Duration::from_millis(1));
    let bytes = sample(4 * MIB);
    let feeder = writer(open_for_writing(&stdio.stdin), bytes.clone());
    // The terminal echoes its input.
    let size = bytes.len();
    let echo = thread::spawn(move || {
        let (mut terminal, mut buffer, mut seen) = (File::from(process), [0; 8000], 0);
        while seen < size {
            let count = terminal.read(&mut buffer).expect("read");
            terminal.write_all(&buffer[..count]).expect("write");
            seen += count;
        }
    });
    rig.run_until(&mut streams, echo);
    streams.process_ended(&rig.poll);
    rig.drain(&mut streams);
    feeder.join().expect("feeder");
    assert!(client.join().expect("client") == bytes);
    assert!(rig.turns < bytes.len() / 100, "{}", rig.turns);
}

#[test]
fn a_terminal_that_nobody_reads_lets_nobody_spin() {
    let mut rig = Rig::new();
    let (mut streams, process, stdio) = terminal(&rig);
    make_raw(&process);
    // The process writes and does not read; its clients write and do not read.
    let _reader = File::from(open_reader(&stdio.stdout));
    let output = process.try_clone().expect("dup");
    thread::spawn(move || File::from(output).write_all(&sample(MIB)));
    let input = open_for_writing(&stdio.stdin);
    thread::spawn(move || (&input).write_all(&sample(MIB)));
    rig.run_for(&mut streams, Duration::from_millis(200));
    rig.turns = 0;
    rig.run_for(&mut streams, Duration::from_millis(100));
    assert!(rig.turns < 4, "{}", rig.turns);
}

#[test]
fn a_terminal_that_is_closed_may_be_opened_again() {
    let mut rig = Rig::new();
    let (mut streams, process, stdio) = terminal(&rig);
    make_raw(&process);
    let name = rustix::termios::ttyname(&process, Vec::new()).expect("name");
    let client = reader(&stdio.stdout, Duration::ZERO);
    File::from(process).write_all(b"one").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    rig.turns = 0;
    rig.run_for(&mut streams, Duration::from_millis(50));
    assert_eq!((rig.turns, streams.is_drained()), (0, false));

    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let again = rustix::fs::open(name, flags, Mode::empty()).expect("open");
    File::from(again).write_all(b"two").expect("write");
    rig.run_for(&mut streams, Duration::from_millis(20));
    streams.process_ended(&rig.poll);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"onetwo");
}

#[test]
fn a_terminal_ends_with_its_process_though_others_have_it_open() {
    let mut rig = Rig::new();
    let (mut streams, process, stdio) = terminal(&rig);
    let mut process = File::from(process);
    process.write_all(b"last").expect("write");
    // Ends before there is a reader, while the terminal stays open.
    streams.process_ended(&rig.poll);
    let client = reader(&stdio.stdout, Duration::ZERO);
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"last");
}

#[test]
fn a_terminal_hangs_up_when_its_input_ends() {
    let mut rig = Rig::new();
    let (mut streams, process, stdio) = terminal(&rig);
    make_raw(&process);
    let client = reader(&stdio.stdout, Duration::ZERO);
    open_for_writing(&stdio.stdin)
        .write_all(b"in")
        .expect("write");
    let mut process = File::from(process);
    process.write_all(b"out").expect("write");
    streams.close_stdin();
    rig.drain(&mut streams);
    assert_eq!(client.join().expect("client"), b"out");
    let hung_up = process.write_all(b"x").expect_err("nobody has it open");
    assert_eq!(hung_up.raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_terminal_that_does_not_come_or_is_none_is_an_error() {
    let rig = Rig::new();
    let stdio = Stdio {
        terminal: true,
        ..output(&rig.fifo("stdout"))
    };
    let (mut streams, _) = rig.open(&stdio);
    let error = streams.receive_terminal(&rig.poll, Instant::now());
    let error = format!("{:#}", error.expect_err("none came"));
    assert!(
        error.starts_with("the runtime sent no terminal: "),
        "{error}"
    );

    let (mut streams, _) = rig.open(&stdio);
    send(&streams, File::open("/dev/null").expect("open"));
    let error = streams.receive_terminal(&rig.poll, Instant::now());
    let error = format!("{:#}", error.expect_err("not a terminal"));
    assert!(
        error.starts_with("the runtime sent a descriptor that is not a terminal: "),
        "{error}"
    );
}

#[test]
fn a_logger_gets_what_is_written_to_a_terminal() {
    let mut rig = Rig::new();
    let stdio = Stdio {
        terminal: true,
        ..output("binary:///bin/logger")
    };
    let (mut streams, ends) = rig.open(&stdio);
    let process = send_terminal(&streams);
    streams
        .receive_terminal(&rig.poll, Instant::now())
        .expect("terminal");
    let [.., stdout, stderr, _] = descriptors(ends.logger.expect("logger").fds);
    assert_eq!(read_all(File::from(stderr)), b"");
    File::from(process).write_all(b"text").expect("write");
    streams.process_ended(&rig.poll);
    rig.drain(&mut streams);
    assert_eq!(read_all(File::from(stdout)), b"text");
}
