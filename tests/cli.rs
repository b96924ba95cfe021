//! Tests of the built binary against this kernel: one program, a module for
//! each thing a container sees or a user does. `cargo test --test cli NAME`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod cgroups;
mod hooks;
mod layers;
mod lifecycle;
mod messages;
mod mounts;
mod namespaces;
mod process;
mod run;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[
        cgroups::TESTS,
        hooks::TESTS,
        layers::TESTS,
        lifecycle::TESTS,
        messages::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        process::TESTS,
        run::TESTS,
        terminal::TESTS,
    ])
}
