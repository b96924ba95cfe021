//! The error of this crate: the operation that failed, its object, and the cause.

use std::fmt;
use std::io;

/// The result of the fallible functions of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on a namespace or a process failed.
///
/// `Display` names the operation and its object; [`std::error::Error::source`] is
/// the kernel's answer.
#[derive(Debug)]
pub struct Error {
    doing: String,
    cause: Option<io::Error>,
}

impl Error {
    /// Makes an error of an operation, with its object, and the kernel's answer.
    pub(crate) fn new(doing: impl Into<String>, cause: impl Into<io::Error>) -> Error {
        Error {
            doing: doing.into(),
            cause: Some(cause.into()),
        }
    }

    /// Makes an error without a cause.
    pub(crate) fn message(text: impl Into<String>) -> Error {
        Error {
            doing: text.into(),
            cause: None,
        }
    }

    /// Adds a hint to the operation.
    pub(crate) fn with(mut self, hint: &str) -> Error {
        self.doing.push_str(hint);
        self
    }

    /// Returns the kernel's error number, if the kernel refused the operation.
    pub fn errno(&self) -> Option<i32> {
        self.cause.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_source() {
        let error = Error::new(
            "join network namespace \"/x\"",
            io::Error::from_raw_os_error(1),
        );
        assert_eq!(error.errno(), Some(1));
        assert_eq!(
            teu_errno::line(&error),
            "join network namespace \"/x\": operation not permitted"
        );
        assert_eq!(teu_errno::line(&Error::message("no child")), "no child");
    }
}
