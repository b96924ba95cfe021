//! All that the plan may use of the standard library, beside `core` and `alloc`.
//!
//! The crate is `no_std`: no other file can name `std`, and so no file, process, socket,
//! environment or clock. Of paths, whose methods can look at the machine, clippy.toml
//! forbids those methods.

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

/// An error of a system call, as it was seen.
pub(crate) use std::io::Error as IoError;
