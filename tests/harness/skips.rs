//! Compares the skipped tests with those that tests/data/skips expects on this kind of
//! machine, or writes that list anew ($TEU_TEST_SKIPS).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::needs::machine_kind;
use super::repository;

/// The difference between the tests skipped and those expected to be.
pub(super) fn unexpected_skips(skipped: &BTreeSet<String>, left_out: &[String]) -> Option<String> {
    let path: PathBuf = repository("tests/data/skips").join(machine_kind());
    let mode = std::env::var("TEU_TEST_SKIPS").unwrap_or_default();
    let lines: String = skipped.iter().map(|line| format!("{line}\n")).collect();
    if mode == "write" {
        fs::write(&path, lines).expect("write the expected skips");
        return None;
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let was_tried = |line: &&str| !left_out.iter().any(|word| line.contains(word));
    let expected = text.lines().filter(was_tried).map(str::to_owned);
    let expected: BTreeSet<String> = expected.collect();
    let new = skipped
        .difference(&expected)
        .map(|line| format!("  skipped, not expected: {line}"));
    let gone = expected
        .difference(skipped)
        .map(|line| format!("  expected, not skipped: {line}"));
    let differences: Vec<String> = new.chain(gone).collect();
    if differences.is_empty() {
        return None;
    }
    let text = format!(
        "skips differ from {}\n{}",
        path.display(),
        differences.join("\n")
    );
    if mode == "check" {
        return Some(text);
    }
    println!("\n{text}");
    None
}
