//! Reads `/proc/PID/status` (proc_pid_status(5)).

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use teu_plan::capability_set::CapabilitySet;

/// The used fields of `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The bounding set. No process in the caller's user namespace can get another
    /// capability.
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    /// The ignored signals, which stay ignored over an execve(2). The lowest bit is
    /// signal 1.
    pub(crate) ignored_signals: u64,
}

impl Status {
    /// Reads the file now.
    ///
    /// # Errors
    /// The file cannot be read, or is not a status.
    pub(crate) fn read(file: impl AsFd) -> Result<Status> {
        // One read(2) suffices, unless the process has hundreds of groups.
        let mut text = Vec::with_capacity(4096);
        while rustix::io::read(&file, spare_capacity(&mut text))? > 0 {
            text.reserve(1024);
        }
        Status::parse(&String::from_utf8_lossy(&text))
    }

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
}
