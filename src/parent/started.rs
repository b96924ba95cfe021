//! A process that this one has started, or CRIU for it: what `create`, `exec` and
//! `restore` do with it until it runs by itself, or has ended in front of its user.

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

/// Dropped, it is killed, until [`Started::keep`].
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// Between its terminal and ours, in the foreground.
    relay: Option<Relay>,
}

impl Started {
    pub(crate) fn new(child: Child) -> Started {
        Started { child, relay: None }
    }

    /// Receives the terminal that the process has made, to show it in `front`, if it is to
    /// be shown at all.
    ///
    /// # Errors
    /// No terminal comes; the kernel refused to change one of the two.
    pub(crate) fn show_terminal(&mut self, front: Option<Front>) -> Result<()> {
        if let Some(Front { terminal, socket }) = front {
            let master = fd_socket::receive(&socket).context("receive the terminal")?;
            self.relay = Some(Relay::new(terminal, master)?);
        }
        Ok(())
    }

    /// Tells the engine which process it is: by a pidfd called `name`, and by number.
    ///
    /// # Errors
    /// Nobody listens at the socket; the file cannot be written.
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

    /// Stays in front of it until it has ended, see [`foreground::wait`]. It is reaped
    /// then.
    ///
    /// # Errors
    /// The kernel refused something that it does not refuse; the process may still run.
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
        // The pid may be another's.
        self.child.keep();
        Ok(status)
    }

    /// It outlives this process.
    pub(crate) fn keep(&mut self) {
        self.child.keep();
    }
}
