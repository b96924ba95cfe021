//! Sends and receives descriptors over AF_UNIX sockets (SCM_RIGHTS). [`send`] and
//! [`receive`] are for terminals and pidfds: a stream socket, a name and a descriptor.
//! [`send_parts`] and [`receive_into`] carry the messages of `pipe.rs` and
//! `criu/process.rs`, which say what is in them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The longest name that a receiver accepts, as in runc.
const LONGEST_NAME: usize = 4096;

/// Makes a connected pair of sockets.
///
/// # Errors
/// socketpair(2) fails.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (one, other) = UnixStream::pair().context("socketpair")?;
    Ok((one.into(), other.into()))
}

/// Connects to the socket of an engine.
///
/// # Errors
/// The socket has no listener.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    let socket =
        UnixStream::connect(path).with_context(|| format!("connect to the socket {path:?}"))?;
    Ok(socket.into())
}

/// Sends a descriptor with its name.
///
/// # Errors
/// The peer has closed the socket.
pub(crate) fn send(socket: impl AsFd, name: &[u8], fd: impl AsFd) -> Result<()> {
    send_parts(socket, &[IoSlice::new(name)], Some(fd.as_fd())).context("send a descriptor")
}

/// Sends a message of several parts, with a descriptor if there is one (sendmsg(2)).
///
/// # Errors
/// The peer has closed the socket.
pub(crate) fn send_parts(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fd: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.as_slice();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::NOBUFS);
    }
    retry_on_intr(|| sendmsg(&socket, parts, &mut control, SendFlags::NOSIGNAL)).map(drop)
}

/// Receives a descriptor.
///
/// # Errors
/// The message has no descriptor.
pub(crate) fn receive(socket: impl AsFd) -> Result<OwnedFd> {
    let mut name = [0; LONGEST_NAME];
    let received = receive_into(socket, &mut name, RecvFlags::empty());
    match received.context("receive a descriptor")? {
        (_, Some(fd)) => Ok(fd),
        (0, None) => bail!("receive a descriptor: the peer has closed the socket"),
        (_, None) => bail!("receive a descriptor: none came"),
    }
}

/// Receives a message into `buffer`, with its descriptor if it has one (recvmsg(2)). Returns
/// the length of the message; 0 if the peer has closed the socket.
///
/// # Errors
/// recvmsg(2) fails.
pub(crate) fn receive_into(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received =
        retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    let length = match received {
        Ok(message) => message.bytes,
        // The peer died before it read a message.
        Err(Errno::CONNRESET) => 0,
        Err(err) => return Err(err),
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((length, fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_descriptor_received_is_the_one_sent() {
        let (host, init) = UnixStream::pair().expect("socketpair");
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        send(&init, b"pipe", &writer).expect("send");
        drop(writer);
        let received = receive(&host).expect("receive");
        std::fs::File::from(received)
            .write_all(b"x")
            .expect("write");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "x");
    }
}
