//! Runs the hooks that run outside of the container, in the caller's environment
//! (runtime.md, "Lifecycle"). Not for running a hook (`hook.rs`), nor for hooks inside
//! (`init/hooks.rs`).

use anyhow::Result;
use teu_gpu::Moment;
use teu_plan::hooks::{Hook, HooksPlan};

use crate::hook::{self, State};

/// Runs the prestart and createRuntime hooks. They see the namespaces made, and the
/// container's root not entered yet.
///
/// # Errors
/// The first hook that cannot be run, fails or takes too long.
pub(crate) fn run_before_root(hooks: &HooksPlan, state: &State<'_>) -> Result<()> {
    hook::run(Moment::Prestart, &hooks.prestart, state)?;
    hook::run(Moment::CreateRuntime, &hooks.create_runtime, state)
}

/// Runs the poststart hooks of a container whose program was executed (step 9).
///
/// # Errors
/// The errors of [`run_before_root`].
pub(crate) fn run_poststart(hooks: &[Hook], state: &State<'_>) -> Result<()> {
    hook::run(Moment::Poststart, hooks, state)
}

/// Runs every poststop hook. Only warns of failures (step 13).
pub(crate) fn run_poststop(hooks: &[Hook], state: &State<'_>) {
    hook::run_each(Moment::Poststop, hooks, state);
}
