//! The commands, one file each, told from top to bottom. Each command takes its own
//! `Options`, without anything of the command line, so that commands can call each
//! other. Not for parsing: see `cli/`.

pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod gpu;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod output;
pub(crate) mod pause;
pub(crate) mod ps;
mod resources;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod update;
