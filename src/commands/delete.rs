//! `teu delete`: remove containers and everything held for them.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::MntFlags;
use rustix::time::Timespec;

use anyhow::{Context, Result};
use teu_cgroups::Cgroup;
use teu_namespaces::Child;

use super::kill;
use crate::errno;
use crate::failure::Failure;
use crate::hook;
use crate::parent::intel_rdt;
use crate::state::{ContainerState, NoState, StateDir, Status};

/// How long killed processes may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What `delete` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The names of the containers, one or more, not checked yet.
    pub(crate) ids: Vec<String>,
    /// Whether to kill what still runs, and be content with what is not there.
    pub(crate) force: bool,
}

/// Deletes each of the containers, also when another could not be.
///
/// # Errors
/// The last container's that could not be deleted; earlier ones are logged.
#[inline(never)]
pub(crate) fn delete(options: &Options) -> Result<()> {
    let mut result = Ok(());
    for id in &options.ids {
        if let Err(err) = delete_one(&options.root, id, options.force)
            && let Err(earlier) = std::mem::replace(&mut result, Err(err))
        {
            log::error!("{}", errno::chain(&earlier));
        }
    }
    result
}

/// Deletes one container.
///
/// # Errors
/// It runs, and `force` was not given; something could not be removed.
fn delete_one(root: &Path, id: &str, force: bool) -> Result<()> {
    let is_missing = |err: &anyhow::Error| err.downcast_ref() == Some(&Failure::NotFound);
    let mut dir = StateDir::find(root, id)?;
    match dir.lock() {
        Err(err) if force && is_missing(&err) => return Ok(()),
        locked => locked?,
    }
    match dir.read() {
        Ok(state) => delete_container(dir, &state, force),
        Err(err) if force && err.is::<NoState>() => {
            log::warn!("{}", errno::chain(&err));
            delete_unreadable(dir, id)
        }
        Err(err) if is_missing(&err) => {
            // What a creation left that was killed before it wrote anything.
            dir.remove()?;
            if force { Ok(()) } else { Err(err) }
        }
        Err(err) => Err(err),
    }
}

/// Deletes a container whose state cannot be read, as far as the state still says
/// where it is.
fn delete_unreadable(mut dir: StateDir, id: &str) -> Result<()> {
    let state = match dir.read_remains() {
        Ok(state) => state,
        Err(err) if err.is::<NoState>() => {
            log::warn!(
                "only the state of {id:?} is deleted: its processes, cgroups and mounts may be \
                 left: {}",
                errno::chain(&err)
            );
            return dir.remove();
        }
        Err(err) => return Err(err),
    };
    log::warn!(
        "init and the cgroups of {id:?} are deleted: its mounts and resctrl group may be left, \
         and no poststop hook runs"
    );
    kill_init(&state)?;
    // Only of init is it certain that it is the container's: where another
    // process is, the cgroup stays, and so does the state.
    Cgroup::open(&state.cgroup).remove()?;
    dir.remove()
}

fn delete_container(dir: StateDir, state: &ContainerState, force: bool) -> Result<()> {
    match dir.status(state)? {
        Status::Stopped | Status::Creating => {}
        Status::Created => kill_init(state)?,
        Status::Running | Status::Paused if force => kill_init(state)?,
        status => {
            let (id, status) = (state.id.clone(), status.word().to_owned());
            return Err(Failure::DeleteNotStopped { id, status }.into());
        }
    }
    destroy(dir, state, force)
}

/// Deletes a container by force that was found without locking it; what others
/// have deleted since is gone.
///
/// # Errors
/// Something could not be removed.
pub(super) fn delete_found(mut dir: StateDir, state: &ContainerState) -> Result<()> {
    match dir.lock_again(state)? {
        true => delete_container(dir, state, true),
        false => Ok(()),
    }
}

/// Kills init and waits for its end; that it ended by itself is no error.
fn kill_init(state: &ContainerState) -> Result<()> {
    let Some(init) = kill::open_init(state)? else {
        return Ok(());
    };
    kill::send(state, &init, libc::SIGKILL)?;
    wait_for_end(&init)
}

/// Waits for the end of an init that was killed.
///
/// # Errors
/// It takes too long.
pub(super) fn wait_for_end(init: &OwnedFd) -> Result<()> {
    let mut poll = [rustix::event::PollFd::new(
        init,
        rustix::event::PollFlags::IN,
    )];
    let timeout = Timespec::try_from(KILL_PATIENCE).context("wait for init to end")?;
    match rustix::event::poll(&mut poll, Some(&timeout)).context("wait for init to end")? {
        0 => Err(Failure::InitStillRunning.into()),
        _ => Ok(()),
    }
}

/// Removes what is held for a container whose init has ended.
///
/// # Errors
/// Something could not be removed.
pub(super) fn destroy(mut dir: StateDir, state: &ContainerState, force: bool) -> Result<()> {
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
    hook::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
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
pub(super) fn destroy_ended(mut dir: StateDir, state: &ContainerState) -> Result<()> {
    match dir.lock_again(state)? {
        true => destroy(dir, state, false),
        false => Ok(()),
    }
}

/// The same after an error, which is the one to report: its init, which may still
/// run, is killed.
pub(super) fn end_shared(init: Child, dir: StateDir, state: &ContainerState) {
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
