//! The output of `teu --version`, and the version numbers for other outputs.

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the runtime specification that this program implements.
pub(crate) const SPECIFICATION: &str = "1.3.0";

/// The commit of the build, if the build sets `$TEU_COMMIT` as the Makefile does.
pub(crate) const COMMIT: Option<&str> = option_env!("TEU_COMMIT");

/// Returns the lines that engines look for. The first line ends with the version; each
/// further line is a name and a version.
pub(crate) fn text(program: &str) -> String {
    let commit = match COMMIT {
        Some(commit) if !commit.is_empty() => format!("commit: {commit}\n"),
        _ => String::new(),
    };
    format!("{program} version {VERSION}\n{commit}spec: {SPECIFICATION}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_runcs() {
        let text = text("runc");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines.first().copied(),
            Some(concat!("runc version ", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(lines.last().copied(), Some("spec: 1.3.0"));
        assert_eq!(lines.len(), if COMMIT.is_some() { 3 } else { 2 });
    }
}
