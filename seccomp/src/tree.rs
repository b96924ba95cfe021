//! The rules of one system call that have conditions, as one tree of tests:
//! which of them are tried first, and what becomes of two that say something
//! about the same values.
//!
//! A filter compares 32 bits at a time, so a condition on 64 bits is two or
//! three tests. Tests that rules have in common at the same place are made
//! once. On one level of the tree, tests are ordered: the upper half of a word
//! before the lower, higher arguments before lower ones, equality before less
//! before greater, larger values first but for "less", where smaller ones are
//! narrower. What is tried first counts. That is libseccomp's order.

use crate::{Action, Comparison, Condition};

/// How a test compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Equal,
    MaskedEqual,
    Greater,
    GreaterOrEqual,
}

/// A comparison of one half of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) index: u8,
    pub(crate) upper: bool,
    pub(crate) operator: Operator,
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

/// Where a test stands among those of its level: the greatest first.
type Place = (u8, Class, u32);

/// The kinds of condition that a test may come from, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Greater,
    Less,
    Equal,
}

/// A test, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) test: Test,
    class: Class,
    /// All the bits of the condition's value.
    whole: u64,
    pub(crate) then: Branch,
    pub(crate) otherwise: Branch,
}

/// What follows from a test.
#[derive(Debug, Clone)]
pub(crate) enum Branch {
    /// Nothing: the next test on the level, or on one above it.
    Nothing,
    Act(Action),
    /// More tests, in order; at least one.
    Level(Vec<Node>),
}

/// Two rules have the same conditions and different actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict;

/// Adds a rule to the tests of the same call. Conditions are ANDed, and each
/// on another argument.
///
/// # Errors
/// A rule with the same conditions has another action.
pub(crate) fn add(
    tree: &mut Vec<Node>,
    conditions: &[Condition],
    action: Action,
    is_64_bit: bool,
) -> Result<(), Conflict> {
    let mut conditions: Vec<_> = conditions.iter().collect();
    conditions.sort_by_key(|condition| condition.index);
    let end = Branch::Act(action);
    let chain = conditions.iter().rev().fold(end, |next, condition| {
        Branch::Level(vec![if is_64_bit {
            wide(condition, next)
        } else {
            narrow(condition, next)
        }])
    });
    match chain {
        Branch::Level(nodes) => insert(tree, nodes),
        Branch::Act(_) | Branch::Nothing => Ok(()),
    }
}

/// Whether the condition says nothing.
pub(crate) fn always_holds(condition: &Condition, is_64_bit: bool) -> bool {
    match condition.comparison {
        Comparison::MaskedEqual { mask, .. } => {
            lower(mask) == 0 && (!is_64_bit || upper(mask) == 0)
        }
        _ => false,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the half is what is wanted"
)]
fn lower(value: u64) -> u32 {
    value as u32
}

fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

/// What a comparison is in terms of tests: the operator for the last one,
/// whether that has to fail, its class, mask and value.
fn taken_apart(comparison: Comparison) -> (Operator, bool, Class, u64, u64) {
    use Operator::{Equal, Greater, GreaterOrEqual, MaskedEqual};
    match comparison {
        Comparison::Equal(value) => (Equal, false, Class::Equal, u64::MAX, value),
        Comparison::NotEqual(value) => (Equal, true, Class::Equal, u64::MAX, value),
        Comparison::MaskedEqual { mask, value } => (MaskedEqual, false, Class::Equal, mask, value),
        Comparison::Greater(value) => (Greater, false, Class::Greater, u64::MAX, value),
        Comparison::GreaterOrEqual(value) => {
            (GreaterOrEqual, false, Class::Greater, u64::MAX, value)
        }
        Comparison::Less(value) => (GreaterOrEqual, true, Class::Less, u64::MAX, value),
        Comparison::LessOrEqual(value) => (Greater, true, Class::Less, u64::MAX, value),
    }
}

/// The test of a condition on 32 bits.
fn narrow(condition: &Condition, next: Branch) -> Node {
    let (operator, negated, class, mask, whole) = taken_apart(condition.comparison);
    let (then, otherwise) = if negated {
        (Branch::Nothing, next)
    } else {
        (next, Branch::Nothing)
    };
    Node {
        test: Test {
            index: condition.index,
            upper: false,
            operator,
            mask: lower(mask),
            value: lower(whole) & lower(mask),
        },
        class,
        whole,
        then,
        otherwise,
    }
}

