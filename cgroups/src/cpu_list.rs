//! Parses and writes sets of processors or memory nodes in the kernel's list format, such
//! as "0-3,7" (cpuset(7), "List format").

use std::collections::BTreeSet;
use std::fmt::Write;

/// Parses a list. Returns `None` if the text is not a list.
pub(crate) fn parse(text: &str) -> Option<BTreeSet<u32>> {
    /// More than any kernel supports. Without a maximum, a typing mistake could fill the
    /// memory.
    const MAXIMUM: u32 = 1 << 16;
    let mut numbers = BTreeSet::new();
    let parts = text.trim().split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MAXIMUM {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Writes a list, with ranges for consecutive numbers.
pub(crate) fn format(numbers: &BTreeSet<u32>) -> String {
    let mut text = String::new();
    let mut rest = numbers.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| *next == last + 1) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let written = match last {
            _ if first == last => write!(text, "{comma}{first}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
        debug_assert!(written.is_ok());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_written() {
        for (text, written) in [
            ("0-3,7", "0-3,7"),
            ("1,0,2\n", "0-2"),
            ("", ""),
            ("5", "5"),
            ("0-1, 3-4", "0-1,3-4"),
        ] {
            assert_eq!(format(&parse(text).unwrap()), written, "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_not_lists() {
        for text in ["a", "3-1", "-1", "0-4000000000", "1-"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
