//! Sends and receives a descriptor over an AF_UNIX stream socket, for terminals and
//! pidfds: a name and one SCM_RIGHTS message. Not for the pipe to init: see `pipe.rs`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
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
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        bail!("no room for a descriptor");
    }
    sendmsg(
        socket,
        &[IoSlice::new(name)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .context("send a descriptor")?;
    Ok(())
}

/// Receives a descriptor.
///
/// # Errors
/// The message has no descriptor.
pub(crate) fn receive(socket: impl AsFd) -> Result<OwnedFd> {
    let mut name = [0; LONGEST_NAME];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("receive a descriptor")?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.context("receive a descriptor: none came")
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
