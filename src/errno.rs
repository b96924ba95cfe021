//! The kernel's error numbers in words, for texts that are put together before
//! `main` prints the chain of errors.

use std::io;

/// The C library's words for `error`, starting in lower case and without the
/// number: `no such file or directory`. Engines look for these words.
pub(crate) fn text(error: impl Into<io::Error>) -> String {
    let error = error.into();
    let Some(number) = error.raw_os_error() else {
        return error.to_string();
    };
    let words = match nix::errno::Errno::from_raw(number) {
        // Of an execve beyond RLIMIT_NPROC, say.
        nix::errno::Errno::EAGAIN => "Resource temporarily unavailable",
        errno => errno.desc(),
    };
    let mut letters = words.chars();
    match letters.next() {
        // "RPC …" and "I/O …" stay as they are spelled.
        Some(first)
            if !letters
                .as_str()
                .starts_with(|c: char| c.is_uppercase() || c == '/') =>
        {
            first.to_lowercase().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

/// A chain of errors on one line, outermost first, each cause once.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut layers: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = match cause.downcast_ref::<io::Error>() {
            Some(err) => text(err.raw_os_error().map_or_else(
                || io::Error::other(err.to_string()),
                io::Error::from_raw_os_error,
            )),
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
            (Errno::IO, "I/O error"),
        ] {
            assert_eq!(text(errno), words);
        }
        assert_eq!(text(io::Error::other("as it is")), "as it is");
    }
}
