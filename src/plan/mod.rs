//! Decide: from the specification and the facts of the host to plain data,
//! without touching the machine.

pub(crate) mod mount_options;
