//! The bundle: a directory with `config.json` and the container's root filesystem
//! (runtime-spec, bundle.md). Reads its files and never writes. Not for the form of
//! config.json: see `document.rs`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use log::Level;
use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use teu_plan::document::unknown_fields::{UnknownField, warn};
use teu_plan::document::{self, Place};

use crate::errno;
use crate::known_failures::Failure;

/// The input of a creation.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute path of the bundle.
    pub(crate) dir: PathBuf,
    /// The content of `config.json`.
    pub(crate) spec: Box<Spec>,
}

impl Bundle {
    /// Enters `dir`, reads its `config.json`, and warns of unknown fields.
    ///
    /// # Errors
    /// The directory or the file is missing (the text is runc's), or the file is
    /// invalid; the error then names the field.
    pub(crate) fn open(dir: &Path) -> Result<Box<Bundle>> {
        enter(dir)?;
        let dir = std::env::current_dir().with_context(|| format!("bundle {dir:?}"))?;
        Bundle::read(dir, warn)
    }

    /// Reads the bundle of an existing container again, from the `dir` in the
    /// container's state. Does not warn again of unknown fields.
    ///
    /// # Errors
    /// The errors of [`Bundle::open`].
    pub(crate) fn open_again(dir: &Path) -> Result<Box<Bundle>> {
        Bundle::read(dir.to_owned(), |field| log::debug!("{field}"))
    }

    /// Reads the process of the bundle in `dir`, for a further process of its
    /// container. With `--debug`, also reads the rest, to log unknown fields.
    ///
    /// # Errors
    /// The errors of [`Bundle::open`].
    pub(crate) fn process_again(dir: &Path) -> Result<Option<Process>> {
        #[derive(Deserialize)]
        struct Part {
            process: Option<Process>,
        }
        if log::log_enabled!(Level::Debug)
            && let Err(err) = Bundle::open_again(dir)
        {
            log::debug!("{}", errno::chain(&err));
        }
        let path = dir.join("config.json");
        let part: Part = in_file(&path, document::read_only(&read_text(&path)?, "process"))?;
        Ok(part.process)
    }

    fn read(dir: PathBuf, tell: impl Fn(&UnknownField<'_>)) -> Result<Box<Bundle>> {
        let path = dir.join("config.json");
        let spec = parse(&read_text(&path)?, &path, tell)?;
        Ok(Box::new(Bundle { dir, spec }))
    }
}

/// Reads the `config.json` at `path`.
fn read_text(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            Err(Failure::NoSpecification("config.json".into()).into())
        }
        text => text.with_context(|| format!("read {path:?}")),
    }
}

/// Makes a bundle the working directory, as runc does. Hooks on the host run there, and
/// relative paths of sockets start there. `delete` stays in its caller's directory,
/// also for poststop hooks, because the bundle may be gone by then.
///
/// # Errors
/// The directory does not exist, or may not be entered.
pub(crate) fn enter(dir: &Path) -> Result<()> {
    std::env::set_current_dir(dir).with_context(|| format!("enter the bundle {dir:?}"))
}

/// Reads a process from a separate file (`exec --process`).
///
/// # Errors
/// The file cannot be read, or is invalid; the error then names the field.
pub(crate) fn read_process(path: &Path) -> Result<Process> {
    let text = fs::read(path).with_context(|| format!("open {}", path.display()))?;
    parse(&text, path, warn)
}

/// Reads new resources (`update --resources`), in the form of linux.resources, from a
/// file or, for "-", from standard input.
///
/// # Errors
/// The text cannot be read, or is invalid; the error then names the field.
pub(crate) fn read_resources(path: &Path) -> Result<LinuxResources> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        let read = io::stdin().read_to_end(&mut text);
        read.context("read standard input")?;
        return parse(&text, Path::new("/dev/stdin"), warn);
    }
    let text = fs::read(path).with_context(|| format!("open {}", path.display()))?;
    parse(&text, path, warn)
}

fn parse<T: DeserializeOwned>(
    text: &[u8],
    file: &Path,
    tell: impl Fn(&UnknownField<'_>),
) -> Result<T> {
    let unknown = |place: &Place<'_>, known: &[&'static str]| {
        tell(&UnknownField { file, place, known });
    };
    in_file(file, document::read(text, &unknown))
}

/// Names the file in the error.
fn in_file<T>(file: &Path, read: Result<T, String>) -> Result<T> {
    read.map_err(anyhow::Error::msg)
        .with_context(|| format!("{file:?}"))
}
