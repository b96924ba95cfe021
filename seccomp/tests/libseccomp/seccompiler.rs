//! Compares with the programs of the crate seccompiler, for filters that it can
//! express: they have one action for all rules and one for the remaining calls.
//! Rules with two conditions on one argument are left out: for libseccomp, and
//! so for this crate, one of the two has to hold, and for seccompiler both.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use teu_seccomp::{Action, Arch, Comparison, Condition, Filter, Instruction};

use crate::NAMES;
use crate::bpf::{check, run};
use crate::profile::{Profile, ProfileRule, random_action, random_condition, take};
use crate::random::Random;

/// Makes a random profile that seccompiler can express. Some of its calls have
/// no conditions, others have several rules.
fn expressible(random: &mut Random, arch: Arch) -> Profile {
    let default = random_action(random);
    let mut action = default;
    while action == default {
        action = random_action(random);
    }
    let known = NAMES.iter().filter(|name| arch.number(name).is_some());
    let mut names: Vec<String> = known.map(|name| (*name).to_owned()).collect();
    let mut rules = vec![];
    for _ in 0..=random.below(5) {
        let name = take(random, &mut names);
        let most_conditions = random.below(7);
        let count = if most_conditions == 0 {
            0
        } else {
            random.below(4)
        };
        for _ in 0..=count {
            let conditions = (0..most_conditions).map(|_| random_condition(random, 6));
            let mut conditions: Vec<Condition> = conditions.collect();
            let mut seen = BTreeSet::new();
            conditions.retain(|condition| seen.insert(condition.index()));
            rules.push(ProfileRule {
                names: vec![name.clone()],
                action,
                conditions,
            });
        }
    }
    Profile {
        default,
        architectures: vec![],
        rules,
    }
}

/// Returns the program that seccompiler makes of the profile.
fn theirs(profile: &Profile, arch: Arch, target: TargetArch) -> Vec<Instruction> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in &profile.rules {
        let number = arch.number(&rule.names[0]).expect("a number");
        let of_call = rules.entry(number.into()).or_default();
        // For seccompiler, a call without rules matches whatever its arguments.
        if !rule.conditions.is_empty() {
            let conditions = rule.conditions.iter().map(condition).collect();
            of_call.push(SeccompRule::new(conditions).expect("conditions"));
        }
    }
    let (default, matched) = (action(profile.default), action(profile.rules[0].action));
    let filter = SeccompFilter::new(rules, default, matched, target).expect("a filter");
    let program = BpfProgram::try_from(filter).expect("a program");
    let instruction = |filter: &seccompiler::sock_filter| Instruction {
        code: filter.code,
        jt: filter.jt,
        jf: filter.jf,
        k: filter.k,
    };
    program.iter().map(instruction).collect()
}

fn action(action: Action) -> SeccompAction {
    match action {
        Action::KillProcess => SeccompAction::KillProcess,
        Action::KillThread => SeccompAction::KillThread,
        Action::Trap => SeccompAction::Trap,
        Action::Errno(errno) => SeccompAction::Errno(errno.into()),
        Action::Trace(message) => SeccompAction::Trace(message.into()),
        Action::Log => SeccompAction::Log,
        Action::Allow => SeccompAction::Allow,
        other => panic!("seccompiler has no action {other:?}"),
    }
}

fn condition(condition: &Condition) -> SeccompCondition {
    let (operator, value) = match condition.comparison() {
        Comparison::NotEqual(value) => (SeccompCmpOp::Ne, value),
        Comparison::Less(value) => (SeccompCmpOp::Lt, value),
        Comparison::LessOrEqual(value) => (SeccompCmpOp::Le, value),
        Comparison::Equal(value) => (SeccompCmpOp::Eq, value),
        Comparison::GreaterOrEqual(value) => (SeccompCmpOp::Ge, value),
        Comparison::Greater(value) => (SeccompCmpOp::Gt, value),
        Comparison::MaskedEqual { mask, value } => (SeccompCmpOp::MaskedEq(mask), value),
    };
    SeccompCondition::new(condition.index(), SeccompCmpArgLen::Qword, operator, value)
        .expect("an argument")
}

#[test]
fn filters_agree_with_seccompiler() {
    let mut random = Random::new(4);
    let (mut calls, mut matched) = (0, 0);
    for round in 0..2000 {
        let (arch, target) = match round % 2 {
            0 => (Arch::X86_64, TargetArch::x86_64),
            _ => (Arch::Aarch64, TargetArch::aarch64),
        };
        let profile = expressible(&mut random, arch);
        let filter = Filter {
            native: arch,
            ..profile.filter()
        };
        let ours = filter.compile().expect("a program").instructions;
        check(&ours);
        let theirs = theirs(&profile, arch, target);
        check(&theirs);
        let names = profile.rules.iter().flat_map(|rule| &rule.names);
        let numbers: Vec<(Arch, u32)> = names
            .map(|name| (arch, arch.number(name).expect("a number")))
            .collect();
        let newest = numbers.iter().map(|(_, number)| *number).max();
        for data in profile.calls(&mut random, &numbers, 200) {
            // seccompiler has no ENOSYS for newer calls, and treats calls of
            // other architectures differently.
            if data.arch != arch.token() || Some(data.number) > newest {
                continue;
            }
            calls += 1;
            let (ours, theirs) = (run(&ours, &data).result, run(&theirs, &data).result);
            matched += usize::from(theirs != profile.default.value());
            assert_eq!(ours, theirs, "{arch} {data:x?} {profile:?}");
        }
    }
    println!("{calls} calls, {matched} of them in a rule");
    assert!(calls >= 200_000 && matched >= 50_000);
}
