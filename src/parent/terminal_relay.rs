//! Copies between the container's terminal and the caller's standard streams, and passes the
//! size of the window on. Not for waiting: `foreground.rs` does that.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::{Errno, read, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::terminal::Terminal;
use crate::{errno, poll};

/// The bytes that are read or written at once. A writable pipe takes this many bytes
/// without blocking (pipe(7), `PIPE_BUF`).
const CHUNK: usize = 4096;

/// The ends that are ready.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    stdin: bool,
    stdout: bool,
    master: bool,
}

/// Copies between the container's terminal and standard input and output.
#[derive(Debug)]
pub(crate) struct Relay {
    terminal: Terminal,
    /// The master of the container's terminal.
    master: OwnedFd,
    to_container: VecDeque<u8>,
    to_caller: VecDeque<u8>,
    input_is_open: bool,
    /// Whether a process has the slave open.
    output_is_open: bool,
    /// The caller's standard output has no reader any more. Output is discarded, so
    /// that the container does not block for ever.
    discards: bool,
}

impl Relay {
    /// Starts the relay: `terminal` becomes raw, and the container's terminal, whose
    /// master is `master`, gets its size.
    ///
    /// # Errors
    /// The kernel refuses to change a terminal.
    pub(crate) fn new(mut terminal: Terminal, master: OwnedFd) -> Result<Relay> {
        let mut settings = tcgetattr(&master).context("read the container's terminal settings")?;
        settings.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&master, OptionalActions::Now, &settings)
            .context("change the container's terminal")?;
        // Only the master gets O_NONBLOCK, because other processes share the open files
        // of the standard streams.
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)
            .context("change the container's terminal")?;
        terminal.make_raw()?;
        let relay = Relay {
            terminal,
            master,
            to_container: VecDeque::new(),
            to_caller: VecDeque::new(),
            input_is_open: true,
            output_is_open: true,
            discards: false,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's. Ignores failures,
    /// because the size is not essential.
    pub(super) fn resize(&self) {
        let size = tcgetwinsize(&self.terminal);
        if let Err(err) = size.and_then(|size| tcsetwinsize(&self.master, size)) {
            log::debug!("resize the container's terminal: {}", errno::text(err));
        }
    }

    /// Returns the descriptors, with their events, that poll(2) is to wait for.
    pub(super) fn wanted<'a>(
        &'a self,
        ready: &'a mut Ready,
    ) -> Vec<(&'a mut bool, BorrowedFd<'a>, PollFlags)> {
        let mut wanted = Vec::new();
        if self.input_is_open && self.to_container.is_empty() {
            wanted.push((&mut ready.stdin, stdin(), PollFlags::IN));
        }
        if !self.to_caller.is_empty() {
            wanted.push((&mut ready.stdout, stdout(), PollFlags::OUT));
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.to_caller.is_empty());
        flags.set(PollFlags::OUT, !self.to_container.is_empty());
        if self.output_is_open && !flags.is_empty() {
            wanted.push((&mut ready.master, self.master.as_fd(), flags));
        }
        wanted
    }

    /// Copies as much as possible without blocking.
    pub(super) fn copy(&mut self, ready: Ready) -> Result<()> {
        let mut buffer = [0; CHUNK];
        if ready.stdin {
            match read(stdin(), &mut buffer) {
                Ok(0) => self.input_is_open = false,
                Ok(count) => self.to_container.extend(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // This process is in the background of a shell, or standard input is
                // closed.
                Err(Errno::IO | Errno::BADF) => self.input_is_open = false,
                Err(err) => return Err(err).context("read standard input"),
            }
        }
        if !self.to_container.is_empty() {
            self.write_to_container()?;
        }
        if ready.stdout {
            self.write_to_caller()?;
        }
        if self.output_is_open && self.to_caller.is_empty() {
            self.read_from_container(&mut buffer)?;
        }
        Ok(())
    }

    fn write_to_container(&mut self) -> Result<()> {
        let (bytes, _) = self.to_container.as_slices();
        match write(&self.master, bytes) {
            Ok(count) => drop(self.to_container.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // No process has the slave open.
            Err(Errno::IO) => self.to_container.clear(),
            Err(err) => return Err(err).context("write to the container's terminal"),
        }
        Ok(())
    }

    fn write_to_caller(&mut self) -> Result<()> {
        let (bytes, _) = self.to_caller.as_slices();
        match write(stdout(), &bytes[..bytes.len().min(CHUNK)]) {
            Ok(count) => drop(self.to_caller.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The reader is gone, standard output is closed, or the terminal has hung
            // up.
            Err(Errno::PIPE | Errno::BADF | Errno::IO) => {
                self.discards = true;
                self.to_caller.clear();
            }
            Err(err) => return Err(err).context("write to standard output"),
        }
        Ok(())
    }

    fn read_from_container(&mut self, buffer: &mut [u8]) -> Result<()> {
        match read(&self.master, &mut *buffer) {
            Ok(count) if self.discards => self.output_is_open = count > 0,
            Ok(count) => {
                self.output_is_open = count > 0;
                self.to_caller.extend(&buffer[..count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // No process has the slave open, and all output was read.
            Err(Errno::IO) => self.output_is_open = false,
            Err(err) => return Err(err).context("read from the container's terminal"),
        }
        Ok(())
    }

    /// Returns whether all output of the container so far has been passed on.
    pub(super) fn is_drained(&self) -> bool {
        if !self.to_caller.is_empty() {
            return false;
        }
        if !self.output_is_open {
            return true;
        }
        let mut event = [PollFd::new(&self.master, PollFlags::IN)];
        // poll(2) is reliable here, because the kernel first moves the output of ended
        // processes to the master.
        poll::wait_until(&mut event, Some(Instant::now())) == Ok(false)
    }
}
