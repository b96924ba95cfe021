//! Hands the listener of a filter to the seccomp agent, which answers the system calls
//! that the filter leaves to it (config-linux.md, "The Container Process State"). Not
//! for loading the filter: see `init/seccomp.rs`.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use anyhow::{Context, Result};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::Serialize;
use teu_namespaces::Child;
use teu_plan::seccomp::SeccompPlan;

use crate::{fd_socket, hook, json, version};

/// The message that the agent gets with the listener.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    /// The names of the descriptors in the message.
    fds: [&'a str; 1],
    /// The process that has the filter.
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: hook::State<'a>,
}

/// Takes the listener, which is descriptor `number` of the process `child`, and sends
/// it to the agent of the plan. `state` is that of the container.
///
/// # Errors
/// The agent cannot be reached.
pub(crate) fn give_listener(
    plan: Option<&SeccompPlan>,
    child: &Child,
    number: i32,
    state: hook::State<'_>,
) -> Result<()> {
    let agent = plan.and_then(|plan| plan.filter.agent.as_ref());
    let agent = agent.context("seccomp listenerPath is not set")?;
    let listener = pidfd_getfd(child.pidfd(), number, PidfdGetfdFlags::empty())
        .context("take the seccomp listener")?;
    let socket = connect(&agent.path)
        .context("failed to connect with seccomp agent specified in the seccomp profile")?;
    let message = json::compact(&ContainerProcessState {
        oci_version: version::SPECIFICATION,
        fds: ["seccompFd"],
        pid: child.pid().as_raw(),
        metadata: &agent.metadata,
        state,
    })?;
    fd_socket::send(socket, &message, listener)
        .with_context(|| format!("cannot send seccomp fd to {}", agent.path))
}

/// Connects to the agent's socket. `@` stands for the zero byte of an abstract name
/// (unix(7)), as in Go's `net.Dial`.
fn connect(path: &str) -> Result<OwnedFd> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    };
    let stream = address.and_then(|address| UnixStream::connect_addr(&address));
    Ok(stream.with_context(|| format!("dial unix {path}"))?.into())
}
