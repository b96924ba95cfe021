//! The command line, read by runc's rules.
//!
//! `cli/definition.rs` defines it for clap. `cli/go.rs` turns what runc's parser (urfave/cli)
//! accepts into what clap accepts. `cli/convert.rs` makes the options of the commands. An
//! error of clap gets runc's words here.
//!
//! Not for doing anything: `main` dispatches, the commands act.

mod convert;
mod definition;
mod go;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, CommandFactory, Error, FromArgMatches};
pub(crate) use definition::{Command, GlobalArgs};

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Cli {
    /// The last component of the path by which this program was called: "teu", or for
    /// example "runc" in its place. It names the program in messages.
    pub(crate) program: String,
    pub(crate) global: GlobalArgs,
    pub(crate) asked: Asked,
}

/// The request of a command line.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Debug)]
pub(crate) enum Asked {
    Command(Command),
    /// Print this help on standard output.
    Help(String),
    /// Print the version.
    Version,
    /// The command line is invalid.
    Refused(Refusal),
}

/// An invalid command line, with the messages about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The text for standard output; may be empty.
    pub(crate) output: String,
    /// The text for standard error, before the message; may be empty.
    pub(crate) notice: String,
    /// The error, which is reported like every other.
    pub(crate) message: String,
    /// The exit status.
    pub(crate) status: u8,
}

/// The exit status for an unknown command or help topic.
const UNKNOWN_TOPIC: u8 = 3;

/// The commands whose words after the container's name are not flags of teu, as in
/// `kill ID -9`.
const STOP_AT_ID: &[&str] = &["exec", "kill", "ps"];

impl Cli {
    /// Reads a command line, beginning with the program's name.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Cli {
        let mut words = words.into_iter();
        let path = words.next().unwrap_or_else(|| "teu".into());
        let program = match Path::new(&path).file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => "teu".to_owned(),
        };
        let mut line = Line {
            path: &path,
            program: &program,
            definition: definition(),
            sorted: go::Words::default(),
            global: None,
        };
        let asked = line.read(&words.collect::<Vec<_>>());
        let global = line.globals();
        Cli {
            asked: asked.unwrap_or_else(Asked::Refused),
            program,
            global,
        }
    }
}

/// A command line while it is read.
struct Line<'a> {
    path: &'a OsStr,
    /// The program's name, for the messages and the help.
    program: &'a str,
    definition: clap::Command,
    sorted: go::Words,
    /// The global flags, if they were read with a command.
    global: Option<GlobalArgs>,
}

