//! A new time namespace (time_namespaces(7)): made for the next child, with
//! its offsets written before anything enters it.

use std::fs;

use nix::sched::unshare;
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::{Kind, TimeOffset};

/// Makes a new time namespace for the caller's next child.
pub(crate) fn unshare_for_children() -> Result<()> {
    unshare(Kind::Time.flag()).map_err(|err| Error::new("unshare the time namespace", err))
}

/// Writes the offsets of the time namespace that `pid` made for its children.
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
