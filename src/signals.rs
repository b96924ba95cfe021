//! The signals of this process as a descriptor (signalfd(2)), for the parent, which
//! passes them on, and for an init that waits for its start.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys;

/// The signals of this process, as a descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    blocked: SigSet,
}

impl Signals {
    /// Blocks every signal that may be passed on and opens the descriptor.
    /// Before anything is made that such a signal would leave behind, and before
    /// the container's first process is made, or its end could be missed. The
    /// process made inherits the mask: see `sys::restore_signals`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn block() -> Result<Signals> {
        let mut signals = SigSet::all();
        for signal in [
            // Faults of our own: blocked, they would kill without a trace.
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGABRT,
            // Of our own too: it comes with an EPIPE.
            Signal::SIGPIPE,
        ] {
            signals.remove(signal);
        }
        // Where it is ignored, children leave no status to wait for.
        sys::default_action(libc::SIGCHLD).context("restore the action of SIGCHLD")?;
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&signals, flags).context("signalfd")?;
        Ok(Signals {
            descriptor,
            blocked: signals,
        })
    }

    /// Lets signals do again what they do, those that have arrived among them.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn unblock(&self) -> Result<()> {
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&self.blocked), None).context("unblock signals")
    }

    /// The next signal that has arrived, by number.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn next(&self) -> Result<Option<i32>> {
        match self.descriptor.read_signal().context("read signals")? {
            Some(signal) => Ok(Some(
                i32::try_from(signal.ssi_signo).context("signal number")?,
            )),
            None => Ok(None),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
