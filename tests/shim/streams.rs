//! Streams of containers: fifos, terminals, files, and programs for logs.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use teu_shim::proto::task::{CloseIORequest, ResizePtyRequest};

use super::client::Client;
use super::engine::{Bootstrap, Engine, Shim, Streams, exec_request};
use crate::harness::{Bundle, Container, Root, Seconds, needs, scratch, tests, wait_until};

tests![
    output_of_a_program_that_ends_at_once,
    stream_through_a_container,
    stdin_ends_when_all_have_closed_it,
    reader_that_comes_back,
    output_and_errors_apart,
    terminal,
    terminal_of_an_exec,
    file_for_output,
    program_for_output,
    grandchild_keeps_writing,
];

/// A fifo that the test made.
pub(crate) struct Fifo(PathBuf);

impl Fifo {
    pub(crate) fn new(name: &str) -> Fifo {
        let path = scratch().join(format!("fifo-{name}"));
        if !path.exists() {
            mkfifo(&path, Mode::S_IRWXU).expect("make a fifo");
        }
        Fifo(path)
    }

    pub(crate) fn name(&self) -> String {
        self.0.to_str().expect("a path in UTF-8").to_owned()
    }

    /// Opens the fifo as containerd's clients do, which waits for a writer, and reads to the
    /// end.
    pub(crate) fn read(&self) -> JoinHandle<Vec<u8>> {
        let path = self.0.clone();
        std::thread::spawn(move || fs::read(path).expect("read a fifo"))
    }

    fn open_to_read(&self) -> File {
        File::open(&self.0).expect("open a fifo")
    }

    fn open_to_write(&self) -> File {
        OpenOptions::new()
            .write(true)
            .open(&self.0)
            .expect("open a fifo")
    }
}

/// Starts a shim with a container that runs the probe in one mode.
fn started(engine: &Engine, container: &Container, stdio: &Streams) -> Shim {
    let mut shim = engine.start(container, Bootstrap::Flags);
    shim.try_create(engine, container, stdio).expect("create");
    shim.start(&container.id, "");
    shim
}

fn container(probe: &str) -> Container {
    Container::new(Bundle::new().probe(probe))
}

fn text(output: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8(output.join().expect("read")).expect("UTF-8")
}

fn close_stdin(client: &mut Client, id: &str) {
    let id = id.to_owned();
    client
        .call(&CloseIORequest {
            id,
            stdin: true,
            ..CloseIORequest::default()
        })
        .expect("close");
}

/// A reader that comes after the end gets all output and its end.
fn output_of_a_program_that_ends_at_once() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("echo some words");
    let fifo = Fifo::new("stdout");
    let stdio = Streams::to(&fifo.name());
    let mut shim = engine.start(&container, Bootstrap::Flags);
    // Go's shim waits here until there is a reader.
    let reader = if engine.is_ours() {
        None
    } else {
        Some(fifo.read())
    };
    shim.try_create(&engine, &container, &stdio)
        .expect("create");
    shim.start(&container.id, "");
    assert_eq!(shim.wait(&container.id, ""), 0);
    std::thread::sleep(Duration::from_millis(300));
    let output = reader.unwrap_or_else(|| fifo.read());
    assert_eq!(text(output), "some words\n");
    shim.delete(&container.id, "");
}

