//! Compares the programs of this crate with those of libseccomp and, where it
//! can express the filter, of the crate seccompiler. Both programs run on the
//! same calls in an interpreter.
//!
//! libseccomp needs cc and libseccomp-dev. It compiles for the machine's own
//! architecture first, so these tests are for x86_64 only.
#![cfg(target_arch = "x86_64")]

mod bpf;
mod cost;
mod profile;
mod random;
mod reference;
mod seccompiler;

use std::collections::{BTreeMap, BTreeSet};

use teu_seccomp::{Arch, Comparison, Condition, Error};

use bpf::{check, run};
use profile::{Profile, ProfileRule};
use random::Random;
use reference::Reference;

/// Calls of every kind: on all architectures, on some, multiplexed, private to
/// arm. Conditions may be on arguments that a call does not have.
const NAMES: [&str; 16] = [
    "read",
    "write",
    "open",
    "openat",
    "socket",
    "accept",
    "send",
    "shmat",
    "semtimedop",
    "clone",
    "personality",
    "ioctl",
    "_llseek",
    "set_tls",
    "mmap2",
    "futex_waitv",
];

/// libseccomp's errno for two rules that contradict each other.
const EEXIST: i32 = 17;

/// The result of comparing programs.
#[derive(Debug, Default)]
struct Outcome {
    profiles: usize,
    /// Profiles that both refuse because rules contradict each other.
    refused: usize,
    calls: usize,
    /// The number of differences of each kind.
    differences: BTreeMap<&'static str, usize>,
}

impl Outcome {
    fn note(&mut self, kind: &'static str, details: impl FnOnce() -> String) {
        let count = self.differences.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            println!("for example, {kind}: {}", details());
        }
    }

    fn count(&self, kind: &str) -> usize {
        self.differences.get(kind).copied().unwrap_or_default()
    }
}

/// Returns the numbers of all calls that the profile names, with their
/// architectures.
fn numbers(profile: &Profile, reference: &mut Reference) -> Vec<(Arch, u32)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    let mut numbers = vec![];
    for arch in profile.all_architectures() {
        for name in profile.rules.iter().flat_map(|rule| &rule.names) {
            numbers.extend(reference.number(arch, name).map(|number| (arch, number)));
        }
        if matches!(arch, Arch::X86 | Arch::Ppc64le) {
            numbers.extend([(arch, SOCKETCALL), (arch, IPC)]);
        }
    }
    numbers
}

const THEY_REFUSE: &str = "theirs refuses rules that do not contradict each other";
const WE_REFUSE: &str = "ours refuses what theirs takes";
const OURS_IS_WRONG: &str = "ours is wrong";
const NO_NUMBER: &str = "theirs never looks at the number";
const LEFT_OUT: &str = "theirs leaves out a rule that holds";
const APPLIED: &str = "theirs applies a rule that does not hold";
const DISORDER: &str = "theirs applies the other of two rules than in a profile of these two alone";
const OTHER_RULE: &str = "the two apply different rules that hold";

