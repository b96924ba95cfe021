//! `teu spec`: write a specification to begin with.
use anyhow::{Result, bail};
use std::path::PathBuf;

/// What `spec` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The bundle's directory, "." if not given.
    pub(crate) bundle: PathBuf,
    /// Whether the specification is for a user without privileges.
    pub(crate) rootless: bool,
}

pub(crate) fn spec(options: &Options) -> Result<()> {
    bail!("spec is not built yet {options:?}")
}
