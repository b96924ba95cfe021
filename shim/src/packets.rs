//! Messages with descriptors between the shim's processes: JSON over a pair of
//! SOCK_SEQPACKET sockets.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The maximum number of descriptors in a message.
const MOST_FDS: usize = 8;
/// The maximum length of a message; a root filesystem of many layers needs tens of KiB.
const LONGEST: usize = 128 << 10;

/// One end of the pair.
#[derive(Debug)]
pub(crate) struct Packets {
    socket: OwnedFd,
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

/// The result of receiving.
#[derive(Debug)]
pub(crate) enum Received<T> {
    Message(T, Vec<OwnedFd>),
    /// No message has arrived yet.
    Nothing,
    /// The other end and all copies of it are closed.
    End,
}

impl Packets {
    /// Makes a connected pair.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub(crate) fn pair() -> Result<(Packets, Packets)> {
        let kind = SocketType::SEQPACKET;
        let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .context("socketpair")?;
        Ok((Packets::new(one), Packets::new(other)))
    }

    fn new(socket: OwnedFd) -> Packets {
        Packets {
            socket,
            unsent: VecDeque::new(),
        }
    }

    /// Moves the socket to a descriptor of at least `number`.
    ///
    /// # Errors
    /// The process has too many open files.
    pub(crate) fn moved_above(self, number: i32) -> Result<Packets> {
        let moved = fcntl_dupfd_cloexec(&self.socket, number);
        moved.map(Packets::new).context("dup the socket")
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether messages wait for [`Packets::flush`].
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends a message, or queues it until there is room.
    ///
    /// # Errors
    /// The message is too long, or the other end is closed.
    pub(crate) fn send(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<()> {
        let bytes = serde_json::to_vec(message).context("encode a message")?;
        ensure!(
            bytes.len() <= LONGEST,
            "message too long: {} bytes",
            bytes.len()
        );
        ensure!(
            fds.len() <= MOST_FDS,
            "too many descriptors in a message: {}",
            fds.len()
        );
        self.unsent.push_back((bytes, fds));
        self.flush()
    }

    /// Sends queued messages as far as there is room.
    ///
    /// # Errors
    /// The other end is closed.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while let Some((bytes, fds)) = self.unsent.front() {
            match send(self.fd(), bytes, fds) {
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                sent => sent.context("send a message")?,
            };
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// Receives the next message, without blocking.
    ///
    /// # Errors
    /// The message cannot be received or decoded.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> Result<Received<T>> {
        // Ask for the length first, because a buffer of the maximum length would stay in memory.
        let length = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let mut bytes = match recv(&self.socket, &mut [0; 0], length) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::End),
            found => vec![0; found.context("receive a message")?.1],
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let buffers = &mut [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.socket, buffers, &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::End),
            received => received.context("receive a message")?,
        };
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
        ensure!(!received.flags.intersects(cut), "a message was truncated");
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        let message = bytes.get(..received.bytes).unwrap_or_default();
        let message = serde_json::from_slice(message).context("decode a message")?;
        Ok(Received::Message(message, fds.collect()))
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, pipe};

    fn received(packets: &Packets) -> (String, Vec<OwnedFd>) {
        match packets.receive().expect("receive") {
            Received::Message(message, fds) => (message, fds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_and_descriptors_come_as_they_were_sent() {
        let (mut one, other) = Packets::pair().expect("socketpair");
        let (mut reader, writer) = pipe().expect("pipe");
        one.send(&"first", vec![writer.into()]).expect("send");
        one.send(&"second", Vec::new()).expect("send");
        let (first, fds) = received(&other);
        assert_eq!(first, "first");
        let mut writer = File::from(fds.into_iter().next().expect("a descriptor"));
        std::io::Write::write_all(&mut writer, b"x").expect("write");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(
            (text.as_str(), received(&other).0.as_str()),
            ("x", "second")
        );
        assert!(matches!(other.receive::<String>(), Ok(Received::Nothing)));
        drop(one);
        assert!(matches!(other.receive::<String>(), Ok(Received::End)));
    }

    #[test]
    fn what_has_no_room_is_sent_later_and_in_order() {
        let (mut one, other) = Packets::pair().expect("socketpair");
        let long = "x".repeat(LONGEST / 2);
        for number in 0..20 {
            one.send(&format!("{number}{long}"), Vec::new())
                .expect("send");
        }
        assert!(one.has_unsent());
        for number in 0..20 {
            assert_eq!(received(&other).0, format!("{number}{long}"));
            one.flush().expect("flush");
        }
        assert!(!one.has_unsent());
        assert!(one.send(&"x".repeat(LONGEST), Vec::new()).is_err());
    }
}
