//! The kernel's error numbers (errno(3)) in Go's words: runc has them in its
//! errors, and engines match some. Neither musl's strerror(3) nor nix has them all.

use std::io;

use nix::errno::Errno;

/// The words for `error`, without the number: `no such file or directory`. One that
/// has no number has its own words.
pub fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => starting_small(words(Errno::from_raw(number))),
        None => error.to_string(),
    }
}

/// A chain of errors on one line, outermost first, each cause once.
pub fn chain(error: &anyhow::Error) -> String {
    let mut layers: Vec<String> = Vec::new();
    for cause in error.chain() {
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
        // Some libraries print their cause themselves.
        if !layers.last().is_some_and(|outer| outer.ends_with(&words)) {
            layers.push(words);
        }
    }
    layers.join(": ")
}

/// Those of glibc, from which Go has its own.
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

/// With a small first letter, but for words such as "RFS".
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
    fn one_without_a_number_has_its_own_words() {
        assert_eq!(text(&io::Error::other("As it is")), "As it is");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn they_are_glibcs() {
        let mut known = 0;
        // EHWPOISON is the last one (asm-generic/errno.h).
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
