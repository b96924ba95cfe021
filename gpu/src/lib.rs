//! Devices that a container is given by name: what the Container Device
//! Interface (CDI) says about them, as edits of its specification.
//!
//! Files are read and device nodes looked at; nothing is changed. Not for the
//! decision who may ask for which device, or whose files are believed.

pub mod cdi;
mod edits;

pub use edits::{Edits, Moment, Node};
