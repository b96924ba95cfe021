//! Output on its way to a client, which may not be there yet, or no longer.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;

use super::copy::{Copy, Progress};
use super::fifo::OutputFifo;
use crate::poll::{Poll, Token};

/// One output of a process.
#[derive(Debug)]
pub(super) enum Output {
    /// No client reads yet. What is written to a fifo and closed would be lost.
    Unread {
        from: OwnedFd,
        fifo: OutputFifo,
        chunk: usize,
        /// Whether all has been written.
        is_last: bool,
    },
    Copied {
        copy: Copy,
        /// None if a logger reads, which does not come again.
        fifo: Option<OutputFifo>,
    },
    /// All is in the fifo, which is kept open until a client reads: the last one may
    /// have gone without it.
    Left { fifo: OutputFifo, _writer: OwnedFd },
}

/// Where output goes.
#[derive(Debug)]
pub(super) enum Sink {
    Fifo(OutputFifo),
    Logger(OwnedFd),
}

impl Output {
    /// Begins to copy as soon as somebody reads. For `chunk` see [`Copy::new`].
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

    /// Copies; none is left when all has arrived.
    ///
    /// # Errors
    /// It cannot be copied.
    pub(super) fn ready(self, poll: &Poll) -> Result<Option<Output>, Errno> {
        let Output::Copied { mut copy, fifo } = self else {
            return Ok(Some(self));
        };
        match (copy.ready(poll)?, fifo) {
            (Progress::Going, fifo) => Ok(Some(Output::Copied { copy, fifo })),
            (Progress::Done, None) => Ok(None),
            // The copy is a reader, too, until it is dropped.
            (Progress::Done, Some(fifo)) => {
                let writer = fifo.open_for_writing()?;
                Ok(Some(Output::Left {
                    fifo,
                    _writer: writer,
                }))
            }
        }
    }

    /// When to look again whether somebody reads.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Output::Unread { fifo, .. } | Output::Left { fifo, .. } => Some(fifo.deadline()),
            Output::Copied { .. } => None,
        }
    }

    /// Whether everything is where the client may read it.
    pub(super) fn has_arrived(&self) -> bool {
        matches!(self, Output::Left { .. })
    }

    /// As [`Copy::finish`].
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

    /// Ends without the rest.
    pub(super) fn give_up(self, poll: &Poll) {
        if let Output::Copied { copy, .. } = self {
            copy.stop(poll);
        }
    }

    /// Begins to copy, or lets go of the fifo, if somebody reads by now.
    ///
    /// # Errors
    /// It cannot be copied.
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
                // Not before: the reader would see an end.
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
