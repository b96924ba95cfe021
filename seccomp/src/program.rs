//! Builds the graph of decisions and writes it as classic BPF instructions.
//!
//! The graph is built from its end: results first, then the tests that lead to
//! them. Equal nodes exist once. [`Builder::assemble`] writes the program from
//! its end too, because a jump only goes forward, by at most 255 instructions
//! on a test: when an instruction is written, the places of its targets are
//! known. If a target is too far away, it gets a copy or a jump nearby.
//!
//! Which rule decides is not known here: see `tree.rs` and `call_numbers.rs`.

use std::collections::BTreeMap;

use crate::tree::{Branch, Node as TreeNode, Operator, Test};
use crate::{Action, Arch, Error};

/// The maximum number of instructions in a program (`BPF_MAXINSNS` of
/// linux/bpf_common.h).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// One instruction, as the kernel reads it (`struct sock_filter` of
/// linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation (`BPF_*` of linux/bpf_common.h).
    pub code: u16,
    /// The number of instructions to skip if a test holds.
    pub jt: u8,
    /// The number of instructions to skip if a test does not hold.
    pub jf: u8,
    /// The operand: a constant, an offset to load from, or a distance.
    pub k: u32,
}

// Codes of linux/bpf_common.h.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in `struct seccomp_data` (linux/seccomp.h). The lower half of an
// argument comes first, because the machine is little-endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The limit for nodes of the graph, above which building stops early. It is
/// higher than the limit for instructions, because nodes that nothing leads to
/// are not written.
const MOST_NODES: usize = 4 * MOST_INSTRUCTIONS;

/// The index of a node in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Return(u32),
    /// Loads or masks the accumulator and continues with `next`.
    Step {
        code: u16,
        k: u32,
        next: Id,
    },
    /// Compares the accumulator with `k`.
    Jump {
        code: u16,
        k: u32,
        then: Id,
        otherwise: Id,
    },
}

/// The two entry points of a test, which first loads a value and then compares it. A jump
/// from a test that has loaded the same value goes to the comparison (`loaded`). Every
/// other jump goes to the load (`fresh`).
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The offset that the test loads and the mask that it applies.
    compares: Option<(u32, u32)>,
    loaded: Id,
    fresh: Id,
}

impl Entry {
    fn at(id: Id) -> Entry {
        Entry {
            compares: None,
            loaded: id,
            fresh: id,
        }
    }

    /// Returns the entry point for a predecessor that has `loaded` this value.
    fn after(self, loaded: (u32, u32)) -> Id {
        if self.compares == Some(loaded) {
            self.loaded
        } else {
            self.fresh
        }
    }
}

/// The graph while it is built.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: Vec<Node>,
    // Not a HashMap: it needs random numbers and panics if it gets none.
    ids: BTreeMap<Node, Id>,
}

impl Builder {
    fn node(&mut self, node: Node) -> Id {
        let next = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        *self.ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            next
        })
    }

    fn jump(&mut self, code: u16, k: u32, then: Id, otherwise: Id) -> Id {
        if then == otherwise {
            return then;
        }
        self.node(Node::Jump {
            code,
            k,
            then,
            otherwise,
        })
    }

    /// Returns the node that ends the program with `action`.
    pub(crate) fn action(&mut self, action: Action) -> Id {
        self.node(Node::Return(action.value()))
    }

    /// Loads the call's architecture and continues with `next`.
    pub(crate) fn load_arch(&mut self, next: Id) -> Id {
        self.node(Node::Step {
            code: LOAD,
            k: ARCH,
            next,
        })
    }

    /// Tests whether the loaded architecture is `arch`. If so, loads the call's
    /// number and continues with `calls`.
    pub(crate) fn if_arch(&mut self, arch: Arch, calls: Id, otherwise: Id) -> Id {
        let calls = match self.nodes[calls.0 as usize] {
            Node::Jump { .. } => self.node(Node::Step {
                code: LOAD,
                k: NUMBER,
                next: calls,
            }),
            // All numbers have the same result: no need to load the number.
            _ => calls,
        };
        self.jump(JUMP_EQUAL, arch.token(), calls, otherwise)
    }

    /// Tests whether the loaded number is `number`.
    pub(crate) fn if_number(&mut self, number: u32, then: Id, otherwise: Id) -> Id {
        self.jump(JUMP_EQUAL, number, then, otherwise)
    }

    /// Tests whether the loaded number is `number` or greater.
    pub(crate) fn if_at_least(&mut self, number: u32, then: Id, otherwise: Id) -> Id {
        self.jump(JUMP_GREATER_OR_EQUAL, number, then, otherwise)
    }

    /// Returns whether the graph has too many nodes for a program.
    pub(crate) fn is_too_long(&self) -> bool {
        self.nodes.len() > MOST_NODES
    }

    /// Builds the tests of one call. If none of them leads to a result, the
    /// result is `default`.
    ///
    /// # Errors
    /// Returns [`Error::TooLong`] if the graph has too many nodes.
    pub(crate) fn tests(&mut self, level: &[TreeNode], default: Id) -> Result<Id, Error> {
        Ok(self.level(level, Entry::at(default))?.fresh)
    }

    fn level(&mut self, level: &[TreeNode], after: Entry) -> Result<Entry, Error> {
        let mut next = after;
        for node in level.iter().rev() {
            let then = self.branch(&node.then, next)?;
            let otherwise = self.branch(&node.otherwise, next)?;
            next = self.test(node.test, then, otherwise);
            if self.is_too_long() {
                return Err(Error::TooLong);
            }
        }
        Ok(next)
    }

    fn branch(&mut self, branch: &Branch, next: Entry) -> Result<Entry, Error> {
        match branch {
            Branch::Nothing => Ok(next),
            Branch::Act(action) => Ok(Entry::at(self.action(*action))),
            Branch::Level(level) => self.level(level, next),
        }
    }

    fn test(&mut self, test: Test, then: Entry, otherwise: Entry) -> Entry {
        // The result does not depend on the argument: leave the test out.
        match (test.operator, test.mask, test.value) {
            (Operator::MaskedEqual, 0, _) | (Operator::GreaterOrEqual, _, 0) => return then,
            (Operator::Greater, _, u32::MAX) => return otherwise,
            _ => {}
        }
        let offset = ARGUMENTS + 8 * u32::from(test.index) + 4 * u32::from(test.upper);
        let compares = (offset, test.mask);
        let code = match test.operator {
            Operator::Equal | Operator::MaskedEqual => JUMP_EQUAL,
            Operator::Greater => JUMP_GREATER,
            Operator::GreaterOrEqual => JUMP_GREATER_OR_EQUAL,
        };
        if then.after(compares) == otherwise.after(compares) {
            return then;
        }
        let loaded = self.jump(
            code,
            test.value,
            then.after(compares),
            otherwise.after(compares),
        );
        let masked = if test.mask == u32::MAX {
            loaded
        } else {
            self.node(Node::Step {
                code: AND,
                k: test.mask,
                next: loaded,
            })
        };
        let fresh = self.node(Node::Step {
            code: LOAD,
            k: offset,
            next: masked,
        });
        Entry {
            compares: Some(compares),
            loaded,
            fresh,
        }
    }

    /// Writes the program that begins at `start`.
    ///
    /// # Errors
    /// Returns [`Error::TooLong`] if there are more than [`MOST_INSTRUCTIONS`].
    pub(crate) fn assemble(&self, start: Id) -> Result<Vec<Instruction>, Error> {
        let mut layout = Layout {
            nodes: &self.nodes,
            places: vec![None; self.nodes.len()],
            backwards: Vec::new(),
        };
        layout.place(start)?;
        layout.backwards.reverse();
        Ok(layout.backwards)
    }
}

