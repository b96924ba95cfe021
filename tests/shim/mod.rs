//! The shim, started, asked and heard as containerd does it, without containerd. The
//! same tests can be told to look at another shim: `TEU_SHIM=FILE`, with the runtime
//! under test below it.

pub(crate) mod calls;
mod client;
pub(crate) mod crossing;
mod engine;
mod events;
pub(crate) mod invocation;
pub(crate) mod leaks;
pub(crate) mod order;
pub(crate) mod overload;
pub(crate) mod recovery;
pub(crate) mod sandbox;
pub(crate) mod streams;
pub(crate) mod transcript;
