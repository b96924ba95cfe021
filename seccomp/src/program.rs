//! Decisions as instructions.
//!
//! What to do is built from its end: first the results, then the tests that
//! lead to them, each made once. `assemble` lays the nodes out backwards too,
//! so that a jump, which only goes forward and 255 instructions at most, knows
//! its targets; one that is too far gets a stepping stone.

use std::collections::BTreeMap;

use crate::tree::{Branch, Node as TreeNode, Operator, Test};
use crate::{Action, Arch, Error};

/// The longest program the kernel takes (`BPF_MAXINSNS` of
/// linux/bpf_common.h).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// One instruction, as the kernel reads it (`struct sock_filter` of
/// linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    /// How many instructions to leave out if a test holds.
    pub jt: u8,
    /// How many if not.
    pub jf: u8,
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

// Where the parts of `struct seccomp_data` (linux/seccomp.h) are, on a machine
// that keeps the lower half of a word first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Nodes of which some may come to nothing, so that a filter that is far too
/// long is given up before it has cost much.
const MOST_NODES: usize = 4 * MOST_INSTRUCTIONS;

/// A node of what is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Return(u32),
    /// Loads or masks, and goes on.
    Step {
        code: u16,
        k: u32,
        next: Id,
    },
    Jump {
        code: u16,
        k: u32,
        then: Id,
        otherwise: Id,
    },
}

/// Where a test begins, for one who has loaded what it compares and for
/// everyone else.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The offset loaded, the mask put on it.
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

    /// For one who has loaded this.
    fn after(self, loaded: (u32, u32)) -> Id {
        if self.compares == Some(loaded) {
            self.loaded
        } else {
            self.fresh
        }
    }
}

/// What is being built.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: Vec<Node>,
    // A HashMap wants random numbers, and panics where it gets none.
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

    /// What a call ends with.
    pub(crate) fn act(&mut self, action: Action) -> Id {
        self.node(Node::Return(action.value()))
    }

    pub(crate) fn load_arch(&mut self, next: Id) -> Id {
        self.node(Node::Step {
            code: LOAD,
            k: ARCH,
            next,
        })
    }

    /// Goes to `calls` with the number loaded if the call is of this
    /// architecture. The architecture is loaded.
    pub(crate) fn is_arch(&mut self, arch: Arch, calls: Id, otherwise: Id) -> Id {
        let calls = match self.nodes[calls.0 as usize] {
            Node::Jump { .. } => self.node(Node::Step {
                code: LOAD,
                k: NUMBER,
                next: calls,
            }),
            // All numbers come to the same.
            _ => calls,
        };
        self.jump(JUMP_EQUAL, arch.token(), calls, otherwise)
    }

    /// Whether the number, which is loaded, is this one.
    pub(crate) fn is_number(&mut self, number: u32, then: Id, otherwise: Id) -> Id {
        self.jump(JUMP_EQUAL, number, then, otherwise)
    }

    /// Whether the number, which is loaded, is this one or greater.
    pub(crate) fn is_from(&mut self, number: u32, then: Id, otherwise: Id) -> Id {
        self.jump(JUMP_GREATER_OR_EQUAL, number, then, otherwise)
    }

    /// Whether there is more than can become a program.
    pub(crate) fn is_too_long(&self) -> bool {
        self.nodes.len() > MOST_NODES
    }

    /// The tests of a call; without a result they end with `default`.
    ///
    /// # Errors
    /// They are too many.
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
            Branch::Act(action) => Ok(Entry::at(self.act(*action))),
            Branch::Level(level) => self.level(level, next),
        }
    }

    fn test(&mut self, test: Test, then: Entry, otherwise: Entry) -> Entry {
        // Nothing is compared, so the result is known.
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

    /// The program that begins at `start`.
    ///
    /// # Errors
    /// It is too long.
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

/// A program as it is laid out, from its end.
struct Layout<'a> {
    nodes: &'a [Node],
    /// Where each node is: the instructions after it, and itself.
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

    /// Places a node and all it leads to, those first.
    fn place(&mut self, start: Id) -> Result<(), Error> {
        let mut waiting = vec![start];
        while let Some(id) = waiting.last().copied() {
            if self.place_of(id).is_some() {
                waiting.pop();
                continue;
            }
            // What is placed last comes next in the program: where a test
            // holds, mostly.
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

    /// Writes the instruction of a node whose followers are placed.
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
                // Bringing one nearer moves the other away by some.
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

    /// Instructions between the one to be written and this node.
    fn distance(&self, id: Id) -> Option<usize> {
        Some(self.backwards.len() - self.place_of(id)?)
    }

    /// Makes a node reachable from here: a result is written again, for
    /// anything else there is a jump to it.
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
