//! Tests of the built binary against this kernel: one program, a module for
//! each thing a container sees or a user does. `cargo test --test cli NAME`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[run::TESTS])
}
