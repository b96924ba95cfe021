//! `teu kill`: sends a signal to a container. Not for waiting for its end.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::Signal;
use teu_cgroups::Cgroup;

use crate::known_failures::Failure;
use crate::state::{ContainerState, StateDir, init_process};

/// The arguments of `kill`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The number of the signal. Any number may be given: 0, which only checks for the
    /// process, and real-time signals, which have no names. The kernel refuses invalid
    /// numbers.
    pub(crate) signal: i32,
    /// With `--all`, succeed if the container is not running.
    pub(crate) all: bool,
}

/// Sends the signal to init. Sends SIGKILL to every process of a container without its
/// own pid namespace, because these processes would outlive init.
///
/// # Errors
/// The container does not exist or does not run, or the kernel knows no such signal.
#[inline(never)]
pub(crate) fn kill(options: &Options) -> Result<()> {
    let (_, state) = StateDir::load(&options.root, &options.id)?;
    let everyone = options.signal == libc::SIGKILL && !state.private_pid_namespace;
    if everyone {
        return kill_everyone(&state);
    }
    match init_process::open(&state)? {
        Some(init) => init_process::signal(&state, &init, options.signal),
        None if options.all => Ok(()),
        None => Err(Failure::NotRunning.into()),
    }
}

fn kill_everyone(state: &ContainerState) -> Result<()> {
    if state.cgroup.is_empty() {
        return kill_init(state);
    }
    match Cgroup::open(&state.cgroup).kill_all(libc::SIGKILL) {
        Err(_) if state.rootless => kill_init(state),
        killed => Ok(killed?),
    }
}

/// Kills init only: without a cgroup of the container's own, its other processes cannot be
/// found.
fn kill_init(state: &ContainerState) -> Result<()> {
    match init_process::open(state)? {
        Some(init) => init_process::signal(state, &init, libc::SIGKILL),
        None => Ok(()),
    }
}

/// Parses a signal: a number, or a name with or without "SIG", in upper or lower case.
pub(crate) fn signal_number(word: &str) -> Result<i32> {
    match word.parse() {
        Ok(number) if number >= 0 => return Ok(number),
        Ok(number) => bail!("unknown signal {word:?} (is {} meant?)", -i64::from(number)),
        Err(_) => {}
    }
    let upper = word.to_ascii_uppercase();
    let name = match upper.strip_prefix("SIG") {
        Some(_) => upper,
        None => format!("SIG{upper}"),
    };
    // These are older names of SIGCHLD, SIGABRT and SIGIO.
    let name = match name.as_str() {
        "SIGCLD" => "SIGCHLD",
        "SIGIOT" => "SIGABRT",
        "SIGPOLL" => "SIGIO",
        name => name,
    };
    let signal: Signal = name
        .parse()
        .map_err(|_| anyhow!("unknown signal {word:?}"))?;
    Ok(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_number_and_name() {
        for (word, number) in [
            ("9", 9),
            ("0", 0),
            ("37", 37),
            ("KILL", 9),
            ("kill", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("cld", 17),
        ] {
            assert_eq!(signal_number(word).unwrap(), number, "{word}");
        }
    }

    #[test]
    fn an_unknown_signal_is_named() {
        for word in ["--all", "SIGRTMIN+1", "FOO", "SIG"] {
            let error = signal_number(word).unwrap_err().to_string();
            assert_eq!(error, format!("unknown signal \"{word}\""));
        }
        let error = signal_number("-9").unwrap_err().to_string();
        assert_eq!(error, "unknown signal \"-9\" (is 9 meant?)");
    }
}
