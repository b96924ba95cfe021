//! Compares what skipped tests needed with what a machine of this kind is expected to lack,
//! by tests/data/skips, or writes that list anew ($TEU_TEST_SKIPS).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::needs::machine_kind;
use super::repository;

/// Compares the needs for which tests were skipped with those expected to be missing. Returns
/// the differences. `skipped` has lines such as "module::test: needs root". If tests were
/// `left_out`, an expected need that no test missed is not a difference.
pub(super) fn unexpected_skips(skipped: &BTreeSet<String>, left_out: &[String]) -> Option<String> {
    let path: PathBuf = repository("tests/data/skips").join(machine_kind());
    let mode = std::env::var("TEU_TEST_SKIPS").unwrap_or_default();
    let missing: BTreeSet<&str> = skipped.iter().map(|line| need(line)).collect();
    if mode == "write" {
        let lines: String = missing.iter().map(|need| format!("{need}\n")).collect();
        fs::write(&path, lines).expect("write the needs expected to be missing");
        return None;
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let expected: BTreeSet<&str> = text.lines().collect();
    let mut differences = Vec::new();
    for new in missing.difference(&expected) {
        differences.push(format!("  missing, not expected: {new}"));
        let of_need = skipped.iter().filter(|line| need(line) == *new);
        differences.extend(of_need.map(|line| format!("    {line}")));
    }
    if left_out.is_empty() {
        let gone = expected.difference(&missing);
        differences.extend(gone.map(|need| format!("  expected, not missing: {need}")));
    }
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

/// The need in a line of a skipped test.
fn need(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(_, need)| need)
}
