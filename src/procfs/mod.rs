//! What the kernel says of processes in procfs (proc(5)).

pub(crate) mod stat;
pub(crate) mod status;
