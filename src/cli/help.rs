//! Help, in the layout runc's users and tests know (urfave/cli's).

use super::args;
use clap::{Arg, ArgAction, Command};
use std::fmt::Write;

const SUMMARY: &str = "Open Container Initiative runtime";

const ABOUT: &str = "\
teu runs containers that are packaged by the Open Container Initiative's
specification. It makes one container from one bundle and leaves the rest to
whoever calls it: engines such as containerd, CRI-O and Podman, or you.

A bundle is a directory with a specification file named \"config.json\" and a
root filesystem. To run the container of the bundle in the current directory:

    # teu run <container-id>

<container-id> is your name for the container. No other container below the
same --root may have it.";

/// The help for everything.
pub(super) fn overview(program: &str) -> String {
    let mut text = format!(
        "NAME:\n   {program} - {SUMMARY}\n\n{ABOUT}\n\n\
         USAGE:\n   {program} [global options] [command [command options]]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut rows: Vec<_> = args::COMMANDS
        .iter()
        .filter_map(|word| args::definition(word))
        .map(|command| (command.get_name().to_owned(), summary(&command)))
        .collect();
    rows.push((
        "help, h".to_owned(),
        "show the commands, or the help of one".to_owned(),
    ));
    write_rows(&mut text, &rows);
    text.push_str("\nGLOBAL OPTIONS:\n");
    let mut rows = flags(&args::globals());
    rows.push(help_flag());
    write_rows(&mut text, &rows);
    text
}

/// The help of one command.
pub(super) fn of_command(program: &str, command: &Command, globals: &Command) -> String {
    let word = command.get_name();
    let mut usage = format!("{program} {word} [options]");
    for arg in command.get_positionals() {
        let name = arg
            .get_value_names()
            .and_then(|names| names.first())
            .map_or("", |name| name);
        let more = if matches!(arg.get_action(), ArgAction::Append) {
            "..."
        } else {
            ""
        };
        usage += &match arg.is_required_set() {
            true => format!(" <{name}>{more}"),
            false => format!(" [{name}]{more}"),
        };
    }
    let mut text = format!(
        "NAME:\n   {program} {word} - {}\n\nUSAGE:\n   {usage}\n",
        summary(command)
    );
    if let Some(explanation) = command.get_after_help() {
        text += &format!("\n{explanation}\n");
    }
    if let Some(description) = command.get_long_about() {
        text += &format!(
            "\nDESCRIPTION:\n   {}\n",
            indented(&description.to_string())
        );
    }
    text += "\nOPTIONS:\n";
    let mut rows = flags(command);
    rows.push(help_flag());
    write_rows(&mut text, &rows);
    text += "\nGLOBAL OPTIONS:\n";
    let mut rows = flags(globals);
    // Only for the program itself.
    rows.retain(|(spellings, _)| !spellings.starts_with("--version"));
    write_rows(&mut text, &rows);
    text
}

/// The help of `help`.
pub(super) fn of_help(program: &str) -> String {
    format!(
        "NAME:\n   {program} help - show the commands, or the help of one\n\n\
         USAGE:\n   {program} help [command]\n"
    )
}

fn summary(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Lines after the first are set in like the first.
fn indented(text: &str) -> String {
    text.replace('\n', "\n   ").replace("\n   \n", "\n\n")
}

fn help_flag() -> (String, String) {
    ("--help, -h".to_owned(), "show help".to_owned())
}

/// Each flag's spellings and what it does.
fn flags(command: &Command) -> Vec<(String, String)> {
    let visible = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    visible.map(|arg| (spellings(arg), meaning(arg))).collect()
}

fn spellings(arg: &Arg) -> String {
    let value = match arg.get_value_names().and_then(|names| names.first()) {
        Some(name) if arg.get_action().takes_values() => format!(" {name}"),
        _ => String::new(),
    };
    let long = arg.get_long().map(|long| format!("--{long}{value}"));
    let short = arg.get_short().map(|short| format!("-{short}{value}"));
    long.into_iter().chain(short).collect::<Vec<_>>().join(", ")
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if let [default] = arg.get_default_values()
        && arg.get_action().takes_values()
    {
        text += &format!(" (default: {default:?})");
    }
    text
}

/// Two columns, the second aligned.
fn write_rows(text: &mut String, rows: &[(String, String)]) {
    let width = rows
        .iter()
        .map(|(left, _)| left.len())
        .max()
        .unwrap_or_default()
        + 2;
    for (left, right) in rows {
        // Writing to a String cannot fail.
        if writeln!(text, "   {left:width$}{right}").is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_flag_has_one_line() {
        let globals = args::globals();
        for word in args::COMMANDS {
            let command = args::definition(word).unwrap();
            let text = of_command("teu", &command, &globals);
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with("   --"))
                .collect();
            assert_eq!(
                lines.iter().collect::<HashSet<_>>().len(),
                lines.len(),
                "{text}"
            );
            for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = flag.get_long() {
                    assert!(text.contains(&format!("\n   --{long}")), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_hidden_stays_hidden() {
        let command = args::definition("kill").unwrap();
        let text = of_command("teu", &command, &args::globals());
        assert!(!text.contains("--all"), "{text}");
        assert!(
            text.contains("teu kill [options] <container-id> [signal]\n"),
            "{text}"
        );
    }
}
