//! The bundle: a directory with `config.json` and the container's root
//! filesystem (runtime-spec, bundle.md). Read once, never written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::Failure;
use crate::log;
use crate::spec::{Process, Spec};

/// The input of a creation.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute path of the bundle.
    pub(crate) dir: PathBuf,
    /// What `config.json` says.
    pub(crate) spec: Spec,
}

impl Bundle {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// The directory or file is missing (runc's words), or the file is not
    /// valid: the error then names the field.
    pub(crate) fn open(dir: &Path) -> Result<Bundle> {
        let dir = fs::canonicalize(dir).with_context(|| format!("bundle {dir:?}"))?;
        let path = dir.join("config.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::NoSpecification("config.json".into()).into());
            }
            Err(err) => return Err(err).with_context(|| format!("read {path:?}")),
        };
        let spec = parse(&text).with_context(|| format!("{path:?}"))?;
        Ok(Bundle { dir, spec })
    }
}

/// Reads a process from a file of its own (`exec --process`).
///
/// # Errors
/// The file cannot be read, or is not valid: the error then names the field.
pub(crate) fn read_process(path: &Path) -> Result<Process> {
    let text = fs::read(path).with_context(|| format!("open {}", path.display()))?;
    let mut json = serde_json::Deserializer::from_slice(&text);
    serde_path_to_error::deserialize(&mut json).with_context(|| format!("{path:?}"))
}

/// Parses a config.json. The path of a faulty field is worked out only after
/// the quick parse has refused it.
fn parse(text: &[u8]) -> Result<Spec> {
    if log::is_debug() {
        return parse_reporting_unknown_fields(text);
    }
    serde_json::from_slice(text).or_else(|_| {
        let mut json = serde_json::Deserializer::from_slice(text);
        serde_path_to_error::deserialize(&mut json).map_err(anyhow::Error::new)
    })
}

/// Unknown fields are allowed (config.md, "Extensibility"), but a person
/// looking for a typing mistake wants to see them.
fn parse_reporting_unknown_fields(text: &[u8]) -> Result<Spec> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let json = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let spec = serde_ignored::deserialize(json, |path| {
        log::debug(&format!("config.json: unknown field {path}"));
    });
    spec.map_err(|err| anyhow::anyhow!("{}: {err}", track.path()))
}
