//! The command line, read by runc's rules.
//!
//! The flags are defined in `cli/args.rs`. No library reads them: runc's parser
//! (urfave/cli) accepts spellings that clap and its like cannot, and what is
//! left to do then is a loop over a dozen words, in a process that has a
//! millisecond.
//!
//! Not for doing anything: `main` dispatches, the commands act.

mod args;
mod definition;
mod help;

use crate::commands::{
    checkpoint, create, delete, events, exec, kill, list, pause, ps, restore, run, spec, start,
    state, stats, update,
};
use crate::criu::rpc::{CgroupMode, Flags, PageServer};
use crate::plan::cgroup::CgroupManager;
use crate::plan::exec::Replacements;
use crate::root::Root;
use crate::{duration, log, size};
use anyhow::{Context, Result, bail};
pub(crate) use args::{Command, GlobalArgs};
use definition::{Argument, Definition, Fill, Options, truth};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use teu_cgroups::{BlockIoLimits, CpuLimits, Limits, MemoryLimits};

/// What was typed.
#[derive(Debug)]
pub(crate) struct Cli {
    /// The last component of the path this program was called by: "teu", or
    /// "runc" where it stands in for it. It names the program in messages.
    pub(crate) program: String,
    pub(crate) global: GlobalArgs,
    pub(crate) asked: Asked,
}

/// What is to be done about it.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Debug)]
pub(crate) enum Asked {
    Command(Command),
    /// Print this help on standard output.
    Help(String),
    /// Print the version.
    Version,
    /// Nothing, because it cannot be read.
    Refused(Refusal),
}

/// A command line that cannot be read, and how to say so.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For standard output; empty for nothing.
    pub(crate) output: String,
    /// For standard error, before the message; empty for nothing.
    pub(crate) notice: String,
    /// The error, reported like every other.
    pub(crate) message: String,
    /// The exit status.
    pub(crate) status: u8,
}

/// The status of an unknown command or help topic.
const UNKNOWN_TOPIC: u8 = 3;

/// The commands whose words after the container's name are not flags for us:
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
        let words: Vec<OsString> = words.collect();
        let (global, asked) = Line {
            path: &path,
            program: &program,
        }
        .read(&words);
        Cli {
            program,
            global,
            asked,
        }
    }
}

/// The program's names, for the messages and the help of one reading.
struct Line<'a> {
    path: &'a OsStr,
    program: &'a str,
}

impl Line<'_> {
    fn read(&self, words: &[OsString]) -> (GlobalArgs, Asked) {
        let globals = args::globals();
        let mut found = Found::default();
        // The first word that is no flag is the command, and what follows is
        // the command's.
        let outcome = found.flags(words, &[&globals], Some(1));
        let rest = std::mem::take(&mut found.others);
        let asked = match outcome {
            Err(message) => misused(message, help::overview(self.program)),
            Ok(()) if found.help => self.help(rest.first()),
            Ok(()) if found.is_set(&globals, "version") => Asked::Version,
            Ok(()) => self.command(&rest, &globals, &mut found),
        };
        let mut global = GlobalArgs::initial();
        found.fill(&globals, &[], &mut global);
        (global, asked)
    }

    /// Reads the words from the command on. `found` holds the global flags
    /// before it, and receives those after it.
    fn command(&self, words: &[OsString], globals: &Definition, found: &mut Found) -> Asked {
        let Some((first, rest)) = words.split_first() else {
            return Asked::Help(help::overview(self.program));
        };
        let word = first.to_string_lossy();
        if matches!(&*word, "help" | "h") {
            return self.help(rest.first());
        }
        let Some(definition) = args::definition(&word) else {
            return unknown_topic(&word);
        };
        let stop = STOP_AT_ID.contains(&&*word).then_some(1);
        let outcome = found.flags(rest, &[&definition, globals], stop);
        let help = |definition| help::of_command(self.program, definition, globals);
        match outcome {
            Err(message) => misused(message, help(&definition)),
            Ok(()) if found.help => Asked::Help(help(&definition)),
            Ok(()) => {
                if let Some(message) = self.miscounted(&word, &definition, found.others.len()) {
                    let output = format!("Incorrect Usage.\n\n{}", help(&definition));
                    return Asked::Refused(Refusal {
                        output,
                        message,
                        ..Refusal::general()
                    });
                }
                let fill = |args: &mut dyn Fill| found.fill(&definition, &found.others, args);
                match Command::with(&word, fill) {
                    Some(command) => Asked::Command(command),
                    None => unknown_topic(&word),
                }
            }
        }
    }

    /// The help of a command, or of everything.
    fn help(&self, topic: Option<&OsString>) -> Asked {
        let Some(topic) = topic else {
            return Asked::Help(help::overview(self.program));
        };
        let topic = topic.to_string_lossy();
        match args::definition(&topic) {
            Some(definition) => Asked::Help(help::of_command(
                self.program,
                &definition,
                &args::globals(),
            )),
            None if matches!(&*topic, "help" | "h") => Asked::Help(help::of_help(self.program)),
            None => unknown_topic(&topic),
        }
    }

    /// What is wrong with the number of words that are no flags, in runc's
    /// words.
    fn miscounted(&self, word: &str, definition: &Definition, count: usize) -> Option<String> {
        let expected = &definition.words;
        let least = expected.iter().filter(|word| word.required).count();
        let most = match expected.iter().any(|word| word.many) {
            true => usize::MAX,
            false => expected.len(),
        };
        let (bound, number) = match count {
            _ if (least..=most).contains(&count) => return None,
            _ if least == most => ("exactly", least),
            _ if count < least => ("a minimum of", least),
            _ => ("a maximum of", most),
        };
        let path = self.path.to_string_lossy();
        Some(format!(
            "{path}: \"{word}\" requires {bound} {number} argument(s)"
        ))
    }
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

