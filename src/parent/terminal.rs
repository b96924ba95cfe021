//! The caller's terminal, and the socket over which the terminal of a process arrives.
//! Not for the container's end: see `init/console.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcsetattr};

use crate::{errno, fd_socket};

/// The terminal in which the terminal of a foreground process is shown.
#[derive(Debug)]
pub(crate) struct Front {
    pub(super) terminal: Terminal,
    /// The socket on which the process's terminal arrives.
    pub(super) socket: OwnedFd,
}

/// Returns the socket to which a new process sends its terminal, if it has one, and the
/// terminal in which that is shown in the foreground.
///
/// # Errors
/// The flags contradict each other (the text is runc's), the engine's socket has no
/// listener, or the caller has no terminal.
pub(crate) fn sockets(
    has_terminal: bool,
    foreground: bool,
    engines_socket: Option<&Path>,
) -> Result<(Option<OwnedFd>, Option<Front>)> {
    Ok(match (has_terminal, foreground, engines_socket) {
        (true, true, None) => {
            let (parent, init) = fd_socket::pair()?;
            let terminal = Terminal::open()?;
            let front = Front {
                terminal,
                socket: parent,
            };
            (Some(init), Some(front))
        }
        (true, false, Some(path)) => (Some(fd_socket::connect(path)?), None),
        (true, false, None) => {
            bail!(
                "cannot allocate tty if runc will detach without setting console socket \
                 (give a --console-socket, or set \"terminal\" to false in config.json)"
            )
        }
        (_, _, Some(_)) => {
            bail!("cannot use console socket if runc will not detach or allocate tty")
        }
        (false, _, None) => (None, None),
    })
}

/// The caller's terminal. Dropping it restores its settings.
#[derive(Debug)]
pub(crate) struct Terminal {
    descriptor: OwnedFd,
    before: Option<Termios>,
}

impl Terminal {
    /// Finds the terminal: a standard stream, or else the controlling terminal. Must be
    /// called before the container is made, so that nothing is made without a terminal.
    ///
    /// # Errors
    /// There is no terminal. The text is runc's: `open /dev/tty: no such device or
    /// address`.
    pub(crate) fn open() -> Result<Terminal> {
        let stream = [stderr(), stdout(), stdin()]
            .into_iter()
            .find(|stream| isatty(stream));
        let descriptor = match stream {
            Some(stream) => fcntl_dupfd_cloexec(stream, 3).context("dup the terminal")?,
            None => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open("/dev/tty", flags, Mode::empty()).map_err(|err| {
                    let cause = errno::text(err);
                    anyhow!(
                        "open /dev/tty: {cause} (the process is to have a terminal and teu has \
                         none: set \"terminal\" to false in config.json, or leave --tty out)"
                    )
                })?
            }
        };
        Ok(Terminal {
            descriptor,
            before: None,
        })
    }

    /// Passes all keys to the container. The caller's terminal still turns "\n" into "\r\n" on
    /// output. The container's does not, so that output redirected to a file has no "\r".
    ///
    /// # Errors
    /// The kernel refuses the change.
    pub(super) fn make_raw(&mut self) -> Result<()> {
        let before = tcgetattr(&self.descriptor).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(&self.descriptor, OptionalActions::Now, &raw)
            .context("failed to set the terminal from the stdin")?;
        self.before = Some(before);
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(err) = tcsetattr(&self.descriptor, OptionalActions::Now, before)
        {
            // Most likely the terminal has hung up, and nobody is there to see it.
            log::debug!("restore the terminal: {}", errno::text(err));
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::os::fd::AsRawFd;

    #[test]
    fn no_terminal_at_all() {
        testing::in_child(|| {
            let null = std::fs::File::open("/dev/null").expect("null");
            rustix::stdio::dup2_stdin(&null).expect("dup2");
            rustix::process::setsid().expect("setsid");
            assert!(stderr().as_raw_fd() == 2 && !isatty(stderr()));
            let error = Terminal::open().expect_err("none");
            let words = testing::words(&error);
            let runcs = "open /dev/tty: no such device or address (";
            assert!(words.starts_with(runcs), "{words}");
        });
    }
}
