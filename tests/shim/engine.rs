//! An engine for tests: starts a shim, receives its events, calls it, and cleans up.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use prost::Message;
use serde_json::{Value, json};
use teu_shim::proto::Any;
use teu_shim::proto::bootstrap::{BootstrapParams, BootstrapResult, Extension};
use teu_shim::proto::options::runc::Options;
use teu_shim::proto::task::*;
use teu_shim::proto::ttrpc::Status;
use teu_shim::proto::types::Mount;

use super::client::Client;
use super::events::Events;
use crate::harness::{Bundle, Container, is_alive, process, runtime, scratch, wait_until};

/// The namespace in containerd. It is the last part of the path of the runtime's state, so
/// that with `Options::root` this is the state root of every test.
pub(crate) const NAMESPACE: &str = "state";

/// The way in which a shim gets its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bootstrap {
    /// Flags, and options on stdin: containerd before 2.3.
    Flags,
    /// Flags, and a message on stdin: containerd since 2.3.
    Message,
}

/// An engine with one shim program.
pub(crate) struct Engine {
    pub(crate) program: PathBuf,
    pub(crate) events: Events,
    /// The cgroup of the shim itself.
    pub(crate) cgroup: String,
}

impl Engine {
    /// An engine with teu's shim, or the shim in $TEU_SHIM.
    pub(crate) fn new() -> Engine {
        match std::env::var_os("TEU_SHIM") {
            Some(other) => Engine::with(other.into()),
            None => {
                let program = scratch().join("containerd-shim-teu-v2");
                symlink(runtime(), &program).expect("give the runtime the shim's name");
                Engine::with(program)
            }
        }
    }

    /// An engine with another shim.
    pub(crate) fn with(program: PathBuf) -> Engine {
        Engine {
            program,
            events: Events::new(scratch().join("events.sock")),
            cgroup: String::new(),
        }
    }

    /// Whether the shim is teu's.
    pub(crate) fn is_ours(&self) -> bool {
        self.program.ends_with("containerd-shim-teu-v2")
    }

    /// The options: the directory of the state; and the runtime, for a shim without its own.
    pub(crate) fn options(&self) -> Options {
        let runtime = runtime()
            .into_os_string()
            .into_string()
            .expect("a path in UTF-8");
        Options {
            root: scratch().to_str().expect("a path in UTF-8").to_owned(),
            binary_name: if self.is_ours() {
                String::new()
            } else {
                runtime
            },
            shim_cgroup: self.cgroup.clone(),
            ..Options::default()
        }
    }

