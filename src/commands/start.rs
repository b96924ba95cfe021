//! `teu start`: let a created container execute its program.

use anyhow::{Result, bail};
use std::path::PathBuf;

/// What `start` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
}

pub(crate) fn start(options: &Options) -> Result<()> {
    bail!("container {:?}: start is not built yet", options.id)
}
