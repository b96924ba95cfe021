//! The destination of a stream, as a client writes it: a path, or a URI such as
//! `binary:///usr/bin/logger?level=info`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

/// The parts of the URI that a shim uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Uri {
    /// The scheme in lower case; `fifo` for a path.
    pub(super) scheme: String,
    pub(super) path: PathBuf,
    /// The query: names in order, each with its first value.
    pub(super) query: Vec<(String, String)>,
}

impl Uri {
    pub(super) fn parse(text: &str) -> Uri {
        let Some((scheme, rest)) = text.split_once(':').filter(|(word, _)| is_scheme(word)) else {
            return Uri {
                scheme: "fifo".into(),
                path: text.into(),
                query: Vec::new(),
            };
        };
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = match rest.strip_prefix("//") {
            Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
            None => rest,
        };
        let path = percent_decode_str(path).collect();
        Uri {
            scheme: scheme.to_ascii_lowercase(),
            path: OsString::from_vec(path).into(),
            query: first_values(query),
        }
    }
}

/// Whether a word is a scheme (RFC 3986, section 3.1).
fn is_scheme(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && word
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
}

fn first_values(query: &str) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if values.iter().all(|(known, _)| *known != name) {
            values.push((name.into_owned(), value.into_owned()));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_fifo_whatever_is_in_it() {
        for path in ["/run/a%20b?c", "/run/a:b", "relative", ""] {
            let uri = Uri::parse(path);
            assert_eq!((uri.scheme.as_str(), uri.path), ("fifo", path.into()));
        }
    }

    #[test]
    fn a_uri_is_taken_apart() {
        let uri = Uri::parse("Binary-V2:///usr/bin/a%20b?k=v&k=w&only&x=1%202+3#no");
        assert_eq!(uri.scheme, "binary-v2");
        assert_eq!(uri.path, PathBuf::from("/usr/bin/a b"));
        let query: Vec<_> = uri
            .query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(query, [("k", "v"), ("only", ""), ("x", "1 2 3")]);
    }

    #[test]
    fn a_host_is_no_part_of_the_path() {
        assert_eq!(Uri::parse("file://host/log").path, PathBuf::from("/log"));
        assert_eq!(Uri::parse("file:/log").path, PathBuf::from("/log"));
        assert_eq!(Uri::parse("file://").path, PathBuf::new());
    }
}
