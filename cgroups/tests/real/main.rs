//! Against this kernel's cgroups, as root. Each test says what it needs, prints
//! a skip, has cgroups of its own below the roots and removes them.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests, their helpers included"
)]

mod devices;
mod harness;
mod rootless;
mod v1;
mod v2;
