//! cpuset on v2, where an empty file means the parent's set.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::file::{Directory, Steps, Write};
use crate::limits::CpuLimits;

pub(crate) fn steps(cpu: &CpuLimits) -> Steps {
    let mut steps = Steps::default();
    if !cpu.cpus.is_empty() {
        steps.write(Write::new("cpu.cpus", "cpuset.cpus", &cpu.cpus));
    }
    if !cpu.mems.is_empty() {
        steps.write(Write::new("cpu.mems", "cpuset.mems", &cpu.mems));
    }
    steps
}

/// The kernel takes any processor that can exist, and gives the cgroup all of
/// the one above where it could have none of those asked for. That is no limit.
///
/// Errors: the processors or memory nodes in force are not those asked for.
pub(crate) fn check(directory: &Directory, cpu: &CpuLimits) -> Result<()> {
    for (name, asked) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        if asked.is_empty() {
            continue;
        }
        let effective = directory.read_or_error(&format!("cpuset.{name}.effective"))?;
        // As the kernel writes it, whatever way it was asked for.
        let asked = directory.read_or_error(&format!("cpuset.{name}"))?;
        if !members(&effective).is_subset(&members(&asked)) {
            let path = directory.path.join(format!("cpuset.{name}"));
            let reason = format!(
                "write {asked:?} to {path:?}: the cgroup above has none of these, only {effective:?}"
            );
            return Err(Error::refused(
                format!("linux.resources.cpu.{name}"),
                reason,
            ));
        }
    }
    Ok(())
}

/// The numbers in a list such as "0-3,7".
fn members(list: &str) -> BTreeSet<u32> {
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (list, numbers) in [("", &[][..]), ("3", &[3]), ("0-2,7\n", &[0, 1, 2, 7])] {
            assert_eq!(members(list), numbers.iter().copied().collect(), "{list:?}");
        }
    }

    #[test]
    fn table() {
        let limits = CpuLimits {
            cpus: "1".into(),
            mems: "0".into(),
            ..Default::default()
        };
        assert_eq!(steps(&limits).lines(), ["cpuset.cpus=1", "cpuset.mems=0"]);
    }
}
