//! Has functions that several unit tests use.

use crate::document;

/// Reads a part of a specification.
pub(crate) fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
    document::read(json.as_bytes(), &|_, _| {}).expect(json)
}

/// Returns the error as teu prints it: with its causes joined, and errno in plain words.
pub(crate) fn words(error: &anyhow::Error) -> String {
    teu_errno::chain(error)
}
