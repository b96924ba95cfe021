//! `teu ps`: prints the processes of a container. Runs the host's ps(1) for the table.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use teu_cgroups::Cgroup;

use super::list::Format;
use super::output::print;
use crate::state::{ContainerState, StateDir};

/// The arguments of `ps`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// JSON lists pids only; a table has the output of the host's ps.
    pub(crate) format: Format,
    /// Arguments for the host's ps; empty stands for "-ef".
    pub(crate) args: Vec<OsString>,
}

/// Prints the processes in the container's cgroup and below. For a container without a
/// cgroup, prints the processes in its pid namespace.
///
/// # Errors
/// The container does not exist, or the host's ps fails or prints no pids.
#[inline(never)]
pub(crate) fn ps(options: &Options) -> Result<()> {
    let (_, state) = StateDir::load(&options.root, &options.id)?;
    let pids = match state.cgroup.is_empty() {
        true => in_namespace_of_init(&state)?,
        false => Cgroup::open(&state.cgroup).processes()?,
    };
    let text = match options.format {
        Format::Json => json(&pids),
        Format::Table => only(&pids, &host_ps(&options.args)?)?,
    };
    print(text.as_bytes())
}

/// Returns the processes of a container without its own cgroup: the processes in its
/// pid namespace, or init alone if that namespace is the host's.
///
/// # Errors
/// The processes cannot be read.
fn in_namespace_of_init(state: &ContainerState) -> Result<Vec<i32>> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    if !state.init_is_alive()? {
        return Ok(Vec::new());
    }
    if !state.private_pid_namespace {
        return Ok(vec![state.pid]);
    }
    let own = match namespace(state.pid) {
        // Init has just ended.
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        own => own.with_context(|| format!("find the pid namespace of process {}", state.pid))?,
    };
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let entry = entry.context("read /proc")?;
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // Skip processes that have ended or may not be read, because they are not the
        // container's.
        pids.extend(pid.filter(|pid| namespace(*pid).is_ok_and(|other| other == own)));
    }
    Ok(pids)
}

/// Writes a list of numbers; an empty list is `null`, as Go writes it.
fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".into();
    }
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", pids.join(","))
}

fn host_ps(args: &[OsString]) -> Result<String> {
    let mut command = Command::new("ps");
    match args {
        [] => command.arg("-ef"),
        args => command.args(args),
    };
    let output = command.output().context("run ps")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ps: {}: {}", output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the heading of ps's output, and the lines of these processes.
fn only(pids: &[i32], table: &str) -> Result<String> {
    let (heading, lines) = table.split_once('\n').unwrap_or((table, ""));
    let column = heading
        .split_whitespace()
        .position(|title| title == "PID")
        .context("couldn't find PID field in ps output")?;
    let mut text = format!("{heading}\n");
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let pid = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = pid
            .parse()
            .with_context(|| format!("unable to parse pid {pid:?}"))?;
        if pids.contains(&pid) {
            text += line;
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_as_json() {
        assert_eq!(json(&[1, 20]), "[1,20]\n");
        assert_eq!(json(&[]), "null\n");
    }

    #[test]
    fn lines_of_the_processes_are_kept() {
        let table = "UID   PID CMD\nroot    1 init\nroot   12 sh -c 1\n";
        assert_eq!(
            only(&[12], table).expect("table"),
            "UID   PID CMD\nroot   12 sh -c 1\n"
        );
        assert_eq!(only(&[], table).expect("table"), "UID   PID CMD\n");
    }

    #[test]
    fn a_table_without_process_ids_is_refused() {
        let error = only(&[1], "CMD\ninit\n").expect_err("refused");
        assert_eq!(error.to_string(), "couldn't find PID field in ps output");
        only(&[1], "PID CMD\nx init\n").expect_err("no number");
    }
}
