//! The programs that runc makes with libseccomp. A small C program,
//! `reference.c`, calls the library; this file adds the instructions that runc
//! puts before the library's program.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use teu_seccomp::{Action, Arch, Comparison, Condition, Instruction};

use crate::bpf::{Data, End, run};
use crate::profile::Profile;

/// The running C program.
pub(crate) struct Reference {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    numbers: HashMap<(Arch, String), Option<u32>>,
    known: HashMap<String, bool>,
}

/// The program that libseccomp, as runc uses it, makes of a profile.
#[derive(Debug)]
pub(crate) struct Theirs {
    pub(crate) program: Vec<Instruction>,
    /// The greatest number that the profile names on each architecture, if
    /// greater numbers get ENOSYS.
    newest: Vec<(Arch, u32)>,
}

impl Reference {
    /// Builds and starts the C program. Prints a skip and returns `None` if it
    /// cannot be built.
    pub(crate) fn start() -> Option<Reference> {
        static BUILT: OnceLock<bool> = OnceLock::new();
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libseccomp-reference");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libseccomp/reference.c");
        let is_built = BUILT.get_or_init(|| {
            let mut compiler = Command::new("cc");
            compiler
                .args(["-O2", "-Wall", "-o"])
                .arg(&program)
                .arg(source);
            compiler.arg("-lseccomp");
            compiler.status().is_ok_and(|status| status.success())
        });
        if !is_built {
            eprintln!("[skipped] needs cc and libseccomp-dev");
            return None;
        }
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the reference");
        Some(Reference {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("stdout")),
            child,
            numbers: HashMap::new(),
            known: HashMap::new(),
        })
    }

    fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("stdin");
        writeln!(input, "{line}").expect("write to the reference");
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }

    /// Returns a call's number. Returns `None` if the architecture does not have
    /// the call, or if socketcall(2) or ipc(2) carries it.
    pub(crate) fn number(&mut self, arch: Arch, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(&(arch, name.to_owned())) {
            return *number;
        }
        let answer = self.ask(&format!("number {:x} {name}", token(arch)));
        let number: i32 = answer.parse().expect("a number");
        let number = u32::try_from(number).ok();
        self.numbers.insert((arch, name.to_owned()), number);
        number
    }

    /// Returns whether libseccomp knows the name on any architecture.
    pub(crate) fn knows(&mut self, name: &str) -> bool {
        if let Some(knows) = self.known.get(name) {
            return *knows;
        }
        let answer = self.ask(&format!("number {:x} {name}", token(Arch::X86_64)));
        self.known.insert(name.to_owned(), answer != "-1");
        answer != "-1"
    }

    /// Compiles a profile as runc does, or returns the errno. `optimize` is 2 for
    /// a binary tree, which runc asks for if there are more than 32 rules.
    pub(crate) fn compile(&mut self, profile: &Profile, optimize: u32) -> Result<Theirs, i32> {
        self.tell(&format!("filter {:x} {optimize}", profile.default.value()));
        for arch in &profile.architectures {
            self.tell(&format!("arch {:x}", token(*arch)));
        }
        for rule in profile
            .rules
            .iter()
            .filter(|rule| rule.action != profile.default)
        {
            for name in &rule.names {
                for conditions in alternatives(&rule.conditions) {
                    let words: String = conditions.iter().map(words).collect();
                    self.tell(&format!("rule {:x} {name}{words}", rule.action.value()));
                }
            }
        }
        let answer = self.ask("export");
        if let Some(errno) = answer.strip_prefix("error ") {
            return Err(errno.parse().expect("an errno"));
        }
        let program = answer.split(' ').skip(1).map(instruction).collect();
        let newest = self.newest(profile);
        Ok(Theirs { program, newest })
    }

    /// Returns the duration of the last `compile` in nanoseconds, including the
    /// time to write to the pipes.
    pub(crate) fn time(&mut self) -> u64 {
        self.ask("time").parse().expect("nanoseconds")
    }

    fn newest(&mut self, profile: &Profile) -> Vec<(Arch, u32)> {
        if matches!(
            profile.default,
            Action::Allow | Action::Log | Action::Trace(_)
        ) {
            return vec![];
        }
        let mut newest = vec![];
        for arch in profile.all_architectures() {
            let names = profile.rules.iter().flat_map(|rule| &rule.names);
            let numbers = names.filter_map(|name| self.number(arch, name));
            match numbers.max() {
                None | Some(0) => {}
                Some(number) => newest.push((arch, number)),
            }
        }
        newest
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // The program exits when its standard input is closed.
        self.input = None;
        self.child.wait().expect("wait for the reference");
    }
}

