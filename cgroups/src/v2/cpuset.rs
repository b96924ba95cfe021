//! Turns processors and memory nodes into writes for the v2 controller cpuset. An empty
//! file means the parent's set, so a new cgroup needs no filling.

use teu_cgroups_types::CpuLimits;

use crate::cpu_list;
use crate::directory::{Directory, Steps, Write};
use crate::error::{Error, Result};

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

/// Refuses a set that is not part of the parent's set. The kernel would accept it and
/// silently use the parent's (cgroup-v2.rst, "cpuset.cpus").
///
/// # Errors
/// Returns an error if a set has more than the parent's. If the parent's set cannot be
/// read, because the controller is missing, the write will fail later.
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
        // Leave it to the kernel to refuse text that is not a list.
        let (Some(set), Some(offers)) = (cpu_list::parse(asked), cpu_list::parse(&offered)) else {
            continue;
        };
        if !set.is_subset(&offers) {
            let path = directory.path.join(file);
            let reason = format!("{asked:?} for {path:?} is not part of the parent's {offered:?}");
            return Err(Error::refused(field, reason));
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
