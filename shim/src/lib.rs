//! A containerd shim (runtime v2): the life of a pod's containers for an engine, in
//! one process with one thread.
//!
//! That process waits: for calls, for output to copy, for programs to end. All that
//! takes its time (mounts, hooks, cgroups, systemd, CRIU) a job does, which the spawner
//! forks (`spawner.rs`), so no call waits for another's.

pub mod mounts;
pub mod poll;
pub mod proto;
mod sys;
pub mod ttrpc;
