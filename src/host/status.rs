//! What this process hands down to those it starts.

use std::fs::{self, File};
use std::io::Read;

use anyhow::{Context, Result};
use rustix::thread::CapabilitySet;

use super::Host;

/// What the kernel says of this process (proc_pid_status(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// No process in the caller's user namespace can get another capability.
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    /// The signals that are ignored, and still are after an execve(2); the lowest
    /// bit is signal 1.
    pub(crate) ignored_signals: u64,
}

impl Host {
    /// The status of this process.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn status(&self) -> Result<Status> {
        let path = self.path("proc/self/status");
        // In one read, unless the process has hundreds of groups.
        let mut text = Vec::with_capacity(4096);
        let length = File::open(&path).and_then(|mut file| file.read_to_end(&mut text));
        length
            .map_err(Into::into)
            .and_then(|_| Status::parse(&String::from_utf8_lossy(&text)))
            .with_context(|| format!("read {path:?}"))
    }

    /// Every capability this kernel knows (capabilities(7)). A process in another
    /// user namespace than the caller may have any of them.
    ///
    /// # Errors
    /// The kernel does not say.
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

impl Status {
    fn parse(text: &str) -> Result<Status> {
        let mask = |name: &str| {
            let mask = text.lines().find_map(|line| line.strip_prefix(name));
            mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                .with_context(|| format!("it has no mask {name:?}"))
        };
        Ok(Status {
            bounding: CapabilitySet::from_bits_retain(mask("CapBnd:")?),
            effective: CapabilitySet::from_bits_retain(mask("CapEff:")?),
            ignored_signals: mask("SigIgn:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;
    use crate::testing;
    use rustix::thread::{capability_is_in_bounding_set, remove_capability_from_bounding_set};

    #[test]
    fn what_the_kernel_itself_says() {
        testing::in_child(|| {
            sys::ignore_for_test(libc::SIGHUP);
            sys::ignore_for_test(libc::SIGRTMAX());
            remove_capability_from_bounding_set(CapabilitySet::SYS_BOOT).expect("drop");
            let status = Host::new().status().expect("status");
            assert_eq!(status.ignored_signals & (1 | 1 << 63), 1 | 1 << 63);
            assert!(!status.bounding.contains(CapabilitySet::SYS_BOOT));
            for capability in status.bounding.iter() {
                assert_eq!(capability_is_in_bounding_set(capability), Ok(true));
            }
            let sets = rustix::thread::capabilities(None).expect("capget");
            assert_eq!(status.effective, sets.effective);
        });
    }

    #[test]
    fn what_is_not_said_is_an_error() {
        let text = "Name:\tteu\nSigIgn:\t0000000000001000\nCapEff:\t0\nCapBnd:\t000001ffffffffff\n";
        let status = Status::parse(text).expect("status");
        assert_eq!(status.ignored_signals, 1 << (libc::SIGPIPE - 1));
        for line in ["SigIgn:", "CapEff:", "CapBnd:"] {
            Status::parse(&text.replace(line, "Other:")).expect_err(line);
        }
        Status::parse(&text.replace("1ff", "xff")).expect_err("no number");
    }

    #[test]
    fn the_kernels_last_capability_is_the_last_bit() {
        let known = Host::new().known_capabilities().expect("known").bits();
        let last = CapabilitySet::from_bits_retain(1 << known.ilog2());
        let next = CapabilitySet::from_bits_retain(1 << (known.ilog2() + 1));
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
