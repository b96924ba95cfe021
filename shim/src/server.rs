//! The server of a group of containers.

use std::os::unix::net::UnixListener;

use anyhow::Result;

use crate::invocation::Invocation;
use crate::socket::Socket;

/// Serves until it is told to shut down.
pub(crate) fn serve(_invocation: &Invocation, listener: UnixListener) -> Result<()> {
    Socket::of(&listener).map_or(Ok(()), |socket| socket.remove())
}
