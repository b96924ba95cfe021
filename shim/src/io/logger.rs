//! Programs that take a container's output (`binary://`), from their start to their end.
//!
//! Not started here: the spawner does that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};

use super::Process;
use super::uri::Uri;

/// How long a logger has after it was asked to end; containerd's.
const TIME_TO_END: Duration = Duration::from_secs(12);

/// A query that names a variable instead of an argument.
const VARIABLE: &str = "env.";

/// A program to start, and how it will say that it is ready.
#[derive(Debug)]
pub struct Logger {
    /// The program, which is not looked for in `PATH`.
    pub path: PathBuf,
    /// Its arguments, but for its name.
    pub args: Vec<String>,
    /// All of its environment, `NAME=value`.
    pub env: Vec<String>,
    /// What it is to have as descriptors 3, 4 and 5: the container's stdout and stderr,
    /// and where it says that it is ready.
    pub fds: [OwnedFd; 3],
    /// The other side of that.
    pub readiness: Readiness,
}

/// The pipe on which a logger says that it is ready; readable when it has.
#[derive(Debug)]
pub struct Readiness {
    pipe: OwnedFd,
    /// Ending without a word will not do.
    by_word: bool,
}

impl Logger {
    /// As `uri` wants it.
    pub(super) fn new(
        uri: &Uri,
        process: &Process<'_>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Logger> {
        let (pipe, ready) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe for the logger")?;
        fcntl_getfl(&pipe)
            .and_then(|flags| fcntl_setfl(&pipe, flags | OFlags::NONBLOCK))
            .context("keep the logger's pipe from blocking")?;
        let mut args = Vec::new();
        let mut env = vec![
            format!("CONTAINER_ID={}", process.id),
            format!("CONTAINER_NAMESPACE={}", process.namespace),
        ];
        for (name, value) in &uri.query {
            match name.strip_prefix(VARIABLE) {
                Some("CONTAINER_ID" | "CONTAINER_NAMESPACE") => {}
                Some(name) => env.push(format!("{name}={value}")),
                None => args.extend([name.clone(), value.clone()]),
            }
        }
        Ok(Logger {
            path: uri.path.clone(),
            args,
            env,
            fds: [stdout, stderr, ready],
            readiness: Readiness {
                pipe,
                by_word: uri.scheme == "binary-v2",
            },
        })
    }
}

impl Readiness {
    /// Whether the logger is ready by now. One of `binary://` is when it has closed the
    /// pipe, too; and so when it has ended.
    ///
    /// # Errors
    /// It will never be.
    pub fn look(&self) -> Result<bool> {
        match read(&self.pipe, &mut [0; 1]) {
            Ok(0) if self.by_word => bail!(
                "logging binary did not call ready (it may have crashed or exited prematurely)"
            ),
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(err) => Err(err).context("failed to read from logging binary"),
        }
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A logger that has been started. Whoever reaps it drops this.
#[derive(Debug)]
pub struct RunningLogger {
    pidfd: OwnedFd,
    kill_at: Option<Instant>,
}

impl RunningLogger {
    /// The logger behind `pidfd`.
    #[must_use]
    pub fn new(pidfd: OwnedFd) -> RunningLogger {
        RunningLogger {
            pidfd,
            kill_at: None,
        }
    }

    /// Asks it to end: its container's output has.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2).
    pub fn stop(&mut self, now: Instant) -> Result<(), Errno> {
        self.kill_at = Some(now + TIME_TO_END);
        self.signal(Signal::TERM)
    }

    /// When it has had the time it needs to end.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.kill_at
    }

    /// Kills it if that is over.
    ///
    /// # Errors
    /// Those of pidfd_send_signal(2).
    pub fn tick(&mut self, now: Instant) -> Result<(), Errno> {
        match self.kill_at {
            Some(time) if time <= now => {
                self.kill_at = None;
                self.signal(Signal::KILL)
            }
            _ => Ok(()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match pidfd_send_signal(&self.pidfd, signal) {
            // It has ended by itself.
            Err(Errno::SRCH) => Ok(()),
            result => result,
        }
    }
}
