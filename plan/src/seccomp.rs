//! Reads `linux.seccomp` (config-linux.md, "Seccomp") and makes the system call filter of
//! the container. If the specification is not precise, the meaning is that of runc. The
//! crate `teu-seccomp` compiles the program.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{
    self as spec, LinuxSeccompAction as Word, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};
use serde::{Deserialize, Serialize};
use teu_seccomp::{Action, Arch, Comparison, Condition, Filter, Instruction, Rule};

use crate::prelude::*;

/// The filter that all processes of the container get. state.json keeps it for `exec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompFilter {
    #[serde(with = "hexadecimal")]
    pub program: Vec<Instruction>,
    /// The flags for seccomp(2), `SECCOMP_SET_MODE_FILTER`.
    pub flags: u32,
    /// The agent for `SCMP_ACT_NOTIFY`, the listenerPath of config.json.
    #[serde(rename = "listener")]
    pub agent: Option<Agent>,
}

/// The seccomp agent: the process that answers the system calls that the filter reports
/// (`SCMP_ACT_NOTIFY`). teu sends it the filter's listener, a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// The path of its socket. If it starts with `@`, the socket is abstract (unix(7)).
    pub path: String,
    /// Data for the agent, which teu passes on unchanged.
    pub metadata: String,
}

/// The moment at which a process loads its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// Before capabilities are dropped, because without no_new_privs the load needs
    /// CAP_SYS_ADMIN (seccomp(2)).
    BeforeDroppingCapabilities,
    /// Immediately before the program is executed, so that the filter has to allow as few
    /// system calls of teu as possible. With no_new_privs the load needs no capability.
    LastOfAll,
}

/// The filter of one process, and when it is loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct SeccompPlan {
    pub filter: SeccompFilter,
    pub timing: Timing,
}

/// The words of `flags` and their bits in linux/seccomp.h. TSYNC is accepted and has the
/// bit 0, because the process has only one thread.
const FLAGS: [(Flag, u32); 4] = [
    (Flag::SeccompFilterFlagTsync, 0),
    (Flag::SeccompFilterFlagSpecAllow, SPEC_ALLOW),
    (Flag::SeccompFilterFlagLog, 1 << 1),
    (Flag::SeccompFilterFlagWaitKillableRecv, WAIT_KILLABLE_RECV),
];
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

const ACTIONS: [Word; 9] = [
    Word::ScmpActAllow,
    Word::ScmpActErrno,
    Word::ScmpActKill,
    Word::ScmpActKillProcess,
    Word::ScmpActKillThread,
    Word::ScmpActLog,
    Word::ScmpActNotify,
    Word::ScmpActTrace,
    Word::ScmpActTrap,
];

const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpMaskedEq,
    Operator::ScmpCmpNe,
];

/// The supported architectures. All are little-endian, as every machine that teu runs on
/// is: a filter cannot be for programs of the other byte order.
const ARCHITECTURES: [(spec::Arch, Arch); 11] = [
    (spec::Arch::ScmpArchAarch64, Arch::Aarch64),
    (spec::Arch::ScmpArchArm, Arch::Arm),
    (spec::Arch::ScmpArchLoongarch64, Arch::Loongarch64),
    (spec::Arch::ScmpArchMipsel, Arch::Mipsel),
    (spec::Arch::ScmpArchMipsel64, Arch::Mipsel64),
    (spec::Arch::ScmpArchMipsel64n32, Arch::Mipsel64N32),
    (spec::Arch::ScmpArchPpc64le, Arch::Ppc64le),
    (spec::Arch::ScmpArchRiscv64, Arch::Riscv64),
    (spec::Arch::ScmpArchX32, Arch::X32),
    (spec::Arch::ScmpArchX86, Arch::X86),
    (spec::Arch::ScmpArchX86_64, Arch::X86_64),
];

/// The architecture for which teu was built.
const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
    Arch::Aarch64
} else {
    Arch::X86_64
};

/// The words that `teu features` prints about seccomp.
pub mod words {
    use super::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, is_known};
    use crate::prelude::*;

    pub fn actions() -> Vec<super::Word> {
        ACTIONS.to_vec()
    }

    pub fn operators() -> Vec<String> {
        OPERATORS.iter().map(ToString::to_string).collect()
    }

    pub fn architectures() -> Vec<super::spec::Arch> {
        ARCHITECTURES.iter().map(|(word, _)| *word).collect()
    }

    pub fn flags() -> Vec<String> {
        FLAGS.iter().map(|(word, _)| word.to_string()).collect()
    }

    /// Returns the flags that this kernel knows.
    pub fn supported_flags(knows_wait_killable: bool) -> Vec<String> {
        let supported = FLAGS
            .iter()
            .filter(|(_, bit)| is_known(*bit, knows_wait_killable));
        supported.map(|(word, _)| word.to_string()).collect()
    }
}

