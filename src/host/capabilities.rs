//! Which capabilities a process started from here can have.

use anyhow::{Context, Result};
use rustix::thread::CapabilitySet;

use super::Host;
use crate::bounding_set::BoundingSet;

impl Host {
    /// Every capability this kernel knows, one bit each (capabilities(7)). A
    /// process in another user namespace than the caller may have any of them.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn known_capabilities(&self) -> Result<u64> {
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
    pub(crate) fn bounding_capabilities(&self) -> Result<u64> {
        Ok(BoundingSet::read()?.held)
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
        assert_eq!(known, (1 << (last + 1)) - 1);
        assert_eq!(host.bounding_capabilities().expect("bounding") & !known, 0);
    }
}
