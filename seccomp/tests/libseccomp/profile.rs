//! Profiles, the engines' default ones and random ones, and a model of what
//! their rules do with a call: it evaluates one rule after the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use teu_seccomp::{Action, Arch, Comparison, Condition, Filter, Rule};

use crate::bpf::Data;
use crate::random::Random;
use crate::reference::alternatives;

#[derive(Debug, Clone)]
pub(crate) struct ProfileRule {
    pub(crate) names: Vec<String>,
    pub(crate) action: Action,
    pub(crate) conditions: Vec<Condition>,
}

/// A profile for an x86_64 machine.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) default: Action,
    pub(crate) architectures: Vec<Arch>,
    pub(crate) rules: Vec<ProfileRule>,
}

impl Profile {
    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            native: Arch::X86_64,
            architectures: self.architectures.clone(),
            default: self.default,
            rules: self
                .rules
                .iter()
                .map(|rule| Rule {
                    names: &rule.names,
                    action: rule.action,
                    conditions: rule.conditions.clone(),
                })
                .collect(),
        }
    }

    pub(crate) fn all_architectures(&self) -> Vec<Arch> {
        let mut all = vec![Arch::X86_64];
        all.extend(&self.architectures);
        let mut seen = BTreeSet::new();
        all.retain(|arch| seen.insert(*arch as usize));
        all
    }

    /// Reads an engine's default profile for a container with these
    /// capabilities.
    pub(crate) fn of_engine(name: &str, capabilities: &[&str]) -> Profile {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
        let text = fs::read_to_string(path).expect("read the profile");
        let json: Value = serde_json::from_str(&text).expect("the profile is JSON");
        let rules = json["syscalls"].as_array().expect("syscalls");
        Profile {
            default: action(&json["defaultAction"], &json["defaultErrnoRet"]),
            architectures: vec![Arch::X86_64, Arch::X86, Arch::X32],
            rules: rules
                .iter()
                .filter(|rule| is_for(rule, capabilities))
                .map(|rule| ProfileRule {
                    names: texts(&rule["names"]),
                    action: action(&rule["action"], &rule["errnoRet"]),
                    conditions: list(&rule["args"]).iter().map(condition).collect(),
                })
                .collect(),
        }
    }

    /// Removes the names for which `known` is false.
    pub(crate) fn retain_names(&mut self, mut known: impl FnMut(&str) -> bool) {
        for rule in &mut self.rules {
            rule.names.retain(|name| known(name));
        }
    }

    /// Makes a random profile of few calls whose rules overlap. A rule has at
    /// most `most_conditions` conditions.
    pub(crate) fn random(random: &mut Random, names: &[&str], most_conditions: u32) -> Profile {
        let architectures = [
            Arch::X86,
            Arch::X32,
            Arch::Aarch64,
            Arch::Arm,
            Arch::Ppc64le,
        ];
        let mut profile = Profile {
            default: random_action(random),
            architectures: architectures
                .into_iter()
                .filter(|_| random.below(3) == 0)
                .collect(),
            rules: vec![],
        };
        let pool: Vec<&str> = (0..=random.below(6)).map(|_| *random.of(names)).collect();
        let actions: Vec<Action> = (0..2).map(|_| random_action(random)).collect();
        let arguments = 1 + random.below(3);
        for _ in 0..=random.below(8) {
            let conditions = random.below(most_conditions + 1);
            profile.rules.push(ProfileRule {
                names: (0..=random.below(3))
                    .map(|_| (*random.of(&pool)).to_owned())
                    .collect(),
                action: *random.of(&actions),
                conditions: (0..conditions)
                    .map(|_| random_condition(random, arguments))
                    .collect(),
            });
        }
        profile
    }

    /// Makes a random profile like those that people write: long lists of
    /// names, and a few calls with conditions.
    pub(crate) fn random_without_overlap(random: &mut Random, names: &[String]) -> Profile {
        let mut profile = Profile::random(random, &["read"], 0);
        profile.rules.clear();
        let mut names = names.to_vec();
        for _ in 0..=random.below(2) {
            let count = 33 + random.below(40);
            let taken = (0..count).map(|_| take(random, &mut names));
            profile.rules.push(ProfileRule {
                names: taken.collect(),
                action: random_action(random),
                conditions: vec![],
            });
        }
        for _ in 0..random.below(5) {
            let name = take(random, &mut names);
            let action = random_action(random);
            let first = random_condition(random, 3);
            let rest = (0..random.below(3)).map(|_| random_condition(random, 6));
            let mut conditions: Vec<Condition> = std::iter::once(first).chain(rest).collect();
            let mut seen = BTreeSet::new();
            conditions.retain(|condition| seen.insert(condition.index()));
            // Several values of one argument, each in its own rule.
            let values = if conditions.len() == 1 {
                1 + random.below(4)
            } else {
                1
            };
            for value in 0..values {
                if values > 1 {
                    let index = conditions[0].index().into();
                    let value = Comparison::Equal(u64::from(value) * 0x8000_0001);
                    conditions[0] = Condition::new(index, value).expect("an argument");
                }
                profile.rules.push(ProfileRule {
                    names: vec![name.clone()],
                    action,
                    conditions: conditions.clone(),
                });
            }
        }
        profile
    }

    /// Returns the results of all rules that hold for the call. If a rule
    /// without conditions is among them, only the first such rule counts.
    pub(crate) fn said(
        &self,
        data: &Data,
        number_of: &mut dyn FnMut(Arch, &str) -> Option<u32>,
    ) -> BTreeSet<u32> {
        let mut said = BTreeSet::new();
        for arch in self.all_architectures() {
            if arch.token() != data.arch {
                continue;
            }
            for rule in self.rules.iter().filter(|rule| rule.action != self.default) {
                for name in &rule.names {
                    let is_direct = number_of(arch, name) == Some(data.number);
                    let behind =
                        multiplexed(arch, name).filter(|(number, _)| *number == data.number);
                    for all in alternatives(&rule.conditions) {
                        let rest_holds = |first: u8| {
                            let mut rest =
                                all.iter().filter(|condition| condition.index() >= first);
                            rest.all(|condition| holds(condition, arch, data))
                        };
                        if is_direct && rest_holds(0) {
                            if all.iter().all(|condition| says_nothing(condition, arch)) {
                                return BTreeSet::from([rule.action.value()]);
                            }
                            said.insert(rule.action.value());
                        }
                        // The condition that selects the multiplexed call
                        // replaces a condition on the first argument.
                        let is_it =
                            |(_, call): (u32, u32)| call_argument(arch, data) == u64::from(call);
                        if behind.is_some_and(is_it) && rest_holds(1) {
                            said.insert(rule.action.value());
                        }
                    }
                }
            }
        }
        said
    }

    /// Returns the rules that hold for the call, split so that each has one name
    /// and conditions that all hold.
    fn holding(
        &self,
        data: &Data,
        number_of: &mut dyn FnMut(Arch, &str) -> Option<u32>,
    ) -> Vec<ProfileRule> {
        let mut holding = vec![];
        for rule in &self.rules {
            for name in &rule.names {
                for conditions in alternatives(&rule.conditions) {
                    let rule = ProfileRule {
                        names: vec![name.clone()],
                        action: rule.action,
                        conditions,
                    };
                    let alone = Profile {
                        rules: vec![rule.clone()],
                        ..self.clone()
                    };
                    if !alone.said(data, number_of).is_empty() {
                        holding.push(rule);
                    }
                }
            }
        }
        holding
    }

    /// Returns whether a rule with the result `ours` wins over all rules with
    /// the result `theirs`. `beats` compares two rules.
    pub(crate) fn order_is(
        &self,
        data: &Data,
        ours: u32,
        theirs: u32,
        number_of: &mut dyn FnMut(Arch, &str) -> Option<u32>,
        mut beats: impl FnMut(&ProfileRule, &ProfileRule) -> bool,
    ) -> bool {
        let all = self.holding(data, number_of);
        let with = |result: u32| all.iter().filter(move |rule| rule.action.value() == result);
        with(ours).any(|rule| with(theirs).all(|other| beats(rule, other)))
    }

    /// Returns the profile with only these two rules.
    pub(crate) fn with_rules_in_order(&self, one: &ProfileRule, other: &ProfileRule) -> Profile {
        Profile {
            rules: vec![one.clone(), other.clone()],
            ..self.clone()
        }
    }

    /// Makes random calls whose numbers and arguments are those that the profile
    /// names, or are close to them.
    pub(crate) fn calls(
        &self,
        random: &mut Random,
        numbers: &[(Arch, u32)],
        count: usize,
    ) -> Vec<Data> {
        let conditions: Vec<Condition> = self
            .rules
            .iter()
            .flat_map(|rule| rule.conditions.clone())
            .collect();
        (0..count)
            .map(|_| {
                let (arch, mut number) = match numbers {
                    [] => (Arch::X86_64, 0),
                    numbers => *random.of(numbers),
                };
                number = match random.below(12) {
                    0 => number.wrapping_add(1),
                    1 => number.wrapping_sub(1),
                    2 => number ^ (1 << 30),
                    3 => *random.of(&[0, 59, 334, 447, 449, 512, 0x4000_0000, 0x7fff_ffff]),
                    4 => *random.of(&[0x8000_0000, 0xc000_0000, 0xffff_fffe, u32::MAX]),
                    5 => random.word(),
                    _ => number,
                };
                let token = match random.below(20) {
                    0 => random.of(&Arch::ALL).token(),
                    1 => random.word(),
                    _ => arch.token(),
                };
                let mut args = [0; 6];
                for (index, arg) in args.iter_mut().enumerate() {
                    *arg = argument(random, index, &conditions);
                }
                Data {
                    number,
                    arch: token,
                    args,
                }
            })
            .collect()
    }
}

