//! The file that engines read a new process's id from.

use std::path::Path;

use anyhow::Result;
use nix::unistd::Pid;

use crate::atomic_file;

/// Writes the pid file engines wait for: the number and nothing else.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(path: &Path, pid: Pid) -> Result<()> {
    atomic_file::write(path, pid.to_string().as_bytes(), 0o644)
}
