//! Tests with the cgroups of this kernel, as root. Each test checks what it needs and prints a
//! skip if the machine does not have it. It makes cgroups of its own and removes them.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests, their helpers included"
)]

mod devices;
mod harness;
mod rootless;
mod v1;
mod v2;