fn call_argument(arch: Arch, data: &Data) -> u64 {
    match arch {
        Arch::X86 => data.args[0] & 0xffff_ffff,
        _ => data.args[0],
    }
}

/// Returns the number and the selector of a call of [`crate::NAMES`] that
/// socketcall(2) or ipc(2) carries.
fn multiplexed(arch: Arch, name: &str) -> Option<(u32, u32)> {
    if !matches!(arch, Arch::X86 | Arch::Ppc64le) {
        return None;
    }
    match name {
        "socket" => Some((102, 1)),
        "accept" => Some((102, 5)),
        "send" => Some((102, 9)),
        "semtimedop" => Some((117, 4)),
        "shmat" => Some((117, 21)),
        _ => None,
    }
}

fn says_nothing(condition: &Condition, arch: Arch) -> bool {
    let bits = if is_32_bit(arch) {
        0xffff_ffff
    } else {
        u64::MAX
    };
    matches!(condition.comparison(), Comparison::MaskedEqual { mask, .. } if mask & bits == 0)
}

fn is_32_bit(arch: Arch) -> bool {
    matches!(arch, Arch::X86 | Arch::X32 | Arch::Arm)
}

pub(crate) fn take(random: &mut Random, names: &mut Vec<String>) -> String {
    let limit = u32::try_from(names.len()).expect("few");
    names.swap_remove(usize::try_from(random.below(limit)).expect("index"))
}

