//! What can go wrong, in words that name the doing, the object and the cause.
//!
//! Not for logging: an error is returned once and reported by the binary.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a cgroup operation did not happen.
#[derive(Debug)]
pub enum Error {
    /// A system call on a path: what was being done, to what, and why not.
    System {
        doing: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    /// A process could not be moved into a cgroup.
    Enter {
        pid: i32,
        path: PathBuf,
        cause: io::Error,
    },
    /// The kernel refused the value of a field of the spec.
    Limit {
        field: String,
        value: String,
        path: PathBuf,
        cause: io::Error,
    },
    /// A field of the spec that this host, or any host, cannot honour.
    Refused { field: String, reason: String },
    /// The container is in no cgroup of the controller that a limit needs:
    /// the hierarchy is not mounted, or a rootless user may not use it.
    NoCgroup { field: String, controller: String },
    /// cgroup v2 offers the directory but not the controller in it.
    NoController {
        field: String,
        controller: String,
        path: PathBuf,
    },
    /// A cgroup v1 memory limit is below what is in use and cannot be freed.
    MemoryInUse {
        field: String,
        limit: String,
        usage: String,
        peak: String,
    },
    /// The cgroup exists already and has processes in it.
    NotEmpty { path: PathBuf, count: usize },
    /// The cgroup, or one above it, is frozen.
    Frozen { path: PathBuf },
    /// The freezer did not finish.
    Freeze { path: PathBuf, state: String },
    /// A domain controller was asked for below a threaded cgroup.
    Threaded { field: String, path: PathBuf },
    /// An update failed, and after it a value that it had replaced could not be
    /// restored.
    NotTakenBack { cause: Box<Error>, left: Box<Error> },
    /// Neither cgroup v1 nor v2 is mounted.
    NotMounted,
    /// A path that can be no container's cgroup.
    Path { path: PathBuf, reason: &'static str },
    /// A path below the container's cgroup that leads out of it.
    OutOfCgroup { path: String },
    /// A controller that the container has no cgroup of.
    UnknownController { name: String },
    /// The machine was not booted with systemd.
    NoSystemd,
    /// The systemd of a user makes cgroups with v2 only.
    NoUserManagerOnV1,
    /// systemd refused, could not be reached, or did not answer.
    Systemd { doing: String, reason: String },
    /// The container is in no cgroup that could be frozen.
    NoFreezer,
    /// The verifier, or an older kernel, refused the device program.
    DeviceProgram {
        doing: &'static str,
        path: PathBuf,
        cause: io::Error,
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

    /// Whether a file of a cgroup was not there, or its cgroup was removed
    /// between opening and reading it.
    pub fn is_gone(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }

    /// The errno at the bottom of this error, if there is one.
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

    /// Whether the kernel said that this user may not: EPERM, EACCES or EROFS.
    pub fn is_permission(&self) -> bool {
        matches!(
            self.raw_os_error(),
            Some(libc::EPERM | libc::EACCES | libc::EROFS)
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { doing, path, cause } => {
                write!(formatter, "{doing} {path:?}: {}", teu_errno::text(cause))
            }
            Error::Enter { pid, path, cause } => {
                write!(
                    formatter,
                    "move process {pid} into cgroup {path:?}: {}",
                    teu_errno::text(cause)
                )
            }
            Error::Limit {
                field,
                value,
                path,
                cause,
            } => {
                write!(
                    formatter,
                    "{field}: write {value:?} to {path:?}: {}",
                    teu_errno::text(cause)
                )
            }
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
                write!(formatter, "{cause}; and then {left}")
            }
            Error::NotMounted => {
                formatter.write_str("find cgroups: no cgroup hierarchy is mounted")
            }
            Error::Path { path, reason } => {
                write!(formatter, "linux.cgroupsPath: {path:?} {reason}")
            }
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
                doing,
                path,
                cause,
                log,
            } => {
                write!(
                    formatter,
                    "linux.resources.devices: {doing} cgroup {path:?}: "
                )?;
                if !log.is_empty() {
                    write!(formatter, "verifier said {log:?}: ")?;
                }
                write!(formatter, "{}", teu_errno::text(cause))
            }
        }
    }
}

// No `source`: the cause is already the last part of the words.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_field_value_file_and_cause() {
        let error = Error::Limit {
            field: "linux.resources.cpu.cpus".into(),
            value: "7".into(),
            path: "/sys/fs/cgroup/cpuset/a/cpuset.cpus".into(),
            cause: io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(
            error.to_string(),
            "linux.resources.cpu.cpus: write \"7\" to \
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
            error(libc::EACCES).to_string(),
            "make cgroup \"/x\": permission denied"
        );
    }
}
