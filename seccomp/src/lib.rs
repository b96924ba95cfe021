//! System call filters: rules that name system calls become one classic BPF
//! program for seccomp(2), for all architectures the kernel runs.
//!
//! ```text
//! arch.rs     architectures: their tokens, words and multiplexed calls
//! table.rs    system call numbers, written by `make-table`
//! tree.rs     the rules of one call with conditions, in the order they count
//! space.rs    what becomes of each number of an architecture
//! program.rs  decisions as instructions
//! ```
//!
//! Rules mean what they mean to libseccomp when runc feeds it with them; where
//! they overlap, that library's order counts (see [`Filter`]). Nothing here
//! makes a system call: loading the program is the caller's work.

mod arch;
mod program;
mod space;
mod table;
mod tree;

pub use arch::Arch;
pub use program::{Instruction, MOST_INSTRUCTIONS};

use std::fmt;

use program::Builder;
use space::Space;

/// The names of all system calls known.
pub fn names() -> impl Iterator<Item = &'static str> {
    arch::names()
}

/// What happens to a system call (seccomp(2), "Filter return values").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ends the process.
    KillProcess,
    /// Ends the thread.
    KillThread,
    /// Sends SIGSYS.
    Trap,
    /// Fails with this errno.
    Errno(u16),
    /// Asks a tracer, which is told this number.
    Trace(u16),
    /// Asks the process that holds the listener.
    Notify,
    /// Allows the call and logs it.
    Log,
    /// Allows the call.
    Allow,
}

impl Action {
    /// What the filter returns for it (linux/seccomp.h).
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

    /// Whether the call is made after all. A tracer is expected to know calls
    /// that the filter does not.
    fn lets_pass(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// A comparison of one argument, as unsigned numbers; of 64 bits where the
/// architecture's words have them, else of the lower 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Equal(u64),
    GreaterOrEqual(u64),
    Greater(u64),
    /// The bits of the mask have the value they have in `value`.
    MaskedEqual {
        mask: u64,
        value: u64,
    },
}

/// A condition on one argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument: 0 to 5.
    pub index: u8,
    pub comparison: Comparison,
}

/// Some calls, what becomes of them, and when.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    /// Names nobody knows are passed over (see [`Program::unknown`]).
    pub names: &'a [String],
    pub action: Action,
    /// All must hold; but if two are on the same argument, any of them.
    pub conditions: Vec<Condition>,
}

/// A filter.
///
/// Of rules for the same call the first without conditions decides alone. Those
/// with conditions are tried in an order of their own: higher arguments first,
/// then equality before less before greater, then the narrower comparison; one
/// that another makes redundant is left out. Rules whose action is the default
/// one do nothing but name calls.
///
/// Calls that came after all those that the rules name fail with ENOSYS, unless
/// the default action lets calls pass: programs then try an older one. A call
/// of an architecture that is not in the filter kills the thread.
#[derive(Debug, Clone)]
pub struct Filter<'a> {
    /// The machine's own architecture; always in the filter.
    pub native: Arch,
    /// Further architectures.
    pub architectures: Vec<Arch>,
    /// For what no rule says anything about.
    pub default: Action,
    pub rules: Vec<Rule<'a>>,
}

/// A filter as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program<'a> {
    pub instructions: Vec<Instruction>,
    /// The names that are no system call of any architecture.
    pub unknown: Vec<&'a str>,
}

/// Why there is no program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The program would have more instructions than the kernel takes.
    TooLong,
    /// Two rules for this call on this architecture have the same conditions
    /// and different actions.
    Conflict { name: String, arch: Arch },
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
        }
    }
}

impl std::error::Error for Error {}

/// The ones among `names` that are no system call of any architecture.
fn unknown<'a>(rules: &[Rule<'a>], rows: &[Option<arch::Row>]) -> Vec<&'a str> {
    let names = rules.iter().flat_map(|rule| rule.names);
    let unknown = names.zip(rows).filter(|(_, row)| row.is_none());
    unknown.map(|(name, _)| name.as_str()).collect()
}

impl<'a> Filter<'a> {
    /// The program for this filter.
    ///
    /// # Errors
    /// It is too long, or two rules contradict each other.
    pub fn compile(&self) -> Result<Program<'a>, Error> {
        let names = self.rules.iter().flat_map(|rule| rule.names);
        // Once for all architectures.
        let rows: Vec<Option<arch::Row>> = names.map(|name| arch::find(name)).collect();
        let mut builder = Builder::default();
        let foreign = builder.act(Action::KillThread);
        let mut dispatch = foreign;
        // Backwards, so that the native one is asked for first.
        for arch in self.dispatched().into_iter().rev() {
            let second = (arch == Arch::X86_64 && self.has(Arch::X32)).then_some(Arch::X32);
            let calls = Space::new(self, &rows, &mut builder, arch, second)?.search(&mut builder);
            dispatch = builder.is_arch(arch, calls, dispatch);
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

    /// The architectures that the kernel tells apart, the native one first; x32
    /// looks like x86_64 to it.
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
