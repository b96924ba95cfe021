//! Removal of a container: of what is held for it once its init has ended.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::MntFlags;
use teu_cgroups::Cgroup;
use teu_namespaces::Child;

use crate::errno;
use crate::parent::{hooks, intel_rdt};
use crate::state::init_process::KILL_PATIENCE;
use crate::state::{ContainerState, StateDir, Status};

/// Removes what is held for a container whose init has ended.
///
/// # Errors
/// Something could not be removed.
pub(crate) fn destroy(mut dir: StateDir, state: &ContainerState, force: bool) -> Result<()> {
    let cgroup = Cgroup::open(&state.cgroup);
    let has_others = !state.private_pid_namespace || state.pid == 0;
    // By force also those that somebody else put into the container's cgroup.
    if has_others || force && !cgroup.processes()?.is_empty() {
        cgroup.kill_all(libc::SIGKILL)?;
        // If they take longer, removing the cgroup says so.
        cgroup.wait_until_empty(KILL_PATIENCE)?;
    }
    if state.mounts_on_host {
        unmount_below(&state.rootfs)?;
    }
    cgroup.remove()?;
    intel_rdt::remove(&state.resctrl)?;
    dir.remove()?;
    hooks::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
    Ok(())
}

/// Undoes the mounts of a container that had no mount namespace of its own,
/// last one first.
///
/// # Errors
/// One that is busy or cannot be found.
pub(crate) fn unmount_below(rootfs: &Path) -> Result<()> {
    let mounts = fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for mount in mounts.split(|byte| *byte == b'\n').rev() {
        let Some(field) = mount.split(|byte| *byte == b' ').nth(4) else {
            continue;
        };
        let point = unescaped(field);
        let point = Path::new(OsStr::from_bytes(&point));
        if point != rootfs && point.starts_with(rootfs) {
            nix::mount::umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .with_context(|| format!("unmount {point:?}"))?;
        }
    }
    Ok(())
}

/// A field of mountinfo: blanks and backslashes are octal in it
/// (proc_pid_mountinfo(5)).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The same for a container this process made and waited for, while others could
/// work on it; what they have deleted is gone.
///
/// # Errors
/// Something could not be removed.
pub(crate) fn destroy_ended(mut dir: StateDir, state: &ContainerState) -> Result<()> {
    match dir.lock_again(state)? {
        true => destroy(dir, state, false),
        false => Ok(()),
    }
}

/// The same after an error, which is the one to report: its init, which may still
/// run, is killed.
pub(crate) fn end_shared(init: Child, dir: StateDir, state: &ContainerState) {
    drop(init);
    if let Err(err) = destroy_ended(dir, state) {
        log::warn!("{}", errno::chain(&err));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read_right() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped(b"/plain\\0"), b"/plain\\0");
    }
}
