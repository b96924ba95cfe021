//! The kernel's error numbers in words, for texts that are put together before
//! `main` prints the chain of errors.

use std::io;

/// The words for `error`: `no such file or directory`. Engines look for some.
pub(crate) fn text(error: impl Into<io::Error>) -> String {
    teu_errno::text(&error.into())
}

/// A chain of errors on one line, outermost first, each cause once.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut layers: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = match cause.downcast_ref::<io::Error>() {
            Some(err) => teu_errno::text(err),
            None => match cause.downcast_ref::<nix::errno::Errno>() {
                Some(errno) => text(*errno),
                None => match cause.downcast_ref::<rustix::io::Errno>() {
                    Some(errno) => text(*errno),
                    None => cause.to_string(),
                },
            },
        };
        // Some libraries print their cause themselves.
        if !layers.last().is_some_and(|outer| outer.ends_with(&words)) {
            layers.push(words);
        }
    }
    layers.join(": ")
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
