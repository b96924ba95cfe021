//! `teu kill`: send a signal to a container.

use anyhow::{Result, anyhow, bail};
use nix::sys::signal::Signal;
use std::path::PathBuf;

/// What `kill` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The number of the signal. Any number may have been typed, also 0, which
    /// only asks whether the process is there, and real-time signals, which
    /// have no names; the kernel refuses those that are none.
    pub(crate) signal: i32,
    /// Whether a container that does not run is no error.
    pub(crate) all: bool,
}

pub(crate) fn kill(options: &Options) -> Result<()> {
    bail!("container {:?}: kill is not built yet", options.id)
}

/// The number of a signal written as a number, or as a name with or without
/// "SIG", in either case.
pub(crate) fn signal_number(word: &str) -> Result<i32> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    let upper = word.to_ascii_uppercase();
    let name = match upper.strip_prefix("SIG") {
        Some(_) => upper,
        None => format!("SIG{upper}"),
    };
    // Older names of SIGCHLD, SIGABRT and SIGIO.
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
            ("-9", -9),
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
    }
}
