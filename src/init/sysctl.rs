//! Sets kernel parameters (sysctls) of the container's namespaces. Not for checking
//! them: `plan/src/sysctl.rs` does that.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use teu_plan::sysctl::Sysctl;

/// Writes the parameters. `procfs` is the root of a new, unmasked procfs, because the
/// container's own /proc may have anything mounted over `sys` (CVE-2025-52881). The
/// caller closes it right afterwards, because the handle is a way around the
/// container's masks.
///
/// # Errors
/// A parameter does not exist, or refuses its value.
pub(crate) fn write(procfs: impl AsFd, sysctls: &[Sysctl]) -> Result<()> {
    for sysctl in sysctls {
        let path = format!("sys/{}", sysctl.path);
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let file = openat2(&procfs, &path, flags, Mode::empty(), resolve)
            .with_context(|| format!("open sysctl {} file", sysctl.key))?;
        File::from(file)
            .write_all(sysctl.value.as_bytes())
            .with_context(|| format!("write {:?} to sysctl {}", sysctl.value, sysctl.key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use nix::sched::{CloneFlags, unshare};

    fn sysctl(key: &str, value: &str) -> Sysctl {
        Sysctl {
            key: key.into(),
            path: key.replace('.', "/"),
            value: value.into(),
        }
    }

    #[test]
    fn the_kernel_shows_the_values() {
        testing::in_child(|| {
            unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET).expect("unshare");
            let procfs = File::open("/proc").expect("proc");
            let sysctls = [
                sysctl("kernel.msgmax", "12345"),
                sysctl("net.ipv4.ip_forward", "1"),
            ];
            write(&procfs, &sysctls).expect("write");
            let seen = |path: &str| std::fs::read_to_string(path).expect("read");
            assert_eq!(seen("/proc/sys/kernel/msgmax").trim(), "12345");
            assert_eq!(seen("/proc/sys/net/ipv4/ip_forward").trim(), "1");
        });
    }

    #[test]
    fn a_parameter_that_is_not_there_and_a_value_that_is_wrong() {
        testing::in_child(|| {
            unshare(CloneFlags::CLONE_NEWIPC).expect("unshare");
            let procfs = File::open("/proc").expect("proc");
            for (sysctl, words) in [
                (
                    sysctl("kernel.nosuch", "1"),
                    "open sysctl kernel.nosuch file: no such file or directory",
                ),
                (
                    sysctl("kernel.msgmax", "x"),
                    r#"write "x" to sysctl kernel.msgmax: invalid argument"#,
                ),
            ] {
                let error = write(&procfs, &[sysctl]).expect_err(words);
                assert_eq!(testing::words(&error), words);
            }
        });
    }
}
