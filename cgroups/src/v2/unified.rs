//! `linux.resources.unified`: cgroup v2 files by name.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::file::{Steps, Write};

/// Files that would move, stop or end processes, the container's init first.
const NO_LIMITS: [&str; 4] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.freeze",
    "cgroup.kill",
];

/// The writes, each with the controller it needs. A value of several lines is
/// several writes: the kernel takes one device or key at a time.
pub(crate) fn steps(unified: &BTreeMap<String, String>) -> Result<Vec<(String, Steps)>> {
    let mut all = Vec::new();
    for (file, value) in unified {
        let field = format!("unified[{file:?}]");
        let refuse = |reason| Err(Error::refused(format!("linux.resources.{field}"), reason));
        if file.contains('/') {
            return refuse("must be a file name (no slashes)");
        }
        let controller = match file.split_once('.') {
            Some((controller, _)) if !controller.is_empty() => controller,
            _ => return refuse("must be in the form CONTROLLER.PARAMETER"),
        };
        if NO_LIMITS.contains(&file.as_str()) {
            return refuse("is no limit: it acts on the processes of the cgroup");
        }
        let mut steps = Steps::default();
        let lines: Vec<&str> = value.lines().collect();
        // An empty value is one too: it resets cpuset.cpus.
        for line in if lines.is_empty() { vec![""] } else { lines } {
            steps.write(Write::new(&field, file, line));
        }
        all.push((controller.to_owned(), steps));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let unified = BTreeMap::from([
            ("io.max".to_owned(), "8:0 rbps=1\n8:16 rbps=2\n".to_owned()),
            ("memory.high".to_owned(), "max".to_owned()),
        ]);
        let all = steps(&unified).unwrap();
        assert_eq!(all[0].0, "io");
        assert_eq!(
            all[0].1.lines(),
            ["io.max=8:0 rbps=1", "io.max=8:16 rbps=2"]
        );
        assert_eq!(all[1].1.lines(), ["memory.high=max"]);
        assert_eq!(
            all[1].1.first_field(),
            Some("linux.resources.unified[\"memory.high\"]")
        );
    }

    #[test]
    fn names_are_checked() {
        let words = |file: &str| {
            let unified = BTreeMap::from([(file.to_owned(), "1".to_owned())]);
            steps(&unified).unwrap_err().to_string()
        };
        assert!(words("../memory.max").contains("must be a file name (no slashes)"));
        for file in ["memory", ".max", ""] {
            assert!(words(file).contains("must be in the form CONTROLLER.PARAMETER"));
        }
        for file in NO_LIMITS {
            assert!(words(file).contains("is no limit"));
        }
    }
}
