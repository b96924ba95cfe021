//! The shim's command line, which is that of containerd's own shim: flags in the form of
//! Go's package `flag`, then an action.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// The parsed command line and environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// The name by which the program was called.
    pub(crate) program: String,
    /// The action to perform.
    pub(crate) action: Action,
    /// The container's namespace in containerd.
    pub(crate) namespace: String,
    /// The id of the container; for a server, of the first container of its group.
    pub(crate) id: String,
    /// The address where containerd's clients connect.
    pub(crate) address: String,
    /// The address to which events are sent; empty if events are not sent.
    pub(crate) events_address: String,
    /// The container's bundle.
    pub(crate) bundle: PathBuf,
    /// Whether debug messages are logged.
    pub(crate) debug: bool,
}

/// An action of the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Print the version.
    Version,
    /// Report the runtime's features.
    Info,
    /// Start a server for a container, or find the server of its group.
    Start,
    /// Remove what remains of a container whose server is gone.
    Delete,
    /// Run as the server.
    Serve,
}

/// The environment variable that holds [`Invocation::events_address`].
pub(crate) const EVENTS_ADDRESS: &str = "TTRPC_ADDRESS";

impl Invocation {
    /// Reads the command line, the environment and the working directory.
    pub(crate) fn read() -> Result<Invocation> {
        let args = std::env::args_os().map(OsString::into_string);
        let args: Result<Vec<String>, OsString> = args.collect();
        let Ok(args) = args else {
            bail!("an argument is not UTF-8");
        };
        let mut invocation = Invocation::parse(&args)?;
        if invocation.bundle.as_os_str().is_empty() {
            invocation.bundle = std::env::current_dir().context("find the working directory")?;
        }
        invocation.events_address = std::env::var(EVENTS_ADDRESS).unwrap_or_default();
        Ok(invocation)
    }

    fn parse(args: &[String]) -> Result<Invocation> {
        let (program, args) = args.split_first().context("the command line is empty")?;
        let (flags, word) = split(args)?;
        let is_on = |flag| matches!(flags.get(flag), Some(&("1" | "t" | "T" | "true" | "TRUE")));
        let value = |flag| {
            flags
                .get(flag)
                .map(|value| (*value).to_owned())
                .unwrap_or_default()
        };
        let action = match word {
            _ if is_on("v") || is_on("version") => Action::Version,
            _ if is_on("info") => Action::Info,
            Some("start") => Action::Start,
            Some("delete") => Action::Delete,
            Some(other) => bail!("unknown action {other:?}"),
            None => Action::Serve,
        };
        let invocation = Invocation {
            program: program.rsplit('/').next().unwrap_or_default().to_owned(),
            action,
            namespace: value("namespace"),
            id: value("id"),
            address: value("address"),
            events_address: String::new(),
            bundle: value("bundle").into(),
            debug: is_on("debug"),
        };
        let is_of_a_container = !matches!(action, Action::Version | Action::Info);
        ensure!(
            !(is_of_a_container && invocation.namespace.is_empty()),
            "no -namespace"
        );
        ensure!(!(is_of_a_container && invocation.id.is_empty()), "no -id");
        Ok(invocation)
    }
}

/// Flags without a value, or with a boolean.
const SWITCHES: [&str; 4] = ["debug", "info", "v", "version"];
/// Flags with a value. `publish-binary` is accepted for containerd 1.2, where that program
/// sent events.
const VALUES: [&str; 5] = ["address", "bundle", "id", "namespace", "publish-binary"];

/// Splits the arguments into the flags and the first word after them.
fn split(args: &[String]) -> Result<(HashMap<&str, &str>, Option<&str>)> {
    let mut flags = HashMap::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        if arg == "--" {
            return Ok((flags, args.next()));
        }
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Ok((flags, Some(arg)));
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let value = if SWITCHES.contains(&name) {
            value.unwrap_or("true")
        } else if VALUES.contains(&name) {
            let value = value.or_else(|| args.next());
            value.with_context(|| format!("flag needs an argument: -{name}"))?
        } else {
            bail!("flag provided but not defined: -{name}");
        };
        flags.insert(name, value);
    }
    Ok((flags, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parse(line: &str) -> Result<Invocation> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Invocation::parse(&args)
    }

    #[test]
    fn containerds_command_lines_are_understood() {
        let start = "/usr/bin/containerd-shim-teu-v2 -namespace k8s.io -address /run/c.sock \
            -publish-binary /usr/bin/containerd -id abc -debug start";
        let invocation = parse(start).unwrap();
        let expected = Invocation {
            program: "containerd-shim-teu-v2".to_owned(),
            action: Action::Start,
            namespace: "k8s.io".to_owned(),
            id: "abc".to_owned(),
            address: "/run/c.sock".to_owned(),
            events_address: String::new(),
            bundle: PathBuf::new(),
            debug: true,
        };
        assert_eq!(invocation, expected);

        let delete = "shim --namespace=ns -address= -id=abc -debug=false -bundle /b delete more";
        let invocation = parse(delete).unwrap();
        assert_eq!(invocation.action, Action::Delete);
        assert_eq!(invocation.bundle, Path::new("/b"));
        assert!(!invocation.debug);

        assert_eq!(parse("shim -info").unwrap().action, Action::Info);
        assert_eq!(
            parse("shim --version start").unwrap().action,
            Action::Version
        );
        assert_eq!(
            parse("shim -namespace n -id i").unwrap().action,
            Action::Serve
        );
        assert_eq!(
            parse("shim -namespace n -id i -- start").unwrap().action,
            Action::Start
        );
    }

    #[test]
    fn other_command_lines_are_refused() {
        for (line, words) in [
            ("shim -id i start", "no -namespace"),
            ("shim -namespace n start", "no -id"),
            ("shim -namespace n -id i stop", "unknown action \"stop\""),
            ("shim -namespace", "flag needs an argument: -namespace"),
            ("shim -x", "flag provided but not defined: -x"),
            ("shim -", "flag provided but not defined: -"),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), words);
        }
    }
}
