//! Starts processes in Linux namespaces, new ones and existing ones.
//!
//! [`spawn`] takes a [`NamespacePlan`], which says for each [`Kind`] whether the
//! process stays in the caller's namespace, gets a new one, or joins one at a path.
//! It opens the namespaces to join, clones the process into the new ones, writes the
//! id maps and time offsets, and runs a closure in the child. [`spawn_beside`] and
//! [`spawn_inside`] start a process in the namespaces of a running one.
//! [`user_namespace`] makes a user namespace for the id map of a mount.
//!
//! The crate does not mount anything, enters no cgroup but the one that it is given,
//! and does not exec: that is the closure's work. Processes that call it must be
//! single-threaded, because the child of a clone continues with the caller's memory.
//!
//! # Example
//!
//! ```no_run
//! use teu_namespaces::{Kind, Namespace, NamespacePlan, spawn};
//!
//! let mut plan = NamespacePlan::default();
//! plan.set(Kind::Uts, Namespace::New);
//! plan.set(Kind::Network, Namespace::Joined("/proc/1/ns/net".into()));
//! let (child, ()) = spawn(&plan, None, ((), ()), |(), joined| match joined {
//!     Ok(()) => 0, // In the child: exec a program here.
//!     Err(_) => 1,
//! })?;
//! println!("{:?}", child.wait()?);
//! # Ok::<(), teu_namespaces::Error>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod beside;
mod clone;
mod clone_flags;
mod error;
pub mod id_maps;
mod join;
mod sys;
mod time;
pub mod user_namespace;
mod wait;

pub use beside::{Neighbour, Pending, spawn_beside, spawn_inside};
pub use clone::{Child, spawn};
pub use error::{Error, Result};
pub use sys::{exit_now, is_clone};
pub use teu_namespaces_types::{IdMap, IdMaps, Kind, Namespace, NamespacePlan, TimeOffset};
