//! teu, a low-level OCI container runtime.
#![allow(dead_code)]
mod bundle;
mod errno;
mod foreground;
mod hooks;
mod host;
mod init;
mod intel_rdt;
mod log;
mod net_devices;
mod netlink;
mod notify;
mod pipe;
mod plan;
mod spec;
mod sys;
#[cfg(test)]
mod testing;

fn main() {}
