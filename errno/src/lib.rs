//! Writes errors in the words that engines match.
//!
//! runc reports the kernel's error numbers (errno(3)) in Go's words, which are
//! glibc's in lower case. [`text`] writes one error number, [`chain`] and [`line()`]
//! write an error with all its causes. musl's strerror(3) and nix have other words
//! for some numbers.
//!
//! The crate defines no error type of its own.
//!
//! # Example
//!
//! ```
//! use std::io;
//! let error = io::Error::from_raw_os_error(2);
//! assert_eq!(teu_errno::text(&error), "no such file or directory");
//! ```

#![warn(missing_docs)]

use std::error::Error;
use std::io;

use nix::errno::Errno;

/// Returns the words for an error, without its number: `no such file or directory`.
/// An error without a number keeps its own words.
pub fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => starting_small(words(Errno::from_raw(number))),
        None => error.to_string(),
    }
}

/// Writes an error and its causes on one line, as [`line()`] does.
pub fn chain(error: &anyhow::Error) -> String {
    line(error.as_ref())
}

/// Writes an error and its causes on one line, outermost first.
///
/// A cause that the error before it already ends with is left out, because some
/// libraries write the cause into their own words.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut layers: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let words = match cause.downcast_ref::<io::Error>() {
            Some(err) => text(err),
            None => match cause.downcast_ref::<Errno>() {
                Some(errno) => text(&(*errno).into()),
                None => match cause.downcast_ref::<rustix::io::Errno>() {
                    Some(errno) => text(&(*errno).into()),
                    None => cause.to_string(),
                },
            },
        };
        if !layers.last().is_some_and(|outer| outer.ends_with(&words)) {
            layers.push(words);
        }
    }
    layers.join(": ")
}

/// Returns glibc's words for an error number; Go's words are taken from them.
fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::EIO => "input/output error",
        Errno::EBADF => "bad file descriptor",
        Errno::EAGAIN => "resource temporarily unavailable",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::EXDEV => "invalid cross-device link",
        Errno::ENFILE => "too many open files in system",
        Errno::ENOTTY => "inappropriate ioctl for device",
        Errno::EDOM => "numerical argument out of domain",
        Errno::ERANGE => "numerical result out of range",
        Errno::EDEADLK => "resource deadlock avoided",
        Errno::ENOLCK => "no locks available",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::EBADMSG => "bad message",
        Errno::EILSEQ => "invalid or incomplete multibyte or wide character",
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::ENETRESET => "network dropped connection on reset",
        Errno::EDQUOT => "disk quota exceeded",
        same => same.desc(),
    }
}

/// Makes the first letter lower case, except in an abbreviation such as "RFS".
fn starting_small(words: &str) -> String {
    let mut letters = words.chars();
    match letters.next() {
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_number_keeps_its_own_words() {
        assert_eq!(text(&io::Error::other("As it is")), "As it is");
    }

    #[test]
    fn a_line_has_each_cause_once() {
        let error = anyhow::Error::new(io::Error::from_raw_os_error(1)).context("join \"/x\"");
        assert_eq!(chain(&error), "join \"/x\": operation not permitted");
        let repeated = anyhow::anyhow!("as it is").context("read: as it is");
        assert_eq!(line(repeated.as_ref()), "read: as it is");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn the_words_are_those_of_glibc() {
        let mut known = 0;
        // EHWPOISON is the greatest error number (asm-generic/errno.h).
        for number in 1..=Errno::EHWPOISON as i32 {
            let error = io::Error::from_raw_os_error(number);
            if Errno::from_raw(number) == Errno::UnknownErrno {
                continue;
            }
            let glibc = error.to_string();
            let glibc = glibc.split(" (os error").next().expect("words");
            assert_eq!(text(&error).to_lowercase(), glibc.to_lowercase());
            known += 1;
        }
        assert!(known > 130, "{known}");
    }
}
