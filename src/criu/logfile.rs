//! Quotes CRIU's log about a failure in teu's log, for readers of teu's log only.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The number of lines before an error that are quoted with it.
const BEFORE: usize = 5;

/// The largest number of quoted lines, because the log of a failure repeats itself.
const MOST: usize = 60;

/// Warns with the lines of the log that name errors, and the lines before them.
pub(crate) fn quote_errors(path: &Path) {
    match File::open(path) {
        Ok(file) => {
            let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
            let quoted = errors_in(lines.map(|line| String::from_utf8_lossy(&line).into_owned()));
            if quoted.is_empty() {
                return;
            }
            log::warn!("--- Quoting {path:?}");
            for line in quoted {
                log::warn!("{line}");
            }
            log::warn!("---");
        }
        // CRIU ended before it made a log.
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
        Err(err) => log::warn!("read {path:?}: {err}"),
    }
}

/// Returns `number:line` for each line with an error and the lines before it, with
/// `...` for omitted lines.
fn errors_in(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut before: Vec<(usize, String)> = Vec::new();
    let mut quoted = Vec::new();
    let mut last = 0;
    for (number, line) in (1..).zip(lines) {
        let is_error = line.contains("Error");
        before.push((number, line));
        if before.len() > BEFORE + 1 {
            before.remove(0);
        }
        if !is_error {
            continue;
        }
        if quoted.len() >= MOST {
            quoted.push("...".to_owned());
            break;
        }
        if last != 0 && before.first().is_some_and(|(first, _)| *first > last + 1) {
            quoted.push("...".to_owned());
        }
        for (number, line) in before.drain(..) {
            quoted.push(format!("{number}:{line}"));
            last = number;
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_with_the_lines_before_it() {
        let lines = (1..=30).map(|number| match number {
            3 | 4 | 20 => format!("Error {number}"),
            _ => format!("line {number}"),
        });
        let quoted = errors_in(lines);
        let expected = [
            "1:line 1",
            "2:line 2",
            "3:Error 3",
            "4:Error 4",
            "...",
            "15:line 15",
            "16:line 16",
            "17:line 17",
            "18:line 18",
            "19:line 19",
            "20:Error 20",
        ];
        assert_eq!(quoted, expected);
    }

    #[test]
    fn a_log_without_errors_is_not_quoted() {
        assert!(errors_in(["fine".to_owned()].into_iter()).is_empty());
    }
}
