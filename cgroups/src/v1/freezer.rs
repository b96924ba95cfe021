//! Freezes and thaws cgroups with the v1 freezer (kernel,
//! cgroup-v1/freezer-subsystem.rst).

use std::time::Duration;

use crate::directory::{self, Directory};
use crate::error::{Error, Result};

const STATE: &str = "freezer.state";

/// Freezes the cgroup. If the kernel does not complete that, thaws the cgroup and fails.
///
/// A process that is forking or waiting in the kernel keeps the state at FREEZING until
/// FROZEN is written again, and sometimes until a thaw lets the process continue.
pub(crate) fn freeze(directory: &Directory) -> Result<()> {
    for attempt in 0..1000 {
        if attempt % 50 == 49 {
            directory.write_or_error(STATE, "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        directory.write_or_error(STATE, "FROZEN")?;
        if attempt % 25 == 24 {
            std::thread::sleep(Duration::from_micros(10));
        }
        match directory.read_or_error(STATE)?.as_str() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => {
                let state = other.to_owned();
                return Err(Error::Freeze {
                    path: directory.path.clone(),
                    state,
                });
            }
        }
    }
    thaw(directory)?;
    Err(Error::Freeze {
        path: directory.path.clone(),
        state: "FREEZING".into(),
    })
}

/// Thaws the cgroup.
pub(crate) fn thaw(directory: &Directory) -> Result<()> {
    directory.write_or_error(STATE, "THAWED")
}

/// Thaws the cgroup and its descendants, which the container may have frozen, so that a
/// pending SIGKILL takes effect.
pub(crate) fn thaw_tree(directory: &Directory) -> Result<()> {
    let thaw_one = |cgroup: &Directory| match cgroup.read(STATE) {
        Ok(state) if state == "THAWED" => Ok(()),
        Err(error) if directory::is_gone(&error) => Ok(()),
        _ => thaw(cgroup),
    };
    thaw_one(directory)?;
    directory.for_each_below(thaw_one)
}

/// Returns whether the cgroup is frozen or freezing, by itself or by one above it.
pub(crate) fn is_frozen(directory: &Directory) -> Result<bool> {
    Ok(directory.read_or_error(STATE)? != "THAWED")
}
