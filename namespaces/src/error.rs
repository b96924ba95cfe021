//! What can go wrong with namespaces.

use std::fmt;
use std::io;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on a namespace that did not succeed.
#[derive(Debug)]
pub struct Error {
    doing: String,
    cause: Option<io::Error>,
}

impl Error {
    /// `doing` names the operation and its object; `cause` is the kernel's answer.
    pub(crate) fn new(doing: impl Into<String>, cause: impl Into<io::Error>) -> Error {
        Error {
            doing: doing.into(),
            cause: Some(cause.into()),
        }
    }

    /// An error that is its own cause.
    pub(crate) fn message(text: impl Into<String>) -> Error {
        Error {
            doing: text.into(),
            cause: None,
        }
    }

    /// The kernel's error number, if it came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.cause.as_ref().and_then(io::Error::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = &self.cause else {
            return f.write_str(&self.doing);
        };
        write!(f, "{}: {}", self.doing, teu_errno::text(cause))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_comes_last_in_lower_case() {
        let error = Error::new(
            "join network namespace \"/x\"",
            io::Error::from_raw_os_error(1),
        );
        assert_eq!(
            error.to_string(),
            "join network namespace \"/x\": operation not permitted"
        );
        let error = Error::new("clone", io::Error::from_raw_os_error(16));
        assert_eq!(error.to_string(), "clone: device or resource busy");
    }
}
