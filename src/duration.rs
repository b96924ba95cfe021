//! Spans of time as Go writes them: "1h30m", "1.5s", "100ms".

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The span a word stands for: numbers, each with a unit of `ns`, `us`, `µs`,
/// `ms`, `s`, `m` or `h`; a bare "0" is none. As Go's `time.ParseDuration`,
/// without negative ones, which mean nothing here.
///
/// # Errors
/// It is no such word, or too long a time.
pub(crate) fn parse(word: &str) -> Result<Duration> {
    if word == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = word.strip_prefix('+').unwrap_or(word);
    let mut total = 0.0;
    while !rest.is_empty() || total == 0.0 {
        let is_digit = |character: char| character.is_ascii_digit() || character == '.';
        let (number, behind) = split(rest, is_digit);
        let (unit, behind) = split(behind, |character| !is_digit(character));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => bail!("invalid duration {word:?}"),
        };
        let number: f64 = number
            .parse()
            .ok()
            .with_context(|| format!("invalid duration {word:?}"))?;
        total += number * seconds;
        rest = behind;
        if number == 0.0 && rest.is_empty() {
            break;
        }
    }
    Duration::try_from_secs_f64(total).with_context(|| format!("invalid duration {word:?}"))
}

/// The text up to the first character that is not one of these, and the rest.
fn split(text: &str, is_one: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_one(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, milliseconds) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("0s", 0),
            ("0", 0),
            ("+.5s", 500),
            ("0s7ms", 7),
            ("2000us", 2),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse(word).expect(word), expected, "{word}");
        }
    }

    #[test]
    fn no_words() {
        for word in [
            "",
            "5",
            "s",
            "-1s",
            "1x",
            "1s2",
            "1e3s",
            "99999999999999h999999999999999999h",
        ] {
            let error = parse(word).expect_err(word).to_string();
            assert!(error.contains("invalid duration"), "{word}: {error}");
        }
    }
}
