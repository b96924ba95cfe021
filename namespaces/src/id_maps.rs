//! Writing the id maps of a user namespace (user_namespaces(7)).

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::{IdMap, IdMaps};

/// Writes the maps of the user namespace `pid` is in, from outside it.
///
/// Where the caller may not write a map itself, newuidmap(1) and newgidmap(1)
/// do it, if they are installed and /etc/subuid and /etc/subgid allow it.
///
/// # Errors
/// The kernel or the tool refused a map.
pub(crate) fn write(pid: Pid, maps: &IdMaps) -> Result<()> {
    if maps.deny_setgroups {
        write_file(pid, "setgroups", "deny")?;
    }
    write_map(pid, "gid_map", &maps.gid, "newgidmap")?;
    write_map(pid, "uid_map", &maps.uid, "newuidmap")
}

fn write_map(pid: Pid, file: &str, map: &[IdMap], tool: &str) -> Result<()> {
    match write_file(pid, file, &lines(map)) {
        Err(error) if error.errno() == Some(libc::EPERM) => run_tool(tool, pid, map, error),
        result => result,
    }
}

fn write_file(pid: Pid, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    // One write: the kernel takes the whole map at once or not at all.
    fs::write(&path, text).map_err(|err| Error::new(format!("write {text:?} to {path:?}"), err))
}

fn lines(map: &[IdMap]) -> String {
    let mut text = String::new();
    for line in map {
        // Writing to a String cannot fail.
        writeln!(text, "{} {} {}", line.container, line.host, line.size).unwrap_or_default();
    }
    text
}

fn run_tool(tool: &str, pid: Pid, map: &[IdMap], refused: Error) -> Result<()> {
    let Some(program) = tool_path(tool) else {
        return Err(refused);
    };
    let mut command = Command::new(program);
    command.env_clear().arg(pid.to_string());
    for line in map {
        command.args([line.container, line.host, line.size].map(|id| id.to_string()));
    }
    let output = command
        .output()
        .map_err(|err| Error::new(format!("run {tool}"), err))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::message(format!("{tool}: {}", words.trim())))
}

/// Looked up in the caller's PATH, as a shell would.
fn tool_path(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
}

/// The maps of the user namespace at `path`, when that is `/proc/PID/ns/user`.
///
/// # Errors
/// The maps cannot be read or parsed.
pub fn of_process(path: &Path) -> Result<Option<IdMaps>> {
    let Some(process) = path.strip_suffix_ns_user() else {
        return Ok(None);
    };
    let read = |file: &str| {
        let path = process.join(file);
        let text =
            fs::read_to_string(&path).map_err(|err| Error::new(format!("read {path:?}"), err))?;
        parse(&text).ok_or_else(|| {
            Error::new(
                format!("{path:?}"),
                io::Error::from_raw_os_error(libc::EINVAL),
            )
        })
    };
    Ok(Some(IdMaps {
        uid: read("uid_map")?,
        gid: read("gid_map")?,
        deny_setgroups: false,
    }))
}

trait NamespacePath {
    fn strip_suffix_ns_user(&self) -> Option<&Path>;
}

impl NamespacePath for Path {
    fn strip_suffix_ns_user(&self) -> Option<&Path> {
        if !self.starts_with("/proc") || !self.ends_with("ns/user") {
            return None;
        }
        self.parent()?.parent()
    }
}

/// Parses the text of a `uid_map` or `gid_map` file.
pub fn parse(text: &str) -> Option<Vec<IdMap>> {
    text.lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let (container, host, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(IdMap {
                container: container.ok()?,
                host: host.ok()?,
                size: size.ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_written_as_the_kernel_reads_it() {
        let map = [
            IdMap {
                container: 0,
                host: 100_000,
                size: 65536,
            },
            IdMap {
                container: 65536,
                host: 1,
                size: 1,
            },
        ];
        assert_eq!(lines(&map), "0 100000 65536\n65536 1 1\n");
        assert_eq!(parse(&lines(&map)).as_deref(), Some(&map[..]));
    }

    #[test]
    fn only_a_process_namespace_tells_its_maps() {
        assert!(
            of_process(Path::new("/run/ns/user"))
                .expect("no error")
                .is_none()
        );
        assert!(
            of_process(Path::new("/proc/self/ns/user"))
                .expect("own")
                .is_some()
        );
    }
}
