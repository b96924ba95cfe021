//! The exec fifo of a container, `<root>/<id>/exec.fifo`, which exists from `create` to
//! `start`. Init waits for a byte from it, and `start` writes the byte. Not for the
//! part of init: see `init/mod.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

use crate::known_failures::Failure;
use crate::poll;

/// Makes the fifo, and opens it for a created init. Init reads from it, and writes to
/// it if the program cannot be executed. It is open for both, so that init never reads
/// an end of file when a writer closes it. No other process needs either end.
///
/// # Errors
/// The fifo cannot be made.
pub(crate) fn make(state_dir: &Path) -> Result<OwnedFd> {
    let path = path_in(state_dir);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600))
        .with_context(|| format!("make the fifo {path:?}"))?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).with_context(|| format!("open the fifo {path:?}"))
}

/// Lets the init that waits at the fifo go on. Removing the fifo starts the container:
/// of two commands that try, only one can remove it.
///
/// # Errors
/// [`Failure::StartRunning`] if it was started before,
/// [`Failure::StartStopped`] if init is gone.
pub(crate) fn release(state_dir: &Path) -> Result<Released> {
    let path = path_in(state_dir);
    let mut fifo = match OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
    {
        Ok(fifo) => fifo,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::StartRunning.into());
        }
        // The fifo has no reader, so init has ended.
        Err(err) if err.raw_os_error() == Some(libc::ENXIO) => {
            return Err(Failure::StartStopped.into());
        }
        Err(err) => return Err(err).with_context(|| format!("open the fifo {path:?}")),
    };
    match fs::remove_file(&path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::StartRunning.into());
        }
        result => result.with_context(|| format!("remove the fifo {path:?}"))?,
    }
    match fifo.write_all(b"s") {
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Err(Failure::StartStopped.into()),
        result => {
            result.with_context(|| format!("write to the fifo {path:?}"))?;
            Ok(Released(fifo))
        }
    }
}

/// Returns whether the container waits for its start.
///
/// # Errors
/// The fifo cannot be looked up.
pub(crate) fn is_there(state_dir: &Path) -> Result<bool> {
    let path = path_in(state_dir);
    path.try_exists()
        .with_context(|| format!("look up the fifo {path:?}"))
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("exec.fifo")
}

/// An init that was told to start.
#[derive(Debug)]
pub(crate) struct Released(File);

impl Released {
    /// Waits until init has executed the program, which closes init's end of the fifo,
    /// as init's death does. Returns `false` if init reported that it could not execute
    /// the program.
    ///
    /// # Errors
    /// poll(2) fails.
    pub(crate) fn wait_for_exec(&self) -> Result<bool> {
        // poll(2) always reports an error, and reports it for a fifo without readers.
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        poll::wait(&mut fds).context("wait for the program to start")?;
        let left = rustix::io::ioctl_fionread(&self.0).context("look into the fifo")?;
        Ok(left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_fifo_that_cannot_be_looked_up_is_not_absent() {
        assert!(!is_there(Path::new("/nowhere")).expect("look up"));
        is_there(Path::new("/dev/null")).expect_err("not a directory");
    }

    #[test]
    fn a_container_starts_once() {
        let dir = testing::Directory::new("started");
        let fifo = make(dir.path()).expect("fifo");
        release(dir.path()).expect("first start");
        let mut byte = [0];
        assert_eq!(rustix::io::read(&fifo, &mut byte).expect("read"), 1);
        let again = release(dir.path()).expect_err("second start");
        assert_eq!(again.downcast_ref(), Some(&Failure::StartRunning));
    }

    #[test]
    fn a_fifo_nobody_reads_is_a_stopped_container() {
        let dir = testing::Directory::new("unread");
        drop(make(dir.path()).expect("fifo"));
        let refused = release(dir.path()).expect_err("no reader");
        assert_eq!(refused.downcast_ref(), Some(&Failure::StartStopped));
    }
}
