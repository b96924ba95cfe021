//! Writes the results of commands to standard output. Not for errors and warnings: they go to
//! the log.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::json;

/// Writes a text to standard output.
///
/// # Errors
/// The write fails.
pub(crate) fn print(text: &[u8]) -> Result<()> {
    std::io::stdout()
        .write_all(text)
        .context("write to standard output")
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// The value cannot be written as JSON, or the write fails.
pub(super) fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let mut text = json::indented(value, "    ").context("write JSON")?;
    text.push(b'\n');
    print(&text)
}

/// Writes to standard output. Returns whether standard output has a reader.
///
/// # Errors
/// The write fails for another reason than a missing reader.
pub(super) fn write_unless_closed(text: &[u8]) -> Result<bool> {
    let mut output = std::io::stdout();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(err).context("write to standard output"),
    }
}
