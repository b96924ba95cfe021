//! The error of this crate. `Display` names the operation and its object;
//! [`std::error::Error::source`] is the cause. Nothing is logged here: the caller reports the
//! error.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use teu_cgroups_types::PlanError;

/// The result of the fallible functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why an operation on a cgroup failed.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// A system call on a path failed.
    System {
        /// The operation.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A process could not be moved into a cgroup.
    Enter {
        /// The process.
        pid: i32,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The kernel refused the value of a limit.
    Limit {
        /// The limit.
        field: String,
        /// The value.
        value: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A limit is not valid, or this host does not support it.
    Refused {
        /// The limit.
        field: String,
        /// The reason.
        reason: String,
    },
    /// The container is in no cgroup of the controller that a limit needs: the
    /// hierarchy is not mounted, or a rootless user may not use it.
    NoCgroup {
        /// The limit.
        field: String,
        /// The controller.
        controller: String,
    },
    /// A cgroup of v2 does not have the controller that a limit needs.
    NoController {
        /// The limit.
        field: String,
        /// The controller.
        controller: String,
        /// The cgroup.
        path: PathBuf,
    },
    /// A cgroup v1 memory limit is less than the memory in use, and the kernel cannot
    /// free enough.
    MemoryInUse {
        /// The limit.
        field: String,
        /// The value.
        limit: String,
        /// The memory in use.
        usage: String,
        /// The most memory that was ever in use.
        peak: String,
    },
    /// The cgroup exists already and has processes in it.
    NotEmpty {
        /// The cgroup.
        path: PathBuf,
        /// The number of processes.
        count: usize,
    },
    /// The cgroup, or one above it, is frozen.
    Frozen {
        /// The cgroup.
        path: PathBuf,
    },
    /// The kernel did not freeze all processes in time.
    Freeze {
        /// The cgroup.
        path: PathBuf,
        /// The freezer's state.
        state: String,
    },
    /// A limit needs a controller that threaded cgroups do not support.
    Threaded {
        /// The limit.
        field: String,
        /// The cgroup.
        path: PathBuf,
    },
    /// An update failed, and then an old value could not be restored.
    NotTakenBack {
        /// The error of the update.
        cause: Box<Error>,
        /// The error of restoring the old value.
        left: Box<Error>,
    },
    /// Neither cgroup v1 nor v2 is mounted.
    NotMounted,
    /// The plan of the cgroup is not valid.
    Plan(PlanError),
    /// A path below the container's cgroup leads out of it.
    OutOfCgroup {
        /// The path.
        path: String,
    },
    /// The container has no cgroup of a controller.
    UnknownController {
        /// The controller.
        name: String,
    },
    /// The machine was not booted with systemd.
    NoSystemd,
    /// A user's systemd makes cgroups on hosts with cgroup v2 only.
    NoUserManagerOnV1,
    /// systemd refused a call, could not be reached, or did not answer.
    Systemd {
        /// The operation.
        doing: String,
        /// The reason.
        reason: String,
    },
    /// The container is in no cgroup that could be frozen.
    NoFreezer,
    /// The kernel refused the device program.
    DeviceProgram {
        /// The operation.
        doing: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
        /// The verifier's messages.
        log: String,
    },
}

impl Error {
    pub(crate) fn system(doing: &'static str, path: &Path, cause: impl Into<io::Error>) -> Error {
        Error::System {
            doing,
            path: path.to_owned(),
            cause: cause.into(),
        }
    }

    pub(crate) fn refused(field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Refused {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Returns the limit that the error is about, with which `Display` begins. It is the
    /// path of a field in the runtime specification's `linux.resources`, such as
    /// "memory.limit".
    pub fn field(&self) -> Option<&str> {
        match self {
            Error::Limit { field, .. }
            | Error::Refused { field, .. }
            | Error::NoCgroup { field, .. }
            | Error::NoController { field, .. }
            | Error::MemoryInUse { field, .. }
            | Error::Threaded { field, .. } => Some(field),
            Error::DeviceProgram { .. } => Some("devices"),
            _ => None,
        }
    }

    /// Returns whether the error means that a file of a cgroup does not exist, or that the
    /// cgroup was removed after the file was opened.
    pub fn is_gone(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }

    /// Returns the kernel's error number, if the kernel refused the operation.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Error::System { cause, .. }
            | Error::Enter { cause, .. }
            | Error::Limit { cause, .. }
            | Error::DeviceProgram { cause, .. } => cause.raw_os_error(),
            Error::NotTakenBack { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }

    /// Returns whether the kernel refused the operation for lack of permission: EPERM,
    /// EACCES or EROFS.
    pub fn is_permission(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::EROFS)
        )
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Error {
        Error::Plan(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { doing, path, .. } => write!(formatter, "{doing} {path:?}"),
            Error::Enter { pid, path, .. } => {
                write!(formatter, "move process {pid} into cgroup {path:?}")
            }
            Error::Limit {
                field, value, path, ..
            } => write!(formatter, "{field}: write {value:?} to {path:?}"),
            Error::OutOfCgroup { path } => write!(formatter, "bad sub cgroup path: {path}"),
            Error::UnknownController { name } => {
                write!(formatter, "unknown controller {name} in SubCgroupPaths")
            }
            Error::Refused { field, reason } => write!(formatter, "{field}: {reason}"),
            Error::NoCgroup { field, controller } => write!(
                formatter,
                "{field}: cannot set {controller} limit: container could not join or create cgroup"
            ),
            Error::NoController {
                field,
                controller,
                path,
            } => write!(
                formatter,
                "{field}: controller {controller:?} is not available in cgroup {path:?}"
            ),
            Error::MemoryInUse {
                field,
                limit,
                usage,
                peak,
            } => write!(
                formatter,
                "{field}: unable to set memory limit to {limit} \
                 (current usage: {usage}, peak usage: {peak})"
            ),
            Error::NotEmpty { path, count } => write!(
                formatter,
                "use cgroup {path:?}: container's cgroup is not empty: {count} process(es) found"
            ),
            Error::Frozen { path } => {
                write!(
                    formatter,
                    "use cgroup {path:?}: container's cgroup unexpectedly frozen"
                )
            }
            Error::Freeze { path, state } => {
                write!(
                    formatter,
                    "freeze cgroup {path:?}: unable to freeze, state is {state:?}"
                )
            }
            Error::Threaded { field, path } => write!(
                formatter,
                "{field}: cannot enter cgroupv2 {path:?} with domain controllers \
                 -- it is in an invalid state"
            ),
            Error::NotTakenBack { cause, left } => {
                let [cause, left] = [cause, left].map(|error| teu_errno::line(error.as_ref()));
                write!(formatter, "{cause}; and then {left}")
            }
            Error::NotMounted => {
                formatter.write_str("find cgroups: no cgroup hierarchy is mounted")
            }
            Error::Plan(error) => error.fmt(formatter),
            Error::NoSystemd => formatter
                .write_str("systemd not running on this host, cannot use systemd cgroups manager"),
            Error::NoUserManagerOnV1 => {
                formatter.write_str("cannot use rootless systemd cgroups manager on cgroup v1")
            }
            Error::Systemd { doing, reason } => write!(formatter, "{doing}: {reason}"),
            Error::NoFreezer => {
                formatter.write_str("cannot toggle freezer: cgroups not configured for container")
            }
            Error::DeviceProgram {
                doing, path, log, ..
            } => {
                write!(formatter, "devices: {doing} cgroup {path:?}")?;
                match log.as_str() {
                    "" => Ok(()),
                    log => write!(formatter, ": verifier said {log:?}"),
                }
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { cause, .. }
            | Error::Enter { cause, .. }
            | Error::Limit { cause, .. }
            | Error::DeviceProgram { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_limit_names_field_value_file_and_cause() {
        let error = Error::Limit {
            field: "cpu.cpus".into(),
            value: "7".into(),
            path: "/sys/fs/cgroup/cpuset/a/cpuset.cpus".into(),
            cause: io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(error.field(), Some("cpu.cpus"));
        assert_eq!(
            teu_errno::line(&error),
            "cpu.cpus: write \"7\" to \
             \"/sys/fs/cgroup/cpuset/a/cpuset.cpus\": invalid argument"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn permission_errors_are_recognised() {
        let error = |errno| {
            Error::system(
                "make cgroup",
                Path::new("/x"),
                io::Error::from_raw_os_error(errno),
            )
        };
        assert!(error(libc::EROFS).is_permission());
        assert!(!error(libc::ENOENT).is_permission());
        assert!(error(libc::ENOENT).is_gone() && error(libc::ENODEV).is_gone());
        assert!(!error(libc::EROFS).is_gone());
        assert_eq!(
            teu_errno::line(&error(libc::EACCES)),
            "make cgroup \"/x\": permission denied"
        );
    }
}
