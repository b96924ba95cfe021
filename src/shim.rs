//! Implements the shim's `Runtime` with this program: the shim,
//! `containerd-shim-teu-v2`, is the same program with another name, and runs command
//! lines in processes that it has forked already. Not for the shim itself: see the
//! crate teu-shim.

use std::ffi::OsString;

use anyhow::Result;

use crate::commands::features;
use crate::{exeseal, run, version};

/// The prefix of the program's name for the shim. The shim may replace containerd's
/// own, `containerd-shim-runc-v2`, because some engines accept no other name.
pub(crate) const PREFIX: &str = "containerd-shim-";

/// The runtime, for the shim.
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
