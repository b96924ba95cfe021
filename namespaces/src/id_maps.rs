//! Writes and reads the id maps of a user namespace (user_namespaces(7)).
//!
//! The parent of a child in a new user namespace writes the maps, because the child
//! has no privileges outside it. Which ids to map is the caller's decision.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::sys::{self, Cloned, Parent};
use crate::{IdMap, IdMaps};

/// Writes the maps of the user namespace of process `pid`, from outside it.
///
/// If the caller is not permitted to write a map, newuidmap(1) or newgidmap(1) writes
/// it. They have to be installed, and /etc/subuid and /etc/subgid have to allow the
/// ids.
///
/// # Errors
/// Returns an error if the kernel or the tool refuses a map.
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
        // The kernel permits everybody a single id. A tool would not help if it refuses that.
        return Err(match map {
            [IdMap { size: 1, .. }] => refused,
            _ => refused.with(&format!(" ({tool}, which may do it, is not in PATH)")),
        });
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

/// Finds a tool in the caller's PATH.
fn tool_path(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(tool))
        .find(|file| file.is_file())
}

/// Reads the maps of the user namespace at `path`.
///
/// A short-lived child enters the namespace and reads its own maps, because only a
/// process in the namespace sees them. The caller must be single-threaded.
///
/// # Errors
/// Returns an error if the namespace cannot be entered, or the maps cannot be read.
pub fn of_namespace(path: &Path) -> Result<IdMaps> {
    let doing = || format!("read the id maps of the user namespace {path:?}");
    let target = crate::join::open(crate::Kind::User, path.into())?;
    let (mut host, mut child) = UnixStream::pair().map_err(|err| Error::new("socketpair", err))?;
    let reader = match sys::clone3(CloneFlags::empty(), None, Parent::Caller)
        .map_err(|err| Error::new(doing(), err))?
    {
        Cloned::Child => {
            let (text, status) = match read_own_after(&target) {
                Ok(maps) => (maps, 0),
                Err(err) => (teu_errno::line(&err), 1),
            };
            let sent = child.write_all(text.as_bytes());
            sys::exit_now(sent.map_or(1, |()| status))
        }
        Cloned::Parent(pid, _) => pid,
    };
    drop(child);
    let mut text = String::new();
    let read = host.read_to_string(&mut text);
    let status = crate::wait::wait(reader)?;
    read.map_err(|err| Error::new(doing(), err))?;
    match status {
        WaitStatus::Exited(_, 0) => parse_both(&text)
            .ok_or_else(|| Error::message(format!("{}: not id maps: {text:?}", doing()))),
        WaitStatus::Exited(..) => Err(Error::message(format!("{}: {text}", doing()))),
        status => Err(Error::message(format!("{}: {status:?}", doing()))),
    }
}

/// In the child: joins the namespace and returns both maps, separated by an empty
/// line.
fn read_own_after(target: &crate::join::Target) -> Result<String> {
    // Processes of the namespace must not trace this one, which has the caller's rights.
    sys::set_dumpable(false).map_err(|err| Error::new("prctl(PR_SET_DUMPABLE)", err))?;
    let joined = target.join();
    let read = |file: &str| {
        fs::read_to_string(file).map_err(|err| Error::new(format!("read {file:?}"), err))
    };
    // The kernel refuses to join the process's own user namespace (EINVAL). Then the
    // maps are those of the process anyway.
    if !target.is_own() {
        joined?;
    }
    Ok(format!(
        "{}\n{}",
        read("/proc/self/uid_map")?,
        read("/proc/self/gid_map")?
    ))
}

fn parse_both(text: &str) -> Option<IdMaps> {
    let (uid, gid) = text.split_once("\n\n")?;
    let maps = IdMaps {
        uid: parse(uid)?,
        gid: parse(gid)?,
        deny_setgroups: false,
    };
    (!maps.uid.is_empty()).then_some(maps)
}

/// Returns whether a `uid_map` file maps all ids to themselves, as that of the initial user
/// namespace does (user_namespaces(7)). A kernel without user namespaces does not have
/// the file, so the result is true if the file does not exist.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn is_initial(uid_map: &Path) -> Result<bool> {
    // One read: the line that is looked for is shorter than this.
    let mut map = [0; 64];
    match File::open(uid_map).and_then(|mut file| file.read(&mut map)) {
        Ok(length) => {
            let map = String::from_utf8_lossy(&map[..length]);
            Ok(map.split_whitespace().eq(["0", "0", "4294967295"]))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(err) => Err(Error::new(format!("read {uid_map:?}"), err)),
    }
}

/// Parses the text of a `uid_map` or `gid_map` file. Returns `None` if a line is not
/// three numbers.
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
    fn only_the_initial_namespace_maps_all_ids_to_themselves() {
        let file = std::env::temp_dir().join(format!("teu-uid-map-{}", std::process::id()));
        assert!(is_initial(&file).expect("no such file"));
        for (map, initial) in [
            ("         0          0 4294967295\n", true),
            ("0 100000 65536\n", false),
            ("0 0 1000\n", false),
            ("", false),
        ] {
            fs::write(&file, map).expect("write");
            assert_eq!(is_initial(&file).expect(map), initial, "{map:?}");
        }
        fs::remove_file(&file).expect("remove");
        let error = is_initial(&std::env::temp_dir()).expect_err("a directory");
        assert!(teu_errno::line(&error).ends_with(": is a directory"));
    }

    #[test]
    fn the_maps_of_the_own_namespace_are_read() {
        let own = fs::read_to_string("/proc/self/uid_map").expect("own map");
        let maps = of_namespace(Path::new("/proc/self/ns/user")).expect("maps");
        assert_eq!(Some(maps.uid), parse(&own));
    }
}