/// Streams $TEU_TEST_SHIM_MIB MiB of data, by default 64.
fn stream_through_a_container() {
    needs(&[Root, Seconds(600)]);
    let mib = std::env::var("TEU_TEST_SHIM_MIB").map(|mib| mib.parse().expect("a number"));
    let blocks: usize = mib.unwrap_or(64) << 4;
    let engine = Engine::new();
    let container = container("cat");
    let (stdin, stdout) = (Fifo::new("stdin"), Fifo::new("stdout"));
    let stdio = Streams::to(&stdout.name()).from(&stdin.name());
    let writer = std::thread::spawn(move || {
        let mut file = stdin.open_to_write();
        (0..blocks).for_each(|number| file.write_all(&block(number)).expect("write"));
    });
    let reader = std::thread::spawn(move || {
        let mut file = stdout.open_to_read();
        let mut read = vec![0; 1 << 16];
        for number in 0..blocks {
            file.read_exact(&mut read).expect("read");
            assert!(read == block(number), "block {number} is another");
            // Slow at first, so that all buffers fill up.
            if number < 40 {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        file.read(&mut read).expect("read the end")
    });
    let mut shim = started(&engine, &container, &stdio);
    std::thread::sleep(Duration::from_secs(1));
    let memory = resident_kib(shim.pid);
    writer.join().expect("write all");
    close_stdin(&mut shim, &container.id);
    assert_eq!(reader.join().expect("read all"), 0, "more than was written");
    assert!(
        resident_kib(shim.pid) < memory + 1024,
        "memory grew from {memory} KiB"
    );
    assert_eq!(shim.wait(&container.id, ""), 0);
    shim.delete(&container.id, "");
}

/// A block of 64 KiB that differs from blocks of other numbers.
fn block(number: usize) -> Vec<u8> {
    let words = (0..8192_u64).map(|word| (number as u64) << 32 | word);
    words.flat_map(u64::to_le_bytes).collect()
}

fn resident_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the memory used");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Stdin ends after `CloseIO` only, because another client may come after the first.
fn stdin_ends_when_all_have_closed_it() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("cat");
    let (stdin, stdout) = (Fifo::new("stdin"), Fifo::new("stdout"));
    let stdio = Streams::to(&stdout.name()).from(&stdin.name());
    let output = stdout.read();
    let mut shim = started(&engine, &container, &stdio);
    for words in ["one ", "two"] {
        stdin
            .open_to_write()
            .write_all(words.as_bytes())
            .expect("write");
        std::thread::sleep(Duration::from_millis(100));
    }
    close_stdin(&mut shim, &container.id);
    close_stdin(&mut shim, &container.id);
    assert_eq!(shim.wait(&container.id, ""), 0);
    assert_eq!(text(output), "one two");
    shim.delete(&container.id, "");
}

/// Output that is written without a reader waits for the next reader.
fn reader_that_comes_back() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("cat");
    let (stdin, stdout) = (Fifo::new("stdin"), Fifo::new("stdout"));
    let stdio = Streams::to(&stdout.name()).from(&stdin.name());
    let opened = stdout.0.clone();
    let first = std::thread::spawn(move || File::open(opened).expect("open a fifo"));
    let mut shim = started(&engine, &container, &stdio);
    let mut input = stdin.open_to_write();
    let mut first = first.join().expect("open a fifo");
    let mut words = [0; 4];
    input.write_all(b"one ").expect("write");
    first.read_exact(&mut words).expect("read");
    assert_eq!(&words, b"one ");
    drop(first);
    input.write_all(b"two ").expect("write");
    std::thread::sleep(Duration::from_millis(200));
    let second = stdout.read();
    input.write_all(b"three").expect("write");
    drop(input);
    close_stdin(&mut shim, &container.id);
    assert_eq!(shim.wait(&container.id, ""), 0);
    assert_eq!(text(second), "two three");
    shim.delete(&container.id, "");
}

fn output_and_errors_apart() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("echo output;say errors");
    let (stdout, stderr) = (Fifo::new("stdout"), Fifo::new("stderr"));
    let stdio = Streams {
        stderr: stderr.name(),
        ..Streams::to(&stdout.name())
    };
    let (output, errors) = (stdout.read(), stderr.read());
    let mut shim = started(&engine, &container, &stdio);
    assert_eq!(
        (text(output), text(errors)),
        ("output\n".to_owned(), "errors\n".to_owned())
    );
    assert_eq!(shim.wait(&container.id, ""), 0);
    shim.delete(&container.id, "");
}

/// The output of a terminal as it arrives.
struct Screen(std::sync::mpsc::Receiver<u8>);

impl Screen {
    fn of(fifo: Fifo) -> Screen {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let bytes = BufReader::new(fifo.open_to_read()).bytes();
            // The receiver is gone at the end of the test.
            bytes.flatten().try_for_each(|byte| sender.send(byte))
        });
        Screen(receiver)
    }

    /// Reads until this text has appeared.
    #[track_caller]
    fn expect(&self, text: &str) {
        let mut seen = String::new();
        while !seen.ends_with(text) {
            match self.0.recv_timeout(Duration::from_secs(10)) {
                Ok(byte) => seen.push(byte.into()),
                Err(_) => panic!("{text:?} not on the terminal, only {seen:?}"),
            }
        }
    }

    /// Reads until the fifo is closed.
    #[track_caller]
    fn end(&self) {
        while let Ok(_byte) = self.0.recv_timeout(Duration::from_secs(10)) {}
        let closed = Err(std::sync::mpsc::TryRecvError::Disconnected);
        assert_eq!(self.0.try_recv(), closed, "the terminal's end is missing");
    }
}

