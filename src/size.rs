//! Amounts of memory: parses them in the form that Docker's users write ("1.5g",
//! "512MiB"), and formats them for people.

use anyhow::{Result, bail};

/// Parses a number of bytes with a unit, as Docker's go-units does: k, m, g, t and p
/// stand for powers of 1024, with or without "b" or "ib".
///
/// # Errors
/// The word is not of this form.
pub(crate) fn parse(word: &str) -> Result<i64> {
    let is_number = |character: char| character.is_ascii_digit() || ". ".contains(character);
    let Some(end) = word.rfind(is_number) else {
        bail!("invalid size: '{word}'");
    };
    let (number, unit) = word.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let exponent = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => bail!("invalid suffix: '{unit}'"),
    };
    let bytes = number
        .parse::<f64>()
        .map(|number| number * 1024_f64.powi(exponent));
    match bytes {
        Ok(bytes) if (0.0..9.2e18).contains(&bytes) => {
            #[expect(clippy::cast_possible_truncation, reason = "below 2^63 by the pattern")]
            let bytes = bytes as i64;
            Ok(bytes)
        }
        _ => bail!("invalid size: '{word}'"),
    }
}

/// Formats a number of bytes with about three digits: "512B", "1.5KiB", "12.3MiB".
pub(crate) fn words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    let mut number = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if number < 1000.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    let digits = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_to_bytes() {
        for (word, bytes) in [
            ("0", 0),
            ("67108864", 64 << 20),
            ("50M", 50 << 20),
            ("1.5g", 3 << 29),
            ("32 kB", 32 << 10),
            ("10MiB", 10 << 20),
            ("7b", 7),
        ] {
            assert_eq!(parse(word).expect(word), bytes, "{word}");
        }
        for (word, error) in [
            ("", "invalid size: ''"),
            ("x", "invalid size: 'x'"),
            ("-5", "invalid size: '-5'"),
            ("5x", "invalid suffix: 'x'"),
            ("5mib5", "invalid size: '5mib5'"),
            ("99999p", "invalid size: '99999p'"),
        ] {
            assert_eq!(parse(word).expect_err(word).to_string(), error);
        }
    }

    #[test]
    fn bytes_to_words() {
        for (bytes, word) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00KiB"),
            (12_900_000, "12.3MiB"),
            (512 << 20, "512MiB"),
            (1 << 30, "1.00GiB"),
            (1_048_000_000, "999MiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(words(bytes), word, "{bytes}");
        }
    }
}
