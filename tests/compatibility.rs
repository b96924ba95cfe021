//! Checks docs/runc-compatibility.md, which lists the differences to runc: compares the
//! options of both, and checks that the tests named in each row exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::json;

use crate::coverage::is_test;
use crate::harness::*;

tests![
    options_are_runcs_but_for_those_listed,
    every_difference_names_its_reason_and_a_test,
    quirks_are_kept,
    annotation_called_bundle_is_an_annotation,
];

/// Options by command; "-" stands for the options before a command.
type Options = BTreeMap<String, BTreeSet<String>>;

fn options_are_runcs_but_for_those_listed() {
    needs(&[]);
    let (runc, teu) = (options_of_runc(), options_of_teu());
    assert!(runc.len() > 15 && teu.len() > 10, "{runc:?} {teu:?}");
    let mut differences = BTreeSet::new();
    for (word, ours, others) in [("added", &teu, &runc), ("missing", &runc, &teu)] {
        for (command, options) in ours {
            let Some(counterpart) = others.get(command) else {
                differences.insert((word.to_owned(), command.clone()));
                continue;
            };
            differences.extend(
                options
                    .difference(counterpart)
                    .map(|option| (word.to_owned(), format!("{command} {option}"))),
            );
        }
    }
    let listed = tables()
        .into_iter()
        .filter(|row| row.table == "Commands and options")
        .map(|row| (row.cells[0].clone(), row.cells[1].replace('`', "")))
        .collect();
    assert_eq!(
        differences, listed,
        "on the left what the help shows, on the right the first table of the document"
    );
}

fn options_of_runc() -> Options {
    let text = fs::read_to_string(repository("tests/data/runc-options")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            (words.next().unwrap(), words.collect())
        })
        .collect()
}

fn options_of_teu() -> Options {
    let overview = teu(["--help"]).output().ok().stdout;
    let commands = section(&overview, "COMMANDS:");
    let mut options = Options::from([(
        "-".to_owned(),
        spellings(section(&overview, "GLOBAL OPTIONS:")),
    )]);
    for line in commands.lines() {
        let command = line.split_whitespace().next().unwrap();
        if command == "help" {
            continue;
        }
        let help = teu([command, "--help"]).output().ok().stdout;
        options.insert(command.to_owned(), spellings(section(&help, "\nOPTIONS:")));
    }
    options
}

/// The indented lines below a heading.
fn section<'a>(help: &'a str, heading: &str) -> &'a str {
    let (_, rest) = help.split_once(heading).unwrap_or_default();
    rest.split("\n\n").next().unwrap().trim_start_matches('\n')
}

/// The spellings of options: `--format FORMAT, -f FORMAT  'table' or 'json'` has two. "--help"
/// is left out, because runc does not always show it.
fn spellings(lines: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in lines.lines() {
        let names = line.trim_start().split("  ").next().unwrap();
        let words = names.split([' ', ',', '[']);
        all.extend(
            words
                .filter(|word| word.starts_with('-'))
                .map(str::to_owned),
        );
    }
    all.remove("--help");
    all.remove("-h");
    all
}

/// A row of a table of the document.
struct Row {
    /// The heading above the table.
    table: String,
    cells: Vec<String>,
}

fn tables() -> Vec<Row> {
    let text = fs::read_to_string(repository("docs/runc-compatibility.md")).unwrap();
    let mut table = String::new();
    let mut rows = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut table);
        }
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|--"));
        if line.starts_with("| ") && !is_head {
            let cells = line.trim_matches('|').split(" | ");
            rows.push(Row {
                table: table.clone(),
                cells: cells.map(|cell| cell.trim().to_owned()).collect(),
            });
        }
    }
    rows
}

fn every_difference_names_its_reason_and_a_test() {
    needs(&[]);
    let rows = tables();
    assert!(rows.len() > 30, "{} rows", rows.len());
    let mut faults = Vec::new();
    for Row { table, cells } in rows {
        let columns = match table.as_str() {
            "Commands and options" => 3,
            "What looks like a defect and is kept" => 2,
            _ => 5,
        };
        let what = &cells[0];
        if cells.len() != columns || cells.iter().any(String::is_empty) {
            faults.push(format!("{what}: {} cells of {columns}", cells.len()));
        }
        if table == "Commands and options" {
            continue;
        }
        for test in cells.last().unwrap().split(", ") {
            let test = test.trim_matches('`');
            if !is_test(test) && !test.starts_with("not tested: ") {
                faults.push(format!("{what}: there is no test {test}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "docs/runc-compatibility.md:\n  {}",
        faults.join("\n  ")
    );
}

/// Behaviour that looks like a defect, but on which callers depend.
fn quirks_are_kept() {
    needs(&[Root, Teu, Controller("freezer")]);
    let empty = scratch().join("empty-root");
    fs::create_dir(&empty).unwrap();
    let list = Invocation::new(runtime()).arg("--root").arg(&empty);
    let list = list.args(["list", "--format", "json"]).output().ok();
    assert_eq!(list.stdout, "null\n");

    let container = Container::running(Bundle::new().probe("sleep"));
    let state = container.command("state", NO_FLAGS).output().ok().stdout;
    assert!(state.ends_with("\"owner\": \"\"\n}"), "{state:?}");

    let call = |command| container.command(command, NO_FLAGS).output();
    call("pause").ok();
    call("pause").exits(1).says("container not running");
    call("resume").ok();
    call("resume").exits(1).says("container not paused");

    let output = container.kill("--all").exits(1);
    output.says("unknown signal").says("--all");
    let config = container.bundle.directory.join("config.json");
    fs::remove_file(config).unwrap();
    let exec = container.command("exec", NO_FLAGS).arg("/probe").output();
    exec.exits(255)
        .says("JSON specification file config.json not found");
}

/// In runc's `state`, the annotation hides the bundle's path.
fn annotation_called_bundle_is_an_annotation() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().set("/annotations", json!({ "bundle": "/elsewhere" }));
    let container = Container::created(bundle.probe("exit 0"));
    let state = container.state();
    assert_eq!(state["bundle"], json!(container.bundle.directory));
    assert_eq!(state["annotations"]["bundle"], "/elsewhere");
}
