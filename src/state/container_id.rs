//! Checks the name of a container.

use anyhow::Result;

use crate::known_failures::Failure;

/// Checks the name by runc's rule: `[A-Za-z0-9_+.-]+`, and not "." or "..".
///
/// # Errors
/// The name is empty or not allowed.
pub(crate) fn check(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() {
        Err(Failure::EmptyId.into())
    } else if id == "." || id == ".." || !id.bytes().all(allowed) {
        Err(Failure::InvalidId.into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_runcs() {
        for id in ["a", "a.b", "A_1+2-3", "..."] {
            assert!(check(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            assert!(check(id).is_err(), "{id}");
        }
    }
}
