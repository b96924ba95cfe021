//! Adds the names of config.json's fields to errors and warnings about limits. The crate
//! teu-cgroups names a limit by its place in `linux.resources`.

use std::fmt;

use anyhow::anyhow;
use teu_cgroups::Ignored;

use crate::errno;

/// The error of a limit, named as in config.json.
#[derive(Debug)]
struct OfResources(teu_cgroups::Error);

impl fmt::Display for OfResources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux.resources.{}", self.0)
    }
}

impl std::error::Error for OfResources {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Adds the field's name to an error about a limit. Returns other errors unchanged.
pub(super) fn named(error: teu_cgroups::Error) -> anyhow::Error {
    match error {
        teu_cgroups::Error::NotTakenBack { cause, left } => {
            let [cause, left] = [*cause, *left].map(|error| errno::chain(&named(error)));
            anyhow!("{cause}; and then {left}")
        }
        error if error.field().is_some() => OfResources(error).into(),
        error => error.into(),
    }
}

/// Warns of limits that were left out.
pub(super) fn warn_of(ignored: &[Ignored]) {
    for ignored in ignored {
        log::warn!("linux.resources.{ignored}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_limits_get_a_name() {
        let about_a_limit = teu_cgroups::Error::Refused {
            field: "pids.limit".into(),
            reason: "too many".into(),
        };
        let words = "linux.resources.pids.limit: too many";
        assert_eq!(named(about_a_limit).to_string(), words);
        let refused = |field: &str| teu_cgroups::Error::Refused {
            field: field.into(),
            reason: "no".into(),
        };
        let both = teu_cgroups::Error::NotTakenBack {
            cause: refused("pids.limit").into(),
            left: refused("cpu.shares").into(),
        };
        let words = "linux.resources.pids.limit: no; and then linux.resources.cpu.shares: no";
        assert_eq!(named(both).to_string(), words);
        let other = teu_cgroups::Error::NoFreezer;
        assert!(named(other).to_string().starts_with("cannot toggle"));
    }
}
