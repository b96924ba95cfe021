//! The socket over which a runtime sends the master of the terminal that it has made.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::termios::tcgetattr;

/// The maximum length of the terminal's name in the message; runc's limit.
const LONGEST_NAME: usize = 4096;

/// A socket that waits for a terminal. Its file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at a path that no other process uses. A file at the path is removed, because
    /// it must be left from a process that has ended.
    ///
    /// # Errors
    /// The socket cannot be made, most likely because the path is too long for an address.
    pub(super) fn listen(path: PathBuf) -> Result<ConsoleSocket> {
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(err).with_context(|| format!("remove the socket {path:?}")),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .context("make the socket for the terminal")?;
        // bind(2) gives the file the mode of the socket. Set it before, so that nobody else
        // can ever connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).context("set the mode of the socket")?;
        let address = SocketAddrUnix::new(&path);
        address
            .and_then(|address| bind(&socket, &address))
            .with_context(|| format!("bind the socket {path:?}"))?;
        let console = ConsoleSocket { socket, path };
        listen(&console.socket, 1).with_context(|| format!("listen at {:?}", console.path))?;
        Ok(console)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receives the master of the terminal and makes it non-blocking.
    ///
    /// # Errors
    /// The terminal has not been sent yet, or is not a terminal.
    pub(super) fn receive(&self) -> Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let peer = accept_with(&self.socket, flags).context("the runtime sent no terminal")?;
        let mut name = [0; LONGEST_NAME];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(
            &peer,
            &mut [IoSliceMut::new(&mut name)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .context("receive the terminal")?;
        let master = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let master = master.context("the runtime sent a message without a terminal")?;
        tcgetattr(&master).context("the runtime sent a descriptor that is not a terminal")?;
        fcntl_getfl(&master)
            .and_then(|flags| fcntl_setfl(&master, flags | OFlags::NONBLOCK))
            .context("make the terminal non-blocking")?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        if let Err(err) = rustix::fs::unlink(&self.path) {
            log::warn!(
                "remove the socket {:?}: {}",
                self.path,
                teu_errno::text(&err.into())
            );
        }
    }
}
