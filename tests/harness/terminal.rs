//! Receives descriptors that the runtime sends over sockets, and talks to terminals.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;

use super::{patience, scratch, sys};

/// The time limit for each wait here, on a common machine.
const LIMIT: Duration = Duration::from_secs(10);

/// A listening socket for a descriptor, as engines pass it with `--console-socket` and
/// `--pidfd-socket`.
pub(crate) struct FdSocket {
    pub(crate) path: PathBuf,
    listener: UnixListener,
}

impl FdSocket {
    pub(crate) fn new(name: &str) -> FdSocket {
        let path = scratch().join(name);
        let listener = UnixListener::bind(&path).expect("bind the socket for descriptors");
        listener
            .set_nonblocking(true)
            .expect("make the socket non-blocking");
        FdSocket { path, listener }
    }

    /// The path, for a command line.
    pub(crate) fn path(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// Receives a descriptor and the text that comes with it.
    #[track_caller]
    pub(crate) fn receive(&self) -> (String, OwnedFd) {
        let deadline = Instant::now() + patience(LIMIT);
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(
                        Instant::now() < deadline,
                        "nobody connected to {:?}",
                        self.path
                    );
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("accept on {:?}: {error}", self.path),
            }
        };
        stream
            .set_nonblocking(false)
            .expect("make the connection blocking");
        stream
            .set_read_timeout(Some(patience(LIMIT)))
            .expect("set the time to wait");
        let (text, descriptors) = sys::receive(&stream).expect("receive a descriptor");
        let count = descriptors.len();
        let descriptor = descriptors.into_iter().next();
        assert!(
            count == 1,
            "expected one descriptor on {:?}, got {count}",
            self.path
        );
        (text, descriptor.expect("just counted"))
    }

    /// Receives a descriptor of a terminal.
    #[track_caller]
    pub(crate) fn receive_terminal(&self) -> Terminal {
        Terminal::from_master(self.receive().1)
    }
}

/// The master side of a terminal.
pub(crate) struct Terminal {
    master: File,
    /// Everything that was read so far.
    pub(crate) seen: String,
}

impl Terminal {
    pub(crate) fn from_master(master: OwnedFd) -> Terminal {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .expect("make the terminal non-blocking");
        Terminal {
            master: File::from(master),
            seen: String::new(),
        }
    }

    /// Makes a terminal; returns its other side, too, for a runtime in the foreground.
    pub(crate) fn pair() -> (Terminal, OwnedFd) {
        let pair = openpty(None, None).expect("open a terminal");
        (Terminal::from_master(pair.master), pair.slave)
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        sys::set_window_size(self.master.as_fd(), rows, columns).expect("resize the terminal");
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("write to the terminal");
    }

    /// Reads until `text` has appeared since the last call, and returns the text read up to
    /// there.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + patience(LIMIT);
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            let is_open = self.read_some();
            let is_late = Instant::now() > deadline;
            assert!(
                is_open && !is_late,
                "{text:?} not on the terminal, only {:?}",
                self.seen
            );
        }
    }

    /// Reads until the other side is closed.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> String {
        let deadline = Instant::now() + patience(LIMIT);
        while self.read_some() {
            assert!(
                Instant::now() < deadline,
                "the terminal stays open: {:?}",
                self.seen
            );
        }
        std::mem::take(&mut self.seen)
    }

    /// Reads the available output. Returns false when the other side is closed.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => self
                .seen
                .push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2));
            }
            // A master gets EIO when its last slave is closed.
            Err(_) => return false,
        }
        true
    }
}
