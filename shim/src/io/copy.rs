//! Copies bytes between two descriptors, one of which is a pipe or a fifo.
//!
//! The kernel moves the bytes (splice(2)). They stay in the pipes on both sides, so a copy
//! needs no buffer, and a slow reader slows the writer down. Regular files cannot be copied
//! here, because epoll(7) does not wait for them.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::poll::{EventFlags, Poll, Token};

/// A copy between two descriptors. The loop waits for one of them at a time.
#[derive(Debug)]
pub(super) struct Copy {
    from: OwnedFd,
    to: OwnedFd,
    token: Token,
    /// The maximum number of bytes to move at once. It limits the time for which other
    /// streams wait.
    chunk: usize,
    waits_for: WaitsFor,
    /// Whether no more input is to be awaited: the copy ends when `from` is empty.
    is_last: bool,
}

/// The descriptor that is registered. The other is not registered, because epoll(7) reports
/// `EPOLLHUP` again and again, even if no events were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Input,
    Room,
    /// Waits, edge-triggered, until a process opens the terminal again and writes to it.
    /// Until then no process has it open.
    News,
}

/// The state of a copy after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Done,
}

/// The default capacity of a pipe.
pub(super) const PIPE: usize = 64 << 10;

/// The capacity of a terminal. The kernel allocates as much memory for each move.
pub(super) const TERMINAL: usize = 4 << 10;

impl Copy {
    /// Starts a copy. `chunk` is [`TERMINAL`] if one side is a terminal, else [`PIPE`]. A
    /// terminal must be non-blocking.
    pub(super) fn new(
        poll: &Poll,
        token: Token,
        from: OwnedFd,
        to: OwnedFd,
        chunk: usize,
    ) -> Result<Copy, Errno> {
        poll.add(&from, token, EventFlags::IN)?;
        Ok(Copy {
            from,
            to,
            token,
            chunk,
            waits_for: WaitsFor::Input,
            is_last: false,
        })
    }

    /// Moves bytes as far as that is possible without waiting, after an event. A copy that
    /// is done or has failed is removed from the loop.
    pub(super) fn ready(&mut self, poll: &Poll) -> Result<Progress, Errno> {
        let progress = self.step(poll);
        if !matches!(progress, Ok(Progress::Going)) {
            self.stop(poll);
        }
        progress
    }

    fn step(&mut self, poll: &Poll) -> Result<Progress, Errno> {
        match splice(
            &self.from,
            None,
            &self.to,
            None,
            self.chunk,
            SpliceFlags::NONBLOCK,
        ) {
            // The other side of the pipe is closed.
            Ok(0) | Err(Errno::PIPE) => return Ok(Progress::Done),
            Ok(_) if self.waits_for == WaitsFor::News => self.wait(poll, WaitsFor::Input)?,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match self.waits_for {
                // Input is missing, because the output has room.
                WaitsFor::Room if self.is_last => return Ok(Progress::Done),
                WaitsFor::Room => self.wait(poll, WaitsFor::Input)?,
                WaitsFor::Input | WaitsFor::News => self.wait(poll, WaitsFor::Room)?,
            },
            // The terminal is closed. systemd closes it before it opens it again.
            Err(Errno::IO) if self.is_last => return Ok(Progress::Done),
            Err(Errno::IO) => self.wait(poll, WaitsFor::News)?,
            Err(err) => return Err(err),
        }
        Ok(Progress::Going)
    }

    /// Ends the copy when all bytes written until now are copied.
    pub(super) fn finish(&mut self, poll: &Poll) -> Result<(), Errno> {
        self.is_last = true;
        // Makes the loop call `ready` at once if there is room.
        self.wait(poll, WaitsFor::Room)
    }

    fn wait(&mut self, poll: &Poll, waits_for: WaitsFor) -> Result<(), Errno> {
        if waits_for == self.waits_for {
            return Ok(());
        }
        self.stop(poll);
        match waits_for {
            WaitsFor::Input => poll.add(&self.from, self.token, EventFlags::IN)?,
            WaitsFor::Room => poll.add(&self.to, self.token, EventFlags::OUT)?,
            WaitsFor::News => {
                poll.add(&self.from, self.token, EventFlags::IN | EventFlags::ET)?;
            }
        }
        self.waits_for = waits_for;
        Ok(())
    }

    /// Removes the copy from the loop. Closing the descriptors does not remove it if they
    /// have duplicates, as those of a terminal have.
    pub(super) fn stop(&self, poll: &Poll) {
        let removed = match self.waits_for {
            WaitsFor::Input | WaitsFor::News => poll.remove(&self.from),
            WaitsFor::Room => poll.remove(&self.to),
        };
        if let Err(err) = removed {
            log::warn!(
                "stop waiting for a stream: {}",
                teu_errno::text(&err.into())
            );
        }
    }
}
