//! The v2 freezer (kernel, cgroup-v2.rst, "cgroup.freeze").

use std::time::Duration;

use crate::error::{Error, Result};
use crate::file::Directory;

/// Freezes and waits until the kernel says it is done, for at most ten
/// seconds; thaws again and fails then.
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

pub(crate) fn thaw(directory: &Directory) -> Result<()> {
    directory.write_or_error("cgroup.freeze", "0")
}

/// Thaws a frozen cgroup. Those below need not be for their processes to die.
pub(crate) fn thaw_tree(directory: &Directory) -> Result<()> {
    match is_frozen(directory) {
        // Whoever waits for the last process may remove its cgroup meanwhile.
        Ok(true) => match thaw(directory) {
            Err(error) if error.is_gone() => Ok(()),
            thawed => thawed,
        },
        Err(error) if error.is_gone() => Ok(()),
        Err(error) => Err(error),
        Ok(false) => Ok(()),
    }
}

/// Also true where a cgroup above is frozen.
pub(crate) fn is_frozen(directory: &Directory) -> Result<bool> {
    event(directory, "frozen")
}

/// A line of cgroup.events: "frozen" or "populated".
pub(crate) fn event(directory: &Directory, name: &str) -> Result<bool> {
    let text = directory.read_or_error("cgroup.events")?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value == Some("1"))
}
