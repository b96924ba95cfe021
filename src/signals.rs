//! Blocks the signals of this process and reads them from a descriptor (signalfd(2)).
//! For the parent, which passes them on, and for an init that waits for its start. Not
//! for which signals are passed on: see `parent/foreground.rs`. Not for the signals of a new
//! program: see `sys::restore_signals`.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::sys;

/// The blocked signals of this process, with the descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    blocked: SigSet,
}

impl Signals {
    /// Blocks every signal that may be passed on, and opens the descriptor. Call it before
    /// the first step that such a signal could interrupt half-way, and before the container's
    /// first process is made: otherwise the end of that process could be missed. The process
    /// inherits the mask: see `sys::restore_signals`.
    ///
    /// # Errors
    /// The kernel refuses a call.
    pub(crate) fn block() -> Result<Signals> {
        let mut signals = SigSet::all();
        for signal in [
            // A fault of this process: if its signal is blocked, the kernel kills the process
            // before a handler can report the fault.
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGABRT,
            // A write of this process raises it, and fails with EPIPE.
            Signal::SIGPIPE,
        ] {
            signals.remove(signal);
        }
        // If SIGCHLD is ignored, children leave no status to wait for.
        sys::default_action(libc::SIGCHLD).context("restore the action of SIGCHLD")?;
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&signals, flags).context("signalfd")?;
        Ok(Signals {
            descriptor,
            blocked: signals,
        })
    }

    /// Unblocks the signals again. Pending signals are delivered.
    ///
    /// # Errors
    /// The kernel refuses the call.
    pub(crate) fn unblock(&self) -> Result<()> {
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&self.blocked), None).context("unblock signals")
    }

    /// Returns the number of the next pending signal, if any.
    ///
    /// # Errors
    /// read(2) fails.
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
