//! What may be meant by a word that nobody knows.

/// The known word nearest to `word`, if it is near: a third of the letters may be
/// wrong, missing, too many, or in the place of the next one.
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
    fn what_is_near_is_meant() {
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
