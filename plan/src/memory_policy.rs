//! Decides about the NUMA memory policy of the process (set_mempolicy(2); config-linux.md,
//! "Memory policy").

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{
    LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode,
};
use serde::{Deserialize, Serialize};

use super::id_list::IdList;
use crate::prelude::*;

/// The arguments of set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicyPlan {
    /// The mode and its flags as one number, as the kernel expects them.
    pub mode: i32,
    pub nodes: IdList,
}

/// The number of nodes that a mode expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    None,
    Any,
    Some,
}

/// The modes, with their numbers in `linux/mempolicy.h`.
const MODES: [(Mode, i32, Nodes); 7] = [
    (Mode::MpolDefault, 0, Nodes::None),
    (Mode::MpolPreferred, 1, Nodes::Any),
    (Mode::MpolBind, 2, Nodes::Some),
    (Mode::MpolInterleave, 3, Nodes::Some),
    (Mode::MpolLocal, 4, Nodes::None),
    (Mode::MpolPreferredMany, 5, Nodes::Some),
    (Mode::MpolWeightedInterleave, 6, Nodes::Some),
];

const FLAGS: [(Flag, i32); 3] = [
    (Flag::MpolFNumaBalancing, 1 << 13),
    (Flag::MpolFRelativeNodes, 1 << 14),
    (Flag::MpolFStaticNodes, 1 << 15),
];

impl MemoryPolicyPlan {
    /// Decides about `linux.memoryPolicy`.
    ///
    /// # Errors
    /// Returns an error if the mode or a flag is unknown, if the nodes are not a list, or
    /// if the mode does not allow this number of nodes.
    pub fn new(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicyPlan> {
        let known = MODES.iter().find(|(mode, ..)| *mode == policy.mode());
        let (_, mode, takes) = known.context("linux.memoryPolicy.mode")?;
        let text = policy.nodes().as_deref().unwrap_or_default();
        let nodes = match IdList::parse(text) {
            Ok(nodes) => nodes,
            Err(err) => bail!("invalid memory policy nodes {text:?}: {err:#}"),
        };
        let mut flags = 0;
        for wanted in policy.flags().iter().flatten() {
            let known = FLAGS.iter().find(|(flag, _)| flag == wanted);
            flags |= known.context("linux.memoryPolicy.flags")?.1;
        }
        match (takes, nodes.count()) {
            (Nodes::None, 0) | (Nodes::Any, _) => {}
            (Nodes::None, count) => bail!("memory policy mode requires 0 nodes but got {count}"),
            (Nodes::Some, 0) => bail!("memory policy mode requires at least one node but got 0"),
            (Nodes::Some, _) => {}
        }
        Ok(MemoryPolicyPlan {
            mode: mode | flags,
            nodes,
        })
    }
}

/// Returns the modes of the specification, for `teu features`.
pub fn modes() -> impl Iterator<Item = String> {
    MODES.iter().map(|(mode, ..)| mode.to_string())
}

/// Returns the flags of the specification, for `teu features`.
pub fn flags() -> impl Iterator<Item = String> {
    FLAGS.iter().map(|(flag, _)| flag.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: &str, nodes: &str, flags: &[&str]) -> Result<MemoryPolicyPlan> {
        let json = serde_json::json!({ "mode": mode, "nodes": nodes, "flags": flags });
        MemoryPolicyPlan::new(&crate::testing::read(&json.to_string()))
    }

    #[test]
    fn policies() {
        for (mode, nodes, flags, number) in [
            ("MPOL_DEFAULT", "", &[][..], 0),
            ("MPOL_PREFERRED", "", &[], 1),
            (
                "MPOL_PREFERRED",
                "0",
                &["MPOL_F_RELATIVE_NODES"],
                1 | 1 << 14,
            ),
            (
                "MPOL_BIND",
                "0-1",
                &["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"],
                2 | 5 << 13,
            ),
            ("MPOL_WEIGHTED_INTERLEAVE", "3", &[], 6),
        ] {
            assert_eq!(plan(mode, nodes, flags).expect(mode).mode, number);
        }
    }

    #[test]
    fn words_of_refusal() {
        for (mode, nodes, flags, words) in [
            (
                "MPOL_DEFAULT",
                "0-7",
                &[][..],
                "memory policy mode requires 0 nodes but got 8",
            ),
            (
                "MPOL_BIND",
                "",
                &[],
                "memory policy mode requires at least one node but got 0",
            ),
        ] {
            assert_eq!(plan(mode, nodes, flags).expect_err(mode).to_string(), words);
        }
        let error = plan("MPOL_BIND", "0-9876543210", &[]).expect_err("nodes");
        let words = r#"invalid memory policy nodes "0-9876543210": "#;
        assert!(error.to_string().starts_with(words), "{error}");
    }
}
