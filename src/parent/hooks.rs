//! The hooks that run outside of the container, in the caller's environment
//! (runtime.md, "Lifecycle").

use anyhow::Result;
use teu_gpu::Moment;

use crate::hook::{self, State};
use crate::plan::hooks::{Hook, HooksPlan};

/// Runs those that see the namespaces made and the container's root not entered yet:
/// prestart and createRuntime.
///
/// # Errors
/// The first hook that could not be run, failed or took too long.
pub(crate) fn run_before_root(hooks: &HooksPlan, state: &State<'_>) -> Result<()> {
    hook::run(Moment::Prestart, &hooks.prestart, state)?;
    hook::run(Moment::CreateRuntime, &hooks.create_runtime, state)
}

/// Runs the poststart hooks of a container whose program was executed (step 9).
///
/// # Errors
/// As for [`run_before_root`].
pub(crate) fn run_poststart(hooks: &[Hook], state: &State<'_>) -> Result<()> {
    hook::run(Moment::Poststart, hooks, state)
}

/// Runs every poststop hook. A failure is a warning (step 13).
pub(crate) fn run_poststop(hooks: &[Hook], state: &State<'_>) {
    hook::run_each(Moment::Poststop, hooks, state);
}
