//! `teu delete`: remove containers and everything held for them.

use anyhow::{Result, bail};
use std::path::PathBuf;

/// What `delete` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The names of the containers, one or more, not checked yet.
    pub(crate) ids: Vec<String>,
    /// Whether to kill what still runs, and be content with what is not there.
    pub(crate) force: bool,
}

pub(crate) fn delete(options: &Options) -> Result<()> {
    bail!("containers {:?}: delete is not built yet", options.ids)
}