fn resize(client: &mut Client, id: &str, exec: &str, width: u32, height: u32) {
    let (id, exec_id) = (id.to_owned(), exec.to_owned());
    client
        .call(&ResizePtyRequest {
            id,
            exec_id,
            width,
            height,
        })
        .expect("resize");
}

fn terminal() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = Container::new(Bundle::new().probe("winsize-watch").terminal());
    let stdout = Fifo::new("stdout");
    let stdio = Streams::to(&stdout.name()).terminal();
    let screen = Screen::of(stdout);
    let mut shim = started(&engine, &container, &stdio);
    screen.expect("0x0\r\n");
    resize(&mut shim, &container.id, "", 120, 40);
    screen.expect("40x120\r\n");
    shim.remove(&container.id);
    screen.end();
}

fn terminal_of_an_exec() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("sleep");
    let mut shim = started(&engine, &container, &Streams::default());
    let id = &container.id;
    for number in 0..5 {
        let exec = format!("exec-{number}");
        let (stdin, stdout) = (
            Fifo::new(&format!("in{number}")),
            Fifo::new(&format!("out{number}")),
        );
        let stdio = Streams::to(&stdout.name()).from(&stdin.name()).terminal();
        let screen = Screen::of(stdout);
        shim.call(&exec_request(id, &exec, "cat", &stdio))
            .expect("exec");
        shim.start(id, &exec);
        resize(&mut shim, id, &exec, 80, 24);
        let mut input = stdin.open_to_write();
        input.write_all(b"words\n").expect("type");
        // The terminal echoes the words, and cat repeats them.
        screen.expect("words\r\nwords\r\n");
        input.write_all(b"\x04").expect("type the end");
        assert_eq!(shim.wait(id, &exec), 0);
        screen.end();
        shim.delete(id, &exec);
    }
    shim.remove(id);
}

fn file_for_output() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("echo output;say errors;echo more");
    let path = scratch().join("logs/of/it");
    let address = format!("file://{}", path.display());
    let stdio = Streams::both_to(&address);
    let mut shim = started(&engine, &container, &stdio);
    assert_eq!(shim.wait(&container.id, ""), 0);
    shim.delete(&container.id, "");
    let text = fs::read_to_string(path).expect("read the log");
    assert!(
        text.contains("output\n") && text.contains("errors\n") && text.contains("more\n"),
        "{text}"
    );
}

/// The program gets the pipes as descriptors 3 and 4, reports on 5 that it is ready, and ends
/// with the pipes, even if it is signalled.
fn program_for_output() {
    needs(&[Root]);
    let engine = Engine::new();
    let container = container("echo output;say errors");
    let program = scratch().join("logger");
    let log = scratch().join("logged");
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\ntrap '' TERM\nexec 5>&-\n{{ echo \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\"; cat <&3; cat <&4; }} > {0}.part\nmv {0}.part {0}\n",
        log.display()
    );
    fs::write(&program, script).expect("write the program");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("make it one");
    let address = format!("binary://{}?tag=name", program.display());
    let stdio = Streams::both_to(&address);
    let mut shim = started(&engine, &container, &stdio);
    assert_eq!(shim.wait(&container.id, ""), 0);
    shim.delete(&container.id, "");
    wait_until("the program has read all", || log.exists());
    let text = fs::read_to_string(log).expect("read the log");
    let (first, rest) = text.split_once('\n').expect("lines");
    assert!(
        first.starts_with(&format!("{} state tag name", container.id)),
        "{first}"
    );
    assert_eq!(rest, "output\nerrors\n");
}

/// An exec's children may keep its output open, but a delete must not wait forever.
fn grandchild_keeps_writing() {
    needs(&[Root, Seconds(60)]);
    let engine = Engine::new();
    let container = container("sleep");
    let mut shim = started(&engine, &container, &Streams::default());
    let id = &container.id;
    let fifo = Fifo::new("stdout");
    let output = fifo.read();
    let stdio = Streams::to(&fifo.name());
    shim.call(&exec_request(id, "exec", "seq fork 1 -- exit 3", &stdio))
        .expect("exec");
    shim.start(id, "exec");
    assert_eq!(shim.wait(id, "exec"), 3);
    assert_eq!(shim.delete(id, "exec"), 3);
    assert!(text(output).starts_with("{\"ok\":["));
    shim.remove(id);
}
