//! Sets the labels that the program gets when it is executed: its AppArmor profile, its
//! SELinux label, and the SELinux label of its keys.
//!
//! Writes through a procfs that the container cannot have changed, because a file
//! mounted over an attribute would swallow the label (CVE-2019-16884).

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Sets the AppArmor profile for the next execve(2), in place of the current profile
/// or, if `stacks`, on top of it. `procfs` is the root of a trustworthy procfs.
///
/// # Errors
/// The kernel refuses the write, for example because AppArmor is off. The text is
/// runc's.
pub(crate) fn set_apparmor_profile(procfs: impl AsFd, profile: &CStr, stacks: bool) -> Result<()> {
    let verb: &[u8] = if stacks { b"stack " } else { b"exec " };
    let value = [verb, profile.to_bytes()].concat();
    // Not `attr/exec`: the kernel gives that to the first security module, which may be
    // SELinux.
    write_attribute(&procfs, "apparmor/exec", &value)
        .context("apparmor failed to apply profile")
        .context("unable to apply apparmor profile")
}

/// Sets the SELinux label of the next execve(2).
///
/// # Errors
/// The label is unknown, or the policy forbids the transition.
pub(crate) fn set_selinux_label(procfs: impl AsFd, label: &CStr) -> Result<()> {
    write_attribute(&procfs, "exec", label.to_bytes())
        .with_context(|| format!("unable to set the SELinux label {label:?}"))
}

/// Sets the SELinux label of keys that are made from now on; `None` restores the
/// policy's choice. Used around the making of the session keyring.
///
/// # Errors
/// The errors of [`set_selinux_label`].
pub(crate) fn set_selinux_key_label(procfs: impl AsFd, label: Option<&CStr>) -> Result<()> {
    let value = label.map_or(&b""[..], CStr::to_bytes);
    write_attribute(&procfs, "keycreate", value)
        .with_context(|| format!("unable to set the SELinux label of keys {label:?}"))
}

/// Writes an attribute of this thread (proc_pid_attr(5)).
fn write_attribute(procfs: &impl AsFd, name: &str, value: &[u8]) -> Result<()> {
    let context = |doing| format!("{doing} /proc/thread-self/attr/{name}");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // Refuse other mounts and magic links in the path.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let path = format!("thread-self/attr/{name}");
    let file =
        openat2(procfs, path, flags, Mode::empty(), resolve).with_context(|| context("open"))?;
    File::from(file)
        .write_all(value)
        .with_context(|| context("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn procfs() -> File {
        File::open("/proc").expect("proc")
    }

    /// The test machine may have a security module or not. In both cases the kernel
    /// refuses the write.
    #[test]
    fn the_words_when_there_is_no_such_profile() {
        testing::in_child(|| {
            let error =
                set_apparmor_profile(procfs(), c"teu-test-nosuch", false).expect_err("refused");
            let words = testing::words(&error);
            let start = "unable to apply apparmor profile: apparmor failed to apply profile: ";
            // Podman looks for the path in the message.
            assert!(
                words.starts_with(start) && words.contains("/proc/thread-self/attr/"),
                "{words}"
            );
        });
    }

    #[test]
    fn something_mounted_on_an_attribute_is_noticed() {
        testing::in_child(|| {
            use nix::mount::{MsFlags, mount};
            use nix::sched::{CloneFlags, unshare};
            let dir = testing::Directory::new("lsm");
            let none: Option<&str> = None;
            unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            let trap = dir.path().join("trap");
            std::fs::write(&trap, "").expect("write");
            let target = "/proc/thread-self/attr/exec";
            mount(Some(&trap), target, none, MsFlags::MS_BIND, none).expect("bind");
            set_selinux_label(procfs(), c"label").expect_err("noticed");
            assert_eq!(std::fs::read(&trap).expect("read"), b"");
        });
    }
}
