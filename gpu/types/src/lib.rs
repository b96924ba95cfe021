//! Requests for GPUs and other devices, and the [`Edits`] of a container's specification that
//! the devices bring, as plain data.
//!
//! The crate reads no file. The crate `teu-gpu` finds the devices.
//!
//! # Example
//!
//! ```
//! use teu_gpu_types::{DeviceName, Request, Vendor};
//!
//! let name: DeviceName = "nvidia.com/gpu=0".parse()?;
//! assert_eq!(name.parts(), ("nvidia.com/gpu", "0"));
//! let request = Request::from_variable(Vendor::Nvidia, "none").expect("a request");
//! assert_eq!(request, Request::named(Some(Vendor::Nvidia), &[]));
//! # Ok::<(), teu_gpu_types::InvalidName>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod device_name;
mod edits;
mod request;
mod vendor;

pub use device_name::{DeviceName, InvalidName, check_device, check_kind};
pub use edits::{Content, Cover, Edits, Link, Moment, Node};
pub use request::{Capabilities, Request, Which};
pub use vendor::Vendor;
