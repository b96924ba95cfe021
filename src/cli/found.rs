//! Which words of a command line are flags, by the rules of urfave/cli.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::definition::{Argument, Definition, Fill, truth};
use crate::spelling;

/// A flag that was given.
#[derive(Debug)]
struct Value {
    flag: &'static Argument,
    value: OsString,
}

/// What was found in a list of words.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The flags with their values, as they came.
    values: Vec<Value>,
    /// The words that are no flags.
    pub(super) others: Vec<OsString>,
    /// Whether `-h` or `--help` was among them.
    pub(super) help: bool,
}

impl Found {
    /// Tells flags from other words, as urfave/cli does: one dash or two for
    /// any flag, `-f=value` or `-f value`, never several letters behind one
    /// dash, and flags also after other words. With `stop`, what follows that
    /// many other words is not searched for flags. On an error, what was found
    /// before it is kept.
    pub(super) fn flags(
        &mut self,
        words: &[OsString],
        definitions: &[&Definition],
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
                if is_negative(bytes) || stop == Some(self.others.len()) {
                    break;
                }
                continue;
            }
            let (name, value) = split(bytes);
            let name = String::from_utf8_lossy(name);
            if matches!(&*name, "h" | "help") {
                let value = OsStr::from_bytes(value.unwrap_or_default());
                self.help = truth(value).ok_or_else(|| invalid(value, &name, "parse error"))?;
                continue;
            }
            let Some(flag) = find(definitions, &name) else {
                return Err(undefined(definitions, &name));
            };
            let value = match value {
                Some(value) => OsStr::from_bytes(value).to_owned(),
                None if !flag.takes_value => "true".into(),
                None => match words.next() {
                    Some(next) => next.clone(),
                    None => {
                        let word = word.to_string_lossy();
                        return Err(format!("flag needs an argument: {word}"));
                    }
                },
            };
            (flag.check)(&value).map_err(|cause| invalid(&value, &name, &cause))?;
            self.values.push(Value { flag, value });
        }
        self.others.extend(words.cloned());
        Ok(())
    }

    /// Whether a flag that takes no value is on.
    pub(super) fn is_set(&self, definition: &Definition, field: &str) -> bool {
        let mut last = self.of(definition).rev();
        last.find(|given| given.flag.field == field)
            .is_some_and(|given| truth(&given.value) == Some(true))
    }

    /// What was given of one definition: `spec --rootless` is not the global
    /// `--rootless`.
    fn of<'a>(&'a self, definition: &'a Definition) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.values.iter().filter(|given| {
            let mut flags = definition.flags.iter();
            flags.any(|flag| std::ptr::eq(*flag, given.flag))
        })
    }

    /// Gives the options what was found of their definition. Of a flag given
    /// several times the last counts, unless it collects values.
    pub(super) fn fill(&self, definition: &Definition, others: &[OsString], args: &mut dyn Fill) {
        for given in self.of(definition) {
            args.set(given.flag.field, given.value.clone());
        }
        let mut expected = definition.words.iter().peekable();
        for word in others {
            // The last takes what is left.
            let Some(place) = expected
                .next_if(|place| !place.many)
                .or(expected.peek().copied())
            else {
                return;
            };
            args.set(place.field, word.clone());
        }
    }
}

/// Whether a word is read as a flag. A dash alone is not, nor is what may be a
/// negative number.
fn is_flag(word: &[u8]) -> bool {
    matches!(word, [b'-', b'-', _, ..]) || matches!(word, [b'-', b'a'..=b'z' | b'A'..=b'Z', ..])
}

/// Whether a word ends the flags although it is none, such as `-9`.
fn is_negative(word: &[u8]) -> bool {
    matches!(word, [b'-', _, ..])
}

/// A flag's name without its dashes, and the value after "=" if there is one.
fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let word = word
        .strip_prefix(b"--")
        .or_else(|| word.strip_prefix(b"-"))
        .unwrap_or(word);
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    }
}

/// The flag of that name, long or short; of two the earlier.
fn find(definitions: &[&Definition], name: &str) -> Option<&'static Argument> {
    let mut flags = definitions.iter().flat_map(|definition| &definition.flags);
    flags.find(|flag| flag.is_named(name)).copied()
}

/// Says in runc's words that there is no such flag, and which may be meant.
fn undefined(definitions: &[&Definition], name: &str) -> String {
    let flags = definitions.iter().flat_map(|definition| &definition.flags);
    let names: Vec<String> = flags.map(|flag| flag.name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nearest = spelling::nearest(name, &names);
    let hint = nearest.map_or_else(String::new, |name| format!(" (is --{name} meant?)"));
    format!("flag provided but not defined: -{name}{hint}")
}

fn invalid(value: &OsStr, name: &str, cause: &str) -> String {
    format!(
        "invalid value {:?} for flag -{name}: {cause}",
        value.to_string_lossy()
    )
}
