//! Reads the attributes of this process that its children inherit, and the kernel's
//! capabilities.

use std::fs;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use teu_plan::capability_set::CapabilitySet;

use super::Host;
use crate::procfs::status::Status;

impl Host {
    /// Returns the status of this process.
    ///
    /// # Errors
    /// The status cannot be read.
    pub(crate) fn status(&self) -> Result<Status> {
        let path = self.path("proc/self/status");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(CWD, &path, flags, Mode::empty())
            .map_err(Into::into)
            .and_then(Status::read)
            .with_context(|| format!("read {path:?}"))
    }

    /// Returns all capabilities that this kernel knows (capabilities(7)). A process in
    /// another user namespace than the caller's may have any of them.
    ///
    /// # Errors
    /// The kernel's last capability cannot be read.
    pub(crate) fn known_capabilities(&self) -> Result<CapabilitySet> {
        let path = self.path("proc/sys/kernel/cap_last_cap");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
        let last: Option<u32> = text.trim().parse().ok();
        let known = last
            .and_then(|last| 63_u32.checked_sub(last))
            .map(|unknown| u64::MAX >> unknown)
            .with_context(|| format!("read {path:?}: {text:?} is no capability"))?;
        Ok(CapabilitySet::from_bits_retain(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use crate::testing;
    use rustix::thread::{
        CapabilitySet as Kernels, capability_is_in_bounding_set,
        remove_capability_from_bounding_set,
    };

    #[test]
    fn what_the_kernel_itself_says() {
        testing::in_child(|| {
            sys::ignore_for_test(libc::SIGHUP);
            sys::ignore_for_test(libc::SIGRTMAX());
            remove_capability_from_bounding_set(Kernels::SYS_BOOT).expect("drop");
            let status = Host::new().status().expect("status");
            assert_eq!(status.ignored_signals & (1 | 1 << 63), 1 | 1 << 63);
            assert!(!status.bounding.contains(CapabilitySet::SYS_BOOT));
            for capability in Kernels::from_bits_retain(status.bounding.bits()).iter() {
                assert_eq!(capability_is_in_bounding_set(capability), Ok(true));
            }
            let sets = rustix::thread::capabilities(None).expect("capget");
            assert_eq!(status.effective.bits(), sets.effective.bits());
        });
    }

    #[test]
    fn the_kernels_last_capability_is_the_last_bit() {
        let known = Host::new().known_capabilities().expect("known").bits();
        let last = Kernels::from_bits_retain(1 << known.ilog2());
        let next = Kernels::from_bits_retain(1 << (known.ilog2() + 1));
        assert!(capability_is_in_bounding_set(last).is_ok());
        assert!(capability_is_in_bounding_set(next).is_err());

        let root = testing::Directory::new("capabilities");
        let directory = root.path().join("proc/sys/kernel");
        fs::create_dir_all(&directory).expect("mkdir");
        for text in ["", "-1\n", "64\n", "all\n"] {
            fs::write(directory.join("cap_last_cap"), text).expect("write");
            Host::below(root.path())
                .known_capabilities()
                .expect_err(text);
        }
    }
}
