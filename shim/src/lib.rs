//! A containerd shim (runtime v2): the life of a pod's containers for an engine, in
//! one process with one thread.
//!
//! That process waits: for calls, for output to copy, for programs to end. All that
//! takes its time (mounts, hooks, cgroups, systemd, CRIU) a job does, which the spawner
//! forks (`spawner.rs`), so no call waits for another's.

mod bootstrap;
mod caller;
mod command;
mod config;
mod delete;
mod idle;
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
mod sandbox;
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

/// The runtime inside the shim.
pub trait Runtime {
    /// Does what a command line without the program's name says, and answers with the
    /// exit status. Only what was asked for goes to stdout.
    fn run(&self, args: Vec<OsString>) -> u8;

    /// Has this process run from where nobody can write to its program, which its
    /// containers' first processes run from too: may not return, but start it again.
    ///
    /// # Errors
    /// That cannot be.
    fn seal(&self) -> Result<()>;

    /// JSON of the runtime specification's `Features`.
    ///
    /// # Errors
    /// It cannot be found out.
    fn features(&self) -> Result<Vec<u8>>;

    /// Of the release.
    fn version(&self) -> &str;

    /// Of the sources; may be empty.
    fn revision(&self) -> &str;
}

/// Does what the shim's command line says.
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
            // containerd makes an error of it.
            eprintln!("{}", teu_errno::chain(&err));
            ExitCode::FAILURE
        }
    }
}

/// Of the server and its spawner, which were executed as /proc/self/exe: that says
/// nothing.
const PROCESS_NAME: &CStr = c"containerd-shim";

fn serve(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    runtime.seal()?;
    rustix::thread::set_name(PROCESS_NAME).context("set the name of the process")?;
    server::serve(invocation, take_listener()?, runtime)
}

/// The socket, which `start` left as stdin.
fn take_listener() -> Result<UnixListener> {
    let stdin = rustix::stdio::stdin();
    let listener = rustix::io::fcntl_dupfd_cloexec(stdin, 3).context("take the socket")?;
    let null = File::open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdin(null).context("take the socket")?;
    Ok(listener.into())
}
