//! DO: the container's init, from the clone to the program.
//!
//! This file is init's half of the story; `commands/create.rs` is the other.
//! Nothing here looks at the specification: what to do is in the [`Plan`].

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::errno;
use crate::hooks;
use crate::pipe::{InitEnd, ToHost};
use crate::plan::Plan;

/// Runs in the cloned child; what it returns is the status it ends with.
pub(crate) fn main(
    plan: &Plan,
    mut host: InitEnd,
    given: Given,
    joined: Result<(), teu_namespaces::Error>,
) -> i32 {
    let prepared = joined.map_err(Into::into).and_then(|()| prepare(plan, &mut host, &given));
    let program = match prepared {
        Ok(program) => program,
        Err(err) => {
            // If the host is gone there is nobody to tell.
            host.send(&ToHost::Failed(errno::chain(&err))).ok();
            return FAILED;
        }
    };
    // From here on the host has gone its way: what fails now is told on the
    // container's standard error, as a shell would.
    let Err(err) = wait_and_execute(plan, host, given, program);
    eprintln!("{}", errno::chain(&err));
    FAILED
}

/// The exit status of an init that did not become the program; runc's.
const FAILED: i32 = 255;
