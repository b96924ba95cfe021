//! Reads the kernel's information about processes in procfs (proc(5)).

pub(crate) mod stat;
pub(crate) mod status;
