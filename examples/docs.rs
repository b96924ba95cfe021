//! Writes teu's documentation into a directory: man pages below `man/man8`, and completions for
//! bash, zsh and fish below `completions`. They are made from the definition by which the program
//! parses its command line.
//!
//! Usage: `cargo run --example docs -- DIRECTORY`

#[allow(
    dead_code,
    reason = "the binary reads the values, this program only the definition"
)]
#[path = "../src/cli/definition.rs"]
mod definition;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::fs;
use std::io::{Error, Result};
use std::path::Path;

/// The sections of teu(8) after the description and the options.
const LISTS: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "Success."),
            (
                "status of the program",
                "From run, exec and restore, unless they are detached. If a signal killed the program, \
                 128 and the number of the signal.",
            ),
            (
                "1",
                "The command failed, or the command line is wrong; standard error has the reason.",
            ),
            ("3", "The command does not exist."),
            ("255", "exec could not run its program."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "XDG_RUNTIME_DIR",
                "The directory of the state without --root, for a user without privileges and for root of a \
                 user namespace, unless USER is root. The machine's root user ignores it.",
            ),
            (
                "NOTIFY_SOCKET",
                "The socket of the service manager (sd_notify(3)). The container gets a socket of its \
                 own; when it writes READY=1 there, run or start passes that to the service manager.",
            ),
            (
                "LISTEN_FDS, LISTEN_PID",
                "The number of descriptors, from 3 on, that create and run pass on to the container \
                 (sd_listen_fds(3)). They are passed only if LISTEN_PID is the process id of teu.",
            ),
            (
                "PATH",
                "The directories in which ps and criu are searched. Hooks without an environment of \
                 their own get teu's whole environment.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            (
                "config.json",
                "The specification, in the bundle; teu-spec(8) writes one.",
            ),
            (
                "/run/teu/ID",
                "The state of the container ID, for root. --root replaces /run/teu.",
            ),
            (
                "$XDG_RUNTIME_DIR/teu/ID",
                "The state of the container ID, for a user without privileges.",
            ),
            (
                "/etc/cdi, /var/run/cdi",
                "CDI files, which describe devices by name. --cdi-dir names other directories.",
            ),
            (
                "containerd-shim-teu-v2",
                "The name by which containerd finds teu as its shim, for the runtime \
                 io.containerd.teu.v2: a link beside teu.",
            ),
            (
                "checkpoint",
                "The image files of teu-checkpoint(8), in the current directory.",
            ),
        ],
    ),
];

/// The paragraphs of teu(8) after these sections.
const EXAMPLES: &[&str] = &[
    "EXAMPLES:\nTo run a container and delete it when its program has ended, in a bundle whose root\n\
     filesystem is \"rootfs\":",
    "    # teu spec\n    # teu run my-box",
    "To run it step by step, as engines do, with \"terminal\": false in config.json:",
    "    # teu create my-box\n    # teu start my-box\n    # teu exec my-box ps\n    \
     # teu kill my-box KILL\n    # teu delete my-box",
    "SEE ALSO:\nrunc(8), criu(8), containerd(8), namespaces(7), cgroups(7), capabilities(7), seccomp(2)",
];

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let (Some(directory), None) = (words.next(), words.next()) else {
        return Err(Error::other("usage: docs DIRECTORY"));
    };
    write(Path::new(&directory))
}

/// Writes man pages and completions below `directory`.
pub(crate) fn write(directory: &Path) -> Result<()> {
    write_man_pages(&directory.join("man/man8"))?;
    write_completions(&directory.join("completions"))
}

/// The whole command line, with the values of options.
fn whole() -> Command {
    let mut whole = definition::Args::command()
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_help_heading("COMMANDS")
        // The command `help` gets no page.
        .disable_help_subcommand(true);
    whole.build();
    whole
        .mut_args(with_values)
        .mut_subcommands(|command| command.mut_args(with_values))
}

/// Adds its values to an option. The help names them already, so they are hidden.
fn with_values(option: Arg) -> Arg {
    match values(&option) {
        values if values.is_empty() => option,
        values => option
            .value_parser(PossibleValuesParser::new(values))
            .hide_possible_values(true),
    }
}

/// Options that take only the words in single quotes in their help.
const OF_WORDS: [&str; 11] = [
    "action",
    "cdi_devices",
    "cdi_hooks",
    "format",
    "gpu_env",
    "log_format",
    "nvidia_hook",
    "cgroup_manager",
    "rootless",
    "manage_cgroups_mode",
    "vendor",
];