impl SeccompFilter {
    /// Makes the filter of `linux.seccomp`.
    ///
    /// # Errors
    /// Returns an error that names the field if a word is unknown, if the kernel does not
    /// have a flag, if rules contradict each other or their program is too long, or if
    /// `SCMP_ACT_NOTIFY` is not possible for a call.
    pub fn new(seccomp: &spec::LinuxSeccomp, knows_wait_killable: bool) -> Result<SeccompFilter> {
        let default = action(seccomp.default_action(), seccomp.default_errno_ret())
            .context("linux.seccomp.defaultAction")?;
        if default == Action::Notify {
            bail!("linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action");
        }
        let architectures = seccomp.architectures().iter().flatten();
        let filter = Filter {
            native: NATIVE,
            architectures: architectures.map(architecture).collect::<Result<_>>()?,
            default,
            rules: rules(seccomp.syscalls().as_deref().unwrap_or_default())?,
        };
        let agent = agent(seccomp, &filter.rules)?;
        let flags = flags(
            seccomp.flags().as_deref(),
            agent.is_some(),
            knows_wait_killable,
        )?;
        let program = filter.compile().context("linux.seccomp.syscalls")?;
        for name in program.unknown {
            log::debug!("unknown seccomp syscall {name:?} ignored");
        }
        Ok(SeccompFilter {
            program: program.instructions,
            flags,
            agent,
        })
    }
}

impl SeccompPlan {
    /// Plans the filter for a process with or without no_new_privs.
    pub fn new(filter: SeccompFilter, no_new_privileges: bool) -> SeccompPlan {
        SeccompPlan {
            filter,
            timing: if no_new_privileges {
                Timing::LastOfAll
            } else {
                Timing::BeforeDroppingCapabilities
            },
        }
    }
}

fn rules(syscalls: &[spec::LinuxSyscall]) -> Result<Vec<Rule<'_>>> {
    let rule = |(index, syscall): (usize, &'_ spec::LinuxSyscall)| -> Result<_> {
        let field = |name: &str| format!("linux.seccomp.syscalls[{index}]{name}");
        if syscall.names().iter().any(String::is_empty) {
            bail!("{}: empty string is not a valid syscall", field(".names"));
        }
        let args = syscall.args().iter().flatten().enumerate();
        Ok((
            action(syscall.action(), syscall.errno_ret()).with_context(|| field(".action"))?,
            args.map(|(at, arg)| condition(arg).with_context(|| field(&format!(".args[{at}]"))))
                .collect::<Result<Vec<_>>>()?,
        ))
    };
    let with_names = |(index, syscall)| -> Result<Rule<'_>> {
        let (action, conditions) = rule((index, syscall))?;
        Ok(Rule {
            names: syscall.names(),
            action,
            conditions,
        })
    };
    syscalls.iter().enumerate().map(with_names).collect()
}

fn action(word: Word, errno: Option<u32>) -> Result<Action> {
    /// EPERM (errno(3)): the default of runc, and of the specification.
    const DEFAULT_ERRNO: u32 = 1;
    /// libseccomp's limit. The kernel's limit is 4095.
    const GREATEST_ERRNO: u32 = 4094;
    let action = match word {
        Word::ScmpActKill | Word::ScmpActKillThread => Action::KillThread,
        Word::ScmpActKillProcess => Action::KillProcess,
        Word::ScmpActTrap => Action::Trap,
        Word::ScmpActLog => Action::Log,
        Word::ScmpActAllow => Action::Allow,
        Word::ScmpActNotify => Action::Notify,
        Word::ScmpActErrno => {
            return match errno.unwrap_or(DEFAULT_ERRNO) {
                number @ ..=GREATEST_ERRNO => Ok(Action::Errno(u16::try_from(number)?)),
                number => bail!("errnoRet {number} is no error number"),
            };
        }
        Word::ScmpActTrace => {
            let message = u16::try_from(errno.unwrap_or(DEFAULT_ERRNO));
            return Ok(Action::Trace(message.context("errnoRet")?));
        }
    };
    if errno.is_some() {
        bail!("{word} takes no errnoRet");
    }
    Ok(action)
}

