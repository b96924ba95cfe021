//! Loads the system call filter of this process. Not for its time: `plan/src/seccomp.rs`
//! decides that.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use teu_plan::seccomp::{SeccompPlan, Timing};

use crate::pipe::InitEnd;
use crate::sys;

/// Logs the flags with which the filter is loaded.
pub(crate) fn log_flags(plan: Option<&SeccompPlan>) {
    if let Some(SeccompPlan { filter, .. }) = plan {
        log::debug!("seccomp filter flags: {}", filter.flags);
    }
}

/// Loads the filter if `timing` is its time, and tells the parent of the listener, if
/// there is one. The listener has to stay open until the parent lets this process go
/// on, because the parent takes it from this process.
///
/// From here on this process makes only system calls that a container's program would
/// make. It tells the parent with write(2), because no filter may have a listener for
/// that call.
pub(crate) fn load(
    plan: Option<&SeccompPlan>,
    timing: Timing,
    parent: &InitEnd,
) -> Result<Option<OwnedFd>> {
    let Some(SeccompPlan { filter, .. }) = plan.filter(|plan| plan.timing == timing) else {
        return Ok(None);
    };
    let listener = sys::set_seccomp_filter(filter.flags, &filter.program)
        .context("error loading seccomp filter")?;
    if let Some(listener) = &listener {
        parent.offer_listener(listener.as_raw_fd())?;
    }
    Ok(listener)
}
