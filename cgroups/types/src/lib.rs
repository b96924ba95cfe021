//! The cgroup of a container as plain data: a [`CgroupPlan`] is its path or its unit of
//! systemd, and its [`Limits`] with the device rules. A [`Location`] is the facts about a
//! machine from which follow the directories of a plan.
//!
//! The crate makes no system call. The crate `teu-cgroups` finds the facts and makes the
//! cgroup.
//!
//! # Example
//!
//! ```
//! use teu_cgroups_types::{CgroupPath, CgroupPlan, Driver, Limits};
//!
//! let plan = CgroupPlan {
//!     driver: Driver::Filesystem,
//!     path: CgroupPath::new(None, "my-container")?,
//!     limits: Limits {
//!         pids: Some(100),
//!         ..Limits::default()
//!     },
//!     rootless: false,
//! };
//! assert!(!plan.is_lenient());
//! # Ok::<(), teu_cgroups_types::PlanError>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod device_rule;
mod error;
mod gvariant;
mod hierarchy;
mod layout;
mod limits;
mod location;
mod path;
mod saved_rules;
mod unit;

pub use device_rule::{Access, DeviceKind, DeviceRule, default_device_rules};
pub use error::PlanError;
pub use hierarchy::{Directories, Hierarchies, Hierarchy};
pub use layout::{HierarchyView, Layout};
pub use limits::{
    BlockIoLimits, CpuLimits, DeviceRate, DeviceWeight, HugepageLimit, Limits, MemoryLimits,
    NetworkLimits, RdmaLimit,
};
pub use location::Location;
pub use path::CgroupPath;
pub use unit::{Manager, Property, Unit};

/// The maker of a cgroup's directories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Driver {
    /// The runtime makes them in the cgroup file system, at [`CgroupPlan::path`].
    #[default]
    Filesystem,
    /// systemd makes them, as this unit.
    Systemd(Box<Unit>),
    /// There are none: the container stays in the cgroup of the process that makes it.
    Disabled,
}

/// The decisions about a container's cgroup before it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPlan {
    /// The maker of the cgroup's directories.
    pub driver: Driver,
    /// The cgroup's path, if systemd does not make it.
    pub path: CgroupPath,
    /// The limits of the container.
    pub limits: Limits,
    /// Whether the user may lack the permission to make cgroups. Without an explicit path,
    /// such hierarchies are left out, and only a limit that needs one of them is an error.
    pub rootless: bool,
}

impl CgroupPlan {
    /// Returns whether hierarchies that the user may not use are left out.
    pub fn is_lenient(&self) -> bool {
        self.driver == Driver::Filesystem && self.rootless && !self.path.is_explicit()
    }
}
