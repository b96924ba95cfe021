//! Cleans up after a container whose init has ended: kills its other processes, removes its
//! mounts on the host, its cgroup, its resctrl group and its state directory, and runs its
//! poststop hooks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::MntFlags;
use teu_cgroups::Cgroup;
use teu_namespaces::Child;

use crate::errno;
use crate::logger::STEP;
use crate::parent::{hooks, intel_rdt};
use crate::state::init_process::KILL_PATIENCE;
use crate::state::{ContainerState, StateDir, Status};

/// Removes everything that is held for a container whose init has ended. `force` also kills
/// processes that others have put into the container's cgroup.
///
/// # Errors
/// Something could not be removed.
pub(crate) fn destroy(mut dir: StateDir, state: &ContainerState, force: bool) -> Result<()> {
    let cgroup = Cgroup::open(&state.cgroup);
    let has_others = !state.private_pid_namespace || state.pid == 0;
    if has_others || force && !cgroup.processes()?.is_empty() {
        cgroup.kill_all(libc::SIGKILL)?;
        // If processes are left after that time, the removal of the cgroup fails and says so.
        cgroup.wait_until_empty(KILL_PATIENCE)?;
    }
    if state.mounts_on_host {
        unmount_below(&state.rootfs)?;
    }
    cgroup.remove()?;
    log::trace!(target: STEP, "removed the cgroup");
    intel_rdt::remove(&state.resctrl)?;
    dir.remove()?;
    log::trace!(target: STEP, "removed the state");
    hooks::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
    Ok(())
}

/// Unmounts the mounts of a container that had no mount namespace of its own, the last one
/// first.
///
/// # Errors
/// A mount is busy or cannot be found.
pub(crate) fn unmount_below(rootfs: &Path) -> Result<()> {
    let table = fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    for mount in teu_mountinfo::mounts(&table)?.into_iter().rev() {
        let point = mount.point();
        if point != rootfs && point.starts_with(rootfs) {
            nix::mount::umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .with_context(|| format!("unmount {point:?}"))?;
        }
    }
    Ok(())
}

/// Cleans up after a container that this process has made and waited for, unless another
/// command has deleted the container meanwhile.
///
/// # Errors
/// Something could not be removed.
pub(crate) fn destroy_ended(mut dir: StateDir, state: &ContainerState) -> Result<()> {
    match dir.lock_again(state)? {
        true => {
            log::trace!(target: STEP, "locked the state again");
            destroy(dir, state, false)
        }
        false => Ok(()),
    }
}

/// Kills a container's init and cleans up, after an error. Only warns if that fails,
/// because the caller reports the first error.
pub(crate) fn end_shared(init: Child, dir: StateDir, state: &ContainerState) {
    drop(init);
    if let Err(err) = destroy_ended(dir, state) {
        log::warn!("{}", errno::chain(&err));
    }
}
