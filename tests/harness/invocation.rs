//! A call of the runtime or another program, and its result.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::process::is_alive;
use super::{patience, process, scratch, state_root};

/// The runtime to test: $TEU_BINARY, or the teu that cargo built.
pub(crate) fn runtime() -> PathBuf {
    let other = std::env::var_os("TEU_BINARY");
    other.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_teu")), PathBuf::from)
}

/// Prepares a call of the runtime with the test's `--root` and these arguments.
pub(crate) fn teu<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Invocation {
    Invocation::new(runtime())
        .arg("--root")
        .arg(state_root())
        .args(args)
}

/// A program to call. Its output goes to files instead of pipes, because a detached container
/// keeps its stdout open.
pub(crate) struct Invocation {
    words: Vec<OsString>,
    prefix: Option<String>,
    environment: Vec<(OsString, Option<OsString>)>,
    stdin: Option<Vec<u8>>,
    terminal: Option<OwnedFd>,
    directory: Option<PathBuf>,
    user: Option<u32>,
    limit: Option<Duration>,
}

impl Invocation {
    pub(crate) fn new(program: impl Into<OsString>) -> Invocation {
        Invocation {
            words: vec![program.into()],
            prefix: None,
            environment: Vec::new(),
            stdin: None,
            terminal: None,
            directory: None,
            user: None,
            limit: None,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.words.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.words
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Inserts an argument before the last argument so far.
    pub(crate) fn arg_before_last(mut self, arg: impl AsRef<OsStr>) -> Self {
        let last = self.words.len().saturating_sub(1);
        self.words.insert(last, arg.as_ref().to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), Some(value.as_ref().to_owned())));
        self
    }

    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Makes this terminal stdin, stdout, stderr and the controlling terminal.
    pub(crate) fn on_terminal(mut self, terminal: OwnedFd) -> Self {
        self.terminal = Some(terminal);
        self
    }

    pub(crate) fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs the program as this user and group, without supplementary groups.
    pub(crate) fn by_user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Limits the program's time, which is longer on a slow machine. A program that exceeds it
    /// is killed, and the test fails.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(patience(limit));
        self
    }

    /// Runs shell commands first and then executes the program from the shell, to set what a
    /// program inherits: `exec 3<file`, `umask 077`, `export LISTEN_PID=$$`.
    pub(crate) fn after_shell(mut self, commands: &str) -> Self {
        self.prefix = Some(commands.to_owned());
        self
    }

    /// Replaces the program by these words, such as another program with arguments.
    pub(crate) fn with_program<S: AsRef<OsStr>>(
        mut self,
        words: impl IntoIterator<Item = S>,
    ) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        self.words.splice(..1, words);
        self
    }

    /// Puts these words before the program, so that they call it.
    pub(crate) fn behind<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        self.words.splice(..0, words);
        self
    }

    /// Starts the program and waits for its end.
    #[track_caller]
    pub(crate) fn output(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the program.
    #[track_caller]
    pub(crate) fn spawn(self) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |name| scratch().join(format!("{number}-{name}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let mut command = self.command();
        match &self.terminal {
            Some(terminal) => {
                let copy = || {
                    terminal
                        .try_clone()
                        .expect("copy the terminal's descriptor")
                };
                command.stdin(copy()).stdout(copy()).stderr(copy());
            }
            None => {
                command.stdin(self.stdin_from(&file("stdin")));
                command
                    .stdout(output_file(&stdout))
                    .stderr(output_file(&stderr));
            }
        }
        let line = self.line();
        #[expect(
            clippy::zombie_processes,
            reason = "process::wait reaps it, with all others"
        )]
        let child =
            process::spawn(&mut command).unwrap_or_else(|error| panic!("start {line}: {error}"));
        let pid = child.id().try_into().expect("a pid");
        Running {
            line,
            pid,
            stdout,
            stderr,
            started: Instant::now(),
            limit: self.limit,
            is_over: false,
        }
    }

    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.terminal.is_some() {
            words.extend(["setsid".into(), "--ctty".into()]);
        }
        if let Some(prefix) = &self.prefix {
            let script = format!("{prefix}\nexec \"$0\" \"$@\"");
            words.extend(["sh".into(), "-c".into(), script.into()]);
        }
        words.extend(self.words.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.directory.clone().unwrap_or_else(scratch));
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn stdin_from(&self, path: &Path) -> Stdio {
        let Some(text) = &self.stdin else {
            return Stdio::null();
        };
        fs::write(path, text).expect("write the input");
        File::open(path).expect("open the input").into()
    }

    fn line(&self) -> String {
        let words: Vec<_> = self
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }
}

