//! An output of a process on its way to a client, which may come late, leave, or return.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::copy::{Copy, Progress};
use super::fifo::OutputFifo;
use crate::poll::{Poll, Token};

/// One output of a process.
#[derive(Debug)]
pub(super) enum Output {
    /// No client has opened the fifo to read yet, so nothing is written: the kernel would
    /// discard it when the fifo is closed.
    Unread {
        from: OwnedFd,
        fifo: OutputFifo,
        chunk: usize,
        /// Whether the output has ended.
        is_last: bool,
    },
    Copied {
        copy: Copy,
        /// The fifo; absent for a logger, which is not restarted.
        fifo: Option<OutputFifo>,
    },
    /// All output is in the fifo, which stays open until a client reads: the last client may
    /// have left without reading the rest.
    Left { fifo: OutputFifo, _writer: OwnedFd },
}

/// The destination of output.
#[derive(Debug)]
pub(super) enum Sink {
    Fifo(OutputFifo),
    Logger(OwnedFd),
}

impl Output {
    /// Starts to copy as soon as a client reads. For `chunk` see [`Copy::new`].
    pub(super) fn new(
        poll: &Poll,
        token: Token,
        from: OwnedFd,
        sink: Sink,
        chunk: usize,
    ) -> Result<Output, Errno> {
        match sink {
            Sink::Fifo(fifo) => Ok(Output::Unread {
                from,
                fifo,
                chunk,
                is_last: false,
            }),
            Sink::Logger(to) => {
                let copy = Copy::new(poll, token, from, to, chunk)?;
                Ok(Output::Copied { copy, fifo: None })
            }
        }
    }

    /// Copies after an event. Returns nothing when all output has arrived.
    ///
    /// # Errors
    /// The output cannot be copied.
    pub(super) fn ready(self, poll: &Poll) -> Result<Option<Output>, Errno> {
        let Output::Copied { mut copy, fifo } = self else {
            return Ok(Some(self));
        };
        match (copy.ready(poll)?, fifo) {
            (Progress::Going, fifo) => Ok(Some(Output::Copied { copy, fifo })),
            (Progress::Done, None) => Ok(None),
            // The copy holds a reader, too, until it is dropped.
            (Progress::Done, Some(fifo)) => {
                let writer = fifo.open_for_writing()?;
                Ok(Some(Output::Left {
                    fifo,
                    _writer: writer,
                }))
            }
        }
    }

    /// The time of the next check for a reader.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Output::Unread { fifo, .. } | Output::Left { fifo, .. } => Some(fifo.deadline()),
            Output::Copied { .. } => None,
        }
    }

    /// Whether all output is where the client can read it.
    pub(super) fn has_arrived(&self) -> bool {
        matches!(self, Output::Left { .. })
    }

    /// Ends the output as [`Copy::finish`] does.
    pub(super) fn finish(&mut self, poll: &Poll) -> Result<(), Errno> {
        match self {
            Output::Unread { is_last, .. } => {
                *is_last = true;
                Ok(())
            }
            Output::Copied { copy, .. } => copy.finish(poll),
            Output::Left { .. } => Ok(()),
        }
    }

    /// Drops the output that has not arrived.
    pub(super) fn give_up(self, poll: &Poll) {
        if let Output::Copied { copy, .. } = self {
            copy.stop(poll);
        }
    }

    /// Starts to copy, or closes the fifo, if a client reads by now.
    ///
    /// # Errors
    /// The output cannot be copied.
    pub(super) fn tick(
        self,
        poll: &Poll,
        token: Token,
        now: Instant,
    ) -> Result<Option<Output>, Errno> {
        match self {
            Output::Unread {
                from,
                mut fifo,
                chunk,
                is_last,
            } => {
                let Some(writer) = fifo.look_for_reader(now)? else {
                    return Ok(Some(Output::Unread {
                        from,
                        fifo,
                        chunk,
                        is_last,
                    }));
                };
                let to = fifo.open_to_keep()?;
                // Closing it earlier would end the fifo for the reader.
                drop(writer);
                let mut copy = Copy::new(poll, token, from, to, chunk)?;
                if is_last {
                    copy.finish(poll)?;
                }
                Ok(Some(Output::Copied {
                    copy,
                    fifo: Some(fifo),
                }))
            }
            Output::Left { mut fifo, _writer } => {
                let reader = fifo.look_for_reader(now)?;
                Ok(reader.is_none().then_some(Output::Left { fifo, _writer }))
            }
            copied @ Output::Copied { .. } => Ok(Some(copied)),
        }
    }
}
