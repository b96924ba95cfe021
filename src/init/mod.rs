pub(crate) mod capabilities;
pub(crate) mod command;
pub(crate) mod loopback;
pub(crate) mod lsm;
pub(crate) mod memory_policy;
pub(crate) mod process;
pub(crate) mod scheduling;
pub(crate) mod sysctl;