    /// The shim's program with containerd's flags, in the bundle.
    fn command(&self, container: &Container) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-namespace", NAMESPACE, "-address"])
            .arg(scratch().join("containerd.sock"))
            .args(["-publish-binary", "/bin/containerd", "-id", &container.id])
            .current_dir(&container.bundle.directory)
            .env("TTRPC_ADDRESS", &self.events.path)
            .env("GRPC_ADDRESS", scratch().join("containerd.sock"))
            .env("NAMESPACE", NAMESPACE)
            .env("MAX_SHIM_VERSION", "2")
            .env("GOMAXPROCS", "2");
        command
    }

    /// Calls `start` for a container as containerd does.
    #[track_caller]
    pub(crate) fn start(&self, container: &Container, bootstrap: Bootstrap) -> Shim {
        self.start_with_answer(container, bootstrap).0
    }

    /// Calls `start`, and returns its output, too.
    #[track_caller]
    pub(crate) fn start_with_answer(
        &self,
        container: &Container,
        bootstrap: Bootstrap,
    ) -> (Shim, Vec<u8>) {
        self.start_by(self.command(container), container, bootstrap)
    }

    /// Starts a shim with another variable in its environment.
    #[track_caller]
    pub(crate) fn start_with(&self, container: &Container, variable: (&str, &OsStr)) -> Shim {
        let mut command = self.command(container);
        command.env(variable.0, variable.1);
        self.start_by(command, container, Bootstrap::Flags).0
    }

    #[track_caller]
    fn start_by(
        &self,
        mut command: Command,
        container: &Container,
        bootstrap: Bootstrap,
    ) -> (Shim, Vec<u8>) {
        let bundle = &container.bundle.directory;
        let log = open_log(bundle);
        // In containerd, a bundle's directory has the name of its container.
        let name = bundle.with_file_name(&container.id);
        if !name.exists() {
            symlink(bundle, name).expect("give the bundle its container's name");
        }
        fs::create_dir_all(bundle.join("work")).expect("make the bundle's work directory");
        command.arg("start");
        let answer = run(command, &self.start_input(container, bootstrap)).ok();
        (
            Shim::found_at(&answer.stdout, &container.id, log),
            answer.stdout,
        )
    }

    fn start_input(&self, container: &Container, bootstrap: Bootstrap) -> Vec<u8> {
        let options = Any::new(&self.options());
        if bootstrap == Bootstrap::Flags {
            return options.encode_to_vec();
        }
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let params = BootstrapParams {
            instance_id: container.id.clone(),
            namespace: NAMESPACE.to_owned(),
            containerd_version: "2.3.0".to_owned(),
            containerd_ttrpc_address: path(&self.events.path),
            containerd_grpc_address: path(&scratch().join("containerd.sock")),
            containerd_binary: "/bin/containerd".to_owned(),
            extensions: vec![Extension {
                value: Some(options),
            }],
            ..BootstrapParams::default()
        };
        params.encode_to_vec()
    }

    /// Calls `delete` as containerd does after a container's end.
    #[track_caller]
    pub(crate) fn delete(&self, container: &Container) -> DeleteResponse {
        let mut command = self.command(container);
        command
            .arg("-bundle")
            .arg(&container.bundle.directory)
            .arg("delete");
        let answer = run(command, &[]);
        // containerd logs stderr as warnings. teu's shim must have none here.
        let answer = if self.is_ours() { answer.ok() } else { answer };
        DeleteResponse::decode(answer.stdout.as_slice()).expect("decode the answer of delete")
    }

    /// Calls the shim's program with other arguments.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str], stdin: &[u8]) -> Answer {
        let mut command = Command::new(&self.program);
        command.args(words).current_dir(scratch());
        run(command, stdin)
    }
}

/// Opens the shim's log for reading, as containerd does.
fn open_log(bundle: &Path) -> File {
    let path = bundle.join("log");
    if !path.exists() {
        mkfifo(&path, Mode::S_IRWXU).expect("make the fifo for the log");
    }
    open_fifo(&path)
}

/// Opens both ends of a fifo without blocking.
fn open_fifo(path: &Path) -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path).expect("open a fifo")
}

/// The output of a program, complete when all processes have closed its stdout.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stdout: Vec<u8>,
    stderr: String,
    is_success: bool,
}

impl Answer {
    /// Asserts that the program succeeded and wrote nothing to stderr, because containerd
    /// reads stdout and stderr together.
    #[track_caller]
    pub(crate) fn ok(self) -> Answer {
        assert!(
            self.is_success && self.stderr.is_empty(),
            "not a clean success: {self:?}"
        );
        self
    }
}

impl Answer {
    /// Whether the program failed with a reason on stderr, where containerd reads it.
    pub(crate) fn is_refusal(&self) -> bool {
        !self.is_success && !self.stderr.is_empty()
    }
}

#[track_caller]
fn run(mut command: Command, stdin: &[u8]) -> Answer {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[expect(
        clippy::zombie_processes,
        reason = "process::wait reaps it, with all others"
    )]
    let mut child = process::spawn(&mut command).expect("start the shim's program");
    // The program may end without reading its stdin.
    drop(child.stdin.take().expect("piped").write_all(stdin));
    let (mut stdout, mut stderr) = (Vec::new(), String::new());
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut stdout)
        .expect("read the answer");
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("read stderr");
    let is_success = process::wait(child.id().try_into().expect("a pid")).success();
    Answer {
        stdout,
        stderr,
        is_success,
    }
}

/// A running shim and a connection to it.
pub(crate) struct Shim {
    pub(crate) address: String,
    pub(crate) version: i32,
    pub(crate) pid: i32,
    client: Client,
    log: File,
}