fn misused(message: String, help: String) -> Asked {
    let notice = format!("Incorrect Usage: {message}\n\n");
    Asked::Refused(Refusal {
        output: help,
        notice,
        message,
        ..Refusal::general()
    })
}

fn unknown_topic(topic: &str) -> Asked {
    let message = format!("No help topic for '{topic}'");
    Asked::Refused(Refusal {
        message,
        status: UNKNOWN_TOPIC,
        ..Refusal::general()
    })
}

/// A flag that was given.
#[derive(Debug)]
struct Value {
    flag: &'static Argument,
    value: OsString,
}

/// What was found in a list of words.
#[derive(Debug, Default)]
struct Found {
    /// The flags with their values, as they came.
    values: Vec<Value>,
    /// The words that are no flags.
    others: Vec<OsString>,
    /// Whether `-h` or `--help` was among them.
    help: bool,
}

impl Found {
    /// Tells flags from other words, as urfave/cli does: one dash or two for
    /// any flag, `-f=value` or `-f value`, never several letters behind one
    /// dash, and flags also after other words. With `stop`, what follows that
    /// many other words is not searched for flags. On an error, what was found
    /// before it is kept.
    fn flags(
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
                return Err(format!("flag provided but not defined: -{name}"));
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
    fn is_set(&self, definition: &Definition, field: &str) -> bool {
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
    fn fill(&self, definition: &Definition, others: &[OsString], args: &mut dyn Fill) {
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

fn invalid(value: &OsStr, name: &str, cause: &str) -> String {
    format!(
        "invalid value {:?} for flag -{name}: {cause}",
        value.to_string_lossy()
    )
}

/// The value of an option that an empty value unsets.
fn non_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

/// The path of `--pid-file`, absolute.
fn pid_file(value: Option<OsString>) -> Result<Option<PathBuf>> {
    let absolute = non_empty(value).map(|path| {
        std::path::absolute(&path).with_context(|| format!("find the directory of {path:?}"))
    });
    absolute.transpose()
}

/// The value of an option that is compared with words or goes into JSON.
fn text(value: OsString, name: &str) -> Result<String> {
    match value.into_string() {
        Ok(text) => Ok(text),
        Err(value) => bail!("--{name} {value:?}: not UTF-8"),
    }
}

/// A container's name. One that is not UTF-8 becomes one that no container can
/// have, so it is refused where every name is checked.
fn name(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}

impl args::BundleArgs {
    fn options(self, id: OsString, global: &GlobalArgs, root: &Root) -> Result<create::Options> {
        Ok(create::Options {
            root: root.path.clone(),
            cgroup_manager: global.cgroup_manager()?,
            rootless: global.rootless_cgroups()?,
            id: name(id),
            bundle: non_empty(self.bundle).map_or_else(|| PathBuf::from("."), PathBuf::from),
            console_socket: non_empty(self.console_socket).map(PathBuf::from),
            pidfd_socket: non_empty(self.pidfd_socket).map(PathBuf::from),
            pid_file: pid_file(self.pid_file)?,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: self.preserve_fds,
        })
    }
}

impl GlobalArgs {
    /// Where the state of containers is, as `--root` and the environment say.
    pub(crate) fn root(&self) -> Result<Root> {
        Root::choose(self.root.as_deref())
    }

    /// What `--cgroup-manager` says or, without it, `--systemd-cgroup`; of crun,
    /// which has both, engines use the first for `disabled`.
    fn cgroup_manager(&self) -> Result<CgroupManager> {
        match self.cgroup_manager.as_deref().map(OsStr::as_bytes) {
            None | Some(b"") if self.systemd_cgroup => Ok(CgroupManager::Systemd),
            None | Some(b"" | b"cgroupfs") => Ok(CgroupManager::Filesystem),
            Some(b"systemd") => Ok(CgroupManager::Systemd),
            Some(b"disabled") => Ok(CgroupManager::Disabled),
            Some(_) => bail!(
                "--cgroup-manager {:?}: not one of cgroupfs, systemd, disabled",
                self.cgroup_manager.as_deref().unwrap_or_default()
            ),
        }
    }

    /// The value of `--rootless`. Only the commands that make a container look
    /// at it, so only they refuse a wrong one.
    fn rootless_cgroups(&self) -> Result<create::Rootless> {
        let value = &self.rootless;
        if value.is_empty() || value.eq_ignore_ascii_case("auto") {
            return Ok(create::Rootless::Auto);
        }
        match truth(value) {
            Some(true) => Ok(create::Rootless::Yes),
            Some(false) => Ok(create::Rootless::No),
            None => bail!("--rootless {value:?}: not one of true, false, auto"),
        }
    }
}

impl args::CreateArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<create::Options> {
        self.bundle.options(self.id, global, root)
    }
}

impl args::RunArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<run::Options> {
        Ok(run::Options {
            create: self.bundle.options(self.id, global, root)?,
            detach: self.detach,
            keep: self.keep,
            no_subreaper: self.no_subreaper,
        })
    }
}

impl args::CriuArgs {
    fn images(&self) -> PathBuf {
        non_empty(self.image_path.clone()).map_or_else(|| "checkpoint".into(), PathBuf::from)
    }

    fn work(&self) -> Option<PathBuf> {
        non_empty(self.work_path.clone()).map(PathBuf::from)
    }

    fn flags(&self) -> Result<Flags> {
        if let Some(other) = self.empty_ns.iter().find(|kind| *kind != "network") {
            bail!("namespace {other:?} is not supported");
        }
        Ok(Flags {
            external_unix_sockets: self.ext_unix_sk,
            tcp_established: self.tcp_established,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            auto_dedup: self.auto_dedup,
            lazy_pages: self.lazy_pages,
            ..Flags::default()
        })
    }

    fn cgroup_mode(&self) -> Result<CgroupMode> {
        let mode = self.manage_cgroups_mode.as_deref().unwrap_or_default();
        Ok(match mode.as_bytes() {
            b"" => CgroupMode::Default,
            b"soft" => CgroupMode::Soft,
            b"full" => CgroupMode::Full,
            b"strict" => CgroupMode::Strict,
            b"ignore" => CgroupMode::Ignore,
            _ => bail!("invalid manage-cgroups-mode value {mode:?}"),
        })
    }
}

/// The value of `--page-server`.
fn page_server(value: Option<OsString>) -> Result<Option<PageServer>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    let value = text(value, "page-server")?;
    let parts = value.rsplit_once(':').map(|(address, port)| {
        let inner = address.strip_prefix('[');
        (
            inner
                .and_then(|inner| inner.strip_suffix(']'))
                .unwrap_or(address),
            port,
        )
    });
    match parts {
        Some((address, port)) if !address.is_empty() && !port.is_empty() => Ok(Some(PageServer {
            address: address.to_owned(),
            port: match port.parse::<u16>() {
                Ok(port) => port.into(),
                Err(_) => bail!("--page-server {value:?}: Invalid port number"),
            },
        })),
        _ => bail!("Use --page-server ADDRESS:PORT to specify page server"),
    }
}

impl args::CheckpointArgs {
    pub(crate) fn options(self, root: &Root) -> Result<checkpoint::Options> {
        Ok(checkpoint::Options {
            root: root.path.clone(),
            id: name(self.id),
            images: self.criu.images(),
            work: self.criu.work(),
            parent: non_empty(self.parent_path),
            pre_dump: self.pre_dump,
            flags: Flags {
                leave_running: self.leave_running,
                tcp_skip_in_flight: self.tcp_skip_in_flight,
                link_remap: self.link_remap,
                ..self.criu.flags()?
            },
            page_server: page_server(self.page_server)?,
            status_fd: u32::try_from(self.status_fd).ok(),
            cgroup_mode: self.criu.cgroup_mode()?,
        })
    }
}

impl args::RestoreArgs {
    pub(crate) fn options(self, global: &GlobalArgs, root: &Root) -> Result<restore::Options> {
        let words = |value: Option<OsString>, name| {
            non_empty(value).map(|value| text(value, name)).transpose()
        };
        let bundle = args::BundleArgs {
            bundle: self.bundle,
            console_socket: self.console_socket,
            pidfd_socket: None,
            pid_file: self.pid_file,
            no_pivot: self.no_pivot,
            no_new_keyring: false,
            preserve_fds: 0,
        };
        Ok(restore::Options {
            create: bundle.options(self.id, global, root)?,
            images: self.criu.images(),
            work: self.criu.work(),
            flags: self.criu.flags()?,
            cgroup_mode: self.criu.cgroup_mode()?,
            detach: self.detach,
            no_subreaper: self.no_subreaper,
            lsm_profile: words(self.lsm_profile, "lsm-profile")?,
            lsm_mount_context: words(self.lsm_mount_context, "lsm-mount-context")?,
        })
    }
}

impl args::StartArgs {
    pub(crate) fn options(self, root: &Root) -> start::Options {
        start::Options {
            root: root.path.clone(),
            id: name(self.id),
        }
    }
}

impl args::StateArgs {
    pub(crate) fn options(self, root: &Root) -> state::Options {
        state::Options {
            root: root.path.clone(),
            id: name(self.id),
        }
    }
}

impl args::ExecArgs {
    pub(crate) fn options(self, root: &Root) -> Result<exec::Options> {
        let value = |option: Option<OsString>, name| {
            non_empty(option).map(|value| text(value, name)).transpose()
        };
        let all = |values: Vec<OsString>, name| {
            values
                .into_iter()
                .map(|value| text(value, name))
                .collect::<Result<Vec<_>>>()
        };
        let replacements = Replacements {
            args: self.command,
            cwd: value(self.cwd, "cwd")?,
            env: all(self.env, "env")?,
            terminal: self.tty,
            user: value(self.user, "user")?,
            additional_gids: self.additional_gids,
            selinux_label: value(self.process_label, "process-label")?,
            apparmor_profile: value(self.apparmor, "apparmor")?,
            no_new_privileges: self.no_new_privs,
            capabilities: all(self.cap, "cap")?,
        };
        Ok(exec::Options {
            root: root.path.clone(),
            id: name(self.id),
            process: non_empty(self.process).map(PathBuf::from),
            replacements,
            detach: self.detach,
            console_socket: non_empty(self.console_socket).map(PathBuf::from),
            pidfd_socket: non_empty(self.pidfd_socket).map(PathBuf::from),
            pid_file: pid_file(self.pid_file)?,
            preserve_fds: self.preserve_fds,
            sub_cgroups: exec::sub_cgroups(&all(self.cgroup, "cgroup")?)?,
            ignore_paused: self.ignore_paused,
        })
    }
}

impl args::KillArgs {
    pub(crate) fn options(self, root: &Root) -> Result<kill::Options> {
        let word = self.signal.filter(|word| !word.is_empty());
        let signal = match word {
            Some(word) => kill::signal_number(&word.to_string_lossy())?,
            None => libc::SIGTERM,
        };
        Ok(kill::Options {
            root: root.path.clone(),
            id: name(self.id),
            signal,
            all: self.all,
        })
    }
}

impl args::DeleteArgs {
    pub(crate) fn options(self, root: &Root) -> delete::Options {
        let ids = self.ids.into_iter().map(name).collect();
        delete::Options {
            root: root.path.clone(),
            ids,
            force: self.force,
        }
    }
}

impl args::ListArgs {
    pub(crate) fn options(self, root: Root) -> Result<list::Options> {
        let filters = self
            .filter
            .iter()
            .map(|word| word.to_string_lossy().parse());
        Ok(list::Options {
            root,
            format: self.format.to_string_lossy().parse()?,
            quiet: self.quiet,
            filters: filters.collect::<Result<_>>()?,
        })
    }
}

impl args::PauseArgs {
    pub(crate) fn options(self, root: &Root) -> pause::Options {
        pause::Options {
            root: root.path.clone(),
            id: name(self.id),
        }
    }
}

impl args::ResumeArgs {
    pub(crate) fn options(self, root: &Root) -> pause::Options {
        pause::Options {
            root: root.path.clone(),
            id: name(self.id),
        }
    }
}

impl args::PsArgs {
    pub(crate) fn options(self, root: &Root) -> Result<ps::Options> {
        Ok(ps::Options {
            root: root.path.clone(),
            id: name(self.id),
            format: self.format.to_string_lossy().parse()?,
            args: self.args,
        })
    }
}

impl args::StatsArgs {
    pub(crate) fn options(self, root: Root) -> Result<stats::Options> {
        let format = non_empty(self.format).map(|word| word.to_string_lossy().parse());
        Ok(stats::Options {
            root,
            ids: self.ids.into_iter().map(name).collect(),
            interval: interval(&self.interval)?,
            once: self.no_stream,
            format: format.transpose()?,
        })
    }
}

impl args::EventsArgs {
    pub(crate) fn options(self, root: &Root) -> Result<events::Options> {
        Ok(events::Options {
            root: root.path.clone(),
            id: name(self.id),
            interval: interval(&self.interval)?,
            stats: self.stats,
        })
    }
}

/// The value of `--interval`, in the words of urfave/cli if it is none.
fn interval(value: &OsStr) -> Result<Duration> {
    let word = value.to_string_lossy();
    let (is_negative, positive) = match word.strip_prefix('-') {
        Some(positive) => (true, positive),
        None => (false, &*word),
    };
    match duration::parse(positive) {
        // The command refuses it like no time at all.
        Ok(_) if is_negative => Ok(Duration::ZERO),
        Ok(interval) => Ok(interval),
        Err(_) => bail!("invalid value {word:?} for flag -interval: parse error"),
    }
}

impl args::UpdateArgs {
    pub(crate) fn options(self, root: &Root) -> Result<update::Options> {
        let schema = |value: &Option<OsString>, name| {
            let value = value.clone().map(|value| text(value, name)).transpose();
            value.map(Option::unwrap_or_default)
        };
        let (l3_cache_schema, memory_bandwidth_schema) = (
            schema(&self.l3_cache_schema, "l3-cache-schema")?,
            schema(&self.mem_bw_schema, "mem-bw-schema")?,
        );
        let id = name(self.id.clone());
        let change = match non_empty(self.resources.clone()) {
            Some(file) => update::Change::File(file.into()),
            None => update::Change::Given(Box::new(self.limits()?)),
        };
        Ok(update::Options {
            root: root.path.clone(),
            id,
            change,
            l3_cache_schema,
            memory_bandwidth_schema,
        })
    }

