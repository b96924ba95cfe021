//! Which capabilities a process started from here can have.

use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use super::Host;

impl Host {
    /// Every capability this kernel knows, one bit each (capabilities(7)). A
    /// process in another user namespace than the caller may have any of them.
    pub(crate) fn known_capabilities(&self) -> u64 {
        capabilities(|_| true)
    }

    /// The capabilities in the caller's bounding set: no process in the
    /// caller's user namespace can get another one.
    pub(crate) fn bounding_capabilities(&self) -> u64 {
        capabilities(|in_set| in_set)
    }
}

/// Asks the kernel for one capability after the other; the first number it
/// does not know ends the list (as `cap_last_cap` in proc would say).
fn capabilities(wanted: impl Fn(bool) -> bool) -> u64 {
    let mut set = 0;
    for number in 0..u64::BITS {
        let bit = 1 << number;
        match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            Ok(in_set) if wanted(in_set) => set |= bit,
            Ok(_) => {}
            // EINVAL: beyond the last one. prctl(2) documents no other error.
            Err(_) => break,
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_last_capability_is_the_last_bit() {
        let host = Host::new();
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("read");
        let last: u32 = last.trim().parse().expect("number");
        let known = host.known_capabilities();
        assert_eq!(known, (1 << (last + 1)) - 1);
        assert_eq!(host.bounding_capabilities() & !known, 0);
    }
}