impl Shim {
    /// Reads the answer of `start` as containerd does: a message, JSON, or an address.
    #[track_caller]
    fn found_at(answer: &[u8], id: &str, log: File) -> Shim {
        let (version, address) = place(answer);
        let mut client = Client::connect(&address, version);
        let connected = client
            .call(&ConnectRequest { id: id.to_owned() })
            .expect("connect");
        let pid = connected.shim_pid.try_into().expect("a pid");
        Shim {
            address,
            version,
            pid,
            client,
            log,
        }
    }

    /// Opens another connection, for this version of the service.
    pub(crate) fn connect(&self, version: i32) -> Client {
        Client::connect(&self.address, version)
    }

    /// Opens another connection, if the shim still listens.
    pub(crate) fn try_connect(&self) -> io::Result<Client> {
        Client::try_connect(&self.address, self.version)
    }

    /// Replaces the connection by a new one.
    pub(crate) fn reconnect(&mut self) {
        self.client = self.connect(self.version);
    }

    /// The shim's log since the last call.
    pub(crate) fn log(&mut self) -> String {
        let mut text = Vec::new();
        // Fails with EAGAIN at the end of what is there.
        drop(self.log.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Asks the shim to end, and waits for its end.
    #[track_caller]
    pub(crate) fn shutdown(&mut self) {
        // The shim may close the connection before it replies.
        self.client.send(&ShutdownRequest::default());
        wait_until("the shim has ended", || !is_alive(self.pid));
    }

    /// Kills the shim.
    pub(crate) fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).expect("kill the shim");
        wait_until("the shim is killed", || !is_alive(self.pid));
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the shim:\n{}", self.log());
            return;
        }
        if is_alive(self.pid) {
            self.shutdown();
        }
    }
}

impl Deref for Shim {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Shim {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The version and the address in the output of `start`.
fn place(answer: &[u8]) -> (i32, String) {
    if let Ok(result) = BootstrapResult::decode(answer)
        && !result.address.is_empty()
    {
        return (result.version, result.address);
    }
    let text = String::from_utf8_lossy(answer).trim().to_owned();
    let Ok(Value::Object(result)) = serde_json::from_str(&text) else {
        return (2, text);
    };
    let version = result["version"]
        .as_i64()
        .and_then(|version| version.try_into().ok());
    let address = result["address"].as_str().expect("an address");
    (version.expect("a version"), address.to_owned())
}

/// The streams of a process: paths and URIs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

impl Streams {
    /// Sends stdout to this fifo and stderr to /dev/null.
    pub(crate) fn to(fifo: &str) -> Streams {
        Streams {
            stdout: fifo.to_owned(),
            stderr: "/dev/null".to_owned(),
            ..Streams::default()
        }
    }

    /// Sends stdout and stderr to this URI.
    pub(crate) fn both_to(address: &str) -> Streams {
        Streams {
            stdout: address.to_owned(),
            stderr: address.to_owned(),
            ..Streams::default()
        }
    }

    /// Adds this stdin.
    pub(crate) fn from(self, stdin: &str) -> Streams {
        Streams {
            stdin: stdin.to_owned(),
            ..self
        }
    }

    /// Makes the streams a terminal, which has no stderr.
    pub(crate) fn terminal(self) -> Streams {
        Streams {
            stderr: String::new(),
            terminal: true,
            ..self
        }
    }
}

/// Short forms of a client's calls, which assert success.
impl Client {
    pub(crate) fn try_create(
        &mut self,
        engine: &Engine,
        container: &Container,
        stdio: &Streams,
    ) -> Result<CreateTaskResponse, Status> {
        self.call(&create_request(engine, container, stdio))
    }

    /// Creates a container without streams.
    #[track_caller]
    pub(crate) fn create(&mut self, engine: &Engine, container: &Container) -> u32 {
        self.try_create(engine, container, &Streams::default())
            .expect("create")
            .pid
    }

    /// Starts init or an exec.
    #[track_caller]
    pub(crate) fn start(&mut self, id: &str, exec: &str) -> u32 {
        self.call(&start(id, exec)).expect("start").pid
    }

    /// Adds an exec of the probe, without streams.
    #[track_caller]
    pub(crate) fn add(&mut self, id: &str, exec: &str, probe: &str) {
        self.call(&exec_request(id, exec, probe, &Streams::default()))
            .expect("exec");
    }