/// The values of an option, for the completions; empty if it takes any value.
fn values(option: &Arg) -> Vec<String> {
    let help = option.get_help().map(ToString::to_string);
    let mut words = Vec::new();
    if OF_WORDS.contains(&option.get_id().as_str()) {
        for word in help.unwrap_or_default().split('\'').skip(1).step_by(2) {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
    }
    words
}

/// `teu.8` and a `teu-<command>.8` for each command.
fn write_man_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let whole = whole();
    write_page(directory, &whole)?;
    whole
        .get_subcommands()
        .try_for_each(|command| write_page(directory, command))
}

/// Writes a page. The longer texts are written here, because clap_mangen would fill the lines of
/// examples and has only its own sections.
fn write_page(directory: &Path, command: &Command) -> Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone())
        .section("8")
        .title(name.to_uppercase())
        .source(concat!("teu ", env!("CARGO_PKG_VERSION")))
        .manual("System Administration");
    let texts = [command.get_long_about(), command.get_after_help()];
    let texts = texts.into_iter().flatten().map(ToString::to_string);
    let text = texts.collect::<Vec<_>>().join("\n\n");
    let paragraphs: Vec<&str> = text.split("\n\n").collect();
    let first_section = paragraphs.iter().position(|text| heading(text).is_some());
    let (description, sections) = paragraphs.split_at(first_section.unwrap_or(paragraphs.len()));

    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["DESCRIPTION"]);
    add_paragraphs(&mut roff, description);
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    add_paragraphs(&mut roff, sections);
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
        for (title, rows) in LISTS {
            add_list(&mut roff, title, rows);
        }
        add_paragraphs(&mut roff, EXAMPLES);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(
            "teu(8), for the global options, the files and the environment",
        )]);
    }
    roff.to_writer(&mut page)?;
    fs::write(directory.join(format!("{name}.8")), page)
}

/// Splits a paragraph that begins a section into the section's title and its text.
fn heading(paragraph: &str) -> Option<(&str, &str)> {
    let (title, rest) = paragraph.split_once(":\n")?;
    let is_title = |letter: char| letter.is_ascii_uppercase() || letter == ' ';
    title.chars().all(is_title).then_some((title, rest))
}

/// Adds paragraphs. A paragraph that begins with a space is an example and is not filled.
fn add_paragraphs(roff: &mut Roff, paragraphs: &[&str]) {
    for paragraph in paragraphs {
        let text = match heading(paragraph) {
            Some((title, rest)) => {
                roff.control("SH", [title]);
                rest
            }
            None => {
                roff.control("PP", []);
                paragraph
            }
        };
        if text.starts_with(' ') {
            roff.control("nf", []);
            roff.text([roman(text)]);
            roff.control("fi", []);
        } else {
            roff.text([roman(text)]);
        }
    }
}

fn add_list(roff: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, meaning) in rows {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

fn write_completions(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = clap_complete::generate_to(shell, &mut whole(), "teu", directory)?;
        let text = fs::read_to_string(&path)?;
        fs::write(path, with_containers(shell, &text)?)?;
    }
    Ok(())
}

/// Adds container ids to a completion, for the commands on an existing container. clap itself
/// completes only fixed words.
///
/// # Errors
/// The completion does not have the form that is changed here.
pub(crate) fn with_containers(shell: Shell, text: &str) -> Result<String> {
    let whole = whole();
    let commands = whole.get_subcommands().filter(|command| {
        let mut words = command.get_positionals();
        let of_one = words.any(|word| {
            let names = word.get_value_names().unwrap_or_default();
            names.iter().any(|name| name == "container-id")
        });
        of_one && !matches!(command.get_name(), "create" | "run" | "restore")
    });
    let commands: Vec<&str> = commands.map(Command::get_name).collect();
    let list = "teu list --quiet 2> /dev/null";
    match shell {
        // Among the options, so that values of options are still completed.
        Shell::Bash => commands.iter().try_fold(text.to_owned(), |text, word| {
            let options = format!("teu__subcmd__{word})\n            opts=\"");
            replaced(&text, &options, &format!("{options}$({list}) "))
        }),
        Shell::Zsh => {
            let mut text = text.to_owned();
            for what in ["name of the container", "names of the containers"] {
                let known = format!("{what}:_teu_containers'");
                text = replaced(&text, &format!("{what}:_default'"), &known)?;
            }
            let more = format!(
                "\n_teu_containers() {{\n    local -a containers\n    \
                 containers=(${{(f)\"$({list})\"}})\n    \
                 _describe -t containers container containers\n}}\n"
            );
            replaced(&text, "\n_teu() {", &format!("{more}\n_teu() {{"))
        }
        _ => Ok(format!(
            "{text}\ncomplete -c teu -n \"__fish_seen_subcommand_from {}\" -f -a \"({list})\"\n",
            commands.join(" ")
        )),
    }
}

fn replaced(text: &str, old: &str, new: &str) -> Result<String> {
    match text.contains(old) {
        true => Ok(text.replace(old, new)),
        false => Err(Error::other(format!("no {old:?} in the completion"))),
    }
}
