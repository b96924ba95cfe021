//! Which devices a container may use (`linux.resources.devices`).

pub(crate) mod attach;
pub(crate) mod bpf;
#[cfg(test)]
mod proof;
pub(crate) mod rules;
pub(crate) mod saved;
pub(crate) mod v1;

pub use rules::{Access, DeviceKind, DeviceRule, are_allowing, default_rules};
pub(crate) use rules::{Entry, Rules};
