//! Joins the rules of one system call that have conditions into one tree of
//! tests, and decides which rule wins if several hold.
//!
//! A filter compares 32 bits at a time, so a condition on 64 bits becomes two or
//! three tests. [`add`] makes a chain of tests from a rule and inserts it into
//! the tree; a test that two rules share at the same place exists once.
//!
//! The tests on one level of the tree are tried in this order, which is
//! libseccomp's: higher arguments first; the upper half of an argument before
//! the lower; equality before "less" before "greater"; then larger values first,
//! except for "less", where smaller values come first because they are narrower.
//! The first test that leads to an action wins.
//!
//! The tree knows nothing of instructions: `program.rs` writes them.

use crate::{Action, Comparison, Condition};

/// The comparisons of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Equal,
    MaskedEqual,
    Greater,
    GreaterOrEqual,
}

/// A test: the comparison of one half of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) index: u8,
    pub(crate) upper: bool,
    pub(crate) operator: Operator,
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

/// The place of a test on its level. Greater places are tried first.
type Place = (u8, Class, u32);

/// The kind of condition that a test comes from. Greater kinds are tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Greater,
    Less,
    Equal,
}

/// A test and its two branches.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) test: Test,
    class: Class,
    /// The condition's value, with all 64 bits.
    whole: u64,
    pub(crate) then: Branch,
    pub(crate) otherwise: Branch,
}

/// What follows if a test holds, or if it does not hold.
#[derive(Debug, Clone)]
pub(crate) enum Branch {
    /// Continue with the next test on this level or on a level above.
    Nothing,
    /// End with an action.
    Act(Action),
    /// Continue with these tests, in this order. There is at least one.
    Level(Vec<Node>),
}

/// The error for two rules with the same conditions and different actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict;

/// Adds a rule to the tree of its call. All its conditions have to hold, and
/// each is on an argument of its own.
///
/// # Errors
/// Returns [`Conflict`] if a rule with the same conditions has another action.
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

/// Returns whether the condition holds for every value.
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
    reason = "the function takes the lower half"
)]
fn lower(value: u64) -> u32 {
    value as u32
}

fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Returns the parts of a comparison: the operator of its last test, whether the comparison is
/// the opposite of that test ("less" is the opposite of "greater or equal"), its class, its mask
/// and its value.
fn parts(comparison: Comparison) -> (Operator, bool, Class, u64, u64) {
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

/// Makes the test of a condition on 32 bits.
fn narrow(condition: &Condition, next: Branch) -> Node {
    let (operator, negated, class, mask, whole) = parts(condition.comparison);
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

/// Makes the tests of a condition on 64 bits.
fn wide(condition: &Condition, next: Branch) -> Node {
    let (operator, negated, class, mask, whole) = parts(condition.comparison);
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
        // The upper half is greater, or it is equal and the lower half is
        // greater.
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

/// Inserts tests at their places on a level.
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

/// Adds the branches that another rule has for the same test.
fn merge(node: &mut Node, new: Node) -> Result<(), Conflict> {
    if let Branch::Act(action) = new.then {
        match &node.then {
            Branch::Act(known) if *known != action => {
                // Of two "greater" conditions the narrower one wins. If the
                // upper half decides, the order of tests does not ensure that.
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
            // A rule with fewer conditions decides already.
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

/// Replaces a branch, which rules with more conditions made, by an action.
fn widened(branch: &Branch, action: Action) -> Result<Branch, Conflict> {
    if always_leads_to(branch, action) {
        Ok(Branch::Act(action))
    } else {
        Err(Conflict)
    }
}

/// Returns whether every action in the branch is `action`.
fn always_leads_to(branch: &Branch, action: Action) -> bool {
    match branch {
        Branch::Nothing => true,
        Branch::Act(known) => *known == action,
        Branch::Level(nodes) => nodes.iter().all(|node| {
            always_leads_to(&node.then, action) && always_leads_to(&node.otherwise, action)
        }),
    }
}