fn condition(arg: &spec::LinuxSeccompArg) -> Result<Condition> {
    let value = arg.value();
    let comparison = match arg.op() {
        Operator::ScmpCmpNe => Comparison::NotEqual(value),
        Operator::ScmpCmpLt => Comparison::Less(value),
        Operator::ScmpCmpLe => Comparison::LessOrEqual(value),
        Operator::ScmpCmpEq => Comparison::Equal(value),
        Operator::ScmpCmpGe => Comparison::GreaterOrEqual(value),
        Operator::ScmpCmpGt => Comparison::Greater(value),
        Operator::ScmpCmpMaskedEq => Comparison::MaskedEqual {
            mask: value,
            value: arg.value_two().unwrap_or(0),
        },
    };
    Ok(Condition::new(arg.index(), comparison)?)
}

fn architecture(word: &spec::Arch) -> Result<Arch> {
    /// `__AUDIT_ARCH_LE` of linux/audit.h. The values of `spec::Arch` are the numbers of
    /// that file.
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    match ARCHITECTURES.iter().find(|(known, _)| known == word) {
        Some((_, arch)) => Ok(*arch),
        None if *word as u32 & LITTLE_ENDIAN == 0 && *word != spec::Arch::ScmpArchNative => {
            bail!("linux.seccomp.architectures: {word} has another byte order than this machine")
        }
        None => bail!("linux.seccomp.architectures: string {word} is not a valid arch for seccomp"),
    }
}

