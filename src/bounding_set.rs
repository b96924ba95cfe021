//! The bounding set of this process (capabilities(7)), as the kernel tells it: to
//! the host, which plans what is dropped of it, and to the one that dropped it.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

/// `CAP_CHECKPOINT_RESTORE` (Linux 5.9), which every kernel we run on knows.
const LAST_OF_ALL_KERNELS: u32 = 40;

/// What the kernel says of the bounding set of this process.
#[derive(Debug)]
pub(crate) struct BoundingSet {
    /// All that could be in it.
    pub(crate) known: u64,
    /// What is.
    pub(crate) held: u64,
}

impl BoundingSet {
    /// Asks for one capability after the other; the first number that the
    /// kernel does not know ends the list (as `cap_last_cap` in proc would say).
    ///
    /// # Errors
    /// Any other answer: what is not known to be dropped might be kept.
    pub(crate) fn read() -> Result<BoundingSet> {
        let mut set = BoundingSet { known: 0, held: 0 };
        for number in 0..u64::BITS {
            let bit = 1 << number;
            match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(bit)) {
                Ok(is_held) => {
                    set.known |= bit;
                    set.held |= if is_held { bit } else { 0 };
                }
                Err(Errno::INVAL) if number > LAST_OF_ALL_KERNELS => break,
                Err(err) => {
                    return Err(err).with_context(|| {
                        format!("ask whether capability {number} is in the bounding set")
                    });
                }
            }
        }
        Ok(set)
    }
}
