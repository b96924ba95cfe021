//! The container in teu's tests: one static program that looks at what it was
//! given and says so as JSON, or does one small thing and says how it went.
//!
//! `probe report` prints everything it sees, `probe table` the same for people,
//! `probe MODE ARGS…` does one thing (see `modes.rs`) and
//! `probe seq MODE ARGS… -- MODE ARGS…` several, one after the other. It is
//! also what tests use as a hook (`hook.rs`).
//!
//! It decides nothing about right or wrong: that is for the test that reads it.

mod hook;
mod modes;
mod report;
mod sys;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    modes::run(&args)
}
