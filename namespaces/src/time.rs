//! Makes a time namespace for the next child and writes its clock offsets
//! (time_namespaces(7)). The kernel takes offsets only before a process has entered
//! the namespace.

use std::fs;

use nix::sched::unshare;
use nix::unistd::Pid;

use crate::clone_flags::flag;
use crate::error::{Error, Result};
use crate::{Kind, TimeOffset};

/// Makes a time namespace for the caller's next child.
pub(crate) fn unshare_for_children() -> Result<()> {
    unshare(flag(Kind::Time)).map_err(|err| Error::new("unshare the time namespace", err))
}

/// Writes the offsets of the time namespace that process `pid` made for its children.
pub(crate) fn write_offsets(pid: Pid, offsets: &[TimeOffset]) -> Result<()> {
    if offsets.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/timens_offsets");
    let text: String = offsets
        .iter()
        .map(|o| format!("{} {} {}\n", o.clock, o.secs, o.nanosecs))
        .collect();
    fs::write(&path, &text).map_err(|err| Error::new(format!("write {text:?} to {path:?}"), err))
}
