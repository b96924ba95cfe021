//! The devices that a container may use: the rules and their meaning (`rules`), the lists of
//! cgroup v1 (`v1`), and the programs of cgroup v2 (`bpf`, `attach`). Device nodes are not
//! made here.

pub(crate) mod attach;
pub(crate) mod bpf;
#[cfg(test)]
mod proof;
pub(crate) mod rules;
pub(crate) mod v1;

pub use rules::are_allowing;
pub(crate) use rules::{Entry, Rules};
