//! The probe: the program in the containers of teu's tests. It is static, and reports as JSON
//! what it sees, or performs an operation and reports the result.
//!
//! `probe report` prints everything it sees, `probe table` a table of that for people,
//! `probe MODE ARGS…` performs an operation (see `modes.rs`), and
//! `probe seq MODE ARGS… -- MODE ARGS…` several operations in order. Tests also use it as a hook
//! (`hook.rs`).
//!
//! The probe does not judge: the test that reads its output does.

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
