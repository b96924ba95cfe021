//! Tests of the built binary against this kernel: one program, a module for
//! each thing a container sees or a user does. `cargo test --test cli NAME`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod cgroups;
mod config;
mod coverage;
mod exec;
mod failures;
mod features;
mod hooks;
mod layers;
mod lifecycle;
mod messages;
mod mounts;
mod namespaces;
mod process;
mod rootless;
mod run;
mod security;
mod spec;
mod systemd;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[
        cgroups::TESTS,
        exec::TESTS,
        config::TESTS,
        coverage::TESTS,
        failures::TESTS,
        features::TESTS,
        hooks::TESTS,
        layers::TESTS,
        lifecycle::TESTS,
        messages::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        process::TESTS,
        rootless::TESTS,
        run::TESTS,
        security::TESTS,
        spec::TESTS,
        systemd::TESTS,
        terminal::TESTS,
    ])
}
