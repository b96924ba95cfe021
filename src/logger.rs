//! The log: `--log`, `--log-format` and `--debug`, behind the facade `log`; and `--trace`.
//!
//! Engines read the log: containerd takes the last object with `"level":"error"` of the
//! JSON log for the cause of a failure. So the lines are those of runc (logrus). `main`
//! sets up one log for the process. Errors before that go to standard error as text.
//! Each line is one write(2) with `O_APPEND`, so that processes that share the log do
//! not mix their lines, and a forked child can still use it.
//!
//! With `--debug`, messages with the target `STEP` report the steps of a creation: one
//! line for each step, with the time since the previous step and since the start.
//! Init's lines are among them, and its first step begins with the clone. The same
//! messages, and finer ones with the level `trace`, are the events of the trace file
//! (`logger/trace.rs`).
//!
//! Not for printing the results of commands.

mod trace;

use crate::host::trusted_path;
use crate::sys;
use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use jiff::tz::Offset;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use serde::Serialize;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::panic::Location;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use trace::Trace;

/// The target of messages about a finished step. The log adds the duration. Messages
/// with the level `trace` go to the trace file only.
pub(crate) const STEP: &str = "step";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    /// Coloured text, for a terminal.
    Coloured,
    Json,
}

#[derive(Debug)]
struct Logger {
    /// The file, or `None` for standard error.
    file: Option<File>,
    format: Format,
    /// The least urgent level that goes to the log.
    level: LevelFilter,
    trace: Option<Trace>,
    start: Instant,
    /// The end of the last step, in nanoseconds since the start.
    last_step: AtomicU64,
    /// Whether the file is closed, so that messages go to standard error.
    is_left: AtomicBool,
    /// The offset of the local time from UTC in seconds, 0 until the first line. Each line that
    /// the first process writes updates it. A clone only reads it, because /etc/localtime may
    /// be the container's then.
    utc_offset: AtomicI32,
}

/// The place in the source of a message, with logrus's names.
#[derive(Debug, Serialize)]
struct Place {
    /// "src/commands/create.rs:7".
    file: String,
    /// The module, such as "commands::create", because the compiler does not provide
    /// functions.
    func: String,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The settings of the log from the command line.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    /// The file to append to; `None` for standard error.
    pub(crate) file: Option<&'a OsStr>,
    /// The format: "text", also if empty, or "json".
    pub(crate) format: &'a OsStr,
    /// Whether to write debug messages, and the place in the source of each message.
    pub(crate) is_debug: bool,
    /// A file for the events of the trace.
    pub(crate) trace: Option<&'a OsStr>,
}

/// Opens the log and the trace file. Called once, by `main`.
///
/// # Errors
/// The format is unknown, or a file cannot be opened. The log is standard error then.
pub(crate) fn set_up(options: &Options<'_>) -> Result<()> {
    let is_json = match options.format.to_str() {
        Some("" | "text") => false,
        Some("json") => true,
        _ => bail!("invalid log-format: {}", options.format.display()),
    };
    let is_named = |path: &&OsStr| !path.is_empty();
    let file = options.file.filter(is_named);
    let file = file
        .map(|path| open("log", path, OFlags::SYNC))
        .transpose()?;
    let trace = options.trace.filter(is_named).map(open_trace).transpose()?;
    let level = match options.is_debug {
        true => LevelFilter::Debug,
        false => LevelFilter::Warn,
    };
    log::set_max_level(match &trace {
        Some(_) => LevelFilter::Trace,
        None => level,
    });
    log::set_logger(LOGGER.get_or_init(|| Logger::new(file, is_json, level, trace)))
        .map_err(|err| anyhow!("set up the log: {err}"))
}

fn open_trace(path: &OsStr) -> Result<Trace> {
    let file = open("trace file", path, OFlags::empty())?;
    let words: Vec<_> = std::env::args_os().collect();
    Trace::begin(file, &words.join(OsStr::new(" ")).to_string_lossy())
        .with_context(|| format!("write to the trace file {path:?}"))
}

fn open(what: &str, path: &OsStr, more: OFlags) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | more;
    let mode = Mode::from_raw_mode(0o644);
    let file = match openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS) {
        Err(Errno::LOOP) if trusted_path::others_could_redirect(Path::new(path)) => {
            bail!(
                "open the {what} {path:?}: links lead there through a directory that others can write to"
            )
        }
        Err(Errno::LOOP) => rustix::fs::open(path, flags, mode),
        file => file,
    };
    let file = file.with_context(|| format!("open the {what} {path:?}"))?;
    Ok(file.into())
}

/// Returns the log. Before it is set up, this is a log to standard error.
fn logger() -> &'static Logger {
    LOGGER.get_or_init(|| Logger::new(None, false, LevelFilter::Warn, None))
}

/// Writes to standard error from now on, because this process closes all descriptors of
/// the host, including the file.
pub(crate) fn leave_file() {
    logger().is_left.store(true, Ordering::Relaxed);
}

