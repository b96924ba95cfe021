//! Sets the NUMA memory policy of the process.

use anyhow::{Context, Result};

use crate::plan::memory_policy::MemoryPolicyPlan;
use crate::sys;

/// Sets the policy of the calling process; its children inherit it.
pub(crate) fn set(plan: &MemoryPolicyPlan) -> Result<()> {
    sys::set_mempolicy(plan.mode, plan.nodes.words()).context("set memory policy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use crate::testing;

    #[test]
    fn a_policy_without_nodes() {
        testing::in_child(|| {
            for mode in ["MPOL_LOCAL", "MPOL_DEFAULT"] {
                let policy = spec::MemoryPolicy {
                    mode: mode.into(),
                    ..Default::default()
                };
                set(&MemoryPolicyPlan::new(&policy).expect("plan")).expect(mode);
            }
            let maps = std::fs::read_to_string("/proc/self/numa_maps").expect("numa_maps");
            assert!(maps.contains(" default "), "{maps}");
        });
    }

    #[test]
    fn the_kernel_shows_the_policy() {
        testing::in_child(|| {
            let policy = spec::MemoryPolicy {
                mode: "MPOL_BIND".into(),
                nodes: "0".into(),
                flags: vec!["MPOL_F_STATIC_NODES".into()],
            };
            set(&MemoryPolicyPlan::new(&policy).expect("plan")).expect("set");
            let maps = std::fs::read_to_string("/proc/self/numa_maps").expect("numa_maps");
            assert!(maps.contains(" bind=static:0 "), "{maps}");
        });
    }
}
