//! Waits for a child.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// Waits until a child exits, and reaps it.
///
/// # Errors
/// Something else reaped it.
pub(crate) fn wait(pid: Pid) -> Result<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(status) => return Ok(status),
            Err(err) => return Err(Error::new(format!("wait for process {pid}"), err)),
        }
    }
}
