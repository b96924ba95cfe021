//! Turns limits that name files of cgroup v2, the specification's
//! `linux.resources.unified`, into writes.

use std::collections::BTreeMap;

use crate::directory::{Steps, Write};
use crate::error::{Error, Result};

/// Files that are refused, because they would move, freeze or kill processes.
const NOT_LIMITS: [&str; 4] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.freeze",
    "cgroup.kill",
];

pub(crate) const IDLE: &str = "cpu.idle";
pub(crate) const WEIGHT: &str = "cpu.weight";

/// Returns whether the files make a cgroup idle. The kernel refuses a weight for an idle
/// cgroup.
fn is_idle(unified: &BTreeMap<String, String>) -> bool {
    unified.get(IDLE).is_some_and(|value| value.trim() == "1")
}

/// Returns the file and value to write before the weight, if a change gives a weight to an
/// idle cgroup.
pub(crate) fn end_of_idleness(
    old: &BTreeMap<String, String>,
    change: &BTreeMap<String, String>,
) -> Option<(String, String)> {
    let ends = is_idle(old) && change.contains_key(WEIGHT) && !change.contains_key(IDLE);
    ends.then(|| (IDLE.to_owned(), "0".to_owned()))
}

/// Returns the writes, each with the controller that it needs. A value of several lines
/// becomes several writes, because the kernel takes one device or key at a time.
pub(crate) fn steps(unified: &BTreeMap<String, String>) -> Result<Vec<(String, Steps)>> {
    let mut all = Vec::new();
    for (file, value) in unified {
        let field = format!("unified[{file:?}]");
        let refuse = |reason| Err(Error::refused(&field, reason));
        if file.contains('/') {
            return refuse("must be a file name (no slashes)");
        }
        let controller = match file.split_once('.') {
            Some((controller, _)) if !controller.is_empty() => controller,
            _ => return refuse("must be in the form CONTROLLER.PARAMETER"),
        };
        if NOT_LIMITS.contains(&file.as_str()) {
            return refuse("is not a limit: it acts on the processes of the cgroup");
        }
        let mut steps = Steps::default();
        if file == WEIGHT && is_idle(unified) {
            steps.ignore(
                &field,
                "unable to apply both it and cpu.idle, which fixes the weight",
            );
            all.push((controller.to_owned(), steps));
            continue;
        }
        let lines: Vec<&str> = value.lines().collect();
        // An empty value is written too: it resets cpuset.cpus.
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
        assert_eq!(all[1].1.first_field(), Some("unified[\"memory.high\"]"));
    }

    #[test]
    fn an_idle_cgroup_takes_no_weight() {
        let files = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = list
                .iter()
                .map(|(file, value)| ((*file).into(), (*value).into()));
            owned.collect()
        };
        let both = files(&[("cpu.idle", "1"), ("cpu.weight", "8")]);
        let all = steps(&both).unwrap();
        assert_eq!(all[0].1.lines(), ["cpu.idle=1"]);
        assert!(all[1].1.steps.is_empty());
        assert_eq!(all[1].1.ignored[0].field, "unified[\"cpu.weight\"]");
        let weight = files(&[("cpu.weight", "8")]);
        assert_eq!(
            end_of_idleness(&both, &weight),
            Some(("cpu.idle".to_owned(), "0".to_owned()))
        );
        assert_eq!(end_of_idleness(&weight, &weight), None);
        assert_eq!(end_of_idleness(&both, &both), None);
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
        for file in NOT_LIMITS {
            assert!(words(file).contains("is not a limit"));
        }
    }
}