/// Makes a value equal or close to one that a condition on the argument names.
fn argument(random: &mut Random, index: usize, conditions: &[Condition]) -> u64 {
    let on_it: Vec<&Condition> = conditions
        .iter()
        .filter(|condition| usize::from(condition.index()) == index)
        .collect();
    if on_it.is_empty() || random.below(8) == 0 {
        return random.value();
    }
    let value = match random.of(&on_it).comparison() {
        Comparison::NotEqual(value)
        | Comparison::Less(value)
        | Comparison::LessOrEqual(value)
        | Comparison::Equal(value)
        | Comparison::GreaterOrEqual(value)
        | Comparison::Greater(value) => value,
        Comparison::MaskedEqual { mask, value } => (value & mask) | (random.value() & !mask),
    };
    match random.below(8) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ (1 << 32),
        3 => value & 0xffff_ffff,
        _ => value,
    }
}

/// Returns whether a condition holds, as seccomp_rule_add(3) defines it.
pub(crate) fn holds(condition: &Condition, arch: Arch, data: &Data) -> bool {
    let bits = if is_32_bit(arch) {
        0xffff_ffff
    } else {
        u64::MAX
    };
    let found = data.args[usize::from(condition.index())] & bits;
    match condition.comparison() {
        Comparison::NotEqual(value) => found != value & bits,
        Comparison::Less(value) => found < value & bits,
        Comparison::LessOrEqual(value) => found <= value & bits,
        Comparison::Equal(value) => found == value & bits,
        Comparison::GreaterOrEqual(value) => found >= value & bits,
        Comparison::Greater(value) => found > value & bits,
        Comparison::MaskedEqual { mask, value } => found & mask == value & mask & bits,
    }
}

