//! A process that this process or CRIU has started: receives its terminal, announces it
//! to the engine, and waits in front of it. Used by `create`, `exec` and `restore`.

use std::path::Path;

use anyhow::{Context, Result};
use teu_namespaces::Child;

use super::foreground::{self, Init};
use super::notify::NotifySocket;
use super::pid_file;
use super::terminal::Front;
use super::terminal_relay::Relay;
use crate::fd_socket;
use crate::signals::Signals;

/// Dropping it kills the process, until [`Started::keep`].
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Copies between the process's terminal and the caller's, in the foreground.
    relay: Option<Relay>,
}

impl Started {
    pub(crate) fn new(child: Child) -> Started {
        Started { child, relay: None }
    }

    /// Receives the terminal that the process has made, and relays it to `front`, if
    /// given.
    ///
    /// # Errors
    /// No terminal arrives, or the kernel refuses to change a terminal.
    pub(crate) fn show_terminal(&mut self, front: Option<Front>) -> Result<()> {
        if let Some(Front { terminal, socket }) = front {
            let master = fd_socket::receive(&socket).context("receive the terminal")?;
            self.relay = Some(Relay::new(terminal, master)?);
        }
        Ok(())
    }

    /// Announces the process to the engine: by a pidfd called `name`, and by its
    /// number.
    ///
    /// # Errors
    /// The socket has no listener, or the file cannot be written.
    pub(crate) fn announce(
        &self,
        name: &[u8],
        pidfd_socket: Option<&Path>,
        pid_file: Option<&Path>,
    ) -> Result<()> {
        if let Some(socket) = pidfd_socket {
            fd_socket::send(fd_socket::connect(socket)?, name, self.child.pidfd())?;
        }
        match pid_file {
            Some(file) => pid_file::write(file, self.child.pid()),
            None => Ok(()),
        }
    }

    /// Stays in front of the process until it has ended and is reaped, see
    /// [`foreground::wait`].
    ///
    /// # Errors
    /// The kernel refuses a call that does not usually fail. The process may still run.
    pub(crate) fn wait_in_front(
        &mut self,
        signals: &Signals,
        notify: Option<&NotifySocket>,
    ) -> Result<u8> {
        let init = Init {
            pid: self.child.pid().as_raw(),
            pidfd: self.child.pidfd(),
        };
        let status = foreground::wait(init, self.relay.take(), signals, notify)?;
        // The process is reaped: its pid may belong to another process now.
        self.child.keep();
        Ok(status)
    }

    /// Lets the process outlive this process.
    pub(crate) fn keep(&mut self) {
        self.child.keep();
    }
}