/// The tests of a condition on 64 bits.
fn wide(condition: &Condition, next: Branch) -> Node {
    let (operator, negated, class, mask, whole) = taken_apart(condition.comparison);
    let node = |operator, in_upper: bool, then, otherwise| {
        let half = if in_upper { upper } else { lower };
        Node {
            test: Test {
                index: condition.index,
                upper: in_upper,
                operator,
                mask: half(mask),
                value: half(whole) & half(mask),
            },
            class,
            whole,
            then,
            otherwise,
        }
    };
    let level = |node| Branch::Level(vec![node]);
    let is_equality = matches!(operator, Operator::Equal | Operator::MaskedEqual);
    match (is_equality, negated) {
        (true, false) => {
            let last = node(operator, false, next, Branch::Nothing);
            node(operator, true, level(last), Branch::Nothing)
        }
        (true, true) => {
            let last = node(operator, false, Branch::Nothing, next.clone());
            node(operator, true, level(last), next)
        }
        // Greater by the upper half, or equal there and greater by the lower.
        (false, false) => {
            let last = node(operator, false, next.clone(), Branch::Nothing);
            let equal = node(Operator::Equal, true, level(last), Branch::Nothing);
            node(Operator::Greater, true, next, level(equal))
        }
        (false, true) => {
            let last = node(operator, false, Branch::Nothing, next.clone());
            let equal = node(Operator::Equal, true, level(last), next);
            node(Operator::Greater, true, Branch::Nothing, level(equal))
        }
    }
}

impl Node {
    fn place(&self) -> Place {
        let Test {
            index,
            upper,
            value,
            ..
        } = self.test;
        let value = if self.class == Class::Less {
            !value
        } else {
            value
        };
        (index * 2 + u8::from(upper), self.class, value)
    }

    fn is_leaf(&self) -> bool {
        let is_level = |branch: &Branch| matches!(branch, Branch::Level(_));
        !is_level(&self.then) && !is_level(&self.otherwise)
    }
}

/// Puts tests in their places on a level.
fn insert(level: &mut Vec<Node>, nodes: Vec<Node>) -> Result<(), Conflict> {
    for new in nodes {
        let met = level
            .iter()
            .position(|node| node.test == new.test || node.place() < new.place());
        match met {
            Some(at) if level[at].test == new.test => merge(&mut level[at], new)?,
            Some(at) => level.insert(at, new),
            None => level.push(new),
        }
    }
    Ok(())
}

/// Adds what follows from the same test in another rule.
fn merge(node: &mut Node, new: Node) -> Result<(), Conflict> {
    if let Branch::Act(action) = new.then {
        match &node.then {
            Branch::Act(known) if *known != action => {
                // Of two that are greater, the narrower one; where the upper
                // half decides, that is not said by the order of tests.
                if new.test.upper && new.whole > node.whole {
                    node.then = Branch::Act(action);
                }
                if node.is_leaf() || new.is_leaf() {
                    return Err(Conflict);
                }
            }
            known => node.then = widened(known, action)?,
        }
    }
    if let Branch::Act(action) = new.otherwise {
        match &node.otherwise {
            Branch::Act(known) if *known != action => {
                if node.is_leaf() || new.is_leaf() {
                    return Err(Conflict);
                }
            }
            known => node.otherwise = widened(known, action)?,
        }
    }
    if let Branch::Level(nodes) = new.then {
        match &mut node.then {
            Branch::Level(level) => insert(level, nodes)?,
            nothing @ Branch::Nothing => *nothing = Branch::Level(nodes),
            // A rule with fewer conditions says it already.
            Branch::Act(_) => return Ok(()),
        }
    }
    if let Branch::Level(nodes) = new.otherwise {
        match &mut node.otherwise {
            Branch::Level(level) => insert(level, nodes)?,
            nothing @ Branch::Nothing => *nothing = Branch::Level(nodes),
            Branch::Act(_) => {}
        }
    }
    Ok(())
}

/// The action in the place of what more conditions led to.
fn widened(branch: &Branch, action: Action) -> Result<Branch, Conflict> {
    if always_leads_to(branch, action) {
        Ok(Branch::Act(action))
    } else {
        Err(Conflict)
    }
}

/// Whether all the actions below are this one.
fn always_leads_to(branch: &Branch, action: Action) -> bool {
    match branch {
        Branch::Nothing => true,
        Branch::Act(known) => *known == action,
        Branch::Level(nodes) => nodes.iter().all(|node| {
            always_leads_to(&node.then, action) && always_leads_to(&node.otherwise, action)
        }),
    }
}
