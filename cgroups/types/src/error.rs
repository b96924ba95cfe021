//! The reasons why a plan of a cgroup is not valid.

use std::fmt;
use std::path::PathBuf;

/// A part of a plan is not valid.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// A path cannot be that of a container's cgroup.
    Path {
        /// The path.
        path: PathBuf,
        /// The reason.
        reason: &'static str,
    },
    /// The name or the slice of a unit is not valid.
    Unit {
        /// The reason.
        reason: String,
    },
    /// An annotation does not set a property of the unit.
    Annotation {
        /// The annotation.
        key: String,
        /// The reason.
        reason: String,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Path { path, reason } => write!(formatter, "{path:?} {reason}"),
            PlanError::Unit { reason } => formatter.write_str(reason),
            PlanError::Annotation { key, reason } => {
                write!(formatter, "annotations[{key:?}]: {reason}")
            }
        }
    }
}

impl std::error::Error for PlanError {}
