//! Writes teu's documentation into a directory: man pages below `man/man8`, and
//! completions for bash, zsh and fish below `completions`. They are made from
//! the definitions the program itself reads its command line by.
//!
//! Usage: `cargo run --example docs -- DIRECTORY`

// The program uses what is unused here.
#[allow(
    dead_code,
    reason = "the binary uses the types, this program the definitions"
)]
#[path = "../src/cli/args.rs"]
mod args;
#[allow(
    dead_code,
    reason = "the binary reads values, this program the definitions"
)]
#[path = "../src/cli/definition.rs"]
mod definition;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use definition::{Argument, Definition};
use std::fs;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let (Some(directory), None) = (words.next(), words.next()) else {
        return Err(Error::other("usage: docs DIRECTORY"));
    };
    let directory = PathBuf::from(directory);
    write_man_pages(&directory.join("man/man8"))?;
    write_completions(&directory.join("completions"))
}

/// The whole command line: the global options with the commands below them.
fn whole() -> Command {
    let commands = args::COMMANDS
        .iter()
        .filter_map(|word| args::definition(word))
        .map(command);
    command(args::globals())
        .version(env!("CARGO_PKG_VERSION"))
        // It is among the options already.
        .disable_version_flag(true)
        .subcommand_required(true)
        .subcommands(commands)
}

/// A definition as clap has it.
fn command(definition: Definition) -> Command {
    let command = Command::new(definition.name)
        .about(definition.about.to_string())
        .args(definition.flags.iter().map(|flag| argument(flag)))
        .args(definition.words.iter().map(|word| argument(word)));
    let command = match definition.long_about {
        Some(text) => command.long_about(text),
        None => command,
    };
    match definition.after_help {
        Some(text) => command.after_help(text),
        None => command,
    }
}

fn argument(definition: &Argument) -> Arg {
    let mut arg = Arg::new(definition.field)
        .help(definition.help.to_string())
        .required(definition.required)
        .hide(definition.hidden)
        .short(definition.short)
        .action(match (definition.takes_value, definition.many) {
            (false, _) => ArgAction::SetTrue,
            (true, false) => ArgAction::Set,
            (true, true) => ArgAction::Append,
        });
    if definition.long {
        arg = arg.long(definition.name());
    }
    if definition.takes_value {
        arg = arg.value_name(definition.value_name);
        let values = values(definition.field);
        if definition.long && !values.is_empty() {
            arg = arg.value_parser(PossibleValuesParser::new(values));
        }
    }
    if !definition.default_value.is_empty() {
        arg = arg.default_value(definition.default_value);
    }
    arg
}

/// The words that an option of this name takes, for the completions; none where
/// it takes any.
fn values(field: &str) -> &'static [&'static str] {
    match field {
        "format" => &["table", "json"],
        "log_format" => &["text", "json"],
        "cgroup_manager" => &["cgroupfs", "systemd", "disabled"],
        "rootless" => &["auto", "true", "false"],
        "manage_cgroups_mode" => &["soft", "full", "strict", "ignore"],
        _ => &[],
    }
}

/// `teu.8` and a `teu-<command>.8` for each command.
fn write_man_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    // There is no page of it.
    let mut whole = whole().disable_help_subcommand(true);
    whole.build();
    let pages = whole
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .cloned();
    for command in std::iter::once(whole.clone()).chain(pages) {
        let name = match command.get_display_name() {
            Some(name) => name.to_owned(),
            None => command.get_name().to_owned(),
        };
        let page = clap_mangen::Man::new(command)
            .section("8")
            .title(name.to_uppercase())
            .source(concat!("teu ", env!("CARGO_PKG_VERSION")))
            .manual("System Administration");
        let mut text = Vec::new();
        page.render(&mut text)?;
        fs::write(directory.join(format!("{name}.8")), text)?;
    }
    Ok(())
}

fn write_completions(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut whole(), "teu", directory)?;
        let text = fs::read_to_string(&path)?;
        fs::write(path, with_containers(shell, &text))?;
    }
    Ok(())
}

/// A completion that also knows the containers, for the commands on one that is
/// there: clap knows only words that stay the same.
fn with_containers(shell: Shell, text: &str) -> String {
    let commands = args::COMMANDS.iter().filter(|word| {
        let definition = args::definition(word);
        let of_one = definition.is_some_and(|command| {
            let mut words = command.words.iter();
            words.any(|word| word.value_name == "container-id")
        });
        of_one && !matches!(**word, "create" | "run" | "restore")
    });
    let commands: Vec<&str> = commands.copied().collect();
    let list = "teu list --quiet 2> /dev/null";
    match shell {
        Shell::Bash => {
            let more = format!(
                "\n_teu_with_containers() {{\n    _teu \"$@\"\n    [[ $2 == -* || $3 == --format ]] && return\n    \
                 local word\n    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
                 case $word in\n            {})\n                \
                 COMPREPLY+=( $(compgen -W \"$({list})\" -- \"$2\") )\n                \
                 return\n                ;;\n        esac\n    done\n}}\n",
                commands.join("|")
            );
            let text = text.replace("complete -F _teu ", "complete -F _teu_with_containers ");
            text.replacen("\nif [[", &format!("{more}\nif [["), 1)
        }
        Shell::Zsh => {
            let ids = |text: &str, what: &str| {
                let known = format!("{what}:_teu_containers'");
                text.replace(&format!("{what}:_default'"), &known)
            };
            let text = ids(
                &ids(text, "name of the container"),
                "names of the containers",
            );
            let more = format!(
                "\n_teu_containers() {{\n    local -a containers\n    \
                 containers=(${{(f)\"$({list})\"}})\n    \
                 _describe -t containers container containers\n}}\n"
            );
            text.replacen("\n_teu() {", &format!("{more}\n_teu() {{"), 1)
        }
        _ => format!(
            "{text}\ncomplete -c teu -n \"__fish_seen_subcommand_from {}\" -f -a \"({list})\"\n",
            commands.join(" ")
        ),
    }
}
