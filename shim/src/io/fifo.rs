//! The fifos of a client, which the client makes, and opens at any time.
//!
//! Opening a fifo here never blocks.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode, OFlags, open, stat};
use rustix::io::Errno;

/// The pauses between two checks for a reader: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Whether the path is a fifo, and not a file or a device.
///
/// # Errors
/// The path does not exist.
pub(super) fn is_fifo(path: &Path) -> Result<bool> {
    let stat = stat(path).with_context(|| format!("find the stream {path:?}"))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// A fifo for output, and the schedule of the checks for a reader.
#[derive(Debug)]
pub(super) struct OutputFifo {
    path: PathBuf,
    look_at: Instant,
    pause: Duration,
}

impl OutputFifo {
    /// Prepares the first check.
    ///
    /// # Errors
    /// The path is not a fifo.
    pub(super) fn new(path: &Path, now: Instant) -> Result<OutputFifo> {
        ensure!(is_fifo(path)?, "the stream {path:?} is not a fifo");
        Ok(OutputFifo {
            path: path.to_owned(),
            look_at: now,
            pause: PAUSES.0,
        })
    }

    /// The time of the next check.
    pub(super) fn deadline(&self) -> Instant {
        self.look_at
    }

    /// Opens the fifo for writing, if the check is due and a client has it open for reading.
    ///
    /// # Errors
    /// Those of open(2) except ENXIO.
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

    /// Opens the fifo for writing, without a check.
    ///
    /// # Errors
    /// Those of open(2); ENXIO if there is no reader.
    pub(super) fn open_for_writing(&self) -> Result<OwnedFd, Errno> {
        open_fifo(&self.path, OFlags::WRONLY)
    }

    /// Opens the fifo for reading and writing, so that it stays usable when a client closes
    /// it and another opens it.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open_to_keep(&self) -> Result<OwnedFd, Errno> {
        open_fifo(&self.path, OFlags::RDWR)
    }
}

/// Opens a fifo for input. The second descriptor, for writing, keeps the input from ending
/// when a client closes the fifo.
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
