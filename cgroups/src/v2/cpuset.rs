//! cpuset on v2, where an empty file means the parent's set.

use crate::cpu_list;
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

/// The kernel takes a set outside the parent's and quietly uses the parent's
/// (cgroup-v2.rst, "cpuset.cpus"): refuse what would not be kept.
///
/// Errors: a set with more than the parent's in it. Where the parent's cannot
/// be read (no such controller), the write itself will tell.
pub(crate) fn check_below_parent(directory: &Directory, cpu: &CpuLimits) -> Result<()> {
    let Some(parent) = directory.path.parent().map(Directory::new) else {
        return Ok(());
    };
    let sets = [
        ("cpu.cpus", "cpuset.cpus", &cpu.cpus),
        ("cpu.mems", "cpuset.mems", &cpu.mems),
    ];
    for (field, file, asked) in sets.into_iter().filter(|(_, _, asked)| !asked.is_empty()) {
        let Ok(offered) = parent.read(&format!("{file}.effective")) else {
            continue;
        };
        // What is no list is for the kernel to refuse.
        let (Some(set), Some(offers)) = (cpu_list::parse(asked), cpu_list::parse(&offered)) else {
            continue;
        };
        if !set.is_subset(&offers) {
            let path = directory.path.join(file);
            let reason = format!("{asked:?} for {path:?} is not part of the parent's {offered:?}");
            return Err(Error::refused(format!("linux.resources.{field}"), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
