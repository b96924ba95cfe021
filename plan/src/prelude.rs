//! Has everything that the plan may use of the standard library, `core` and `alloc` aside.
//!
//! The crate is `no_std`, and only this file has `extern crate std` (tests/layers.rs). So no
//! other file can name `std`, with its files, processes, sockets, environment and clocks. A
//! path has methods that look at the machine; clippy.toml and tests/layers.rs forbid those.

extern crate std;

pub(crate) use alloc::borrow::ToOwned;
pub(crate) use alloc::boxed::Box;
pub(crate) use alloc::string::{String, ToString};
pub(crate) use alloc::vec::Vec;
pub(crate) use alloc::{format, vec};

pub(crate) use std::collections::HashMap;
pub(crate) use std::ffi::{OsStr, OsString};
pub(crate) use std::os::unix::ffi::{OsStrExt, OsStringExt};
pub(crate) use std::path::{Component, Path, PathBuf};

/// The error of a system call that `host/` made.
pub(crate) use std::io::Error as IoError;