fn output_file(path: &Path) -> File {
    let file = OpenOptions::new().append(true).create_new(true).open(path);
    file.unwrap_or_else(|error| panic!("create {}: {error}", path.display()))
}

/// A program that was started.
pub(crate) struct Running {
    line: String,
    pub(crate) pid: i32,
    stdout: PathBuf,
    stderr: PathBuf,
    started: Instant,
    limit: Option<Duration>,
    is_over: bool,
}

impl Drop for Running {
    /// Kills a program that was not waited for.
    fn drop(&mut self) {
        if !self.is_over && is_alive(self.pid) {
            self.signal(Signal::SIGKILL);
            process::wait(self.pid);
        }
    }
}

impl Running {
    /// Waits for the program's end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Output {
        let status = match self.limit {
            None => process::wait(self.pid),
            Some(limit) => process::wait_within(self.pid, limit)
                .unwrap_or_else(|| panic!("not over after {limit:?}: {}", self.line)),
        };
        self.is_over = true;
        Output {
            line: self.line.clone(),
            status,
            stdout: text_of(&self.stdout),
            stderr: text_of(&self.stderr),
            took: self.started.elapsed(),
            stdout_path: self.stdout.clone(),
        }
    }

    /// The program's stdout so far.
    pub(crate) fn stdout(&self) -> String {
        text_of(&self.stdout)
    }

    /// The program's stderr so far.
    pub(crate) fn stderr(&self) -> String {
        text_of(&self.stderr)
    }

    /// The living children of the program.
    pub(crate) fn children(&self) -> Vec<i32> {
        process::descendants(self.pid)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        match kill(Pid::from_raw(self.pid), signal) {
            // ESRCH: the program has ended by itself and was reaped.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("signal {}: {errno}", self.line),
        }
    }
}

/// The text that a program printed; empty if it printed to a terminal.
pub(super) fn text_of(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct Output {
    line: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The file with stdout, to which a detached container may still write.
    pub(super) stdout_path: PathBuf,
}

impl Output {
    /// The exit status; -n if signal n killed the program.
    pub(crate) fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status
            .code()
            .unwrap_or_else(|| -self.status.signal().unwrap_or(0))
    }

    /// Asserts that the program succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts that the program ended with this exit status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(self.code() == code, "expected exit status {code}: {self}");
        self
    }

    /// Asserts that stderr contains this text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stderr.contains(text),
            "expected {text:?} on stderr: {self}"
        );
        self
    }

    /// Parses stdout as a JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let value = serde_json::from_str(&self.stdout);
        value.unwrap_or_else(|error| panic!("expected JSON on stdout ({error}): {self}"))
    }

    /// Asserts success and parses the report of `probe report`.
    #[track_caller]
    pub(crate) fn probe(self) -> Value {
        self.ok().json()
    }

    /// The answers of the probe's modes: a JSON value on each line.
    #[track_caller]
    pub(crate) fn answers(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line);
        let values: Result<Vec<Value>, _> = self.stdout.lines().map(parse).collect();
        values.unwrap_or_else(|error| panic!("expected lines of JSON ({error}): {self}"))
    }

    /// The only answer of the probe: the value of `ok`, or the name of the errno.
    #[track_caller]
    pub(crate) fn answer(&self) -> Value {
        let answers = self.answers();
        let [answer] = answers.as_slice() else {
            panic!("expected one answer: {self}")
        };
        let value = answer.get("ok").or_else(|| answer.get("errno"));
        value
            .unwrap_or_else(|| panic!("expected an answer: {self}"))
            .clone()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            formatter,
            "\n  {}\n  {} after {:?}",
            self.line, self.status, self.took
        )?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in text.lines() {
                writeln!(formatter, "  {name}: {line}")?;
            }
        }
        Ok(())
    }
}
