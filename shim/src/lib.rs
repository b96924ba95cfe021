//! A containerd shim (runtime v2): manages the containers of one group, such as a pod, for
//! an engine, in one process with one thread.
//!
//! That process waits for calls, for output to copy, and for programs to end. Work that
//! takes time (mounts, hooks, cgroups, systemd, CRIU) is done by jobs, so that no call
//! waits for another call. The spawner forks them (`spawner.rs`).
//!
//! The shim does not make containers: it runs command lines of the runtime, through the
//! trait [`Runtime`].

#![warn(missing_docs, clippy::missing_errors_doc)]

mod bootstrap;
mod caller;
mod command;
mod config;
mod confinement;
mod delete;
mod drop_pages;
mod info;
mod invocation;
pub mod io;
pub mod job;
mod log_fifo;
pub mod metrics;
pub mod mounts;
pub mod options;
mod packets;
pub mod poll;
pub mod proto;
pub mod publisher;
mod regular;
mod server;
mod service;
mod socket;
pub mod spawner;
mod start;
mod sys;
mod task;
pub mod ttrpc;

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::invocation::{Action, Invocation};

/// The runtime that the shim calls.
pub trait Runtime {
    /// Executes a command line, given without the program's name, and returns the exit
    /// status. Writes only the command's output to stdout.
    fn run(&self, args: Vec<OsString>) -> u8;

    /// Makes this process run from a copy of its program that nobody can write to, because
    /// the first processes of its containers run from the same file. May execute the
    /// program again instead of returning.
    ///
    /// # Errors
    /// The program cannot be sealed.
    fn seal(&self) -> Result<()>;

    /// Returns the runtime specification's `Features` as JSON.
    ///
    /// # Errors
    /// The features cannot be determined.
    fn features(&self) -> Result<Vec<u8>>;

    /// The version of the release.
    fn version(&self) -> &str;

    /// The revision of the sources; may be empty.
    fn revision(&self) -> &str;
}

/// Executes the shim's command line.
pub fn main(runtime: &dyn Runtime) -> ExitCode {
    let outcome = Invocation::read().and_then(|invocation| match invocation.action {
        Action::Version => info::version(&invocation, runtime),
        Action::Info => info::info(&invocation, runtime),
        Action::Start => start::start(&invocation),
        Action::Delete => delete::delete(&invocation, runtime),
        Action::Serve => serve(&invocation, runtime),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            // containerd reads stderr and reports it as the error.
            eprintln!("{}", teu_errno::chain(&err));
            ExitCode::FAILURE
        }
    }
}

/// The name of the server and of its spawner. They are executed as /proc/self/exe, so that
/// their name would be "exe".
const PROCESS_NAME: &CStr = c"containerd-shim";

fn serve(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    runtime.seal()?;
    rustix::thread::set_name(PROCESS_NAME).context("set the name of the process")?;
    server::serve(invocation, take_listener()?, runtime)
}

/// Takes the listening socket, which `start` passed as stdin.
fn take_listener() -> Result<UnixListener> {
    let stdin = rustix::stdio::stdin();
    let listener = rustix::io::fcntl_dupfd_cloexec(stdin, 3).context("take the socket")?;
    let null = File::open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdin(null).context("take the socket")?;
    Ok(listener.into())
}