/// The program while it is written, from its last instruction to its first.
struct Layout<'a> {
    nodes: &'a [Node],
    /// The place of each node that is written, counted from the program's end.
    places: Vec<Option<usize>>,
    backwards: Vec<Instruction>,
}

impl Layout<'_> {
    fn of(&self, id: Id) -> Node {
        self.nodes[id.0 as usize]
    }

    fn place_of(&self, id: Id) -> Option<usize> {
        self.places[id.0 as usize]
    }

    /// Writes the node `start` and, before it, all nodes that it leads to.
    fn place(&mut self, start: Id) -> Result<(), Error> {
        let mut waiting = vec![start];
        while let Some(id) = waiting.last().copied() {
            if self.place_of(id).is_some() {
                waiting.pop();
                continue;
            }
            // The node that is written last follows directly in the program.
            // Let that be the branch for a test that holds.
            let follows = match self.of(id) {
                Node::Return(_) => [None, None],
                Node::Step { next, .. } => [Some(next), None],
                Node::Jump {
                    then, otherwise, ..
                } => [Some(otherwise), Some(then)],
            };
            let missing = follows.into_iter().flatten();
            match missing.into_iter().find(|id| self.place_of(*id).is_none()) {
                Some(first) => waiting.push(first),
                None => {
                    self.write(id)?;
                    waiting.pop();
                }
            }
        }
        Ok(())
    }

    /// Writes the instruction of a node. All nodes that it leads to are written.
    fn write(&mut self, id: Id) -> Result<(), Error> {
        match self.of(id) {
            Node::Return(k) => self.push(RETURN, 0, 0, k)?,
            Node::Step { code, k, next } => {
                if self.distance(next) != Some(0) {
                    self.write(next)?;
                }
                self.push(code, 0, 0, k)?;
            }
            Node::Jump {
                code,
                k,
                then,
                otherwise,
            } => {
                // Each instruction that is added to bring one target near moves
                // the other target away.
                let (jt, jf) = loop {
                    let near = |distance: Option<usize>| u8::try_from(distance?).ok();
                    match (near(self.distance(then)), near(self.distance(otherwise))) {
                        (Some(jt), Some(jf)) => break (jt, jf),
                        (None, _) => self.bring_near(then)?,
                        (_, None) => self.bring_near(otherwise)?,
                    }
                };
                self.push(code, jt, jf, k)?;
            }
        }
        self.places[id.0 as usize] = Some(self.backwards.len());
        Ok(())
    }

    /// Returns the number of instructions between the next one to be written
    /// and the node `id`.
    fn distance(&self, id: Id) -> Option<usize> {
        Some(self.backwards.len() - self.place_of(id)?)
    }

    /// Makes a node reachable from the next instruction: writes a result again,
    /// and a jump to any other node.
    fn bring_near(&mut self, id: Id) -> Result<(), Error> {
        match self.of(id) {
            Node::Return(k) => self.push(RETURN, 0, 0, k)?,
            _ => {
                let distance = self.distance(id).unwrap_or_default();
                let distance = u32::try_from(distance).map_err(|_| Error::TooLong)?;
                self.push(JUMP, 0, 0, distance)?;
            }
        }
        self.places[id.0 as usize] = Some(self.backwards.len());
        Ok(())
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Result<(), Error> {
        if self.backwards.len() == MOST_INSTRUCTIONS {
            return Err(Error::TooLong);
        }
        self.backwards.push(Instruction { code, jt, jf, k });
        Ok(())
    }
}