/// Compares both programs on calls that the profile names and on similar ones.
fn compare(
    profile: &Profile,
    optimize: u32,
    calls: usize,
    reference: &mut Reference,
    random: &mut Random,
    outcome: &mut Outcome,
) {
    outcome.profiles += 1;
    let (ours, theirs) = match (
        profile.filter().compile(),
        reference.compile(profile, optimize),
    ) {
        (Err(Error::Conflict { .. }), Err(EEXIST)) => {
            outcome.refused += 1;
            return;
        }
        (Err(error), Ok(_)) => {
            return outcome.note(WE_REFUSE, || format!("{error} {profile:?}"));
        }
        (ours, theirs) => (ours.expect("a program").instructions, theirs),
    };
    check(&ours);
    let numbers = numbers(profile, reference);
    let known: BTreeMap<(u8, String), Option<u32>> = numbers_by_name(profile, reference);
    let mut number_of =
        |arch: Arch, name: &str| known.get(&(arch as u8, name.to_owned())).copied().flatten();
    for data in profile.calls(random, &numbers, calls) {
        outcome.calls += 1;
        let result = run(&ours, &data).result;
        let is_right = |result: u32, said: &BTreeSet<u32>| {
            said.contains(&result) || said.is_empty() && result == profile.default.value()
        };
        let Ok(theirs) = &theirs else {
            // ENOSYS may also come from the rule for newer calls.
            let said = profile.said(&data, &mut number_of);
            if !said.is_empty() && !said.contains(&result) && result != ENOSYS {
                outcome.note(OURS_IS_WRONG, || {
                    format!("{data:x?} {result:x} {profile:?}")
                });
            }
            continue;
        };
        let end = theirs.run(&data);
        if end.result == result {
            continue;
        }
        let said = profile.said(&data, &mut number_of);
        let kind = match (is_right(result, &said), is_right(end.result, &said)) {
            (false, _) => OURS_IS_WRONG,
            (true, false) if !end.loaded_number => NO_NUMBER,
            (true, false) if said.contains(&end.result) || said.is_empty() => APPLIED,
            (true, false) => LEFT_OUT,
            (true, true) => {
                let beats = |ours: &ProfileRule, theirs: &ProfileRule| {
                    let two = profile.with_rules_in_order(ours, theirs);
                    let program = reference.compile(&two, 0);
                    program.is_ok_and(|program| program.run(&data).result == result)
                };
                if profile.order_is(&data, result, end.result, &mut number_of, beats) {
                    DISORDER
                } else {
                    OTHER_RULE
                }
            }
        };
        outcome.note(kind, || {
            format!(
                "{data:x?}: ours {result:x}, theirs {:x}, {profile:?}",
                end.result
            )
        });
    }
    if let Err(errno) = theirs {
        outcome.note(THEY_REFUSE, || format!("errno {errno}, {profile:?}"));
    }
}

const ENOSYS: u32 = 0x5_0026;

fn numbers_by_name(
    profile: &Profile,
    reference: &mut Reference,
) -> BTreeMap<(u8, String), Option<u32>> {
    let mut known = BTreeMap::new();
    for arch in profile.all_architectures() {
        for name in profile.rules.iter().flat_map(|rule| &rule.names) {
            let number = reference.number(arch, name);
            known.insert((arch as u8, name.clone()), number);
        }
    }
    known
}

/// Removes the names that only one of the two knows, or that they know on
/// different architectures: libseccomp's table may be older.
fn retain_common_names(profile: &mut Profile, reference: &mut Reference) {
    let architectures = profile.all_architectures();
    profile.retain_names(|name| {
        reference.knows(name)
            && architectures.iter().all(|arch| {
                is_multiplexed(*arch, name) || reference.number(*arch, name) == arch.number(name)
            })
    });
}

/// Returns whether libseccomp gives the call no number because socketcall(2) or
/// ipc(2) carries it.
fn is_multiplexed(arch: Arch, name: &str) -> bool {
    let calls = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
        "semop",
        "semget",
        "semctl",
        "semtimedop",
        "msgsnd",
        "msgrcv",
        "msgget",
        "msgctl",
        "shmat",
        "shmdt",
        "shmget",
        "shmctl",
    ];
    matches!(arch, Arch::X86 | Arch::Ppc64le | Arch::Mipsel) && calls.contains(&name)
}

#[test]
fn numbers_are_the_same() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    // More architectures have got these calls since libseccomp's table was made.
    let newer = ["map_shadow_stack", "memfd_secret"];
    let mut compared = 0;
    for name in teu_seccomp::names().filter(|name| !newer.contains(name)) {
        for arch in Arch::ALL {
            if arch == Arch::Loongarch64 || is_multiplexed(arch, name) || !reference.knows(name) {
                continue;
            }
            let theirs = reference.number(arch, name);
            assert_eq!(arch.number(name), theirs, "{name} {arch}");
            compared += usize::from(theirs.is_some());
        }
    }
    assert!(compared > 3000, "{compared}");
}

