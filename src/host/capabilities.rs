//! Which capabilities a process started from here can have.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use super::Host;

impl Host {
    /// Every capability this kernel knows (capabilities(7)). A process in another
    /// user namespace than the caller may have any of them.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn known_capabilities(&self) -> Result<CapabilitySet> {
        Ok(BoundingSet::read()?.known)
    }

    /// Whether the caller may look into any process of its user namespace.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn may_look_into_all(&self) -> Result<bool> {
        let sets = rustix::thread::capabilities(None).context("read our capabilities")?;
        Ok(sets.effective.contains(CapabilitySet::SYS_PTRACE))
    }

    /// The capabilities in the caller's bounding set: no process in the
    /// caller's user namespace can get another one.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn bounding_capabilities(&self) -> Result<CapabilitySet> {
        Ok(BoundingSet::read()?.held)
    }
}

/// `CAP_CHECKPOINT_RESTORE` (Linux 5.9), which every kernel we run on knows.
const LAST_OF_ALL_KERNELS: u32 = 40;

/// What the kernel says of the bounding set of this process.
#[derive(Debug)]
struct BoundingSet {
    /// All that could be in it.
    known: CapabilitySet,
    /// What is.
    held: CapabilitySet,
}

impl BoundingSet {
    /// Asks for one capability after the other; the first number that the
    /// kernel does not know ends the list (as `cap_last_cap` in proc would say).
    ///
    /// # Errors
    /// Any other answer: what is not known to be dropped might be kept.
    fn read() -> Result<BoundingSet> {
        let mut set = BoundingSet {
            known: CapabilitySet::empty(),
            held: CapabilitySet::empty(),
        };
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match capability_is_in_bounding_set(capability) {
                Ok(is_held) => {
                    set.known |= capability;
                    set.held.set(capability, is_held);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_last_capability_is_the_last_bit() {
        let host = Host::new();
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("read");
        let last: u32 = last.trim().parse().expect("number");
        let known = host.known_capabilities().expect("known");
        assert_eq!(known.bits(), (1 << (last + 1)) - 1);
        assert!(known.contains(host.bounding_capabilities().expect("bounding")));
    }
}
