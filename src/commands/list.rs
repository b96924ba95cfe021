//! `teu list`: prints the containers below teu's root.

use super::output::print;
use super::state::StateView;
use crate::state::root::Root;
use crate::state::{StateDir, Status};
use crate::{errno, json};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

/// The arguments of `list`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state. It may be missing if it was not given.
    pub(crate) root: Root,
    pub(crate) format: Format,
    /// Whether to print only the names, regardless of the format.
    pub(crate) quiet: bool,
    /// The conditions that a container must meet to be listed.
    pub(crate) filters: Vec<Filter>,
}

/// The format of a list. Also used by `ps` and `stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Table,
    Json,
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Format> {
        match word {
            "table" => Ok(Format::Table),
            "json" => Ok(Format::Json),
            _ => bail!("invalid format option"),
        }
    }
}

/// A `--filter key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    key: String,
    value: String,
}

impl FromStr for Filter {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Filter> {
        let (key, value) = match word.split_once('=') {
            Some(pair) if !pair.0.is_empty() => pair,
            _ => bail!("--filter {word:?}: not of the form KEY=VALUE"),
        };
        let statuses = Status::ALL.map(Status::word);
        if key == "status" && !statuses.contains(&value) {
            bail!("--filter {word:?}: not one of {}", statuses.join(", "));
        }
        if let Some(meant) = meant(key, value) {
            log::warn!("--filter {word:?}: compares the annotation {key:?} (is {meant:?} meant?)");
        }
        Ok(Filter {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Returns the key that may be meant by the name of an annotation, if any.
fn meant(key: &str, value: &str) -> Option<&'static str> {
    let is_status = || Status::ALL.iter().any(|status| status.word() == value);
    match key {
        "status" | "bundle" => None,
        _ if is_status() => Some("status"),
        _ => teu_spelling::nearest(key, &["status", "bundle"]),
    }
}

impl Filter {
    /// Returns whether the container is to be listed. The keys `status` and `bundle`
    /// stand for these; every other key is an annotation.
    pub(crate) fn selects(&self, view: &StateView) -> bool {
        let value = match self.key.as_str() {
            "status" => Some(&view.status),
            "bundle" => Some(&view.bundle),
            key => view.annotations.get(key),
        };
        value == Some(&self.value)
    }
}

/// Prints the containers that pass all filters, sorted by name. Reports a container
/// that cannot be read on standard error and skips it.
///
/// # Errors
/// The directory of all state cannot be read, or was given and does not exist.
#[inline(never)]
pub(crate) fn list(options: &Options) -> Result<()> {
    let mut owners = Owners::default();
    let mut views = Vec::new();
    for (id, uid) in containers(&options.root)? {
        let loaded = StateDir::load(&options.root.path, &id);
        match loaded.and_then(|(dir, state)| StateView::new(&dir, &state)) {
            Ok(view) => views.push(StateView {
                owner: owners.name(uid),
                ..view
            }),
            Err(err) => eprintln!("load container {id}: {}", errno::chain(&err)),
        }
    }
    views.retain(|view| options.filters.iter().all(|filter| filter.selects(view)));
    let text = text(&views, options)?;
    print(text.as_bytes())
}

/// Returns the names of all containers, sorted, with the owners of their directories.
///
/// # Errors
/// The directory of all state cannot be read, or was given and does not exist.
pub(super) fn containers(root: &Root) -> Result<Vec<(String, u32)>> {
    let entries = match fs::read_dir(&root.path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound && !root.given => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read the root directory {:?}", root.path))?,
    };
    let mut containers = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read the root directory {:?}", root.path))?;
        // The container has just been deleted.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            containers.push((
                entry.file_name().to_string_lossy().into_owned(),
                metadata.uid(),
            ));
        }
    }
    containers.sort();
    Ok(containers)
}

/// Names of users from the host's /etc/passwd, which is read at the first use.
#[derive(Debug, Default)]
struct Owners(Option<String>);

impl Owners {
    fn name(&mut self, uid: u32) -> String {
        let passwd = self
            .0
            .get_or_insert_with(|| fs::read_to_string("/etc/passwd").unwrap_or_default());
        passwd
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(_, rest)| rest.split(':').nth(1).and_then(|id| id.parse().ok()) == Some(uid))
            .map_or_else(|| format!("#{uid}"), |(name, _)| name.to_owned())
    }
}

/// Writes the list in the requested format. Does not apply the filters.
///
/// # Errors
/// The serializer fails; no such case is known.
pub(crate) fn text(views: &[StateView], options: &Options) -> Result<String> {
    match options.format {
        _ if options.quiet => Ok(views.iter().map(|view| format!("{}\n", view.id)).collect()),
        Format::Table => Ok(table(views)),
        Format::Json => as_json(views),
    }
}

