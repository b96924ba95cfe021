//! A connection to containerd that carries one event at a time, without blocking.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use crate::poll::{EventFlags, Poll, Token};
use crate::proto::events::{FORWARD, SERVICE};
use crate::ttrpc::{self, Answers, Request, Status};

/// A connection to containerd.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    token: Token,
    answers: Answers,
    /// The stream of the last call.
    stream: u32,
    /// The time of the last call, if it is not answered.
    called_at: Option<Instant>,
    /// The unsent rest of the call.
    unsent: Vec<u8>,
    /// Whether the connection waits until the socket has room.
    is_full: bool,
}

impl Connection {
    /// Connects. Fails if that would block.
    pub(super) fn new(address: &Path, poll: &Poll, token: Token) -> Result<Connection> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.context("make a socket")?;
        let connected = SocketAddrUnix::new(address).and_then(|peer| connect(&socket, &peer));
        connected.with_context(|| format!("connect to {address:?}"))?;
        poll.add(&socket, token, EventFlags::IN)
            .context("wait for the connection")?;
        Ok(Connection {
            socket,
            token,
            answers: Answers::default(),
            stream: 0,
            called_at: None,
            unsent: Vec::new(),
            is_full: false,
        })
    }

    /// The time of the unanswered call.
    pub(super) fn called_at(&self) -> Option<Instant> {
        self.called_at
    }

    /// Makes a call. The call before it must have been answered.
    pub(super) fn call(&mut self, request: &[u8], now: Instant, poll: &Poll) -> Result<()> {
        // A client's streams have odd numbers.
        self.stream = match self.stream {
            0 => 1,
            last => last
                .checked_add(2)
                .context("the connection has no stream numbers left")?,
        };
        let request = Request {
            service: SERVICE.to_owned(),
            method: FORWARD.to_owned(),
            payload: request.to_owned(),
            ..Request::default()
        };
        self.unsent = ttrpc::request(self.stream, &request)?;
        self.called_at = Some(now);
        self.flush(poll)
    }

    /// Sends as much as the socket takes.
    pub(super) fn flush(&mut self, poll: &Poll) -> Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match send(&self.socket, &self.unsent[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(err) => return Err(err).context("send an event"),
            }
        }
        self.unsent = self.unsent.split_off(sent);
        let is_full = !self.unsent.is_empty();
        if is_full != self.is_full {
            let flags = if is_full {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            poll.change(&self.socket, self.token, flags)
                .context("wait for the connection")?;
            self.is_full = is_full;
        }
        Ok(())
    }

    /// Reads all available bytes.
    pub(super) fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((0, _)) => bail!("containerd has closed the connection"),
                Ok((count, _)) => self.answers.feed(&buffer[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(err) => return Err(err).context("receive an answer"),
            }
        }
    }

    /// Returns the answer to the call, if it has arrived.
    pub(super) fn outcome(&mut self) -> Option<Result<(), Status>> {
        while let Some((stream, answer)) = self.answers.next_answer() {
            if self.called_at.is_some() && stream == self.stream {
                self.called_at = None;
                return Some(answer.map(drop));
            }
        }
        None
    }
}
