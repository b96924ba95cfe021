//! Bytes on their way from one descriptor to another, one of which is a pipe or a fifo.
//!
//! The kernel moves them (splice(2)); what is between the two is in the pipes, so a
//! copy has no buffer, and a slow reader slows the writer down. Not for regular files,
//! which nobody can wait for.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::poll::{EventFlags, Poll, Token};

/// A copy between two descriptors, one of which the loop waits for.
#[derive(Debug)]
pub(super) struct Copy {
    from: OwnedFd,
    to: OwnedFd,
    token: Token,
    /// How many bytes move in one go: the most that a stream may take of the loop's
    /// time before another's turn.
    chunk: usize,
    waits_for: WaitsFor,
    /// What `from` has now is the last: it ends when it is empty, not at its end.
    is_last: bool,
}

/// The one descriptor that is registered. The other is not, for an end is told even to
/// those that wait for nothing (`EPOLLHUP`), again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Input,
    Room,
    /// News: no process has the terminal open, until one opens it and writes. Input for
    /// it waits until there is more. What is known is not told again.
    News,
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Done,
}

/// What a pipe holds unless someone asked for more.
pub(super) const PIPE: usize = 64 << 10;

/// What a terminal holds. The kernel sets as much memory aside for each move.
pub(super) const TERMINAL: usize = 4 << 10;

impl Copy {
    /// Begins. `chunk` is [`PIPE`], or [`TERMINAL`] if one side is one; that does not
    /// block.
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

    /// Moves what can be moved at once, when what it waits for has come. When it is done
    /// or has failed, it has left the loop.
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
            // Nobody has the other side of the pipe open any more.
            Ok(0) | Err(Errno::PIPE) => return Ok(Progress::Done),
            Ok(_) if self.waits_for == WaitsFor::News => self.wait(poll, WaitsFor::Input)?,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match self.waits_for {
                // There is room, so there is no input.
                WaitsFor::Room if self.is_last => return Ok(Progress::Done),
                WaitsFor::Room => self.wait(poll, WaitsFor::Input)?,
                WaitsFor::Input | WaitsFor::News => self.wait(poll, WaitsFor::Room)?,
            },
            // The terminal is closed, which systemd does before it opens it again.
            Err(Errno::IO) if self.is_last => return Ok(Progress::Done),
            Err(Errno::IO) => self.wait(poll, WaitsFor::News)?,
            Err(err) => return Err(err),
        }
        Ok(Progress::Going)
    }

    /// Ends when what has been written so far is copied.
    pub(super) fn finish(&mut self, poll: &Poll) -> Result<(), Errno> {
        self.is_last = true;
        // As long as there is room, it is told at once.
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

    /// Leaves the loop. Closing the descriptors is not enough where they have copies,
    /// as a terminal has.
    pub(super) fn stop(&self, poll: &Poll) {
        let removed = match self.waits_for {
            WaitsFor::Input | WaitsFor::News => poll.remove(&self.from),
            WaitsFor::Room => poll.remove(&self.to),
        };
        if let Err(err) = removed {
            log::warn!(
                "wait no longer for a stream: {}",
                teu_errno::text(&err.into())
            );
        }
    }
}
