//! The NUMA memory policy of the process (set_mempolicy(2);
//! config-linux.md, "Memory policy").

use anyhow::{Result, bail};

use serde::{Deserialize, Serialize};

use super::id_list::IdList;
use crate::spec;

/// What set_mempolicy(2) is called with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPolicyPlan {
    /// The mode and its flags, in one number as the kernel takes them.
    pub(crate) mode: i32,
    pub(crate) nodes: IdList,
}

/// How many nodes a mode takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    None,
    Any,
    Some,
}

/// Modes by name, with their numbers in `linux/mempolicy.h`.
const MODES: [(&str, i32, Nodes); 7] = [
    ("MPOL_DEFAULT", 0, Nodes::None),
    ("MPOL_PREFERRED", 1, Nodes::Any),
    ("MPOL_BIND", 2, Nodes::Some),
    ("MPOL_INTERLEAVE", 3, Nodes::Some),
    ("MPOL_LOCAL", 4, Nodes::None),
    ("MPOL_PREFERRED_MANY", 5, Nodes::Some),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Some),
];

const FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

impl MemoryPolicyPlan {
    /// Decides about `linux.memoryPolicy`.
    ///
    /// # Errors
    /// An unknown mode or flag, nodes that are no list, or a number of nodes
    /// the mode does not take.
    pub(crate) fn new(policy: &spec::MemoryPolicy) -> Result<MemoryPolicyPlan> {
        let Some((_, mode, takes)) = MODES.iter().find(|(name, ..)| *name == policy.mode) else {
            bail!("invalid memory policy mode {:?}", policy.mode);
        };
        let nodes = match IdList::parse(&policy.nodes) {
            Ok(nodes) => nodes,
            Err(err) => bail!("invalid memory policy nodes {:?}: {err:#}", policy.nodes),
        };
        let mut flags = 0;
        for flag in &policy.flags {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => flags |= bit,
                None => bail!("invalid memory policy flag {flag:?}"),
            }
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

/// The modes the specification knows, for `features`.
pub(crate) fn modes() -> impl Iterator<Item = &'static str> {
    MODES.iter().map(|(name, ..)| *name)
}

/// The flags the specification knows, for `features`.
pub(crate) fn flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: &str, nodes: &str, flags: &[&str]) -> Result<MemoryPolicyPlan> {
        MemoryPolicyPlan::new(&spec::MemoryPolicy {
            mode: mode.into(),
            nodes: nodes.into(),
            flags: flags.iter().map(|flag| (*flag).into()).collect(),
        })
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
            ("", "", &[][..], r#"invalid memory policy mode """#),
            (
                "INTERLEAVE",
                "0",
                &[],
                r#"invalid memory policy mode "INTERLEAVE""#,
            ),
            (
                "MPOL_DEFAULT",
                "0-7",
                &[],
                "memory policy mode requires 0 nodes but got 8",
            ),
            (
                "MPOL_BIND",
                "",
                &[],
                "memory policy mode requires at least one node but got 0",
            ),
            (
                "MPOL_BIND",
                "0",
                &["bad"],
                r#"invalid memory policy flag "bad""#,
            ),
        ] {
            assert_eq!(plan(mode, nodes, flags).expect_err(mode).to_string(), words);
        }
        let error = plan("MPOL_BIND", "0-9876543210", &[]).expect_err("nodes");
        let words = r#"invalid memory policy nodes "0-9876543210": "#;
        assert!(error.to_string().starts_with(words), "{error}");
    }
}