    /// Waits for the exit status.
    #[track_caller]
    pub(crate) fn wait(&mut self, id: &str, exec: &str) -> u32 {
        self.call(&wait(id, exec)).expect("wait").exit_status
    }

    #[track_caller]
    pub(crate) fn kill_with(&mut self, id: &str, exec: &str, signal: Signal) {
        self.call(&kill_request(id, exec, signal as i32))
            .expect("kill");
    }

    /// Deletes an ended process. Returns the exit status.
    #[track_caller]
    pub(crate) fn delete(&mut self, id: &str, exec: &str) -> u32 {
        let request = DeleteRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
        };
        self.call(&request).expect("delete").exit_status
    }

    /// Kills init, waits for its end and deletes it.
    #[track_caller]
    pub(crate) fn remove(&mut self, id: &str) {
        self.kill_with(id, "", Signal::SIGKILL);
        assert_eq!(self.wait(id, ""), 137);
        assert_eq!(self.delete(id, ""), 137);
    }
}

pub(crate) fn create_request(
    engine: &Engine,
    container: &Container,
    stdio: &Streams,
) -> CreateTaskRequest {
    let stdio = stdio.clone();
    CreateTaskRequest {
        id: container.id.clone(),
        bundle: container
            .bundle
            .directory
            .to_str()
            .expect("a path in UTF-8")
            .to_owned(),
        terminal: stdio.terminal,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        options: Some(Any::new(&engine.options())),
        ..CreateTaskRequest::default()
    }
}

/// A request to create a container with an overlay mounted over the bundle's root filesystem.
pub(crate) fn create_request_with_overlay(
    engine: &Engine,
    container: &Container,
) -> CreateTaskRequest {
    let directory = &container.bundle.directory;
    let lower = directory.join("lower");
    fs::rename(container.bundle.rootfs(), lower).expect("move the root filesystem");
    for name in ["upper", "overlay-work"] {
        fs::create_dir_all(directory.join(name)).expect("make a directory of the overlay");
    }
    let option = |name: &str, below: &str| format!("{name}={}", directory.join(below).display());
    let mount = Mount {
        r#type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            option("lowerdir", "lower"),
            option("upperdir", "upper"),
            option("workdir", "overlay-work"),
        ],
    };
    CreateTaskRequest {
        rootfs: vec![mount],
        ..create_request(engine, container, &Streams::default())
    }
}

/// Whether a mount covers a container's root filesystem.
pub(crate) fn has_rootfs_mounted(container: &Container) -> bool {
    let path = container.bundle.rootfs();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
    mounts.contains(path.to_str().expect("a path in UTF-8"))
}

pub(crate) fn start(id: &str, exec: &str) -> StartRequest {
    StartRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
    }
}

pub(crate) fn wait(id: &str, exec: &str) -> WaitRequest {
    WaitRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
    }
}

pub(crate) fn kill_request(id: &str, exec: &str, signal: i32) -> KillRequest {
    KillRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
        signal: signal.try_into().expect("a number"),
        all: false,
    }
}

/// An exec of the probe in one mode.
pub(crate) fn exec_request(
    id: &str,
    exec: &str,
    probe: &str,
    stdio: &Streams,
) -> ExecProcessRequest {
    let args: Vec<&str> = ["/probe"]
        .into_iter()
        .chain(probe.split_whitespace())
        .collect();
    let spec = json!({
        "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/", "env": ["PATH=/"],
        "terminal": stdio.terminal,
    });
    let stdio = stdio.clone();
    ExecProcessRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
        terminal: stdio.terminal,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        spec: Some(process_spec(&spec)),
    }
}

/// A process, in the form that containerd's clients send.
pub(crate) fn process_spec(spec: &Value) -> Any {
    Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
        value: spec.to_string().into_bytes(),
    }
}

pub(crate) fn sleeping() -> Container {
    Container::new(Bundle::new().probe("sleep"))
}

/// Starts a shim with a running container. Returns the container's pid, too.
pub(crate) fn running(engine: &Engine, container: &Container) -> (Shim, i32) {
    let mut shim = engine.start(container, Bootstrap::Flags);
    let pid = shim.create(engine, container).try_into().expect("a pid");
    shim.start(&container.id, "");
    (shim, pid)
}
