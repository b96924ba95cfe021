//! Describes error numbers of the kernel, for texts that are made before `main` prints
//! the chain of errors.

use std::io;

pub(crate) use teu_errno::chain;

/// Converts an error of nix into rustix's type.
pub(crate) fn of_nix(err: nix::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(err as i32)
}

/// Returns the description of `error`, such as `no such file or directory`. Engines
/// look for some of these texts.
pub(crate) fn text(error: impl Into<io::Error>) -> String {
    teu_errno::text(&error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn words_engines_match() {
        for (errno, words) in [
            (Errno::NOENT, "no such file or directory"),
            (Errno::PERM, "operation not permitted"),
            (Errno::ACCESS, "permission denied"),
            (Errno::NOTDIR, "not a directory"),
            (Errno::ISDIR, "is a directory"),
            (Errno::IO, "input/output error"),
        ] {
            assert_eq!(text(errno), words);
        }
        assert_eq!(text(io::Error::other("as it is")), "as it is");
    }
}
