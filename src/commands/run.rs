//! `teu run`: create a container, start it, and unless detached wait for it
//! and delete it.

use super::create;
use anyhow::{Result, bail};

/// What `run` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What it has in common with `create`.
    pub(crate) create: create::Options,
    /// Whether to return once the program was started.
    pub(crate) detach: bool,
    /// Whether the container stays after its process has ended.
    pub(crate) keep: bool,
    /// Whether orphans of the container go to the machine's init.
    pub(crate) no_subreaper: bool,
}

/// Runs a container and returns the exit status to end with: that of its
/// process, 128 and the signal's number if a signal ended it, 0 if detached.
pub(crate) fn run(options: &Options) -> Result<u8> {
    bail!("container {:?}: run is not built yet", options.create.id)
}
