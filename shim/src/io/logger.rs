//! Programs that take a container's output (`binary://`), until they are ready for it.
//!
//! Not started here, nor ended: they are jobs of the spawner.

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

/// A program to start, and how it will say that it is ready.
#[derive(Debug)]
pub struct Logger {
    /// The program.
    pub work: Work,
    /// Its descriptors: three null devices, the container's stdout and stderr, and where
    /// it says that it is ready.
    pub fds: Vec<OwnedFd>,
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
