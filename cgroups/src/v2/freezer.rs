//! Freezes and thaws cgroups with the v2 freezer (kernel, cgroup-v2.rst,
//! "cgroup.freeze"), and reads cgroup.events.

use std::time::Duration;

use crate::directory::Directory;
use crate::error::{Error, Result};

/// Freezes the cgroup and waits until the kernel has stopped all its processes. After ten
/// seconds, thaws the cgroup and fails.
pub(crate) fn freeze(directory: &Directory) -> Result<()> {
    directory.write_or_error("cgroup.freeze", "1")?;
    let mut pause = Duration::from_micros(100);
    for _ in 0..1000 {
        if event(directory, "frozen")? {
            return Ok(());
        }
        std::thread::sleep(pause);
        pause = Duration::from_millis(10).min(pause * 2);
    }
    thaw(directory)?;
    Err(Error::Freeze {
        path: directory.path.clone(),
        state: "frozen 0".into(),
    })
}

/// Thaws the cgroup.
pub(crate) fn thaw(directory: &Directory) -> Result<()> {
    directory.write_or_error("cgroup.freeze", "0")
}

/// Thaws the cgroup if it is frozen. Descendants stay frozen: on v2, SIGKILL takes effect
/// in a frozen cgroup.
pub(crate) fn thaw_tree(directory: &Directory) -> Result<()> {
    match is_frozen(directory) {
        // Another process may have removed the cgroup meanwhile.
        Ok(true) => match thaw(directory) {
            Err(error) if error.is_gone() => Ok(()),
            thawed => thawed,
        },
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(error),
        Ok(false) => Ok(()),
    }
}

/// Returns whether the cgroup is frozen, by itself or by one above it.
pub(crate) fn is_frozen(directory: &Directory) -> Result<bool> {
    event(directory, "frozen")
}

/// Returns whether a line of cgroup.events, "frozen" or "populated", is 1.
pub(crate) fn event(directory: &Directory, name: &str) -> Result<bool> {
    let text = directory.read_or_error("cgroup.events")?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value == Some("1"))
}
