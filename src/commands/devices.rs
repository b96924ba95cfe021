//! `teu devices`: shows and checks the devices that CDI files describe. Not for devices
//! of a container: see `gpu.rs`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use teu_gpu::cdi::{Cdi, File, Problem, Standing};
use teu_plan::gpu::DeviceOptions;

use super::output::{print, print_json};
use crate::host::{Host, faults, parts_of};

/// The arguments of `devices`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directories of CDI files, absolute; empty stands for the default
    /// directories.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) action: Action,
    /// Whether to print JSON.
    pub(crate) json: bool,
    /// The directory of all state. Devices below it are refused, because no container
    /// may get it.
    pub(crate) state: PathBuf,
}

/// The information to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The names of all devices.
    List,
    /// Errors in these files, or in all files that are found.
    Validate(Vec<PathBuf>),
    /// The edits of these devices.
    Inspect(Vec<String>),
}

impl Action {
    /// # Errors
    /// There is no such action, or it takes other arguments.
    pub(crate) fn new(word: &str, names: Vec<OsString>) -> Result<Action> {
        match word {
            "list" if names.is_empty() => Ok(Action::List),
            "list" => bail!("list takes no names (is \"inspect\" meant?)"),
            "validate" => Ok(Action::Validate(
                names.into_iter().map(PathBuf::from).collect(),
            )),
            "inspect" if names.is_empty() => bail!("inspect needs the name of a device"),
            "inspect" => {
                let names = names.iter().map(|name| name.to_string_lossy().into_owned());
                Ok(Action::Inspect(names.collect()))
            }
            _ => bail!("{word:?}: not one of list, validate, inspect"),
        }
    }
}

/// Prints the requested information. Returns the exit status.
///
/// # Errors
/// A requested device does not exist.
#[inline(never)]
pub(crate) fn devices(options: &Options) -> Result<u8> {
    let cdi = Host::new().cdi(&options.directories);
    match &options.action {
        Action::List => list(&cdi, options.json).map(|()| 0),
        Action::Inspect(names) => inspect(&cdi, names, options.json).map(|()| 0),
        Action::Validate(files) => validate(&problems(&cdi, files, &options.state), options.json),
    }
}

/// Returns the errors in these files, or in all files that are found.
fn problems(cdi: &Cdi, files: &[PathBuf], state: &Path) -> Vec<Problem> {
    let options = DeviceOptions {
        state: state.to_owned(),
        ..DeviceOptions::default()
    };
    let of = |path: &Path, file: &File| faults(path, file, &options);
    if files.is_empty() {
        let faults = cdi.files().flat_map(|(path, file)| of(path, file));
        return cdi.problems().iter().cloned().chain(faults).collect();
    }
    let read = |path: &PathBuf| match File::read(path) {
        Ok(file) => of(path, &file),
        Err(err) => vec![Problem::new(path, &err)],
    };
    files.iter().flat_map(read).collect()
}

/// Prints the devices on standard output, and errors in the files on standard error.
fn list(cdi: &Cdi, json: bool) -> Result<()> {
    for problem in cdi.problems() {
        eprintln!("{problem}");
    }
    let entries: Vec<_> = cdi.entries().collect();
    if json {
        return print_json(&entries);
    }
    let width = entries.iter().map(|entry| entry.name.len()).max();
    let lines = entries.iter().map(|entry| {
        let note = match entry.standing {
            Standing::InForce => "",
            Standing::Shadowed => " (shadowed)",
            Standing::Conflicting => " (conflicting)",
        };
        let width = width.unwrap_or_default();
        format!("{:width$}  {}{note}\n", entry.name, entry.path.display())
    });
    print(lines.collect::<String>().as_bytes())
}

fn validate(problems: &[Problem], json: bool) -> Result<u8> {
    if json {
        print_json(&problems)?;
    } else {
        let lines = problems.iter().map(|problem| format!("{problem}\n"));
        print(lines.collect::<String>().as_bytes())?;
    }
    Ok(u8::from(!problems.is_empty()))
}

fn inspect(cdi: &Cdi, names: &[String], json: bool) -> Result<()> {
    let names = names.iter().map(|name| name.parse());
    let parts = parts_of(cdi, &names.collect::<Result<Vec<_>, _>>()?)?;
    for fault in parts.iter().filter_map(|part| part.edits().err()) {
        eprintln!("{}", teu_errno::line(&fault));
    }
    if json {
        return print_json(&parts);
    }
    let mut text = String::new();
    for part in parts {
        text += &format!("{}\n", part.of);
        let edits = serde_json::to_value(part.edits).context("edits as JSON")?;
        for (kind, items) in edits.as_object().into_iter().flatten() {
            let items = items
                .as_array()
                .map_or(std::slice::from_ref(items), Vec::as_slice);
            for item in items {
                text += &format!("  {kind:14}  {}\n", words(item));
            }
        }
    }
    print(text.as_bytes())
}

/// Writes a value in one line.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", words(value)));
            fields.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}
