//! The fifos of a client: it makes them, and opens its side when it likes.
//!
//! None of them is ever opened in a way that waits.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags, open, stat};
use rustix::io::Errno;

/// Between two looks whether the client is there, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Whether there is a fifo at the path, and not a file or a device.
///
/// # Errors
/// There is nothing.
pub(super) fn is_fifo(path: &Path) -> Result<bool> {
    let stat = stat(path).with_context(|| format!("find the stream {path:?}"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// A fifo for output, and how often to look whether a client reads from it.
#[derive(Debug)]
pub(super) struct OutputFifo {
    path: PathBuf,
    look_at: Instant,
    pause: Duration,
}

impl OutputFifo {
    /// # Errors
    /// There is no fifo at the path.
    pub(super) fn new(path: &Path, now: Instant) -> Result<OutputFifo> {
        ensure!(is_fifo(path)?, "the stream {path:?} is not a fifo");
        Ok(OutputFifo {
            path: path.to_owned(),
            look_at: now,
            pause: PAUSES.0,
        })
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Instant {
        self.look_at
    }

    /// The fifo, opened for writing, if it is time to look and somebody reads from it.
    ///
    /// # Errors
    /// Those of open(2) but ENXIO.
    pub(super) fn look_for_reader(&mut self, now: Instant) -> Result<Option<OwnedFd>, Errno> {
        if now < self.look_at {
            return Ok(None);
        }
        match self.open_for_writing() {
            Err(Errno::NXIO) => {
                self.look_at = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// # Errors
    /// Those of open(2): ENXIO if nobody reads.
    pub(super) fn open_for_writing(&self) -> Result<OwnedFd, Errno> {
        open_fifo(&self.path, OFlags::WRONLY)
    }

    /// Opens it with a reader of our own, so that clients may go and come.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open_to_keep(&self) -> Result<OwnedFd, Errno> {
        open_fifo(&self.path, OFlags::RDWR)
    }
}

/// A fifo for input, and what keeps it from ending when a client goes.
pub(super) fn open_for_input(path: &Path) -> Result<(OwnedFd, OwnedFd)> {
    ensure!(is_fifo(path)?, "the stream {path:?} is not a fifo");
    let open = |flags| open_fifo(path, flags).with_context(|| format!("open the fifo {path:?}"));
    Ok((open(OFlags::RDONLY)?, open(OFlags::WRONLY)?))
}

fn open_fifo(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(
        path,
        flags | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
