//! `teu features`: say what this runtime supports.
use anyhow::{Result, bail};
pub(crate) fn features() -> Result<()> {
    bail!("features is not built yet")
}
