//! The connection of a client: bytes and calls in, answers and bytes out, without blocking.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use crate::poll::EventFlags;
use crate::ttrpc::{self, Calls, Request, Status};

/// The number of bytes read at a time.
const PART: usize = 16 << 10;
/// The number of unsent bytes from which on no more calls are read.
const MOST_UNSENT: usize = 1 << 20;

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

    /// The events to wait for. A client that does not read its answers is not read from.
    pub(super) fn flags(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.takes_calls());
        flags.set(EventFlags::OUT, self.has_unsent());
        flags
    }

    fn takes_calls(&self) -> bool {
        self.unsent.len() < MOST_UNSENT
    }

    /// Reads a part of the available bytes, so that other connections get their turn.
    /// Returns whether the client is still connected.
    pub(super) fn read(&mut self) -> bool {
        if !self.takes_calls() {
            return true;
        }
        let mut part = [0; PART];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(length) => {
                self.calls.feed(part.get(..length).unwrap_or_default());
                true
            }
            Err(err) => matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Returns the next complete call.
    pub(super) fn next_call(&mut self) -> Option<(u32, Result<Request, Status>)> {
        self.calls.next_call()
    }

    /// Queues an answer.
    pub(super) fn answer(&mut self, stream: u32, answer: Result<Vec<u8>, Status>) {
        self.unsent.extend(ttrpc::response(stream, answer));
    }

    /// Whether answers wait for room.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends as much as there is room for. Returns whether the client is still connected.
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
