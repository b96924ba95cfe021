//! Receives the server's signals and reaps its children.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::proto::Timestamp;
use crate::task::Exit;

/// The signals that the server waits for: SIGCHLD, signals to end, and SIGUSR1, at which it
/// logs its state as containerd's own shim does.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals, for this process and its later children.
    pub(super) fn new() -> Result<Signals> {
        let set = SigSet::from_iter([
            Signal::SIGCHLD,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
        ]);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).context("signalfd")?;
        Ok(Signals(signals))
    }

    /// Reads the pending signals.
    pub(super) fn read(&mut self) -> Result<Vec<Signal>> {
        let mut came = Vec::new();
        while let Some(info) = self.0.read_signal().context("read a signal")? {
            let number = i32::try_from(info.ssi_signo);
            came.extend(number.ok().and_then(|number| Signal::try_from(number).ok()));
        }
        Ok(came)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reaps a child, if one has ended.
pub(super) fn reap() -> Result<Option<(u32, Exit)>> {
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => (pid, status),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(err) => return Err(err).context("wait for processes"),
        };
        let exit = Exit {
            status: status.cast_unsigned(),
            at: Timestamp::now(),
        };
        return Ok(Some((pid_number(pid), exit)));
    }
}

fn pid_number(pid: Pid) -> u32 {
    pid.as_raw().cast_unsigned()
}
