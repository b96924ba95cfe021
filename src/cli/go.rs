//! Converts the spellings of runc's parser (Go's flag package and urfave/cli) to those
//! of clap: finds out which words of a command line are flags, and of which command.
//!
//! Not for the meaning of flags: clap reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{Arg, ArgAction, Command};

/// The words of a command line, each flag spelled "--name" or "--name=value".
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The global flags.
    pub(super) globals: Vec<OsString>,
    /// The flags of the command.
    pub(super) flags: Vec<OsString>,
    /// The words that are not flags.
    pub(super) others: Vec<OsString>,
    /// Whether help is requested.
    pub(super) help: bool,
}

impl Words {
    /// Sorts words. One dash or two begin any flag, long or short, as in `-f=value` or
    /// `-f value`, but several letters never share a dash. Flags may also stand after
    /// other words. A flag belongs to the command, or else is global. With `stop`,
    /// words after that number of other words are not searched for flags.
    ///
    /// # Errors
    /// A flag is unknown or lacks its value. The text is runc's. Flags before it are
    /// kept.
    pub(super) fn sort(
        &mut self,
        words: &[OsString],
        command: Option<&Command>,
        globals: &Command,
        stop: Option<usize>,
    ) -> Result<(), String> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let bytes = word.as_bytes();
            if bytes == b"--" {
                break;
            }
            if !is_flag(bytes) {
                self.others.push(word.clone());
                // A word that may be a negative number ends the flags although it is
                // not a flag.
                if matches!(bytes, [b'-', _, ..]) || stop == Some(self.others.len()) {
                    break;
                }
                continue;
            }
            let (name, value) = split(bytes);
            if matches!(&*name, "h" | "help") {
                self.help = switch(&name, value)?;
                continue;
            }
            let (flag, sorted) = match command.and_then(|command| find(command, &name)) {
                Some(flag) => (flag, &mut self.flags),
                None => match find(globals, &name) {
                    Some(flag) => (flag, &mut self.globals),
                    None => return Err(undefined(command, globals, &name)),
                },
            };
            let spelling = format!("--{}", flag.get_long().unwrap_or(&name));
            if is_switch(flag) {
                let is_on = switch(&name, value)?;
                // clap cannot unset "--name".
                if matches!(flag.get_action(), ArgAction::SetTrue) {
                    sorted.retain(|earlier| *earlier != *spelling);
                    sorted.extend(is_on.then(|| spelling.into()));
                } else {
                    sorted.push(format!("{spelling}={is_on}").into());
                }
                continue;
            }
            let value = value.or_else(|| words.next().map(OsString::as_os_str));
            let value = value
                .ok_or_else(|| format!("flag needs an argument: {}", word.to_string_lossy()))?;
            let mut whole = OsString::from(spelling + "=");
            whole.push(value);
            sorted.push(whole);
        }
        self.others.extend(words.cloned());
        Ok(())
    }

    /// Returns the whole command line for clap, with this command.
    pub(super) fn of_clap(&self, command: &str) -> Vec<OsString> {
        let (program, command) = (["teu".into()], [command.into()]);
        let (globals, flags) = (self.globals.clone(), self.flags.clone());
        let words = program
            .into_iter()
            .chain(globals)
            .chain(command)
            .chain(flags);
        words
            .chain(["--".into()])
            .chain(self.others.clone())
            .collect()
    }
}

/// Returns whether a word is read as a flag. Single dashes and possible negative
/// numbers are not.
fn is_flag(word: &[u8]) -> bool {
    matches!(word, [b'-', b'-', _, ..]) || matches!(word, [b'-', b'a'..=b'z' | b'A'..=b'Z', ..])
}

/// Splits a flag into its name without dashes and the value after "=", if any.
fn split(word: &[u8]) -> (String, Option<&OsStr>) {
    let dashes = if word.starts_with(b"--") { 2 } else { 1 };
    let mut parts = word[dashes..].splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default());
    (name.into_owned(), parts.next().map(OsStr::from_bytes))
}

/// Finds the flag with that name, long or short.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut letters = name.chars();
    let short = letters.next().filter(|_| letters.next().is_none());
    command
        .get_arguments()
        .find(|flag| flag.get_long() == Some(name) || short.is_some() && flag.get_short() == short)
}

/// Returns whether a flag is a switch, which is on or off and takes no other value.
fn is_switch(flag: &Arg) -> bool {
    let least = flag.get_num_args().map(|count| count.min_values());
    matches!(flag.get_action(), ArgAction::SetTrue) || least == Some(0)
}

/// Returns whether a switch is on.
fn switch(name: &str, value: Option<&OsStr>) -> Result<bool, String> {
    let value = value.unwrap_or_default();
    truth(value).ok_or_else(|| invalid(name, &value.to_string_lossy(), "parse error"))
}

/// Parses a truth value in Go's spelling. The empty text means true.
pub(super) fn truth(value: &OsStr) -> Option<bool> {
    match value.as_bytes() {
        b"" | b"1" | b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// Returns the message for an unknown flag, with a similar flag as a hint.
fn undefined(command: Option<&Command>, globals: &Command, name: &str) -> String {
    let flags = command.into_iter().chain([globals]);
    let names: Vec<&str> = flags
        .flat_map(Command::get_arguments)
        .filter_map(Arg::get_long)
        .collect();
    let nearest = teu_spelling::nearest(name, &names);
    let hint = nearest.map_or_else(String::new, |name| format!(" (is --{name} meant?)"));
    format!("flag provided but not defined: -{name}{hint}")
}

/// Returns the message for an invalid value of a flag.
pub(super) fn invalid(name: &str, value: &str, cause: &str) -> String {
    format!("invalid value {value:?} for flag -{name}: {cause}")
}
