//! Sets the NUMA memory policy of the process (set_mempolicy(2)).

use anyhow::{Context, Result};
use teu_plan::memory_policy::MemoryPolicyPlan;

use crate::sys;

/// Sets the policy of the calling process. Its children inherit the policy.
pub(crate) fn set(plan: &MemoryPolicyPlan) -> Result<()> {
    sys::set_mempolicy(plan.mode, plan.nodes.words()).context("set memory policy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_policy_without_nodes() {
        testing::in_child(|| {
            for mode in ["MPOL_LOCAL", "MPOL_DEFAULT"] {
                let policy = testing::read(&format!(r#"{{"mode":"{mode}"}}"#));
                set(&MemoryPolicyPlan::new(&policy).expect("plan")).expect(mode);
            }
            let maps = std::fs::read_to_string("/proc/self/numa_maps").expect("numa_maps");
            assert!(maps.contains(" default "), "{maps}");
        });
    }

    #[test]
    fn the_kernel_shows_the_policy() {
        testing::in_child(|| {
            let policy = testing::read(
                r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES"]}"#,
            );
            set(&MemoryPolicyPlan::new(&policy).expect("plan")).expect("set");
            let maps = std::fs::read_to_string("/proc/self/numa_maps").expect("numa_maps");
            assert!(maps.contains(" bind=static:0 "), "{maps}");
        });
    }
}