pub(crate) fn random_action(random: &mut Random) -> Action {
    *random.of(&[
        Action::Allow,
        Action::Allow,
        Action::Errno(1),
        Action::Errno(38),
        Action::Errno(4094),
        Action::KillProcess,
        Action::KillThread,
        Action::Trap,
        Action::Trace(7),
        Action::Log,
    ])
}

pub(crate) fn random_condition(random: &mut Random, arguments: u32) -> Condition {
    let value = random.value();
    let comparison = match random.below(7) {
        0 => Comparison::NotEqual(value),
        1 => Comparison::Less(value),
        2 => Comparison::LessOrEqual(value),
        3 => Comparison::Equal(value),
        4 => Comparison::GreaterOrEqual(value),
        5 => Comparison::Greater(value),
        _ => Comparison::MaskedEqual {
            mask: random.value(),
            value,
        },
    };
    let index = usize::try_from(random.below(arguments)).expect("index");
    Condition::new(index, comparison).expect("an argument")
}

fn is_for(rule: &Value, capabilities: &[&str]) -> bool {
    let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
    let has = |list: &Value| {
        texts(list)
            .iter()
            .any(|name| capabilities.contains(&name.as_str()))
    };
    let is_here = |list: &Value| texts(list).iter().any(|name| name == "amd64");
    let has_all = |list: &Value| {
        texts(list)
            .iter()
            .all(|name| capabilities.contains(&name.as_str()))
    };
    (includes["arches"].is_null() || is_here(&includes["arches"]))
        && !is_here(&excludes["arches"])
        && (includes["caps"].is_null() || has_all(&includes["caps"]))
        && !has(&excludes["caps"])
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|text| text.as_str().expect("text").to_owned())
        .collect()
}

fn action(action: &Value, errno: &Value) -> Action {
    let errno = errno
        .as_u64()
        .map_or(1, |errno| u16::try_from(errno).expect("errno"));
    match action.as_str() {
        Some("SCMP_ACT_ALLOW") => Action::Allow,
        Some("SCMP_ACT_ERRNO") => Action::Errno(errno),
        other => panic!("action {other:?}"),
    }
}

fn condition(json: &Value) -> Condition {
    let number = |key: &str| json[key].as_u64().unwrap_or(0);
    let value = number("value");
    let comparison = match json["op"].as_str() {
        Some("SCMP_CMP_EQ") => Comparison::Equal(value),
        Some("SCMP_CMP_NE") => Comparison::NotEqual(value),
        Some("SCMP_CMP_MASKED_EQ") => Comparison::MaskedEqual {
            mask: value,
            value: number("valueTwo"),
        },
        other => panic!("operator {other:?}"),
    };
    let index = usize::try_from(number("index")).expect("index");
    Condition::new(index, comparison).expect("an argument")
}