/// Logs the final error of a command. If the log is not standard error, writes the bare
/// message there as well, as runc does.
#[track_caller]
pub(crate) fn fatal(message: &str) {
    let (logger, place) = (logger(), Location::caller());
    logger.log(
        &Record::builder()
            .level(Level::Error)
            .args(format_args!("{message}"))
            .file(Some(place.file()))
            .line(Some(place.line()))
            .module_path(Some("main"))
            .build(),
    );
    if logger.file.is_some() {
        to_stderr(&format!("{message}\n"));
    }
}

fn to_stderr(text: &str) {
    // Ignore a failure, because it cannot be reported.
    io::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

impl Place {
    fn of(record: &Record<'_>) -> Place {
        let (file, line) = (record.file(), record.line());
        let module = record.module_path().unwrap_or_default();
        Place {
            file: format!("{}:{}", file.unwrap_or_default(), line.unwrap_or_default()),
            func: module.trim_start_matches("teu::").to_owned(),
        }
    }
}

impl Logger {
    fn new(file: Option<File>, is_json: bool, level: LevelFilter, trace: Option<Trace>) -> Logger {
        let is_terminal = match &file {
            Some(file) => file.is_terminal(),
            None => io::stderr().is_terminal(),
        };
        Logger {
            file,
            format: match (is_json, is_terminal) {
                (true, _) => Format::Json,
                (false, true) => Format::Coloured,
                (false, false) => Format::Text,
            },
            level,
            trace,
            start: Instant::now(),
            last_step: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
            utc_offset: AtomicI32::new(0),
        }
    }

    /// Returns the time in seconds in the form of Go's `time.RFC3339`, such as
    /// `2026-11-22T18:09:19+01:00`, or with `Z` if the local time is UTC or unknown to the
    /// C library.
    ///
    /// A cloned child takes the offset that its parent knew, or UTC: the C library would
    /// read /etc/localtime, which may be the container's by then.
    fn local_time(&self) -> String {
        let now = Timestamp::now();
        if !teu_namespaces::is_clone() {
            let offset = sys::utc_offset(now.as_second()).unwrap_or(0);
            self.utc_offset.store(offset, Ordering::Relaxed);
        }
        match Offset::from_seconds(self.utc_offset.load(Ordering::Relaxed)) {
            Ok(offset) if !offset.is_zero() => format!("{:.0}", now.display_with_offset(offset)),
            _ => format!("{now:.0}"),
        }
    }

    /// Returns the time since the last step and since the start.
    fn lap(&self) -> (Duration, Duration) {
        let total = self.start.elapsed();
        let now = u64::try_from(total.as_nanos()).unwrap_or(u64::MAX);
        let last = self.last_step.swap(now, Ordering::Relaxed);
        (Duration::from_nanos(now.saturating_sub(last)), total)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level || self.trace.is_some() && metadata.target() == STEP
    }

    fn log(&self, record: &Record<'_>) {
        let mut message = record.args().to_string();
        let is_left = self.is_left.load(Ordering::Relaxed);
        let is_step = record.target() == STEP;
        if is_step
            && !is_left
            && let Some(Err(err)) = self.trace.as_ref().map(|trace| trace.step(&message))
        {
            to_stderr(&format!("write to the trace file: {err}\n"));
        }
        if record.level() > self.level {
            return;
        }
        if is_step {
            let (step, total) = self.lap();
            message += &format!(" ({}, {} in all)", took(step), took(total));
        }
        let is_debug = self.level == LevelFilter::Debug;
        let place = is_debug.then(|| Place::of(record));
        let level = record.level();
        let line = match self.format {
            Format::Text => text(level, &message, place, &self.local_time()),
            Format::Coloured => coloured(level, &message, place, self.start.elapsed().as_secs()),
            Format::Json => json(level, &message, place, self.local_time()),
        };
        let Some(mut file) = self.file.as_ref().filter(|_| !is_left) else {
            return to_stderr(&line);
        };
        if let Err(err) = file.write_all(line.as_bytes()) {
            to_stderr(&format!("write to the log: {err}\n"));
        }
    }

    /// Does nothing, because messages are not buffered.
    fn flush(&self) {}
}

/// Returns a duration in milliseconds, with microseconds.
fn took(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1000.0)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn text(level: Level, message: &str, place: Option<Place>, time: &str) -> String {
    let mut line = format!("time={} level={}", value(time), word(level));
    if !message.is_empty() {
        line += &format!(" msg={}", value(message));
    }
    if let Some(Place { file, func }) = place {
        line += &format!(" func={} file={}", value(&func), value(&file));
    }
    line.push('\n');
    line
}

fn coloured(level: Level, message: &str, place: Option<Place>, seconds: u64) -> String {
    let badge = word(level)[..4].to_uppercase();
    // ECMA-48, SGR.
    let colour = match level {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 36,
        Level::Debug | Level::Trace => 37,
    };
    let message = message.strip_suffix('\n').unwrap_or(message);
    let place = place.map_or_else(String::new, |place| place.file);
    format!("\x1b[{colour}m{badge}\x1b[0m[{seconds:04}]{place} {message:<44} \n")
}

/// Writes one object with its keys in alphabetical order.
fn json(level: Level, message: &str, place: Option<Place>, time: String) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        place: Option<Place>,
        level: &'static str,
        msg: &'a str,
        time: String,
    }
    let line = Line {
        place,
        level: word(level),
        msg: message,
        time,
    };
    match crate::json::compact(&line) {
        Ok(text) => format!("{}\n", String::from_utf8_lossy(&text)),
        // Strings always serialize. If this fails nevertheless, keep the message.
        Err(err) => format!("{message} (as JSON: {err})\n"),
    }
}