/// Writes the list as one line of JSON, or `null` if it is empty, as runc does.
fn as_json(views: &[StateView]) -> Result<String> {
    let mut text = match views {
        [] => b"null".to_vec(),
        views => json::compact(&views).context("write the list as JSON")?,
    };
    text.push(b'\n');
    String::from_utf8(text).context("write the list as JSON")
}

/// The minimum width of a column, with its padding.
const MINIMUM_WIDTH: usize = 12;
/// The blanks between the widest cell of a column and the next column.
const PADDING: usize = 3;

/// Aligns columns as runc's table does: each is as wide as its widest cell and the
/// padding, but not narrower than the minimum. The last column is not padded.
fn table(views: &[StateView]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = views.iter().map(|view| {
        let cells = [&view.id, &view.pid.to_string(), &view.status, &view.bundle];
        let [id, pid, status, bundle] = cells.map(Clone::clone);
        [
            id,
            pid,
            status,
            bundle,
            view.created.clone(),
            view.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.chars().count() + PADDING)
                .max(MINIMUM_WIDTH)
                .max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let (last, cells) = row
            .split_last()
            .map_or(("", &row[..]), |(last, rest)| (last, rest));
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a String cannot fail.
            if write!(text, "{cell:width$}").is_err() {
                return text;
            }
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::view;
    use super::*;

    fn options(format: Format, quiet: bool) -> Options {
        let root = Root {
            path: "/r".into(),
            given: false,
        };
        Options {
            root,
            format,
            quiet,
            filters: Vec::new(),
        }
    }

    fn views() -> Vec<StateView> {
        let mut stopped = view("a-container-with-a-long-name");
        stopped.status = "stopped".into();
        stopped.pid = 0;
        stopped.owner = "root".into();
        stopped.annotations.insert("role".into(), "web".into());
        vec![view("c1"), stopped]
    }

    #[test]
    fn columns_are_aligned() {
        let text = text(&views(), &options(Format::Table, false)).unwrap();
        let expected = "\
ID                             PID         STATUS      BUNDLE      CREATED                  OWNER
c1                             42          running     /b          2026-11-22T17:09:19.5Z   
a-container-with-a-long-name   0           stopped     /b          2026-11-22T17:09:19.5Z   root
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_owner_without_a_name_is_a_number() {
        let mut owners = Owners(Some("root:x:0:0::/root:/bin/sh\na:x:7:7::/:/x\n".into()));
        assert_eq!(owners.name(0), "root");
        assert_eq!(owners.name(7), "a");
        assert_eq!(owners.name(70), "#70");
    }

    #[test]
    fn no_containers() {
        let print = |format, quiet| text(&[], &options(format, quiet)).unwrap();
        let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(print(Format::Table, false), header);
        assert_eq!(print(Format::Json, false), "null\n");
        assert_eq!(print(Format::Json, true), "");
    }

    #[test]
    fn json_is_one_line() {
        let text = text(&[view("c1")], &options(Format::Json, false)).unwrap();
        let expected = concat!(
            r#"[{"ociVersion":"1.3.0","id":"c1","pid":42,"status":"running","bundle":"/b","#,
            r#""rootfs":"/b/rootfs","created":"2026-11-22T17:09:19.5Z","owner":""}]"#,
            "\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn quiet_prints_names() {
        let text = text(&views(), &options(Format::Table, true)).unwrap();
        assert_eq!(text, "c1\na-container-with-a-long-name\n");
    }

    #[test]
    fn filters_select_by_status_bundle_and_annotation() {
        let views = views();
        for (word, expected) in [
            ("status=running", [true, false]),
            ("status=stopped", [false, true]),
            ("bundle=/b", [true, true]),
            ("bundle=/c", [false, false]),
            ("role=web", [false, true]),
            ("role=", [false, false]),
        ] {
            let filter: Filter = word.parse().unwrap();
            assert_eq!(
                views
                    .iter()
                    .map(|view| filter.selects(view))
                    .collect::<Vec<_>>(),
                expected
            );
        }
        assert!("status".parse::<Filter>().is_err());
        assert!("=x".parse::<Filter>().is_err());
        assert!("status=runing".parse::<Filter>().is_err());
    }

    #[test]
    fn a_key_that_may_be_meant_for_another_is_found() {
        for (key, value, expected) in [
            ("status", "running", None),
            ("bundle", "/b", None),
            ("statsu", "running", Some("status")),
            ("state", "running", Some("status")),
            ("bundel", "/b", Some("bundle")),
            ("role", "web", None),
            ("io.kubernetes.container.name", "a", None),
        ] {
            assert_eq!(meant(key, value), expected, "{key}={value}");
        }
    }
}