impl Theirs {
    /// Runs the program on a call. The first instructions are runc's: they load
    /// and compare the architecture and the number, and jump into the filter.
    pub(crate) fn run(&self, data: &Data) -> End {
        const ENOSYS: u32 = 0x5_0026;
        const STUB: usize = 5;
        const X32_BIT: u32 = 1 << 30;
        let is_of = |arch: Arch| match arch {
            Arch::X86_64 => data.number & X32_BIT == 0,
            Arch::X32 => data.number & X32_BIT != 0,
            _ => true,
        };
        let newest = self
            .newest
            .iter()
            .find(|(arch, _)| arch.token() == data.arch && is_of(*arch));
        if newest.is_some_and(|(_, newest)| data.number > *newest) {
            return End {
                result: ENOSYS,
                steps: STUB,
                loaded_number: true,
            };
        }
        let mut end = run(&self.program, data);
        if !self.newest.is_empty() {
            end.steps += STUB;
        }
        end
    }

    /// Returns the number of instructions in the filter, plus the least number
    /// that runc puts before it.
    pub(crate) fn length(&self) -> usize {
        let stub = 3 + 5 * self.newest.len();
        self.program.len() + if self.newest.is_empty() { 0 } else { stub }
    }
}

/// Returns libseccomp's token of an architecture. Only that of x32 differs from
/// the kernel's.
fn token(arch: Arch) -> u32 {
    match arch {
        Arch::X32 => 0x4000_003e,
        arch => arch.token(),
    }
}

/// Splits conditions as runc does: if two are on one argument, each condition
/// becomes a rule.
pub(crate) fn alternatives(conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let mut indexes: Vec<u8> = conditions
        .iter()
        .map(|condition| condition.index())
        .collect();
    indexes.sort_unstable();
    if indexes.windows(2).any(|pair| pair[0] == pair[1]) {
        conditions
            .iter()
            .map(|condition| vec![*condition])
            .collect()
    } else {
        vec![conditions.to_vec()]
    }
}

/// Writes a condition as the command `rule` reads it. The operators are those of
/// `enum scmp_compare`.
fn words(condition: &Condition) -> String {
    let (operator, a, b) = match condition.comparison() {
        Comparison::NotEqual(value) => (1, value, 0),
        Comparison::Less(value) => (2, value, 0),
        Comparison::LessOrEqual(value) => (3, value, 0),
        Comparison::Equal(value) => (4, value, 0),
        Comparison::GreaterOrEqual(value) => (5, value, 0),
        Comparison::Greater(value) => (6, value, 0),
        Comparison::MaskedEqual { mask, value } => (7, mask, value),
    };
    format!(" {} {operator} {a:x} {b:x}", condition.index())
}

fn instruction(text: &str) -> Instruction {
    let mut fields = text
        .split(':')
        .map(|field| u32::from_str_radix(field, 16).expect("hex"));
    let mut next = || fields.next().expect("four fields");
    Instruction {
        code: next().try_into().expect("code"),
        jt: next().try_into().expect("jt"),
        jf: next().try_into().expect("jf"),
        k: next(),
    }
}
