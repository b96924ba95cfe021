//! `teu stats`: shows the resource use of containers again and again: on a terminal as
//! a table that is redrawn in place, otherwise as lines of JSON. Not for reading the
//! numbers: see the crate teu-cgroups.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use teu_cgroups::Cgroup;

use super::list::{self, Format};
use super::output::write_unless_closed;
use crate::known_failures::Failure;
use crate::state::root::Root;
use crate::state::{ContainerState, StateDir, Status};
use crate::{json, size};

/// The arguments of `stats`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state. It may be missing if it was not given.
    pub(crate) root: Root,
    /// The names of the containers, not checked yet. Empty stands for all running
    /// containers, including containers that start later.
    pub(crate) ids: Vec<String>,
    /// The time between two measurements.
    pub(crate) interval: Duration,
    /// Whether to measure once only.
    pub(crate) once: bool,
    /// The format; by default a table on a terminal and otherwise JSON.
    pub(crate) format: Option<Format>,
}

/// The time to the second measurement. A share of CPU time needs two, and users should
/// not wait long for the first numbers.
const FIRST_LOOK: Duration = Duration::from_millis(250);

/// Prints the resource use of containers until they have ended or standard output has
/// no reader. Without names, waits for further containers for ever.
///
/// # Errors
/// A named container does not exist or does not run, or the interval is 0.
#[inline(never)]
pub(crate) fn stats(options: &Options) -> Result<()> {
    if options.interval.is_zero() {
        bail!("--interval: must be greater than 0");
    }
    let mut watched = Watched::new(options)?;
    let is_terminal = io::stdout().is_terminal();
    let format = options.format.unwrap_or(match is_terminal {
        true => Format::Table,
        false => Format::Json,
    });
    let mut screen = Screen::default();
    watched.look()?;
    let mut next = Instant::now() + FIRST_LOOK.min(options.interval);
    loop {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let rows = watched.look()?;
        if rows.is_empty() && !options.ids.is_empty() {
            return Ok(());
        }
        let text = match format {
            Format::Json => line(&rows)?,
            Format::Table if is_terminal => screen.frame(&table(&rows)),
            Format::Table => table(&rows).join("\n") + "\n",
        };
        if !write_unless_closed(text.as_bytes())? || options.once {
            return Ok(());
        }
        next = (next + options.interval).max(Instant::now());
    }
}

/// The containers that are measured.
struct Watched<'a> {
    options: &'a Options,
    running: BTreeMap<String, Container>,
}

struct Container {
    dir: StateDir,
    state: Box<ContainerState>,
    cgroup: Cgroup,
    /// The time of the last measurement, and the CPU time used until then, in
    /// nanoseconds.
    last: Option<(Instant, u64)>,
}

/// A container at one measurement, with the names of the JSON.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    status: &'static str,
    /// 100 means one whole processor.
    cpu_percent: f64,
    cpu_nanoseconds: u64,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    pids: u64,
    pids_limit: Option<u64>,
    read_bytes: u64,
    written_bytes: u64,
}

impl<'a> Watched<'a> {
    fn new(options: &'a Options) -> Result<Watched<'a>> {
        let mut watched = Watched {
            options,
            running: BTreeMap::new(),
        };
        for id in &options.ids {
            let container = Container::load(&options.root, id);
            let container = container.and_then(|container| match container.status()? {
                Status::Stopped | Status::Creating => Err(Failure::NotRunning.into()),
                _ => Ok(container),
            });
            let container = container.with_context(|| format!("container {id:?}"))?;
            watched.running.insert(id.clone(), container);
        }
        Ok(watched)
    }

    /// Measures each running container, sorted by name.
    fn look(&mut self) -> Result<Vec<Row>> {
        if self.options.ids.is_empty() {
            self.find_new()?;
        }
        let mut rows = Vec::new();
        for (id, container) in &mut self.running {
            match container.status()? {
                Status::Stopped | Status::Creating => {}
                status => rows.push(container.row(id, status)),
            }
        }
        self.running
            .retain(|id, _| rows.iter().any(|row| row.id == *id));
        Ok(rows)
    }

    fn find_new(&mut self) -> Result<()> {
        let root = &self.options.root;
        for (id, _) in list::containers(root)? {
            if self.running.contains_key(&id) {
                continue;
            }
            // Skip a directory that is not a container, or not any more.
            if let Ok(container) = Container::load(root, &id) {
                self.running.insert(id, container);
            }
        }
        Ok(())
    }
}

impl Container {
    fn load(root: &Root, id: &str) -> Result<Container> {
        let (dir, state) = StateDir::load(&root.path, id)?;
        let cgroup = Cgroup::open(&state.cgroup);
        Ok(Container {
            dir,
            state,
            cgroup,
            last: None,
        })
    }

