//! Runs the hooks of one moment: each gets the container's state on standard input and
//! a time limit, and the first failure ends the series.
//!
//! Used by the parent and by init. Starts no thread: one poll(2) waits for the hook's
//! pipes and its end. Not for deciding which hooks run: see `plan/src/hooks.rs`.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use teu_gpu::Moment;
use teu_plan::hooks::Hook;

use crate::{errno, poll, sys};

/// The most bytes of a hook's output that an error quotes.
const LONGEST_OUTPUT: usize = 8 * 1024;

/// The state that a hook reads on standard input (runtime.md, "State").
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    pub(crate) oci_version: &'a str,
    pub(crate) id: &'a str,
    /// `creating`, `created`, `running` or `stopped`.
    pub(crate) status: &'a str,
    /// Init's pid in the hook's pid namespace; absent if the container has stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) pid: i32,
    pub(crate) bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: &'a BTreeMap<String, String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

/// Runs hooks in the runtime's namespaces. A hook without its own environment gets the
/// caller's, as in runc.
///
/// # Errors
/// The first hook that cannot be run, fails or takes too long. The text is runc's.
/// Further hooks do not run.
pub(crate) fn run(moment: Moment, hooks: &[Hook], state: &State<'_>) -> Result<()> {
    run_in(moment, hooks, state, None)
}

/// Runs hooks. A hook without an `env` of its own gets `environment`, which is empty for
/// createContainer hooks, and the program's for startContainer hooks.
///
/// # Errors
/// The errors of [`run`].
pub(crate) fn run_with(
    moment: Moment,
    hooks: &[Hook],
    state: &State<'_>,
    environment: &[CString],
) -> Result<()> {
    run_in(moment, hooks, state, Some(environment))
}

fn run_in(
    moment: Moment,
    hooks: &[Hook],
    state: &State<'_>,
    environment: Option<&[CString]>,
) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).context("state for hooks")?;
    let mut hooks = hooks.iter().enumerate();
    hooks.try_for_each(|numbered| run_numbered(moment, numbered, &state, environment))
}

fn run_numbered(
    moment: Moment,
    (number, hook): (usize, &Hook),
    state: &[u8],
    environment: Option<&[CString]>,
) -> Result<()> {
    run_one(hook, state, environment)
        .with_context(|| format!("error running {} hook #{number}", moment.name()))
}

/// Runs every hook. Warns of a failure and goes on with the next hook.
pub(crate) fn run_each(moment: Moment, hooks: &[Hook], state: &State<'_>) {
    if hooks.is_empty() {
        return;
    }
    let state = match serde_json::to_vec(state).context("state for hooks") {
        Ok(state) => state,
        Err(err) => return log::warn!("{}", errno::chain(&err)),
    };
    for numbered in hooks.iter().enumerate() {
        if let Err(err) = run_numbered(moment, numbered, &state, None) {
            log::warn!("{}", errno::chain(&err));
        }
    }
}

/// A running hook. Dropping it kills the hook, so that no hook outlives an error.
#[derive(Debug)]
struct Running {
    process: Child,
    /// The pidfd of the process.
    pidfd: OwnedFd,
    ended: bool,
    /// The hook's standard input; closed once everything is written.
    stdin: Option<OwnedFd>,
    stdout: Output,
    stderr: Output,
}

/// The output of one pipe.
#[derive(Debug)]
struct Output {
    pipe: Option<OwnedFd>,
    text: Vec<u8>,
}

fn run_one(hook: &Hook, state: &[u8], environment: Option<&[CString]>) -> Result<()> {
    let mut running = Running::start(hook, environment)?;
    let timeout = hook
        .timeout
        .map(|seconds| Duration::from_secs(seconds.get().into()));
    if !running.run_to_end(state, timeout)? {
        let seconds = timeout.unwrap_or_default().as_secs_f64();
        bail!("hook ran past specified timeout of {seconds:.1}s");
    }
    running.result()
}

/// Returns the hook's command, with the hook's own environment, else `environment`,
/// else the caller's.
fn command(hook: &Hook, environment: Option<&[CString]>) -> Result<Command> {
    let environment = match (&hook.env, environment) {
        (Some(own), _) => strings(own)?,
        (None, Some(given)) => given.to_vec(),
        (None, None) => callers_environment()?,
    };
    let path = CString::new(hook.path.as_os_str().as_bytes())?;
    Ok(sys::command(&path, strings(&hook.args)?, environment))
}

