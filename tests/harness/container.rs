//! A container of a test: its bundle, its id, and the commands on it.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::invocation::text_of;
use super::snapshot::marker;
use super::{Bundle, Invocation, NO_FLAGS, Output, process, state_root, teu, wait_until};

/// A container of the running test. Dropping it deletes what is left by force, and fails the
/// test if anything remains.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    /// The file with the stdout of a created container.
    stdout: RefCell<Option<PathBuf>>,
    pid: Cell<Option<i32>>,
}

impl Container {
    /// Writes the bundle and chooses an id. Starts nothing.
    pub(crate) fn new(bundle: Bundle) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        bundle.write();
        Container {
            id: format!("{}{number}", marker()),
            bundle,
            stdout: RefCell::default(),
            pid: Cell::default(),
        }
    }

    /// Makes a container and calls `create`.
    #[track_caller]
    pub(crate) fn created(bundle: Bundle) -> Container {
        let container = Container::new(bundle);
        container.create().ok();
        container
    }

    /// Makes a container and calls `run --detach`.
    #[track_caller]
    pub(crate) fn running(bundle: Bundle) -> Container {
        let container = Container::created(bundle);
        container.start().ok();
        container
    }

    /// Prepares the call `VERB [--bundle DIR] FLAGS… ID`.
    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        verb: &str,
        flags: impl IntoIterator<Item = S>,
    ) -> Invocation {
        let mut call = teu([verb]);
        if matches!(verb, "create" | "run") {
            call = call.arg("--bundle").arg(&self.bundle.directory);
        }
        call.args(flags).arg(&self.id)
    }

    /// Calls `run` in the foreground and waits for its end. No state may be left.
    #[track_caller]
    pub(crate) fn run(&self) -> Output {
        let output = self.command("run", NO_FLAGS).output();
        assert!(
            !self.has_state(),
            "run left the state directory behind: {output}"
        );
        output
    }

    #[track_caller]
    pub(crate) fn create(&self) -> Output {
        self.create_with(NO_FLAGS)
    }

    #[track_caller]
    pub(crate) fn create_with<const N: usize>(&self, flags: [&str; N]) -> Output {
        self.detach(self.command("create", flags))
    }

    /// Makes a call that leaves a container running, and notes its pid and output.
    #[track_caller]
    pub(crate) fn detach(&self, call: Invocation) -> Output {
        let output = call.output();
        self.stdout.replace(Some(output.stdout_path.clone()));
        if output.status.success() {
            let state = self.state();
            self.pid
                .set(state["pid"].as_i64().and_then(|pid| pid.try_into().ok()));
        }
        output
    }

    /// Notes the pid of a restored container.
    #[track_caller]
    pub(crate) fn found_again(&self) {
        let pid = self.state()["pid"].as_i64();
        self.pid.set(pid.and_then(|pid| pid.try_into().ok()));
    }

    #[track_caller]
    pub(crate) fn start(&self) -> Output {
        self.command("start", NO_FLAGS).output()
    }

    #[track_caller]
    pub(crate) fn kill(&self, signal: &str) -> Output {
        self.command("kill", NO_FLAGS).arg(signal).output()
    }

    #[track_caller]
    pub(crate) fn delete(&self) -> Output {
        self.command("delete", NO_FLAGS).output()
    }

    #[track_caller]
    pub(crate) fn delete_force(&self) -> Output {
        self.command("delete", ["--force"]).output()
    }

    /// The output of `state`.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        self.command("state", NO_FLAGS).output().ok().json()
    }

    /// The status in the output of `state`.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    /// Waits until `state` reports this status.
    #[track_caller]
    pub(crate) fn wait_for_status(&self, status: &str) {
        wait_until(&format!("the status is {status}"), || {
            let output = self.command("state", NO_FLAGS).output();
            output.status.success() && output.json()["status"] == status
        });
    }

    /// The pid of init on the host, as `state` reported it after the creation.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        self.pid.get().expect("a container that was created")
    }

    /// Waits for init's end as a shim does. Returns the exit status, or 128+n for signal n.
    #[track_caller]
    pub(crate) fn wait(&self) -> i32 {
        let status = process::wait(self.pid());
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().expect("an exit or a signal"))
    }

    /// Waits until the container has printed a complete line with this text.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, text: &str) {
        wait_until(&format!("the container printed {text:?}"), || {
            self.stdout().lines().any(|line| line.contains(text))
        });
    }

    /// The output of a created container so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout
            .borrow()
            .as_deref()
            .map(text_of)
            .unwrap_or_default()
    }

    /// Whether the state directory exists.
    pub(crate) fn has_state(&self) -> bool {
        state_root().join(&self.id).exists()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if !self.has_state() {
            return;
        }
        let output = self.delete_force();
        let is_gone = output.status.success() && !self.has_state();
        let words = format!("delete --force left something: {output}");
        // A failing test has panicked already; its message must not be replaced.
        if !is_gone && std::thread::panicking() {
            eprintln!("{words}");
        } else {
            assert!(is_gone, "{words}");
        }
    }
}
