//! Checks the GPUs of this machine, their driver, and the CDI files. Not for the
//! devices of a container: see `container.rs`.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use teu_gpu::Roots;
use teu_gpu::cdi::{Cdi, DeviceName, Part, Standing};
use teu_plan::gpu_request::NVIDIA_HOOK;

use super::super::output::{print, print_json};
use crate::host::Host;

/// The result of a check.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    findings: Vec<Finding>,
    /// Facts that are not errors but useful to know.
    notes: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// The action to take; empty if `what` says it already.
    hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{} (hint: {})", self.what, self.hint),
        }
    }
}

impl Report {
    pub(super) fn wrong(&mut self, what: String, hint: impl Into<String>) {
        let hint = hint.into();
        self.findings.push(Finding { what, hint });
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Prints the report. Returns the exit status: 1 if something is wrong.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub(super) fn print(&self, json: bool) -> Result<u8> {
        if json {
            print_json(self)?;
        } else {
            let findings = self.findings.iter().map(|finding| format!("{finding}\n"));
            let notes = self.notes.iter().map(|note| format!("note: {note}\n"));
            print(findings.chain(notes).collect::<String>().as_bytes())?;
        }
        Ok(u8::from(!self.findings.is_empty()))
    }
}

/// Checks the machine.
///
/// # Errors
/// A name in a CDI file cannot be parsed; no such case is known.
pub(super) fn machine(roots: &Roots, directories: &[PathBuf]) -> Result<Report> {
    let mut report = Report::default();
    for problem in teu_gpu::problems(roots) {
        report.wrong(problem, "");
    }
    // Errors of these are among the problems.
    let gpus = teu_gpu::gpus(roots).unwrap_or_default();
    report.note(match gpus.len() {
        0 => "this machine has no GPU that a driver knows".to_owned(),
        count => format!("GPUs: {count}; \"teu gpu list\" shows them"),
    });
    let nodes = gpus.iter().flat_map(teu_gpu::Gpu::nodes);
    for path in nodes.map(|name| roots.dev.join(name)) {
        if !path.exists() {
            report.note(format!(
                "there is no {path:?}; teu makes it in containers, and others do not"
            ));
        }
    }
    files(&Host::new().cdi(directories), &mut report)?;
    for path in programs(NVIDIA_HOOK) {
        report.note(format!(
            "there is {path:?}: if it is NVIDIA's, a runtime that runs it lets it change \
             device rules, and the next update takes them back"
        ));
    }
    Ok(report)
}

fn programs(name: &str) -> Vec<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let paths = env::split_paths(&paths).map(|directory| directory.join(name));
    paths.filter(|path| path.is_file()).collect()
}

/// Checks the CDI files, and that the files that they describe exist.
fn files(cdi: &Cdi, report: &mut Report) -> Result<()> {
    for problem in cdi.problems() {
        report.wrong(
            problem.to_string(),
            "no container gets it until it is corrected",
        );
    }
    let names = cdi
        .entries()
        .filter(|entry| entry.standing == Standing::InForce)
        .map(|entry| entry.name.parse());
    let names: Vec<DeviceName> = names.collect::<Result<_, _>>()?;
    for part in cdi.parts(&names)? {
        if let Err(err) = part.edits() {
            report.wrong(teu_errno::line(&err), STALE);
        } else if let Some(path) = missing_mount(&part) {
            report.wrong(format!("{}: there is no {path:?} to mount", part.of), STALE);
        }
    }
    Ok(())
}

const STALE: &str = "the file is older than the driver: write it again, as with \"teu gpu cdi\"";

/// Returns the first file or directory of the host that is to be mounted and does not
/// exist.
fn missing_mount<'a>(part: &Part<'a>) -> Option<&'a Path> {
    let mounts = part.edits.mounts.iter();
    let binds = mounts.filter(|mount| mount.kind.is_empty() || mount.kind == "bind");
    let mut paths = binds.map(|mount| Path::new(&mount.host_path));
    paths.find(|path| !path.exists())
}
