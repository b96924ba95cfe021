//! The runtime's command lines, written as containerd's own shim writes them, and the files
//! in which the runtime leaves pids and the reasons of failures.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::job::{Rootfs, Work};
use crate::options::Options;
use crate::regular;

/// The length of the log's end that is searched for an error, which is a line or two.
const LOG_END: u64 = 64 << 10;

/// Builds the command lines for one container.
#[derive(Debug)]
pub(crate) struct Command {
    bundle: PathBuf,
    id: String,
    /// Another runtime's program; otherwise ours.
    program: Option<String>,
    global: Vec<String>,
    /// Flags of `create` and `restore`, such as `--no-pivot`.
    making: Vec<String>,
}

/// Returns the name of an exec among the files of the bundle. The id alone could be "init".
pub(crate) fn exec_name(exec: &str) -> String {
    format!("exec-{exec}")
}

impl Command {
    /// Prepares the flags for a container in one of containerd's namespaces.
    pub(crate) fn new(options: &Options, namespace: &str, bundle: &Path, id: &str) -> Command {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let mut global = vec![
            "--root".to_owned(),
            path(&options.state_root(namespace)),
            "--log".to_owned(),
            path(&log(bundle)),
            "--log-format".to_owned(),
            "json".to_owned(),
        ];
        global.extend(
            options
                .systemd_cgroup
                .then(|| "--systemd-cgroup".to_owned()),
        );
        let mut making = Vec::new();
        making.extend(options.no_pivot_root.then(|| "--no-pivot".to_owned()));
        making.extend(
            options
                .no_new_keyring
                .then(|| "--no-new-keyring".to_owned()),
        );
        Command {
            bundle: bundle.to_owned(),
            id: id.to_owned(),
            program: Some(options.binary_name.clone()).filter(|name| !name.is_empty()),
            global,
            making,
        }
    }

    /// A command line of `verb`, its `flags` and the container's id.
    pub(crate) fn work(&self, verb: &str, flags: impl IntoIterator<Item = String>) -> Work {
        let verb = [verb.to_owned()];
        let rest = verb.into_iter().chain(flags).chain([self.id.clone()]);
        Work::Runtime {
            program: self.program.clone(),
            args: self.global.iter().cloned().chain(rest).collect(),
            rootfs: None,
        }
    }

    /// A command line of `kill`, with the signal as its last argument.
    pub(crate) fn kill(&self, all: Option<&str>, signal: &str) -> Work {
        let mut work = self.work("kill", all.map(str::to_owned));
        if let Work::Runtime { args, .. } = &mut work {
            args.push(signal.to_owned());
        }
        work
    }

    /// A command line of `create` or `restore`, executed after the root filesystem is mounted.
    pub(crate) fn making(
        &self,
        verb: &str,
        flags: impl IntoIterator<Item = String>,
        console_socket: Option<&Path>,
        rootfs: Option<Rootfs>,
    ) -> Work {
        let mut all: Vec<String> = flags.into_iter().collect();
        all.extend(flag("--bundle", &self.bundle));
        all.extend(flag("--pid-file", &self.pid_file("init")));
        all.extend(
            console_socket
                .into_iter()
                .flat_map(|path| flag("--console-socket", path)),
        );
        all.extend(self.making.iter().cloned());
        let mut work = self.work(verb, all);
        if let Work::Runtime { rootfs: before, .. } = &mut work {
            *before = rootfs;
        }
        work
    }

    /// The path of the file to which the runtime writes the pid of a process: of "init", or of
    /// one by its [`exec_name`].
    pub(crate) fn pid_file(&self, process: &str) -> PathBuf {
        self.bundle.join(format!("{process}.pid"))
    }

    /// Reads the pid file. A number that kill(2) would take for a process group is refused.
    ///
    /// # Errors
    /// The file cannot be read, or does not contain a pid.
    pub(crate) fn pid(&self, process: &str) -> Result<u32> {
        let path = self.pid_file(process);
        let text = regular::read(&path)?;
        let pid = String::from_utf8_lossy(&text).trim().parse::<i32>().ok();
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0)
            .with_context(|| format!("the pid file {path:?} contains no pid"))
    }

    /// Reads the last error in the log.
    pub(crate) fn last_error(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Line {
            level: String,
            msg: String,
        }
        let (mut file, length) = regular::open(&log(&self.bundle)).ok()?;
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))
            .ok()?;
        let mut text = Vec::new();
        file.take(LOG_END).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let lines = text
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .into_iter()
            .find(|line: &Line| line.level == "error")
            .map(|line| line.msg)
    }
}

/// A flag with a path as its value.
pub(crate) fn flag(name: &str, path: &Path) -> [String; 2] {
    [name.to_owned(), path.to_string_lossy().into_owned()]
}

fn log(bundle: &Path) -> PathBuf {
    bundle.join("log.json")
}
