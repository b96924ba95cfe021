//! Loads the system call filter of this process; see `plan/seccomp.rs` for when.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::pipe::InitEnd;
use crate::plan::seccomp::{SeccompPlan, Timing};
use crate::sys;

/// Logs what the filter is loaded with.
pub(crate) fn log_flags(plan: Option<&SeccompPlan>) {
    if let Some(SeccompPlan { filter, .. }) = plan {
        log::debug!("seccomp filter flags: {}", filter.flags);
    }
}

/// Loads the filter if now is its time. The parent is told of the listener, if
/// there is one, and takes it from this process: it has to stay open until the
/// parent lets this process go on.
///
/// From here on this process makes no calls but those a container's program
/// would make, and tells the parent by `write`, the one call no listener may have.
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