    fn status(&self) -> Result<Status> {
        self.dir.status(&self.state)
    }

    fn row(&mut self, id: &str, status: Status) -> Row {
        let (usage, now) = (self.cgroup.usage(), Instant::now());
        let before = self.last.replace((now, usage.cpu));
        Row {
            id: id.to_owned(),
            status: status.word(),
            cpu_percent: before.map_or(0.0, |before| cpu_percent(before, (now, usage.cpu))),
            cpu_nanoseconds: usage.cpu,
            memory_bytes: usage.memory,
            memory_limit_bytes: usage.memory_limit,
            pids: usage.pids,
            pids_limit: usage.pids_limit,
            read_bytes: usage.read,
            written_bytes: usage.written,
        }
    }
}

/// Returns the share of one processor's time, to a hundredth of a percent.
fn cpu_percent(before: (Instant, u64), now: (Instant, u64)) -> f64 {
    let used = Duration::from_nanos(now.1.saturating_sub(before.1)).as_secs_f64();
    let passed = now.0.duration_since(before.0).as_secs_f64();
    if passed == 0.0 {
        return 0.0;
    }
    (used / passed * 10_000.0).round() / 100.0
}

/// Writes a measurement as a line of JSON.
fn line(rows: &[Row]) -> Result<String> {
    #[derive(Serialize)]
    struct Look<'a> {
        time: String,
        containers: &'a [Row],
    }
    let look = Look {
        time: Timestamp::now().to_string(),
        containers: rows,
    };
    let mut text = json::compact(&look).context("write the numbers as JSON")?;
    text.push(b'\n');
    String::from_utf8(text).context("write the numbers as JSON")
}

const HEADER: [&str; 9] = [
    "CONTAINER",
    "STATUS",
    "CPU %",
    "MEMORY",
    "LIMIT",
    "MEM %",
    "PIDS",
    "READ",
    "WRITTEN",
];
/// The number of columns with words. Columns with numbers are aligned to the right.
const WORDS: usize = 2;

/// Writes a measurement as lines of a table, with the header first.
fn table(rows: &[Row]) -> Vec<String> {
    let cells: Vec<[String; 9]> = std::iter::once(HEADER.map(str::to_owned))
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut lines: Vec<String> = cells.iter().map(|row| aligned(row, &widths)).collect();
    if rows.is_empty() {
        lines.push("no container runs".to_owned());
    }
    lines
}

fn aligned(cells: &[String; 9], widths: &[usize; 9]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let gap = if column == 0 { "" } else { "   " };
        // Writing to a String cannot fail.
        let written = match column {
            ..WORDS => write!(line, "{gap}{cell:width$}"),
            _ => write!(line, "{gap}{cell:>width$}"),
        };
        debug_assert!(written.is_ok());
    }
    line
}

fn cells(row: &Row) -> [String; 9] {
    #[expect(clippy::cast_precision_loss, reason = "shown to a tenth of a percent")]
    let share = |limit: u64| row.memory_bytes as f64 / limit as f64 * 100.0;
    let limit = row.memory_limit_bytes;
    [
        row.id.clone(),
        row.status.to_owned(),
        format!("{:.1}", row.cpu_percent),
        size::words(row.memory_bytes),
        limit.map_or("-".into(), size::words),
        limit.map_or("-".into(), |limit| format!("{:.1}", share(limit))),
        match row.pids_limit {
            Some(limit) => format!("{}/{limit}", row.pids),
            None => row.pids.to_string(),
        },
        size::words(row.read_bytes),
        size::words(row.written_bytes),
    ]
}

