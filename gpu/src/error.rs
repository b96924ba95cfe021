//! The error of this crate. `Display` names what failed, [`std::error::Error::source`] is the
//! cause. Nothing is logged here: the caller reports the error.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result of the fallible functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The reason why GPUs are not found, edits not made, or a file not parsed or written.
#[non_exhaustive]
#[derive(Debug)]
pub enum Error {
    /// A system call on a file of the host failed.
    System {
        /// The words before the path: the operation, or what the file is.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// The machine does not have what was requested, or a file is not as it has to be.
    Refused {
        /// The reason, which names the GPU, the driver or the file.
        reason: String,
    },
    /// A part of a request or of a description failed.
    Part {
        /// The part, such as a device.
        of: String,
        /// The reason.
        cause: Box<Error>,
    },
}

impl Error {
    pub(crate) fn system(doing: &'static str, path: impl Into<PathBuf>, cause: io::Error) -> Error {
        Error::System {
            doing,
            path: path.into(),
            cause,
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Error {
        Error::Refused {
            reason: reason.into(),
        }
    }

    /// Makes this error the cause of an error about a whole.
    pub(crate) fn of(self, of: impl Into<String>) -> Error {
        Error::Part {
            of: of.into(),
            cause: Box::new(self),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::System { doing, path, .. } => write!(formatter, "{doing} {path:?}"),
            Error::Refused { reason } => formatter.write_str(reason),
            Error::Part { of, .. } => formatter.write_str(of),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::System { cause, .. } => Some(cause),
            Error::Part { cause, .. } => Some(cause),
            Error::Refused { .. } => None,
        }
    }
}

/// Makes an [`Error::Refused`] from a format string and its arguments.
macro_rules! refused {
    ($($argument:tt)*) => {
        $crate::error::Error::refused(format!($($argument)*))
    };
}
pub(crate) use refused;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_comes_last() {
        let answer = io::Error::from_raw_os_error(2);
        let error = Error::system("read", "/dev/x", answer).of("device node \"x\"");
        assert_eq!(error.to_string(), "device node \"x\"");
        assert_eq!(
            teu_errno::line(&error),
            "device node \"x\": read \"/dev/x\": no such file or directory"
        );
        assert_eq!(refused!("no GPU {}", 3).to_string(), "no GPU 3");
    }
}