/// Returns the agent, or `None` if no rule is for an agent.
fn agent(seccomp: &spec::LinuxSeccomp, rules: &[Rule<'_>]) -> Result<Option<Agent>> {
    let mut notifying = rules.iter().filter(|rule| rule.action == Action::Notify);
    let Some(first) = notifying.next() else {
        return Ok(None);
    };
    // Init tells the parent the number of the listener by write(2), and no agent answers
    // before that.
    let mut all = core::iter::once(first).chain(notifying);
    if all.any(|rule| rule.names.iter().any(|name| name == "write")) {
        bail!("linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
    let path = seccomp
        .listener_path()
        .as_ref()
        .and_then(|path| path.to_str());
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        bail!("linux.seccomp: seccomp listenerPath is not set");
    };
    Ok(Some(Agent {
        path: path.to_owned(),
        metadata: seccomp.listener_metadata().clone().unwrap_or_default(),
    }))
}

/// Returns whether the kernel knows the flag. Only `WAIT_KILLABLE_RECV` is newer than Linux
/// 4.17.
fn is_known(flag: u32, knows_wait_killable: bool) -> bool {
    flag & WAIT_KILLABLE_RECV == 0 || knows_wait_killable
}

/// Returns whether the filter asks for `WAIT_KILLABLE_RECV`, which older kernels do not
/// know.
pub fn waits_killable(seccomp: &spec::LinuxSeccomp) -> bool {
    let mut words = seccomp.flags().iter().flatten();
    words.any(|word| {
        let known = FLAGS.iter().find(|(known, _)| known == word);
        known.is_some_and(|(_, bit)| bit & WAIT_KILLABLE_RECV != 0)
    })
}

/// Returns the bits of the flags. If config.json has no field `flags`, they are runc's
/// default.
fn flags(words: Option<&[Flag]>, listens: bool, knows_wait_killable: bool) -> Result<u32> {
    let mut bits = if words.is_none() { SPEC_ALLOW } else { 0 };
    for word in words.unwrap_or_default() {
        match FLAGS.iter().find(|(known, _)| known == word) {
            Some((_, bit)) if !is_known(*bit, knows_wait_killable) => {
                bail!("linux.seccomp.flags: this kernel does not know {word}")
            }
            Some((_, bit)) => bits |= bit,
            None => bail!("linux.seccomp.flags: seccomp flag {word} is not known"),
        }
    }
    if listens {
        bits |= NEW_LISTENER;
    } else if bits & WAIT_KILLABLE_RECV != 0 {
        bail!(
            "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV takes a rule with SCMP_ACT_NOTIFY"
        );
    }
    Ok(bits)
}

/// Serializes a program as hexadecimal text, with 16 digits for each instruction.
mod hexadecimal {
    use core::fmt::Write;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use teu_seccomp::Instruction;

    use crate::prelude::*;

    pub(super) fn serialize<S: Serializer>(
        program: &[Instruction],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(16 * program.len());
        for Instruction { code, jt, jf, k } in program {
            write!(text, "{code:04x}{jt:02x}{jf:02x}{k:08x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Instruction>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let instruction = |digits: &[u8]| {
            let digits = str::from_utf8(digits)
                .ok()
                .filter(|digits| digits.len() == 16)?;
            let number = u64::from_str_radix(digits, 16).ok()?;
            let [a, b, jt, jf, k @ ..] = number.to_be_bytes();
            Some(Instruction {
                code: u16::from_be_bytes([a, b]),
                jt,
                jf,
                k: u32::from_be_bytes(k),
            })
        };
        let program = text.as_bytes().chunks(16).map(instruction);
        program
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("no program"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<SeccompFilter> {
        SeccompFilter::new(&crate::testing::read(json), true)
    }

    fn words(json: &str) -> String {
        crate::testing::words(&plan(json).expect_err(json))
    }

    #[test]
    fn flags_are_runcs() {
        let flags = |flags: &str| {
            let json = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{flags}}}"#);
            plan(&json).expect(&json).flags
        };
        assert_eq!(flags(""), 4);
        assert_eq!(flags(r#","flags":null"#), 4);
        assert_eq!(flags(r#","flags":[]"#), 0);
        assert_eq!(flags(r#","flags":["SECCOMP_FILTER_FLAG_TSYNC"]"#), 0);
        let both = r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#;
        assert_eq!(flags(both), 6);
    }

    #[test]
    fn every_action_is_its_value() {
        for (word, errno, value) in [
            ("KILL", None, 0),
            ("KILL_THREAD", None, 0),
            ("KILL_PROCESS", None, 0x8000_0000),
            ("TRAP", None, 0x3_0000),
            ("ERRNO", None, 0x5_0001),
            ("ERRNO", Some(0), 0x5_0000),
            ("ERRNO", Some(38), 0x5_0026),
            ("TRACE", None, 0x7ff0_0001),
            ("TRACE", Some(65535), 0x7ff0_ffff),
            ("NOTIFY", None, 0x7fc0_0000),
            ("LOG", None, 0x7ffc_0000),
            ("ALLOW", None, 0x7fff_0000),
        ] {
            let action = action(
                crate::testing::read(&format!(r#""SCMP_ACT_{word}""#)),
                errno,
            )
            .expect(word);
            assert_eq!(action.value(), value, "{word}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let allow = r#""defaultAction":"SCMP_ACT_ALLOW""#;
        let syscall =
            |rest: &str| format!(r#"{{{allow},"syscalls":[{{"names":["read"],{rest}}}]}}"#);
        for (json, expected) in [
            (
                r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.to_owned(),
                "linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4095}"#.into(),
                "linux.seccomp.defaultAction: errnoRet 4095 is no error number",
            ),
            (
                format!(r#"{{{allow},"architectures":["SCMP_ARCH_S390X"]}}"#),
                "linux.seccomp.architectures: SCMP_ARCH_S390X has another byte order than this machine",
            ),
            (
                format!(r#"{{{allow},"flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}}"#),
                "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV takes a rule with SCMP_ACT_NOTIFY",
            ),
            (
                syscall(r#""action":"SCMP_ACT_ALLOW","errnoRet":1"#),
                "linux.seccomp.syscalls[0].action: SCMP_ACT_ALLOW takes no errnoRet",
            ),
            (
                syscall(r#""action":"SCMP_ACT_TRAP","args":[{"index":6,"op":"SCMP_CMP_EQ"}]"#),
                "linux.seccomp.syscalls[0].args[0]: syscalls only have up to 6 arguments (6 given)",
            ),
            (
                syscall(r#""action":"SCMP_ACT_NOTIFY""#),
                "linux.seccomp: seccomp listenerPath is not set",
            ),
            (
                format!(
                    r#"{{{allow},"listenerPath":"/x","syscalls":[{{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}}]}}"#
                ),
                "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall",
            ),
            (
                format!(r#"{{{allow},"syscalls":[{{"names":[""],"action":"SCMP_ACT_TRAP"}}]}}"#),
                "linux.seccomp.syscalls[0].names: empty string is not a valid syscall",
            ),
        ] {
            assert_eq!(words(&json), expected);
        }
    }

    #[test]
    fn rules_that_contradict_each_other() {
        let rule = |action: &str| {
            format!(
                r#"{{"names":["read"],"action":"{action}","args":[{{"index":0,"value":1,"op":"SCMP_CMP_EQ"}}]}}"#
            )
        };
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{},{}]}}"#,
            rule("SCMP_ACT_TRAP"),
            rule("SCMP_ACT_KILL")
        );
        let words = words(&json);
        assert!(
            words.starts_with("linux.seccomp.syscalls: read: two rules have the same conditions"),
            "{words}"
        );
    }

    /// Words and numbers that may be in a profile, and others that may not.
    fn arbitrary(next: &mut impl FnMut(usize) -> usize, depth: usize) -> serde_json::Value {
        use serde_json::json;
        const KEYS: [&str; 14] = [
            "defaultAction",
            "defaultErrnoRet",
            "architectures",
            "flags",
            "listenerPath",
            "syscalls",
            "names",
            "action",
            "errnoRet",
            "args",
            "index",
            "value",
            "valueTwo",
            "op",
        ];
        match next(if depth == 0 { 6 } else { 9 }) {
            0 => json!(null),
            1 => json!(next(7)),
            2 => json!([u64::MAX, 1 << 32, 4095, 0xffff_ffff, 38][next(5)]),
            3 => json!(ACTIONS[next(ACTIONS.len())].to_string()),
            4 => json!(OPERATORS[next(OPERATORS.len())].to_string()),
            5 => json!(
                [
                    "read".to_owned(),
                    "socket".into(),
                    String::new(),
                    "nosuch".into(),
                    "@".into(),
                    ARCHITECTURES[next(11)].0.to_string(),
                    FLAGS[next(4)].0.to_string()
                ][next(7)]
            ),
            6 => (0..next(5)).map(|_| arbitrary(next, depth - 1)).collect(),
            _ => {
                let keys: Vec<&str> = (0..next(9)).map(|_| KEYS[next(KEYS.len())]).collect();
                keys.into_iter()
                    .map(|key| (key.to_owned(), arbitrary(next, depth - 1)))
                    .collect()
            }
        }
    }

    /// Makes a profile that is valid except for one member, which is arbitrary.
    fn nearly_right(next: &mut impl FnMut(usize) -> usize) -> serde_json::Value {
        use serde_json::json;
        const NAMES: [&str; 4] = ["read", "socket", "mmap2", "clone"];
        const VALUES: [u64; 4] = [u64::MAX, 0, 5, 1 << 32];
        let mut rules = vec![];
        for _ in 0..next(6) {
            let mut args = vec![];
            for _ in 0..next(4) {
                args.push(json!({
                    "index": next(7),
                    "value": VALUES[next(VALUES.len())],
                    "valueTwo": next(9),
                    "op": OPERATORS[next(OPERATORS.len())].to_string(),
                }));
            }
            let (name, action) = (
                NAMES[next(NAMES.len())],
                ACTIONS[next(ACTIONS.len())].to_string(),
            );
            rules.push(json!({ "names": [name, "shmat"], "action": action, "args": args }));
        }
        let mut profile = json!({
            "defaultAction": ACTIONS[next(ACTIONS.len())].to_string(),
            "architectures": [ARCHITECTURES[next(11)].0.to_string(), ARCHITECTURES[next(11)].0.to_string()],
            "listenerPath": "/agent",
            "syscalls": rules,
        });
        let places = [
            "/flags",
            "/syscalls",
            "/defaultAction",
            "/syscalls/0/args",
            "/syscalls/0/names",
        ];
        let place = places[next(places.len())];
        if let Some(member) = profile.pointer_mut(place).filter(|_| next(3) == 0) {
            *member = arbitrary(next, 3);
        }
        profile
    }

    /// Does briefly what integration/fuzz does at length: every input is a filter, no
    /// filter or an error, and the kernel accepts the filters.
    #[test]
    fn anything_is_a_filter_or_an_error() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % limit
        };
        let mut filters = 0;
        for round in 0..8_000 {
            let json = match round % 4 {
                0 => arbitrary(&mut next, 4),
                _ => nearly_right(&mut next),
            };
            let text = json.to_string();
            let read = crate::document::read(text.as_bytes(), &|_, _| {});
            let Ok(seccomp) = read else {
                continue;
            };
            if let Ok(filter) = SeccompFilter::new(&seccomp, true) {
                let length = filter.program.len();
                assert!(
                    (1..=teu_seccomp::MOST_INSTRUCTIONS).contains(&length),
                    "{json}"
                );
                filters += 1;
            }
        }
        assert!(filters > 1000, "{filters}");
    }

    #[test]
    fn exec_reads_what_create_wrote() {
        let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"@a","listenerMetadata":"m",
            "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let filter = plan(json).expect("plan");
        let text = serde_json::to_string(&filter).expect("write");
        assert_eq!(
            serde_json::from_str::<SeccompFilter>(&text).expect("read"),
            filter
        );
        serde_json::from_str::<SeccompFilter>(r#"{"program":"00"}"#).expect_err("no program");
    }

    #[test]
    fn only_no_new_privileges_makes_it_late() {
        let timing = |late| SeccompPlan::new(SeccompFilter::default(), late).timing;
        assert_eq!(timing(true), Timing::LastOfAll);
        assert_eq!(timing(false), Timing::BeforeDroppingCapabilities);
    }
}
