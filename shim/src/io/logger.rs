//! The programs that read a container's output (`binary://`): their command lines, and the
//! pipe by which they report that they are ready. The spawner's jobs start and end them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, pipe_with};

use super::uri::Uri;
use super::{Process, null};
use crate::job::Work;

/// A query that names a variable instead of an argument.
const VARIABLE: &str = "env.";

/// A program to start, and the pipe by which it reports that it is ready.
#[derive(Debug)]
pub struct Logger {
    /// The program.
    pub work: Work,
    /// Its descriptors: three null devices, the container's stdout and stderr, and the
    /// writing end of the pipe.
    pub fds: Vec<OwnedFd>,
    /// The reading end of the pipe.
    pub readiness: Readiness,
}

/// The pipe by which a logger reports that it is ready. It is readable from then on.
#[derive(Debug)]
pub struct Readiness {
    pipe: OwnedFd,
    /// Whether the logger has to write to the pipe before it closes it.
    by_word: bool,
}

impl Logger {
    /// Builds the command of the logger from the path and the query of `uri`.
    pub(super) fn new(
        uri: &Uri,
        process: &Process<'_>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Logger> {
        let (pipe, ready) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe for the logger")?;
        fcntl_getfl(&pipe)
            .and_then(|flags| fcntl_setfl(&pipe, flags | OFlags::NONBLOCK))
            .context("make the logger's pipe non-blocking")?;
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
        let path = uri.path.clone();
        Ok(Logger {
            work: Work::Program { path, args, env },
            fds: vec![null()?, null()?, null()?, stdout, stderr, ready],
            readiness: Readiness {
                pipe,
                by_word: uri.scheme == "binary-v2",
            },
        })
    }
}

impl Readiness {
    /// Whether the logger is ready. A logger is ready when it has written to the pipe; a
    /// logger of `binary://` also when it has closed the pipe or has ended.
    ///
    /// # Errors
    /// A logger of `binary-v2://` has closed the pipe without writing, or the pipe cannot be
    /// read.
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