impl Line<'_> {
    fn read(&mut self, words: &[OsString]) -> Result<Asked, Refusal> {
        // The first word that is not a flag is the command, and the following words
        // belong to the command.
        let sorted = self.sorted.sort(words, None, &self.definition, Some(1));
        sorted.map_err(|message| misused(message, self.overview()))?;
        let rest = std::mem::take(&mut self.sorted.others);
        if self.sorted.help {
            return self.help(rest.first());
        }
        if self.sorted.globals.iter().any(|flag| flag == "--version") {
            return Ok(Asked::Version);
        }
        match rest.split_first() {
            None => self.help(None),
            Some((word, rest)) => self.command(&word.to_string_lossy(), rest),
        }
    }

    /// Reads the words after the command, which may include global flags.
    fn command(&mut self, word: &str, words: &[OsString]) -> Result<Asked, Refusal> {
        match self.definition.find_subcommand_mut(word) {
            Some(command) => command.build(),
            None => return Err(self.unknown_topic(word)),
        }
        let stop = STOP_AT_ID.contains(&word).then_some(1);
        let command = self.definition.find_subcommand(word);
        let sorted = self.sorted.sort(words, command, &self.definition, stop);
        sorted.map_err(|message| misused(message, self.help_of(word)))?;
        if self.sorted.help {
            return Ok(Asked::Help(self.help_of(word)));
        }
        if matches!(word, "help" | "h") {
            return self.help(self.sorted.others.first());
        }
        let line = self.sorted.of_clap(word);
        let matches = self.definition.try_get_matches_from_mut(line);
        let args = matches
            .and_then(|mut matches| definition::Args::from_arg_matches_mut(&mut matches))
            .map_err(|error| self.refusal(word, &error))?;
        let command = args.command.ok_or_else(|| self.unknown_topic(word))?;
        self.global = Some(args.global);
        Ok(Asked::Command(command))
    }

    /// Returns the global flags found so far. If clap refuses a global flag, it does so
    /// together with the command.
    fn globals(&mut self) -> GlobalArgs {
        if let Some(global) = self.global.take() {
            return global;
        }
        let words = [OsString::from("teu")].into_iter();
        let words = words.chain(self.sorted.globals.iter().cloned());
        let matches = self.definition.try_get_matches_from_mut(words);
        let globals = matches.and_then(|mut all| GlobalArgs::from_arg_matches_mut(&mut all));
        globals.unwrap_or_default()
    }

    /// Converts clap's error into runc's text.
    fn refusal(&self, word: &str, error: &Error) -> Refusal {
        match error.kind() {
            ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument => Refusal {
                output: format!("Incorrect Usage.\n\n{}", self.help_of(word)),
                message: self.miscounted(word, error.kind()),
                ..Refusal::general()
            },
            ErrorKind::ValueValidation => {
                let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
                let flag = context(ContextKind::InvalidArg);
                let name = flag.trim_start_matches('-').split(' ').next();
                let cause = std::error::Error::source(error).map(ToString::to_string);
                let message = go::invalid(
                    name.unwrap_or_default(),
                    &context(ContextKind::InvalidValue),
                    &cause.unwrap_or_default(),
                );
                misused(message, self.help_of(word))
            }
            kind => misused(kind.to_string(), self.help_of(word)),
        }
    }

    /// Returns the message for a wrong number of words that are not flags.
    fn miscounted(&self, word: &str, kind: ErrorKind) -> String {
        let command = self.definition.find_subcommand(word);
        let words = || command.into_iter().flat_map(clap::Command::get_positionals);
        let least = words().filter(|word| word.is_required_set()).count();
        let most = words().count();
        let many = words().any(|word| matches!(word.get_action(), ArgAction::Append));
        let (bound, number) = match kind {
            _ if least == most && !many => ("exactly", least),
            ErrorKind::MissingRequiredArgument => ("a minimum of", least),
            _ => ("a maximum of", most),
        };
        let path = self.path.to_string_lossy();
        format!("{path}: \"{word}\" requires {bound} {number} argument(s)")
    }

    /// Returns the help of a command, or the overview.
    fn help(&self, topic: Option<&OsString>) -> Result<Asked, Refusal> {
        match topic.map(|topic| topic.to_string_lossy()) {
            None => Ok(Asked::Help(self.overview())),
            Some(word) if self.definition.find_subcommand(&*word).is_some() => {
                Ok(Asked::Help(self.help_of(&word)))
            }
            Some(word) => Err(self.unknown_topic(&word)),
        }
    }

    fn overview(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let template = format!(
            "USAGE:\n   {{usage}}\n\nVERSION:\n   {version}\n\nCOMMANDS:\n{{subcommands}}\n\n\
             GLOBAL OPTIONS:\n{{options}}\n"
        );
        let whole = definition().bin_name(self.program);
        help(self.program, whole, template)
    }

    fn help_of(&self, word: &str) -> String {
        let mut whole = definition().bin_name(self.program);
        whole.build();
        let Some(command) = whole.find_subcommand(word) else {
            return self.overview();
        };
        let globals = definition::Args::command()
            .disable_help_flag(true)
            // The flag works only before a command.
            .mut_arg("version", |version| version.hide(true))
            .help_template("{options}")
            .render_help();
        let mut template = "USAGE:\n   {usage}{after-help}\n".to_owned();
        if !command.is_disable_help_flag_set() {
            template += &format!("\nOPTIONS:\n{{options}}\n\nGLOBAL OPTIONS:\n{globals}\n");
        }
        let name = format!("{} {}", self.program, command.get_name());
        help(&name, command.clone(), template)
    }

    fn unknown_topic(&self, topic: &str) -> Refusal {
        let commands = self.definition.get_subcommands();
        let names: Vec<&str> = commands.map(clap::Command::get_name).collect();
        let nearest = teu_spelling::nearest(topic, &names);
        let hint = nearest.map_or_else(String::new, |word| format!(" (is '{word}' meant?)"));
        Refusal {
            message: format!("No help topic for '{topic}'{hint}"),
            status: UNKNOWN_TOPIC,
            ..Refusal::general()
        }
    }
}

/// Returns clap's definition, with a command `help` like runc's, which has no flags.
fn definition() -> clap::Command {
    let help = clap::Command::new("help")
        .visible_alias("h")
        .about("show the commands, or the help of one")
        .arg(clap::Arg::new("command"))
        .disable_help_flag(true);
    definition::Args::command()
        .disable_help_subcommand(true)
        .subcommand(help)
}

