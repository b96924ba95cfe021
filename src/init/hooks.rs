//! Runs the hooks that run in the container's namespaces: createContainer and
//! startContainer. Not for hooks of the host (`parent/hooks.rs`) and not for running a
//! hook (`hook.rs`).

use std::ffi::CString;

use anyhow::Result;
use teu_gpu::Moment;
use teu_plan::Plan;

use crate::hook::{self, State};
use crate::version;

/// Runs the createContainer hooks, in an empty environment.
///
/// # Errors
/// The first hook that cannot be run, fails or takes too long.
pub(crate) fn run_create_container(plan: &Plan) -> Result<()> {
    let hooks = &plan.hooks.create_container;
    hook::run_with(
        Moment::CreateContainer,
        hooks,
        &state(plan, "creating"),
        &[],
    )
}

/// Runs the startContainer hooks, in the program's environment.
///
/// # Errors
/// The errors of [`run_create_container`].
pub(crate) fn run_start_container(plan: &Plan, environment: &[CString]) -> Result<()> {
    let hooks = &plan.hooks.start_container;
    hook::run_with(
        Moment::StartContainer,
        hooks,
        &state(plan, "created"),
        environment,
    )
}

/// The state that hooks of init get. Its pid is that of init, as init sees it.
fn state<'a>(plan: &'a Plan, status: &'static str) -> State<'a> {
    State {
        oci_version: version::SPECIFICATION,
        id: &plan.id,
        status,
        pid: rustix::process::getpid().as_raw_pid(),
        bundle: &plan.bundle,
        annotations: &plan.annotations,
    }
}
