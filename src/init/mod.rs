pub(crate) mod capabilities;
pub(crate) mod command;
pub(crate) mod memory_policy;
pub(crate) mod process;
pub(crate) mod scheduling;
