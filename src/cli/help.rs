//! Help, in the layout runc's users and tests know (urfave/cli's).

use super::args;
use super::definition::{Argument, Definition};
use std::fmt::Write;

/// What the command `help` does.
const ABOUT_HELP: &str = "show the commands, or the help of one";

/// The help for everything.
pub(super) fn overview(program: &str) -> String {
    let globals = args::globals();
    let description = globals.long_about.unwrap_or_default();
    let mut text = format!(
        "NAME:\n   {program} - {}\n\n{description}\n\n\
         USAGE:\n   {program} {}\n\nVERSION:\n   {}\n\nCOMMANDS:\n",
        globals.about,
        args::USAGE,
        env!("CARGO_PKG_VERSION")
    );
    let mut rows: Vec<_> = args::COMMANDS
        .iter()
        .filter_map(|word| args::definition(word))
        .map(|command| (command.name.to_owned(), command.about.to_string()))
        .collect();
    rows.push(("help, h".to_owned(), ABOUT_HELP.to_owned()));
    write_rows(&mut text, &rows);
    text.push_str("\nGLOBAL OPTIONS:\n");
    let mut rows = flags(&globals);
    rows.push(help_flag());
    write_rows(&mut text, &rows);
    text
}

/// The help of one command.
pub(super) fn of_command(program: &str, command: &Definition, globals: &Definition) -> String {
    let word = command.name;
    let usage = command.usage();
    let mut text = format!(
        "NAME:\n   {program} {word} - {}\n\nUSAGE:\n   {program} {usage}\n",
        command.about
    );
    if let Some(explanation) = command.after_help {
        text += &format!("\n{explanation}\n");
    }
    if let Some(description) = command.long_about {
        text += &format!("\nDESCRIPTION:\n   {}\n", indented(description));
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
        "NAME:\n   {program} help - {ABOUT_HELP}\n\n\
         USAGE:\n   {program} help [command]\n"
    )
}

/// Lines after the first are set in like the first.
fn indented(text: &str) -> String {
    text.replace('\n', "\n   ").replace("\n   \n", "\n\n")
}

fn help_flag() -> (String, String) {
    ("--help, -h".to_owned(), "show help".to_owned())
}

/// Each flag's spellings and what it does.
fn flags(command: &Definition) -> Vec<(String, String)> {
    let visible = command.flags.iter().filter(|flag| !flag.hidden);
    visible
        .map(|flag| (spellings(flag), meaning(flag)))
        .collect()
}

fn spellings(flag: &Argument) -> String {
    let value = match flag.value_name {
        "" => String::new(),
        name => format!(" {name}"),
    };
    let long = format!("--{}{value}", flag.name());
    match flag.short {
        Some(short) => format!("{long}, -{short}{value}"),
        None => long,
    }
}

fn meaning(flag: &Argument) -> String {
    match flag.default_value {
        "" => flag.help.to_string(),
        default => format!("{} (default: {default:?})", flag.help),
    }
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
            for flag in command.flags.iter().filter(|flag| !flag.hidden) {
                assert!(text.contains(&format!("\n   --{}", flag.name())), "{text}");
            }
        }
    }

    #[test]
    fn descriptions_have_no_gaps() {
        for word in args::COMMANDS {
            let command = args::definition(word).unwrap();
            let texts = [command.long_about, command.after_help];
            for line in texts.into_iter().flatten().flat_map(str::lines) {
                assert!(!line.trim_start().contains("  "), "{word}: {line}");
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