/// Writes a value as logrus does: in quotes if it has other characters than letters,
/// digits and `-._/@^+`.
fn value(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Quotes a text with the escapes of Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 2);
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            '\n' => line += "\\n",
            '\r' => line += "\\r",
            '\t' => line += "\\t",
            '\u{7}' => line += "\\a",
            '\u{8}' => line += "\\b",
            '\u{b}' => line += "\\v",
            '\u{c}' => line += "\\f",
            ' '..='~' => line.push(character),
            _ => push_escaped(&mut line, character),
        }
    }
    line.push('"');
    line
}

/// Adds a character that is not printable ASCII: itself if it is printable, or else its
/// escape.
fn push_escaped(line: &mut String, character: char) {
    let code = u32::from(character);
    let escape = match code {
        0..=0x7f => write!(line, "\\x{code:02x}"),
        // The standard library has no function for printable characters, but escapes
        // all others.
        _ if character.escape_debug().len() == 1 => {
            line.push(character);
            Ok(())
        }
        0x80..=0xffff => write!(line, "\\u{code:04x}"),
        _ => write!(line, "\\U{code:08x}"),
    };
    debug_assert!(escape.is_ok(), "writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-22T17:09:19Z";

    fn place() -> Place {
        Place {
            file: "src/commands/run.rs:7".into(),
            func: "commands::run".into(),
        }
    }

    #[test]
    fn a_place_has_its_module() {
        let record = &Record::builder()
            .file(Some("src/commands/run.rs"))
            .line(Some(7))
            .module_path(Some("teu::commands::run"))
            .build();
        let Place { file, func } = Place::of(record);
        assert_eq!(file, "src/commands/run.rs:7");
        assert_eq!(func, "commands::run");
    }

    #[test]
    fn durations_are_told_to_the_microsecond() {
        let took = |microseconds| super::took(Duration::from_micros(microseconds));
        assert_eq!(took(0), "0.000 ms");
        assert_eq!(took(1_042), "1.042 ms");
        assert_eq!(took(61_000_007), "61000.007 ms");
    }

    #[test]
    fn text_lines() {
        let line = text(Level::Error, "container does not exist", None, TIME);
        let expected =
            "time=\"2026-11-22T17:09:19Z\" level=error msg=\"container does not exist\"\n";
        assert_eq!(line, expected);
        let line = text(Level::Debug, "done", Some(place()), TIME);
        let expected = concat!(
            "time=\"2026-11-22T17:09:19Z\" level=debug msg=done ",
            "func=\"commands::run\" file=\"src/commands/run.rs:7\"\n"
        );
        assert_eq!(line, expected);
        let line = text(Level::Warn, "", None, TIME);
        assert_eq!(line, "time=\"2026-11-22T17:09:19Z\" level=warning\n");
    }

    #[test]
    fn quotes_as_go() {
        for (text, expected) in [
            ("a-b._/@^+9", "a-b._/@^+9"),
            ("", ""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("\"\\\n\t\r\u{7}\u{1}\u{7f}", r#""\"\\\n\t\r\a\x01\x7f""#),
            ("é€😀", "\"é€😀\""),
            (
                "\u{a0}\u{200b}\u{e000}\u{10ffff}",
                r#""\u00a0\u200b\ue000\U0010ffff""#,
            ),
        ] {
            assert_eq!(value(text), expected);
        }
    }

    #[test]
    fn json_lines() {
        let line = json(Level::Error, "open \"/x\": <no>\n", None, TIME.into());
        let expected = concat!(
            r#"{"level":"error","msg":"open \"/x\": \u003cno\u003e\n","#,
            r#""time":"2026-11-22T17:09:19Z"}"#,
            "\n"
        );
        assert_eq!(line, expected);
        let line = json(Level::Debug, "a", Some(place()), TIME.into());
        let expected = concat!(
            r#"{"file":"src/commands/run.rs:7","func":"commands::run","level":"debug","msg":"a","#,
            r#""time":"2026-11-22T17:09:19Z"}"#,
            "\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn coloured_lines() {
        let line = coloured(Level::Error, "container does not exist\n", None, 3);
        let message = format!("{:<44}", "container does not exist");
        assert_eq!(line, format!("\x1b[31mERRO\x1b[0m[0003] {message} \n"));
    }
}
