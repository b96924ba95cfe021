//! This runtime inside its shim, `containerd-shim-teu-v2`: the same program by another
//! name, which runs command lines in processes that it has already.

use std::ffi::OsString;

use anyhow::Result;

use crate::commands::features;
use crate::{exeseal, run, version};

/// What the program's name begins with where it is the shim. It may stand in for
/// containerd's own, `containerd-shim-runc-v2`: some engines take no other name.
pub(crate) const PREFIX: &str = "containerd-shim-";

/// The runtime, as the shim knows it.
#[derive(Debug)]
pub(crate) struct Teu;

impl teu_shim::Runtime for Teu {
    fn seal(&self) -> Result<()> {
        exeseal::ensure_sealed()
    }

    fn run(&self, args: Vec<OsString>) -> u8 {
        run([OsString::from(env!("CARGO_PKG_NAME"))]
            .into_iter()
            .chain(args))
    }

    fn features(&self) -> Result<Vec<u8>> {
        features::text()
    }

    fn version(&self) -> &str {
        version::VERSION
    }

    fn revision(&self) -> &str {
        version::COMMIT.unwrap_or_default()
    }
}