    fn limits(self) -> Result<Limits> {
        let kernel_memory = [
            bytes(self.kernel_memory, "kernel-memory")?,
            bytes(self.kernel_memory_tcp, "kernel-memory-tcp")?,
        ];
        if kernel_memory.iter().any(Option::is_some) {
            log::warn("Kernel memory settings are ignored and will be removed");
        }
        let list = |value: Option<OsString>, name| {
            let value = value.map(|value| text(value, name)).transpose();
            value.map(Option::unwrap_or_default)
        };
        Ok(Limits {
            cpu: CpuLimits {
                shares: number(self.cpu_share, "cpu-share")?,
                quota: number(self.cpu_quota, "cpu-quota")?,
                period: number(self.cpu_period, "cpu-period")?,
                burst: number(self.cpu_burst, "cpu-burst")?,
                idle: number(self.cpu_idle, "cpu-idle")?,
                realtime_runtime: number(self.cpu_rt_runtime, "cpu-rt-runtime")?,
                realtime_period: number(self.cpu_rt_period, "cpu-rt-period")?,
                cpus: list(self.cpuset_cpus, "cpuset-cpus")?,
                mems: list(self.cpuset_mems, "cpuset-mems")?,
            },
            memory: MemoryLimits {
                limit: bytes(self.memory, "memory")?,
                reservation: bytes(self.memory_reservation, "memory-reservation")?,
                swap: bytes(self.memory_swap, "memory-swap")?,
                ..MemoryLimits::default()
            },
            pids: number(self.pids_limit, "pids-limit")?,
            block_io: BlockIoLimits {
                weight: number(self.blkio_weight, "blkio-weight")?,
                ..BlockIoLimits::default()
            },
            ..Limits::default()
        })
    }
}

/// A decimal number; none for no value, or an empty one.
fn number<T: FromStr<Err: std::fmt::Display>>(
    value: Option<OsString>,
    name: &str,
) -> Result<Option<T>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(err) => bail!("invalid value for {name}: {value:?}: {err}"),
    }
}