fn strings(texts: &[String]) -> Result<Vec<CString>> {
    let texts = texts.iter().map(|text| CString::new(text.as_str()));
    Ok(texts.collect::<Result<_, _>>()?)
}

fn callers_environment() -> Result<Vec<CString>> {
    let pair = |(mut pair, value): (OsString, OsString)| {
        pair.push("=");
        pair.push(value);
        CString::new(pair.as_bytes())
    };
    Ok(std::env::vars_os().map(pair).collect::<Result<_, _>>()?)
}

impl Running {
    fn start(hook: &Hook, environment: Option<&[CString]>) -> Result<Running> {
        // All pipes are close-on-exec, so that a hook gets the three streams only.
        let (stdin, state_end) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        let (stdout_end, stdout) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        let (stderr_end, stderr) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        for end in [&state_end, &stdout_end, &stderr_end] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).context("pipe")?;
        }
        let process = command(hook, environment)?
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("exec {}", hook.path.display()))?;
        // The pid is valid, because a child stays until it is reaped.
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the hook has no pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd of the hook")?;
        Ok(Running {
            process,
            pidfd,
            ended: false,
            stdin: Some(state_end),
            stdout: Output {
                pipe: Some(stdout_end),
                text: Vec::new(),
            },
            stderr: Output {
                pipe: Some(stderr_end),
                text: Vec::new(),
            },
        })
    }

    /// Writes the state to the hook and reads its output until it ends. Returns `false`
    /// if it takes too long.
    ///
    /// Waits for the end of the hook's process, and not for the end of its output: a daemon
    /// that the hook started may keep the pipes open for ever.
    fn run_to_end(&mut self, mut state: &[u8], timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
            if self.wait_for_event(deadline)? {
                // The pipes contain the output that the hook wrote before it ended.
                self.stdout.take()?;
                self.stderr.take()?;
                return Ok(true);
            }
            self.feed(&mut state)?;
            self.stdout.take()?;
            self.stderr.take()?;
        }
    }

    /// Waits until a pipe is ready, the hook has ended (`true`), or the time is up.
    fn wait_for_event(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut events = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        events.extend(
            self.stdin
                .iter()
                .map(|pipe| PollFd::new(pipe, PollFlags::OUT)),
        );
        let outputs = [&self.stdout, &self.stderr];
        let outputs = outputs
            .into_iter()
            .filter_map(|output| output.pipe.as_ref());
        events.extend(outputs.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        poll::wait_until(&mut events, deadline).context("wait for the hook")?;
        Ok(!events[0].revents().is_empty())
    }

    fn feed(&mut self, state: &mut &[u8]) -> Result<()> {
        let Some(pipe) = &self.stdin else {
            return Ok(());
        };
        match write(pipe, state) {
            Ok(count) => *state = &state[count..],
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The hook closed its input without reading the state, which is no error.
            Err(Errno::PIPE) => *state = &[],
            Err(err) => return Err(err).context("write the state to the hook"),
        }
        if state.is_empty() {
            self.stdin = None;
        }
        Ok(())
    }

    /// Reaps the hook. If the hook failed, the error has its status and output.
    fn result(mut self) -> Result<()> {
        let status = self.process.wait().context("wait for the hook")?;
        self.ended = true;
        if status.success() {
            return Ok(());
        }
        let mut text = String::new();
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(text, "exit status {code}")?,
            (None, Some(signal)) => write!(text, "signal: {}", signal_words(signal))?,
            (None, None) => text.push_str("unknown exit status"),
        }
        bail!(
            "{text}, stdout: {}, stderr: {}",
            self.stdout.words(),
            self.stderr.words()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let killed = self.process.kill();
        if let Err(err) = killed.and_then(|()| self.process.wait()) {
            log::warn!("kill the hook: {}", errno::text(err));
        }
    }
}

