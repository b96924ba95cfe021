//! Tests of the shim without containerd: they start it, call it, and receive its events as
//! containerd does. `TEU_SHIM=FILE` runs them with another shim, which then uses the runtime
//! under test.

pub(crate) mod calls;
mod client;
pub(crate) mod confinement;
pub(crate) mod crossing;
mod engine;
mod events;
pub(crate) mod faults;
pub(crate) mod invocation;
pub(crate) mod leaks;
pub(crate) mod order;
pub(crate) mod overload;
pub(crate) mod recovery;
pub(crate) mod streams;
pub(crate) mod transcript;
