//! Compiles system call filters: rules that name system calls become one
//! classic BPF program for seccomp(2), which covers every architecture that the
//! kernel runs.
//!
//! [`Filter::compile`] works in this order. It looks up the number of each name
//! (`arch.rs`, with the table of `table.rs`), joins the rules of one call into
//! one tree of tests (`tree.rs`), assigns a result to every number of an
//! architecture (`call_numbers.rs`), and writes the instructions (`program.rs`).
//!
//! Rules have the meaning that they have for runc with libseccomp. Where two
//! rules overlap, libseccomp's order decides (see [`Filter`]).
//!
//! The crate makes no system call: the caller loads the program with
//! seccomp(2). It reads no configuration format either.
//!
//! # Example
//!
//! ```
//! use teu_seccomp::{Action, Arch, Comparison, Condition, Filter, Rule};
//!
//! const EPERM: u16 = 1;
//! let names = ["socket".to_owned()];
//! let filter = Filter {
//!     native: Arch::X86_64,
//!     architectures: vec![Arch::X86],
//!     default: Action::Allow,
//!     rules: vec![Rule {
//!         names: &names,
//!         action: Action::Errno(EPERM),
//!         // AF_NETLINK, the first argument of socket(2).
//!         conditions: vec![Condition::new(0, Comparison::Equal(16))?],
//!     }],
//! };
//! let program = filter.compile()?;
//! assert!(program.unknown.is_empty());
//! assert!(program.instructions.len() <= teu_seccomp::MOST_INSTRUCTIONS);
//! # Ok::<(), teu_seccomp::Error>(())
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod arch;
mod call_numbers;
mod program;
mod table;
mod tree;

pub use arch::Arch;
pub use program::{Instruction, MOST_INSTRUCTIONS};

use std::fmt;

use call_numbers::Space;
use program::Builder;

/// Returns the names of all system calls that the crate knows, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    arch::names()
}

/// What the kernel does with a system call (seccomp(2), "Filter return
/// values").
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Kill the process.
    KillProcess,
    /// Kill the thread.
    KillThread,
    /// Send SIGSYS to the thread.
    Trap,
    /// Fail the call with this errno.
    Errno(u16),
    /// Notify the ptrace(2) tracer, which reads this number with
    /// PTRACE_GETEVENTMSG.
    Trace(u16),
    /// Ask the process that holds the filter's listener (seccomp_unotify(2)).
    Notify,
    /// Allow the call and log it.
    Log,
    /// Allow the call.
    Allow,
}

impl Action {
    /// Returns the value that the filter returns for the action
    /// (`SECCOMP_RET_*` of linux/seccomp.h, with the action's number).
    pub fn value(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
            Action::Notify => 0x7fc0_0000,
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// Returns whether the kernel may make the call. [`Action::Trace`] counts,
    /// because a tracer may let the call continue.
    fn lets_pass(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// A comparison of one argument with a constant, both unsigned. It compares 64
/// bits if the architecture's words have 64 bits, and the lower 32 bits
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The argument differs from the value.
    NotEqual(u64),
    /// The argument is less than the value.
    Less(u64),
    /// The argument is less than the value or equal to it.
    LessOrEqual(u64),
    /// The argument equals the value.
    Equal(u64),
    /// The argument is greater than the value or equal to it.
    GreaterOrEqual(u64),
    /// The argument is greater than the value.
    Greater(u64),
    /// The argument equals `value` in the bits that `mask` sets; other bits of
    /// either are ignored.
    MaskedEqual {
        /// The bits to compare.
        mask: u64,
        /// The value to compare them with.
        value: u64,
    },
}

/// A condition on one argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    index: u8,
    comparison: Comparison,
}

impl Condition {
    /// Makes a condition on the argument `index`, counted from 0.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchArgument`] if `index` is greater than 5: system
    /// calls have at most six arguments.
    ///
    /// ```
    /// use teu_seccomp::{Comparison, Condition, Error};
    /// let condition = Condition::new(200, Comparison::Equal(1));
    /// assert_eq!(condition, Err(Error::NoSuchArgument { index: 200 }));
    /// ```
    pub fn new(index: usize, comparison: Comparison) -> Result<Condition, Error> {
        match u8::try_from(index) {
            Ok(index @ 0..ARGUMENTS) => Ok(Condition { index, comparison }),
            _ => Err(Error::NoSuchArgument { index }),
        }
    }