impl Output {
    /// Reads the available output. Discards output beyond the quoted length, so that
    /// the hook does not block.
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &self.pipe {
            match read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = LONGEST_OUTPUT.saturating_sub(self.text.len());
                    self.text.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(err) => return Err(err).context("read the output of the hook"),
            }
        }
        Ok(())
    }

    fn words(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Returns Go's name of a signal, as in `signal: killed`.
fn signal_words(signal: i32) -> String {
    match signal {
        libc::SIGHUP => "hangup".into(),
        libc::SIGINT => "interrupt".into(),
        libc::SIGQUIT => "quit".into(),
        libc::SIGABRT => "aborted".into(),
        libc::SIGKILL => "killed".into(),
        libc::SIGSEGV => "segmentation fault".into(),
        libc::SIGPIPE => "broken pipe".into(),
        libc::SIGALRM => "alarm clock".into(),
        libc::SIGTERM => "terminated".into(),
        libc::SIGSYS => "bad system call".into(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;
    use std::num::NonZeroU32;

    fn shell(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: None,
            timeout: None,
        }
    }

    fn with_state<T>(body: impl FnOnce(&State<'_>) -> T) -> T {
        let annotations = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        body(&State {
            oci_version: "1.3.0",
            id: "a",
            status: "creating",
            pid: 42,
            bundle: Path::new("/bundle"),
            annotations: &annotations,
        })
    }

    fn run_shell(script: &str) -> Result<()> {
        with_state(|state| run(Moment::CreateRuntime, &[shell(script)], state))
    }

    #[test]
    fn the_state_arrives_on_standard_input() {
        let dir = testing::Directory::new("hook-state");
        let path = dir.path().join("state");
        run_shell(&format!("cat > {}", path.display())).expect("hook");
        assert_eq!(
            fs::read_to_string(path).expect("state"),
            r#"{"ociVersion":"1.3.0","id":"a","status":"creating","pid":42,"bundle":"/bundle","annotations":{"key":"value"}}"#
        );
    }

    #[test]
    fn a_state_longer_than_a_pipe_and_a_hook_that_does_not_read_it() {
        let annotations = BTreeMap::from([("long".to_owned(), "x".repeat(300_000))]);
        with_state(|state| {
            let state = State {
                annotations: &annotations,
                ..*state
            };
            for script in [
                "test $(wc -c) -gt 300000",
                "sleep 0.05; true",
                "exec 0<&-; sleep 0.05",
            ] {
                run(Moment::Prestart, &[shell(script)], &state).expect(script);
            }
        });
    }

    #[test]
    fn the_words_of_a_failure() {
        for (script, words) in [
            ("exit 1", "exit status 1, stdout: , stderr: "),
            (
                "echo a; echo b >&2; exit 3",
                "exit status 3, stdout: a\n, stderr: b\n",
            ),
            ("kill -9 $$", "signal: killed, stdout: , stderr: "),
            (
                "kill -SYS $$",
                "signal: bad system call, stdout: , stderr: ",
            ),
        ] {
            let error = run_shell(script).expect_err(script);
            assert_eq!(
                testing::words(&error),
                format!("error running createRuntime hook #0: {words}")
            );
        }
    }

    #[test]
    fn a_hook_that_is_not_there() {
        let hook = Hook {
            path: "/nonexistent/hook".into(),
            ..shell("")
        };
        let error = with_state(|state| run(Moment::Poststart, &[shell("true"), hook], state));
        assert_eq!(
            testing::words(&error.expect_err("missing")),
            "error running poststart hook #1: exec /nonexistent/hook: no such file or directory"
        );
    }

    #[test]
    fn the_first_failure_is_the_last_hook() {
        let dir = testing::Directory::new("hook-order");
        let path = dir.path().join("log").display().to_string();
        let hooks = ["echo 1 >>", "echo 2 >&2; echo 2 >>", "echo 3 >>"];
        let mut hooks: Vec<Hook> = hooks
            .iter()
            .map(|script| shell(&format!("{script} {path}")))
            .collect();
        hooks[1].args[2].push_str("; exit 5");
        let error = with_state(|state| run(Moment::Prestart, &hooks, state)).expect_err("fails");
        assert_eq!(
            testing::words(&error),
            "error running prestart hook #1: exit status 5, stdout: , stderr: 2\n"
        );
        assert_eq!(fs::read_to_string(&path).expect("log"), "1\n2\n");

        with_state(|state| run_each(Moment::Poststop, &hooks, state));
        assert_eq!(fs::read_to_string(&path).expect("log"), "1\n2\n1\n2\n3\n");
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let hook = Hook {
            timeout: NonZeroU32::new(1),
            ..shell("exec sleep 60")
        };
        let start = Instant::now();
        let error = with_state(|state| run(Moment::Prestart, &[hook], state)).expect_err("hangs");
        assert_eq!(
            testing::words(&error),
            "error running prestart hook #0: hook ran past specified timeout of 1.0s"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_daemon_left_behind_is_not_waited_for() {
        let start = Instant::now();
        run_shell("sleep 3 & exit 0").expect("hook");
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn much_output_does_not_stop_a_hook() {
        let error = run_shell("head -c 500000 /dev/zero | tr '\\0' x; exit 1").expect_err("fails");
        let text = testing::words(&error);
        assert!(
            text.len() < LONGEST_OUTPUT + 200 && text.len() > LONGEST_OUTPUT,
            "{}",
            text.len()
        );
    }

    #[test]
    fn environments() {
        let dir = testing::Directory::new("hook-env");
        let path = dir.path().join("env").display().to_string();
        let script = format!("exec /usr/bin/env > {path}");
        let given = [c"A=given".to_owned()];
        let own = Hook {
            env: Some(vec!["A=own".into(), "B".into()]),
            ..shell(&script)
        };
        let seen = |hook: Hook, environment: &[CString]| {
            with_state(|state| run_with(Moment::StartContainer, &[hook], state, environment))
                .expect("hook");
            fs::read_to_string(&path).expect("env")
        };
        assert!(seen(shell(&script), &given).contains("A=given\n"));
        assert!(seen(own, &given).contains("A=own\n"));
        assert!(!seen(shell(&script), &[]).contains("A="));
        run_shell(&script).expect("hook");
        let callers = fs::read_to_string(&path).expect("env");
        assert!(callers.contains("PATH="), "{callers}");
    }

    #[test]
    fn its_own_environment_is_as_it_is_written() {
        let dir = testing::Directory::new("hook-own-env");
        let path = dir.path().join("env");
        let hook = Hook {
            env: Some(["NAMELESS", "B=1", "A=2"].map(String::from).into()),
            ..shell(&format!(
                "tr '\\0' ' ' < /proc/$$/environ > {}",
                path.display()
            ))
        };
        with_state(|state| run(Moment::Prestart, &[hook], state)).expect("hook");
        assert_eq!(fs::read_to_string(path).expect("env"), "NAMELESS B=1 A=2 ");
    }

    #[test]
    fn what_is_no_program_is_no_script_either() {
        use std::os::unix::fs::PermissionsExt;
        let dir = testing::Directory::new("hook-no-program");
        let path = dir.path().join("hook");
        fs::write(&path, "exit 0\n").expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        let hook = Hook { path, ..shell("") };
        let error = with_state(|state| run(Moment::Prestart, &[hook], state)).expect_err("refused");
        let words = testing::words(&error);
        assert!(words.ends_with("exec format error"), "{words}");
    }

    #[test]
    fn a_hook_starts_with_a_clean_slate() {
        let dir = testing::Directory::new("hook-slate");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (status, descriptors) = (path("status"), path("descriptors"));
        testing::in_child(|| {
            // `main` closes descriptors, too.
            sys::close_from(3).expect("close");
            let all = nix::sys::signal::SigSet::all();
            let how = nix::sys::signal::SigmaskHow::SIG_BLOCK;
            nix::sys::signal::sigprocmask(how, Some(&all), None).expect("block");
            sys::ignore_for_test(libc::SIGHUP);
            run_shell(&format!("ls /proc/self/fd > {descriptors}")).expect("hook");
            // Use no shell, because shells unblock signals themselves.
            let copy = Hook {
                path: "/bin/cp".into(),
                args: ["cp", "/proc/self/status", &status]
                    .map(String::from)
                    .into(),
                ..shell("")
            };
            with_state(|state| run(Moment::Prestart, &[copy], state)).expect("hook");
        });
        // Descriptor 3 is the directory that ls itself has open.
        let seen = fs::read_to_string(&descriptors).expect("descriptors");
        assert_eq!(seen, "0\n1\n2\n3\n");
        let seen = fs::read_to_string(&status).expect("status");
        for signals in ["SigBlk", "SigIgn"] {
            assert!(
                seen.contains(&format!("{signals}:\t0000000000000000\n")),
                "{seen}"
            );
        }
    }

    #[test]
    fn a_hook_runs_as_child_of_a_first_process() {
        // This process is like init: pid 1 of a new pid namespace, without standard
        // streams.
        testing::in_child(|| {
            use nix::sched::{CloneFlags, unshare};
            unshare(CloneFlags::CLONE_NEWPID).expect("unshare");
            testing::in_child(|| {
                assert_eq!(rustix::process::getpid().as_raw_pid(), 1);
                run_shell("exit 0").expect("hook");
                let error = run_shell("exit 9").expect_err("fails");
                assert!(testing::words(&error).contains("exit status 9"));
            });
        });
    }
}
