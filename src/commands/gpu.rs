//! `teu gpu`: lists the GPUs of this machine, checks them or a container's devices, and
//! writes CDI files for engines. Not for finding GPUs: see the crate teu-gpu.

mod check;
mod container;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Mode;
use serde::Serialize;
use teu_gpu::cdi::File;
use teu_gpu::{Capabilities, Gpu, Roots, Vendor};

use super::output::{print, print_json};
use crate::host::{Host, library_dirs};
use crate::{atomic_file, json};

/// The arguments of `gpu`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The directories of CDI files, absolute; empty stands for the default
    /// directories.
    pub(crate) directories: Vec<PathBuf>,
    /// The root of the driver's files, absolute.
    pub(crate) driver_root: Option<PathBuf>,
    pub(crate) action: Action,
    /// Whether to print JSON.
    pub(crate) json: bool,
    /// The path for the CDI file.
    pub(crate) output: Option<PathBuf>,
    /// The vendor whose GPUs the CDI file describes.
    pub(crate) vendor: Option<Vendor>,
    pub(crate) capabilities: Capabilities,
}

/// The action to perform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    List,
    /// Check this container, or else the machine.
    Check(Option<String>),
    Cdi,
}

impl Action {
    /// # Errors
    /// There is no such action, or it takes no container.
    pub(crate) fn new(word: &str, id: Option<String>) -> Result<Action> {
        match (word, id) {
            ("check", id) => Ok(Action::Check(id)),
            ("list" | "cdi", Some(id)) => bail!("{word} takes no container, as {id:?}"),
            ("list", None) => Ok(Action::List),
            ("cdi", None) => Ok(Action::Cdi),
            _ => bail!("{word:?}: not one of list, check, cdi"),
        }
    }
}

/// Performs the action. Returns the exit status.
///
/// # Errors
/// The kernel's data about GPUs is not understood, the container does not exist, or the
/// file cannot be written.
#[inline(never)]
pub(crate) fn gpu(options: &Options) -> Result<u8> {
    let roots = Host::new().roots(options.driver_root.as_deref())?;
    match &options.action {
        Action::List => list(&roots, options.json).map(|()| 0),
        Action::Check(None) => check::machine(&roots, &options.directories)?.print(options.json),
        Action::Check(Some(id)) => container::check(&options.root, id)?.print(options.json),
        Action::Cdi => cdi(&roots, options).map(|()| 0),
    }
}

/// The output of `list` as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    /// The version of NVIDIA's kernel module.
    nvidia_version: Option<String>,
    gpus: Vec<ListedGpu<'a>>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ListedGpu<'a> {
    #[serde(flatten)]
    gpu: &'a Gpu,
    /// The nodes that belong to this GPU only.
    nodes: Vec<String>,
}

impl<'a> ListedGpu<'a> {
    fn new(gpu: &'a Gpu) -> ListedGpu<'a> {
        let nodes = gpu.nodes().into_iter();
        ListedGpu {
            gpu,
            nodes: nodes.map(|name| format!("/dev/{name}")).collect(),
        }
    }

    /// Returns the cells of a table.
    fn row(&self) -> [String; 7] {
        let gpu = self.gpu;
        let or_none = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
        let names: Vec<&str> = gpu.instances.iter().map(|part| &*part.name).collect();
        let joined = |words: String| Some(words).filter(|words| !words.is_empty());
        [
            or_none(gpu.index.map(|index| index.to_string())),
            gpu.vendor.word().to_owned(),
            or_none(gpu.model.clone()),
            or_none(gpu.uuid.clone()),
            gpu.bus.clone(),
            or_none(joined(names.join(","))),
            or_none(joined(self.nodes.join(","))),
        ]
    }
}

/// Prints the GPUs on standard output, and problems with them on standard error.
fn list(roots: &Roots, json: bool) -> Result<()> {
    let gpus = teu_gpu::gpus(roots)?;
    let listed = Listed {
        nvidia_version: teu_gpu::nvidia_version(roots)?,
        gpus: gpus.iter().map(ListedGpu::new).collect(),
        problems: teu_gpu::problems(roots),
    };
    if json {
        return print_json(&listed);
    }
    for problem in &listed.problems {
        eprintln!("{problem}");
    }
    if gpus.is_empty() {
        return print(b"this machine has no GPU that a driver knows\n");
    }
    let header = ["INDEX", "VENDOR", "MODEL", "UUID", "BUS", "MIG", "NODES"];
    let rows = listed.gpus.iter().map(ListedGpu::row);
    let rows: Vec<[String; 7]> = [header.map(str::to_owned)]
        .into_iter()
        .chain(rows)
        .collect();
    let mut text = aligned(&rows);
    if let Some(version) = listed.nvidia_version {
        text += &format!("NVIDIA's driver: {version}\n");
    }
    print(text.as_bytes())
}

/// Aligns columns to the width of their widest cells.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Prints a CDI file for each vendor on standard output, or writes that of one vendor
/// to a file. Other devices with nodes in /dev/dri, such as a server's console, are
/// described only on request. Assumes that images have their libraries in the
/// directories of the driver's root.
fn cdi(roots: &Roots, options: &Options) -> Result<()> {
    let directories = library_dirs(&roots.driver)?;
    let files = teu_gpu::generate(roots, options.capabilities, &directories);
    let mut files = files?;
    files.retain(|file| match options.vendor {
        Some(vendor) => file.kind == vendor.kind(),
        None => file.kind != Vendor::Drm.kind(),
    });
    ensure!(
        !files.is_empty(),
        "there is no GPU to describe, or its driver is not loaded (hint: teu gpu check)"
    );
    let Some(path) = &options.output else {
        let texts = files.iter().map(|file| text(file, options.json));
        return print(texts.collect::<Result<Vec<_>>>()?.join("---\n").as_bytes());
    };
    let [file] = &files[..] else {
        let kinds: Vec<&str> = files.iter().map(|file| &*file.kind).collect();
        bail!(
            "--output: a file has devices of one kind, and there are {} (hint: --vendor)",
            kinds.join(", ")
        );
    };
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let text = text(file, options.json || is_json)?;
    // Make the file readable for all, because engines of users read it, too.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    atomic_file::write(path, text.as_bytes(), 0o644)
}

fn text(file: &File, json: bool) -> Result<String> {
    if !json {
        return Ok(file.to_yaml()?);
    }
    let text = json::indented(file, "    ").context("write JSON")?;
    Ok(String::from_utf8(text).context("write JSON")? + "\n")
}
