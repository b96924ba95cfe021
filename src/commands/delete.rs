//! `teu delete`: removes containers and everything that is held for them. Not for the
//! removal itself: see `parent/cleanup.rs`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use teu_cgroups::Cgroup;

use crate::errno;
use crate::known_failures::Failure;
use crate::parent::cleanup;
use crate::state::{ContainerState, NoState, StateDir, Status, init_process};

/// The arguments of `delete`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The names of the containers, at least one, not checked yet.
    pub(crate) ids: Vec<String>,
    /// Whether to kill running containers, and to succeed if a container does not
    /// exist.
    pub(crate) force: bool,
}

/// Deletes each container, even if another could not be deleted.
///
/// # Errors
/// The error of the last container that could not be deleted. Errors of earlier
/// containers are logged.
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
/// The container runs and `force` is not set, or something cannot be removed.
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
            // A creation was killed before it saved any state.
            dir.remove()?;
            if force { Ok(()) } else { Err(err) }
        }
        Err(err) => Err(err),
    }
}

/// Deletes a container whose state cannot be read, as far as the remains of the state
/// name its processes and cgroups.
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
    // Kill init only, because no other process is known to be the container's. A cgroup
    // with another process stays, and so does the state.
    Cgroup::open(&state.cgroup).remove()?;
    dir.remove()
}

fn delete_container(dir: StateDir, state: &ContainerState, force: bool) -> Result<()> {
    if force {
        // Without a look at the status, which needs the freezer: that may be unreadable.
        kill_init(state)?;
    } else {
        match dir.status(state)? {
            Status::Stopped | Status::Creating => {}
            Status::Created => kill_init(state)?,
            status => {
                let (id, status) = (state.id.clone(), status.word().to_owned());
                return Err(Failure::DeleteNotStopped { id, status }.into());
            }
        }
    }
    cleanup::destroy(dir, state, force)
}

/// Deletes a container by force that was found without locking it. Succeeds if another
/// command has deleted the container meanwhile.
///
/// # Errors
/// Something cannot be removed.
pub(super) fn delete_found(mut dir: StateDir, state: &ContainerState) -> Result<()> {
    match dir.lock_again(state)? {
        true => delete_container(dir, state, true),
        false => Ok(()),
    }
}

/// Kills init and waits for its end. Succeeds if init has already ended.
fn kill_init(state: &ContainerState) -> Result<()> {
    let Some(init) = init_process::open(state)? else {
        return Ok(());
    };
    init_process::signal(state, &init, libc::SIGKILL)?;
    init_process::wait_for_end(&init)
}
