//! A connection of a client's.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::ttrpc::{self, Calls, Request, Status};

/// What is read at a time.
const PART: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    calls: Calls,
    unsent: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Connection {
        Connection {
            stream,
            calls: Calls::default(),
            unsent: Vec::new(),
        }
    }

    /// Reads what has come. Returns whether the client is still there.
    pub(super) fn read(&mut self) -> bool {
        let mut part = [0; PART];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return false,
                Ok(length) => self.calls.feed(part.get(..length).unwrap_or_default()),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return true,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// The next call that is complete.
    pub(super) fn next_call(&mut self) -> Option<(u32, Result<Request, Status>)> {
        self.calls.next_call()
    }

    /// Puts an answer to what is to be sent.
    pub(super) fn answer(&mut self, stream: u32, answer: Result<Vec<u8>, Status>) {
        self.unsent.extend(ttrpc::response(stream, answer));
    }

    /// Whether something waits for room.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what there is room for. Returns whether the client is still there.
    pub(super) fn write(&mut self) -> bool {
        while self.has_unsent() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return true,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.unsent = Vec::new();
        true
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