/// A jump covers at most 255 instructions, so a long program needs jumps to
/// jumps.
#[test]
fn long_programs_go_to_the_right_places() {
    for rules in [10, 200, 400] {
        let condition = |value: u64| {
            let comparison = Comparison::Equal(value << 33 | value);
            Condition::new(0, comparison).expect("an argument")
        };
        let profile = Profile {
            default: teu_seccomp::Action::Allow,
            architectures: vec![Arch::X86],
            rules: (0..rules)
                .map(|value| ProfileRule {
                    names: vec!["ioctl".into()],
                    action: teu_seccomp::Action::Errno(u16::try_from(value).expect("few")),
                    conditions: vec![condition(value)],
                })
                .collect(),
        };
        let program = profile.filter().compile().expect("a program").instructions;
        check(&program);
        for value in 0..rules + 3 {
            let mut data = bpf::Data {
                number: Arch::X86_64.number("ioctl").expect("ioctl"),
                arch: Arch::X86_64.token(),
                args: [value << 33 | value, 0, 0, 0, 0, 0],
            };
            let errno = 0x5_0000 | u32::try_from(value).expect("few");
            let allow = teu_seccomp::Action::Allow.value();
            let expected = if value < rules { errno } else { allow };
            assert_eq!(run(&program, &data).result, expected, "{value} of {rules}");
            data.arch = Arch::X86.token();
            data.number = Arch::X86.number("ioctl").expect("ioctl");
            assert_eq!(
                run(&program, &data).result,
                expected,
                "{value} of {rules}, x86"
            );
        }
    }
}

#[test]
fn a_program_that_is_too_long_is_an_error() {
    for rules in [2500, 200_000] {
        let rule = |value: u64| ProfileRule {
            names: vec!["ioctl".into()],
            action: teu_seccomp::Action::Trap,
            conditions: vec![
                Condition::new(1, Comparison::Equal(value << 32 | 1)).expect("an argument"),
            ],
        };
        let profile = Profile {
            default: teu_seccomp::Action::Allow,
            architectures: vec![],
            rules: (0..rules).map(rule).collect(),
        };
        assert_eq!(profile.filter().compile().err(), Some(Error::TooLong));
    }
}

/// Profiles like those of people and engines: long lists of names, and a few
/// calls with conditions that do not overlap. There must be no difference.
#[test]
fn profiles_without_overlap_agree_with_libseccomp() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    let mut random = Random::new(2);
    let mut outcome = Outcome::default();
    let names = Profile::of_engine("docker", &[]).rules.remove(0).names;
    for _ in 0..2050 {
        let mut profile = Profile::random_without_overlap(&mut random, &names);
        retain_common_names(&mut profile, &mut reference);
        compare(&profile, 2, 420, &mut reference, &mut random, &mut outcome);
    }
    println!("{outcome:?}");
    assert!(outcome.differences.is_empty() && outcome.refused == 0);
    assert!(outcome.profiles >= 2000 && outcome.calls >= 200_000);
}

/// Rules for few calls that overlap: libseccomp has bugs there, and each
/// difference has to come from one of them. The result of this crate's program
/// is always that of a rule that holds.
#[test]
fn overlapping_rules_count_in_the_same_order() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    let mut random = Random::new(1);
    let mut outcome = Outcome::default();
    for round in 0..2800 {
        let conditions = 1 + round % 3;
        let profile = Profile::random(&mut random, &NAMES, conditions);
        compare(&profile, 0, 100, &mut reference, &mut random, &mut outcome);
    }
    println!("{outcome:?}");
    for fault in [OURS_IS_WRONG, WE_REFUSE, OTHER_RULE] {
        assert_eq!(outcome.count(fault), 0, "{fault}");
    }
    assert!(outcome.profiles - outcome.refused >= 2000 && outcome.calls >= 200_000);
    // libseccomp's bugs have to be rare, or they would hide bugs of this crate.
    let of_rules = outcome.count(LEFT_OUT) + outcome.count(APPLIED);
    assert!(of_rules * 500 < outcome.calls, "{of_rules}");
}

#[test]
fn default_profiles_agree_with_libseccomp() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    let mut random = Random::new(3);
    let mut outcome = Outcome::default();
    let all = [
        "CAP_SYS_ADMIN",
        "CAP_DAC_READ_SEARCH",
        "CAP_SYS_BOOT",
        "CAP_SYS_CHROOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_PTRACE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TIME",
        "CAP_SYS_NICE",
        "CAP_SYSLOG",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_AUDIT_WRITE",
    ];
    for engine in ["docker", "podman", "containerd"] {
        let one_more = all.iter().map(std::slice::from_ref);
        for capabilities in [&[][..], &all[..]].into_iter().chain(one_more) {
            let mut profile = Profile::of_engine(engine, capabilities);
            retain_common_names(&mut profile, &mut reference);
            compare(&profile, 2, 1000, &mut reference, &mut random, &mut outcome);
        }
    }
    println!("{outcome:?}");
    assert!(outcome.differences.is_empty() && outcome.refused == 0);
}
