//! teu, a low-level OCI container runtime.
#![allow(dead_code)]
mod bundle;
mod host;
mod log;
mod pipe;
mod plan;
mod spec;

fn main() {}