/// A number of bytes with or without a unit, or -1; none as for a number.
fn bytes(value: Option<OsString>, name: &str) -> Result<Option<i64>> {
    let Some(value) = non_empty(value) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    match &*value {
        "-1" => Ok(Some(-1)),
        value => match size::parse(value) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(err) => bail!("invalid value for {name}: {err}"),
        },
    }
}

impl args::SpecArgs {
    pub(crate) fn options(self) -> spec::Options {
        let bundle = non_empty(self.bundle).map_or_else(|| PathBuf::from("."), PathBuf::from);
        spec::Options {
            bundle,
            rootless: self.rootless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

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
    fn as_podman_and_crio_call() {
        let options = create("teu --systemd-cgroup --root=/r create --bundle X --pid-file /p c1");
        assert_eq!(options.cgroup_manager, CgroupManager::Systemd);
        assert_eq!(options.root, Path::new("/r"));
        // Without cgroups, to a runtime that containers.conf says can do so.
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

    fn update(line: &str) -> Result<update::Options> {
        let cli = read(line);
        let root = cli.global.root()?;
        match cli.asked {
            Asked::Command(Command::Update(args)) => args.options(&root),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn as_engines_update_and_watch() {
        // containerd; Podman; a person.
        let options = update("teu --root /r --log-format json update --resources=- c1").unwrap();
        assert!(matches!(&options.change, update::Change::File(path) if path == Path::new("-")));
        let options = update("teu update --resources /tmp/update.json c1").unwrap();
        assert!(matches!(options.change, update::Change::File(_)));
        let line = "teu update c1 --memory 1.5g --memory-swap -1 --cpu-quota=-1 --pids-limit -1 \
                    --cpu-share 512 --cpuset-cpus 0-1 --blkio-weight 500 --cpu-idle 1";
        let update::Change::Given(limits) = update(line).unwrap().change else {
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
        let Command::Events(args) = command("teu events --interval=5s c1") else {
            panic!()
        };
        let root = Root::choose(None).unwrap();
        assert_eq!(
            args.options(&root).unwrap().interval,
            Duration::from_secs(5)
        );
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
            assert_eq!(args.signal.as_deref(), signal.map(OsStr::new), "{line}");
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
        // Global options are also understood after the command, as in runc 1.5.
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
            for word in args::COMMANDS {
                assert!(text.contains(&format!("\n   {word} ")), "{word}");
            }
        }
    }

    #[test]
    fn every_command_has_help() {
        for word in args::COMMANDS {
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
    fn definitions_are_sound() {
        let globals = args::globals();
        for word in args::COMMANDS {
            let definition = args::definition(word).unwrap();
            assert_eq!(definition.name, *word);
            assert!(!definition.about.to_string().is_empty(), "{word}");
            let mut spellings: Vec<String> = vec!["help".into(), "h".into()];
            for flag in &definition.flags {
                spellings.push(flag.name());
                spellings.extend(flag.short.map(String::from));
                assert!(!flag.help.to_string().is_empty(), "{word} {flag:?}");
                assert_eq!(flag.takes_value, !flag.value_name.is_empty(), "{flag:?}");
            }
            let count = spellings.len();
            spellings.sort();
            spellings.dedup();
            assert_eq!(spellings.len(), count, "{word}: {spellings:?}");
            // Nothing comes after a word that may be missing or that collects.
            let words = &definition.words;
            assert!(words.is_sorted_by_key(|word| !word.required), "{word}");
            assert!(words.iter().rev().skip(1).all(|word| !word.many), "{word}");
        }
        assert!(globals.words.is_empty());
    }
}
