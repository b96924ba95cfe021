//! cpuset on v2, where an empty file means the parent's set.

use crate::file::{Steps, Write};
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