/// Formats help in the layout that runc's users and tests know (urfave/cli's).
fn help(name: &str, mut command: clap::Command, template: String) -> String {
    let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string);
    let about = text(command.get_about()).unwrap_or_default();
    let description = text(command.get_long_about()).map(|text| text + "\n\n");
    command.build();
    // clap's own text distinguishes "-h" from "--help".
    let command = command.mut_args(|flag| match flag.get_id().as_str() {
        "help" => flag.help("show help"),
        _ => flag,
    });
    let rest = command.help_template(template).render_help();
    format!(
        "NAME:\n   {name} - {about}\n\n{}{rest}",
        description.unwrap_or_default()
    )
}

impl Refusal {
    fn general() -> Refusal {
        Refusal {
            output: String::new(),
            notice: String::new(),
            message: String::new(),
            status: 1,
        }
    }
}

fn misused(message: String, help: String) -> Refusal {
    let notice = format!("Incorrect Usage: {message}\n\n");
    Refusal {
        output: help,
        notice,
        message,
        ..Refusal::general()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use teu_cgroups::{BlockIoLimits, CpuLimits, Limits, MemoryLimits};

    use super::*;
    use crate::commands::{create, update};
    use crate::state::root::Root;
    use std::os::unix::ffi::OsStringExt;
    use teu_plan::CgroupManager;
    use teu_plan::gpu::CdiHooks;

    fn read(line: &str) -> Cli {
        let words = line
            .split_whitespace()
            .map(|word| if word == "''" { "" } else { word });
        Cli::read(words.map(OsString::from))
    }

    fn command(line: &str) -> Command {
        match read(line).asked {
            Asked::Command(command) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refusal(line: &str) -> Refusal {
        match read(line).asked {
            Asked::Refused(refusal) => refusal,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn help(line: &str) -> String {
        match read(line).asked {
            Asked::Help(text) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn create(line: &str) -> create::Options {
        let cli = read(line);
        let root = cli.global.root().unwrap();
        match cli.asked {
            Asked::Command(Command::Create(args)) => args.options(&cli.global, &root).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn as_containerd_calls() {
        let line = "/usr/bin/teu --root /r --log /b/log.json --log-format json create \
                    --bundle /b --pid-file /b/init.pid --no-pivot c1";
        let options = create(line);
        assert_eq!(options.root, Path::new("/r"));
        assert_eq!(options.bundle, Path::new("/b"));
        assert_eq!(options.pid_file.as_deref(), Some(Path::new("/b/init.pid")));
        assert!(options.no_pivot && !options.no_new_keyring);
        assert_eq!(options.cgroup_manager, CgroupManager::Filesystem);
        assert_eq!(options.id, "c1");
        let global = read(line).global;
        assert_eq!(global.log.as_deref(), Some(OsStr::new("/b/log.json")));
        assert_eq!(global.log_format, "json");
        assert_eq!(read(line).program, "teu");

        let Command::Delete(args) = command("teu --root /r delete --force c1") else {
            panic!()
        };
        assert!(args.force && args.ids == ["c1"]);
        let Command::Kill(args) = command("teu --root /r kill --all c1 9") else {
            panic!()
        };
        assert!(args.all && args.signal == Some("9".into()));
    }

    #[test]
    fn devices_and_their_directories_may_be_several() {
        let options = create(
            "teu create --device v/c=1 --cdi-dir /a -device=v/c=2 --cdi-dir b --cdi-hooks none c1",
        );
        let devices = options.devices;
        assert_eq!(devices.names, ["v/c=1", "v/c=2"]);
        let here = std::env::current_dir().unwrap();
        assert_eq!(devices.directories, [PathBuf::from("/a"), here.join("b")]);
        assert_eq!(devices.hooks, CdiHooks::None);
        assert!(!devices.cdi_annotations);
        let devices = create("teu create --cdi-annotations c1").devices;
        assert_eq!(devices.hooks, CdiHooks::All);
        assert!(devices.cdi_annotations && devices.names.is_empty());
    }

    #[test]
    fn as_podman_and_crio_call() {
        let options = create("teu --systemd-cgroup --root=/r create --bundle X --pid-file /p c1");
        assert_eq!(options.cgroup_manager, CgroupManager::Systemd);
        assert_eq!(options.root, Path::new("/r"));
        // Podman uses this for a runtime that supports it according to containers.conf.
        let options = create("teu --root=/r --cgroup-manager disabled create --bundle X c1");
        assert_eq!(options.cgroup_manager, CgroupManager::Disabled);
    }

    #[test]
    fn the_cgroup_manager_is_chosen() {
        for (flags, manager) in [
            ("", CgroupManager::Filesystem),
            ("--cgroup-manager=", CgroupManager::Filesystem),
            ("--cgroup-manager=cgroupfs", CgroupManager::Filesystem),
            ("--cgroup-manager systemd", CgroupManager::Systemd),
            (
                "--systemd-cgroup --cgroup-manager=disabled",
                CgroupManager::Disabled,
            ),
            ("--systemd-cgroup --cgroup-manager=", CgroupManager::Systemd),
        ] {
            let options = create(&format!("teu {flags} create c1"));
            assert_eq!(options.cgroup_manager, manager, "{flags}");
        }
        let global = read("teu --cgroup-manager=none list").global;
        let error = global.cgroup_manager().expect_err("refused").to_string();
        assert_eq!(
            error,
            "--cgroup-manager \"none\": not one of cgroupfs, systemd, disabled"
        );
    }

    fn update(line: &str) -> anyhow::Result<update::Options> {
        let cli = read(line);
        let root = cli.global.root()?;
        match cli.asked {
            Asked::Command(Command::Update(args)) => args.options(&root),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn devices_that_come_and_go() {
        let line =
            "teu update --device-add /dev/a:/b --device-add=v/c=1 --device-rm /d --cdi-dir /e c1";
        let devices = update(line).unwrap().devices;
        assert_eq!(devices.add, ["/dev/a:/b", "v/c=1"]);
        assert_eq!(devices.remove, ["/d"]);
        assert_eq!(devices.devices.directories, [PathBuf::from("/e")]);
        assert_eq!(devices.devices.hooks, CdiHooks::All);
        let devices = update("teu update --cdi-hooks none c1").unwrap().devices;
        assert_eq!(devices.devices.hooks, CdiHooks::LeftOut);
    }

    #[test]
    fn as_engines_update_and_watch() {
        // These are calls of containerd, of Podman, and of a person.
        let options = update("teu --root /r --log-format json update --resources=- c1").unwrap();
        assert!(matches!(&options.change, update::Change::File(path) if path == Path::new("-")));
        let options = update("teu update --resources /tmp/update.json c1").unwrap();
        assert!(matches!(options.change, update::Change::File(_)));
        let line = "teu update c1 --memory 1.5g --memory-swap -1 --cpu-quota=-1 --pids-limit -1 \
                    --cpu-share 512 --cpuset-cpus 0-1 --blkio-weight 500 --cpu-idle 1";
        let update::Change::Limits(limits) = update(line).unwrap().change else {
            panic!()
        };
        let expected = Limits {
            cpu: CpuLimits {
                shares: Some(512),
                quota: Some(-1),
                idle: Some(1),
                cpus: "0-1".into(),
                ..CpuLimits::default()
            },
            memory: MemoryLimits {
                limit: Some(3 << 29),
                swap: Some(-1),
                ..MemoryLimits::default()
            },
            pids: Some(-1),
            block_io: BlockIoLimits {
                weight: Some(500),
                ..BlockIoLimits::default()
            },
            ..Limits::default()
        };
        assert_eq!(*limits, expected);
        let error = update("teu update --pids-limit x c1")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("invalid value for pids-limit: "),
            "{error}"
        );

        let Command::Events(args) = command("teu --root /r events --stats c1") else {
            panic!()
        };
        assert!(args.stats);
        let root = Root::choose(None).unwrap();
        for (word, interval) in [
            ("5s", Some(5_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("2000us", Some(2)),
            ("+5s", Some(5_000)),
            ("-1s", Some(0)),
            ("5", None),
            ("0", Some(0)),
            ("1e3s", None),
            ("99999999999999h999999999999999999h", None),
        ] {
            let Command::Events(args) = command(&format!("teu events --interval={word} c1")) else {
                panic!()
            };
            let found = args.options(&root).ok().map(|options| options.interval);
            assert_eq!(found, interval.map(Duration::from_millis), "{word}");
        }
        let Command::Stats(args) = command("teu stats --no-stream a b") else {
            panic!()
        };
        assert!(args.no_stream && args.ids == ["a", "b"]);
    }

    #[test]
    fn every_spelling_of_a_flag() {
        for line in [
            "teu create -bundle X -no-pivot c1",
            "teu create -bundle=X --no-pivot=true c1",
            "teu create -b X -no-pivot=1 c1",
            "teu create -b=X --no-pivot c1",
            "teu create --b X c1 --no-pivot",
            "teu create c1 -b Y -b X -no-pivot=",
            "teu create --no-pivot -b X -- c1",
        ] {
            let options = create(line);
            assert_eq!(options.bundle, Path::new("X"), "{line}");
            assert!(options.no_pivot, "{line}");
            assert_eq!(options.id, "c1", "{line}");
        }
        assert!(!create("teu create --no-pivot --no-pivot=false c1").no_pivot);
        assert_eq!(create("teu create --preserve-fds 0x10 c1").preserve_fds, 16);
        assert_eq!(create("teu create -preserve-fds=3 c1").preserve_fds, 3);
        let Command::Run(args) = command("teu run -d -no-subreaper --keep c1") else {
            panic!()
        };
        assert!(args.detach && args.no_subreaper && args.keep);
    }

    #[test]
    fn empty_values_unset() {
        let options = create("teu create --bundle= --pid-file '' --console-socket= c1");
        assert_eq!(options.bundle, Path::new("."));
        assert_eq!((options.pid_file, options.console_socket), (None, None));
    }

    #[test]
    fn a_relative_pid_file_is_of_the_callers_directory() {
        let pid_file = create("teu create --bundle X --pid-file p c1").pid_file;
        assert_eq!(pid_file, Some(std::env::current_dir().unwrap().join("p")));
    }

    #[test]
    fn kill_reads_no_flags_after_the_name() {
        for (line, signal, all) in [
            ("teu kill c1 -9", Some("-9"), false),
            ("teu kill c1 --all", Some("--all"), false),
            ("teu kill -a c1", None, true),
            ("teu kill --all=false c1 KILL", Some("KILL"), false),
        ] {
            let Command::Kill(args) = command(line) else {
                panic!("{line}")
            };
            assert_eq!(args.id, "c1", "{line}");
            assert_eq!(args.signal.as_deref(), signal, "{line}");
            assert_eq!(args.all, all, "{line}");
        }
    }

    #[test]
    fn repeated_values_are_not_split_at_commas() {
        let line = "teu list --filter a=1,2 -q -filter=b=3 --format json";
        let Command::List(args) = command(line) else {
            panic!()
        };
        assert_eq!(args.filter, ["a=1,2", "b=3"]);
        assert!(args.quiet && args.format == "json");
    }

    #[test]
    fn the_same_word_before_and_after_the_command() {
        let cli = read("teu --rootless=false spec --rootless");
        assert_eq!(cli.global.rootless, "false");
        let Asked::Command(Command::Spec(args)) = cli.asked else {
            panic!()
        };
        assert!(args.rootless);
        // Global options are accepted after the command, too, as in runc 1.5.
        let cli = read("teu state c1 --root /r");
        assert_eq!(cli.global.root.as_deref(), Some(OsStr::new("/r")));
        assert!(matches!(cli.asked, Asked::Command(Command::State(_))));
    }

    #[test]
    fn a_wrong_rootless_matters_only_where_it_is_used() {
        let line = "teu --rootless=maybe create c1";
        let cli = read(line);
        let Asked::Command(Command::Create(args)) = cli.asked else {
            panic!()
        };
        let root = Root {
            path: "/r".into(),
            given: true,
        };
        assert!(args.options(&cli.global, &root).is_err());
        assert!(matches!(
            read("teu --rootless=maybe state c1").asked,
            Asked::Command(_)
        ));
    }

    #[test]
    fn unknown_flags_are_refused_with_the_help() {
        for (line, message, section) in [
            (
                "teu -bogus list",
                "flag provided but not defined: -bogus",
                "COMMANDS:",
            ),
            (
                "teu list --bogus=1",
                "flag provided but not defined: -bogus",
                "OPTIONS:",
            ),
            (
                "teu list -qf",
                "flag provided but not defined: -qf",
                "OPTIONS:",
            ),
            ("teu create c1 -b", "flag needs an argument: -b", "OPTIONS:"),
            ("teu --root", "flag needs an argument: --root", "COMMANDS:"),
            (
                "teu --debug=x list",
                "invalid value \"x\" for flag -debug: parse error",
                "COMMANDS:",
            ),
            (
                "teu run --preserve-fds x c1",
                "invalid value \"x\" for flag -preserve-fds: invalid digit found in string",
                "OPTIONS:",
            ),
        ] {
            let refusal = refusal(line);
            assert_eq!(refusal.message, message, "{line}");
            assert_eq!(
                refusal.notice,
                format!("Incorrect Usage: {message}\n\n"),
                "{line}"
            );
            assert!(
                refusal.output.contains(section),
                "{line}: {}",
                refusal.output
            );
            assert_eq!(refusal.status, 1, "{line}");
        }
    }

    #[test]
    fn wrong_counts_are_refused_in_runcs_words() {
        for (line, bound) in [
            (
                "/bin/runc create",
                "\"create\" requires exactly 1 argument(s)",
            ),
            (
                "/bin/runc state a b",
                "\"state\" requires exactly 1 argument(s)",
            ),
            (
                "/bin/runc list a",
                "\"list\" requires exactly 0 argument(s)",
            ),
            (
                "/bin/runc kill",
                "\"kill\" requires a minimum of 1 argument(s)",
            ),
            (
                "/bin/runc kill a b c",
                "\"kill\" requires a maximum of 2 argument(s)",
            ),
            (
                "/bin/runc delete -f",
                "\"delete\" requires a minimum of 1 argument(s)",
            ),
        ] {
            let refusal = refusal(line);
            assert_eq!(refusal.message, format!("/bin/runc: {bound}"));
            assert!(
                refusal
                    .output
                    .starts_with("Incorrect Usage.\n\nNAME:\n   runc "),
                "{line}"
            );
            assert_eq!((refusal.notice.as_str(), refusal.status), ("", 1));
        }
    }

    #[test]
    fn unknown_commands_are_unknown_topics() {
        for line in [
            "teu foo",
            "teu foo -h",
            "teu help foo",
            "teu -h foo",
            "teu version",
            "teu init",
        ] {
            let refusal = refusal(line);
            let topic = line
                .split(' ')
                .find(|word| ["foo", "version", "init"].contains(word));
            assert_eq!(
                refusal.message,
                format!("No help topic for '{}'", topic.unwrap())
            );
            assert_eq!((refusal.output.as_str(), refusal.status), ("", 3), "{line}");
        }
    }

    #[test]
    fn help_names_the_program_as_it_was_called() {
        for line in [
            "/x/runc",
            "/x/runc help",
            "/x/runc h",
            "/x/runc -h",
            "/x/runc --help",
        ] {
            let text = help(line);
            let start = "NAME:\n   runc - Open Container Initiative runtime\n";
            assert!(text.starts_with(start), "{line}: {text}");
            for command in definition::Args::command().get_subcommands() {
                let word = command.get_name();
                assert!(text.contains(&format!("\n  {word} ")), "{word}");
            }
        }
    }

    #[test]
    fn every_command_has_help() {
        for command in definition::Args::command().get_subcommands() {
            let word = command.get_name();
            let text = help(&format!("teu {word} -h"));
            assert!(
                text.starts_with(&format!("NAME:\n   teu {word} - ")),
                "{text}"
            );
            for other in [
                format!("teu {word} --help x y"),
                format!("teu help {word}"),
                format!("teu -h {word}"),
            ] {
                assert_eq!(help(&other), text, "{other}");
            }
        }
    }

    #[test]
    fn help_has_help() {
        for line in ["teu help help", "teu h help", "teu help -h", "teu help h"] {
            assert_eq!(
                help(line),
                "NAME:\n   teu help - show the commands, or the help of one\n\n\
                 USAGE:\n   teu help [command]\n",
                "{line}"
            );
        }
    }

    #[test]
    fn version_is_a_flag_of_the_program() {
        for line in ["teu -v", "teu --version", "teu -version list"] {
            assert!(matches!(read(line).asked, Asked::Version), "{line}");
        }
        assert_eq!(refusal("teu version").status, 3);
    }

    #[test]
    fn words_that_are_not_text_survive() {
        let bytes = OsString::from_vec(b"/b\xff".to_vec());
        let words = [
            "teu".into(),
            "create".into(),
            "-b".into(),
            bytes.clone(),
            "c1".into(),
        ];
        let cli = Cli::read(words);
        let root = Root {
            path: "/r".into(),
            given: true,
        };
        let Asked::Command(Command::Create(args)) = cli.asked else {
            panic!()
        };
        assert_eq!(
            args.options(&cli.global, &root).unwrap().bundle,
            PathBuf::from(bytes)
        );
    }

    #[test]
    fn definition_is_sound() {
        definition::Args::command().debug_assert();
    }
}
