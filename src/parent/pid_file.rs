//! Writes the file from which engines read the pid of a new process.

use std::path::Path;

use anyhow::Result;
use nix::unistd::Pid;

use crate::atomic_file;

/// Writes the pid file: the number and nothing else.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, pid: Pid) -> Result<()> {
    atomic_file::write(path, pid.to_string().as_bytes(), 0o644)
}
