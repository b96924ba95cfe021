//! Suggests a known word for one that is misspelled, as in "did you mean?".
//!
//! It compares letters only, and knows no language.
//!
//! # Example
//!
//! ```
//! assert_eq!(teu_spelling::nearest("lmiit", &["limit", "swap"]), Some("limit"));
//! assert_eq!(teu_spelling::nearest("colour", &["limit", "swap"]), None);
//! ```

#![warn(missing_docs)]

/// Returns the known word nearest to `word`, if it is near enough: a third of the
/// letters may be wrong, missing, superfluous, or exchanged with their neighbour.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let distances = known
        .iter()
        .map(|known| (strsim::osa_distance(word, known), *known));
    let near = distances.filter(|(distance, _)| *distance <= allowed);
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested() {
        let known = ["limit", "swap", "reservation", "run", "resume"];
        for (word, meant) in [
            ("limitt", Some("limit")),
            ("lmiit", Some("limit")),
            ("swp", Some("swap")),
            ("runn", Some("run")),
            ("reservations", Some("reservation")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }
}