/// A terminal, with the number of lines that were drawn last. Sets no terminal modes,
/// because a signal may end this process at any time.
#[derive(Debug, Default)]
struct Screen {
    /// The number of lines of the last frame. The cursor is below them.
    drawn: usize,
}

impl Screen {
    /// Returns the output that draws these lines over the last frame, as far as they
    /// fit.
    fn frame(&mut self, lines: &[String]) -> String {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let (rows, columns) = match size {
            Ok(size) if size.ws_row > 1 && size.ws_col > 0 => (size.ws_row, size.ws_col),
            _ => (24, 80),
        };
        self.draw(lines, usize::from(rows), usize::from(columns))
    }

    fn draw(&mut self, lines: &[String], rows: usize, columns: usize) -> String {
        // Leave the last row for the cursor.
        let room = rows - 1;
        let hidden = lines.len().saturating_sub(room);
        let mut shown = lines.to_vec();
        if hidden > 0 {
            shown.truncate(room.saturating_sub(1));
            shown.push(format!("and {} more", hidden + 1));
        }
        // ECMA-48: CUU moves up, EL clears to the end of the line, and ED to the end of
        // the screen, because the table may have become smaller.
        let mut text = match self.drawn.min(room) {
            0 => String::new(),
            up => format!("\r\x1b[{up}A"),
        };
        for line in &shown {
            text.extend(line.chars().take(columns));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = shown.len();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> Row {
        Row {
            id: id.into(),
            status: "running",
            cpu_percent: 12.34,
            cpu_nanoseconds: 5,
            memory_bytes: 16 << 20,
            memory_limit_bytes: Some(64 << 20),
            pids: 3,
            pids_limit: Some(100),
            read_bytes: 0,
            written_bytes: 4096,
        }
    }

    #[test]
    fn numbers_stand_below_each_other() {
        let unlimited = Row {
            memory_limit_bytes: None,
            pids_limit: None,
            ..row("a-longer-name")
        };
        assert_eq!(
            table(&[row("c1"), unlimited]),
            [
                "CONTAINER       STATUS    CPU %    MEMORY     LIMIT   MEM %    PIDS   READ   WRITTEN",
                "c1              running    12.3   16.0MiB   64.0MiB    25.0   3/100     0B   4.00KiB",
                "a-longer-name   running    12.3   16.0MiB         -       -       3     0B   4.00KiB",
            ]
        );
        assert_eq!(
            table(&[]).last().map(String::as_str),
            Some("no container runs")
        );
    }

    #[test]
    fn a_look_is_a_line_of_json() {
        let text = line(&[row("c1")]).expect("json");
        assert!(text.ends_with("}]}\n"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value["containers"][0]["cpuPercent"], 12.34);
        assert_eq!(value["containers"][0]["memoryLimitBytes"], 64 << 20);
    }

    #[test]
    fn frames_are_drawn_over_each_other() {
        let mut screen = Screen::default();
        let lines = |count: usize| vec!["12345678".to_owned(); count];
        assert_eq!(screen.draw(&lines(1), 5, 4), "1234\x1b[K\n\x1b[J");
        assert_eq!(
            screen.draw(&lines(2), 5, 2),
            "\r\x1b[1A12\x1b[K\n12\x1b[K\n\x1b[J"
        );
        let many = screen.draw(&lines(7), 5, 80);
        assert!(many.starts_with("\r\x1b[2A"), "{many:?}");
        assert!(many.contains("and 4 more"), "{many:?}");
        assert_eq!(many.matches('\n').count(), 4);
    }

    #[test]
    fn shares_of_a_processor() {
        let start = Instant::now();
        let later = start + Duration::from_secs(2);
        assert_eq!(cpu_percent((start, 0), (later, 3_000_000_000)), 150.0);
        assert_eq!(cpu_percent((start, 9), (start, 9)), 0.0);
        assert_eq!(cpu_percent((start, 9), (later, 5)), 0.0);
    }
}