    /// Returns the argument's index, 0 to 5.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Returns the comparison that has to hold for the argument.
    pub fn comparison(&self) -> Comparison {
        self.comparison
    }
}

/// The number of arguments in `seccomp_data` (linux/seccomp.h).
const ARGUMENTS: u8 = 6;

/// An action for the system calls with these names, if the conditions hold.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    /// The calls' names. [`Filter::compile`] skips a name that no architecture
    /// has, and reports it in [`Program::unknown`].
    pub names: &'a [String],
    /// The action for these calls.
    pub action: Action,
    /// The conditions. All must hold, if no argument has more than one. If an argument has
    /// two or more, the rule is for the call as soon as any one of its conditions holds.
    pub conditions: Vec<Condition>,
}

/// A filter before compilation.
///
/// If a call has a rule without conditions, the first such rule decides and all
/// other rules of the call are ignored. Otherwise the rules are tried in this
/// order: higher arguments first; for the same argument, equality before "less"
/// before "greater"; then the narrower comparison first. A rule that another
/// rule makes redundant is left out. A rule whose action is the default action
/// has no effect except that its names are known.
///
/// A call whose number is greater than every number that the rules name fails
/// with ENOSYS, so that programs fall back to an older call (`call_numbers.rs`).
/// This does not apply if the default action lets calls pass. A call of an
/// architecture that is not in the filter kills the thread.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    /// The machine's own architecture. The filter always covers it.
    pub native: Arch,
    /// Further architectures that the filter covers.
    pub architectures: Vec<Arch>,
    /// The action for calls that no rule matches.
    pub default: Action,
    /// The rules, in the order in which they were written.
    pub rules: Vec<Rule<'a>>,
}

/// A compiled filter.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program<'a> {
    /// The instructions, in the form that seccomp(2) takes.
    pub instructions: Vec<Instruction>,
    /// The names in the rules that no architecture has.
    pub unknown: Vec<&'a str>,
}

/// Why a filter cannot be compiled.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The program would have more than [`MOST_INSTRUCTIONS`] instructions.
    TooLong,
    /// Two rules for one call have the same conditions and different actions.
    Conflict {
        /// The call's name.
        name: String,
        /// The architecture on which the rules conflict.
        arch: Arch,
    },
    /// A condition is on an argument that system calls do not have.
    NoSuchArgument {
        /// The index of the argument.
        index: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLong => write!(
                f,
                "the filter takes more than the kernel's {MOST_INSTRUCTIONS} instructions"
            ),
            Error::Conflict { name, arch } => write!(
                f,
                "{name}: two rules have the same conditions and different actions ({arch})"
            ),
            Error::NoSuchArgument { index } => write!(
                f,
                "syscalls only have up to {ARGUMENTS} arguments ({index} given)"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Returns the names in `rules` that no architecture has: those without a row.
fn unknown<'a>(rules: &[Rule<'a>], rows: &[Option<arch::Row>]) -> Vec<&'a str> {
    let names = rules.iter().flat_map(|rule| rule.names);
    let unknown = names.zip(rows).filter(|(_, row)| row.is_none());
    unknown.map(|(name, _)| name.as_str()).collect()
}

impl<'a> Filter<'a> {
    /// Compiles the filter.
    ///
    /// # Errors
    /// Returns [`Error::TooLong`] if the kernel would refuse the program's
    /// length, and [`Error::Conflict`] if two rules contradict each other.
    pub fn compile(&self) -> Result<Program<'a>, Error> {
        let names = self.rules.iter().flat_map(|rule| rule.names);
        // Look each name up once: a row holds the numbers of all architectures.
        let rows: Vec<Option<arch::Row>> = names.map(|name| arch::find(name)).collect();
        let mut builder = Builder::default();
        let foreign = builder.action(Action::KillThread);
        let mut dispatch = foreign;
        // Built from the end, so that the program tests for the native
        // architecture first.
        for arch in self.dispatched().into_iter().rev() {
            let second = (arch == Arch::X86_64 && self.has(Arch::X32)).then_some(Arch::X32);
            let calls = Space::new(self, &rows, &mut builder, arch, second)?.search(&mut builder);
            dispatch = builder.if_arch(arch, calls, dispatch);
        }
        let start = builder.load_arch(dispatch);
        Ok(Program {
            instructions: builder.assemble(start)?,
            unknown: unknown(&self.rules, &rows),
        })
    }

    fn has(&self, arch: Arch) -> bool {
        self.native == arch || self.architectures.contains(&arch)
    }

    /// Returns the architectures whose tokens differ, the native one first. x32
    /// is left out beside x86_64, because it has the same token.
    fn dispatched(&self) -> Vec<Arch> {
        let mut found = vec![];
        for arch in std::iter::once(&self.native).chain(&self.architectures) {
            let arch = match arch {
                Arch::X32 if self.has(Arch::X86_64) => Arch::X86_64,
                arch => *arch,
            };
            if !found.contains(&arch) {
                found.push(arch);
            }
        }
        found
    }
}
