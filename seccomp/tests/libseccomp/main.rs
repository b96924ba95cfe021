//! Filters as teu and as libseccomp make them, on the same calls.
//!
//! Needs cc and libseccomp-dev; on a machine of another architecture than
//! x86_64 the reference speaks of that one, so these tests are for x86_64.
#![cfg(target_arch = "x86_64")]

mod bpf;
mod profile;
mod random;
mod reference;

use std::collections::BTreeMap;

use teu_seccomp::{Arch, Error};

use bpf::{Data, check, run};
use profile::Profile;
use random::Random;
use reference::{Reference, Theirs};

/// Calls of every kind; all have few arguments, which does not matter to a
/// filter.
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

const NATIVE: [&str; 8] = [
    "read",
    "write",
    "socket",
    "accept",
    "shmat",
    "clone",
    "personality",
    "ioctl",
];

#[derive(Debug, Default)]
struct Outcome {
    profiles: usize,
    refused: usize,
    calls: usize,
    differences: BTreeMap<&'static str, usize>,
}

fn numbers(profile: &Profile, reference: &mut Reference) -> Vec<(Arch, u32)> {
    let mut numbers = vec![];
    for arch in profile.all_architectures() {
        for name in profile.rules.iter().flat_map(|rule| &rule.names) {
            numbers.extend(reference.number(arch, name).map(|number| (arch, number)));
        }
        let (socketcall, ipc) = (102, 117);
        if matches!(arch, Arch::X86 | Arch::Ppc64le) {
            numbers.extend([(arch, socketcall), (arch, ipc)]);
        }
    }
    numbers
}

/// Why two programs differ, and what the rules say.
fn explain(
    profile: &Profile,
    data: &Data,
    ours: u32,
    theirs: &Theirs,
    number_of: &mut dyn FnMut(Arch, &str) -> Option<u32>,
) -> &'static str {
    let said = profile.said(data, number_of);
    let is_right = |result: u32| {
        said.contains(&result) || said.is_empty() && result == profile.default.value()
    };
    let end = theirs.run(data);
    match (is_right(ours), is_right(end.result)) {
        (false, _) => "ours is wrong",
        (true, true) => "both are right",
        (true, false) if !end.loaded_number => "theirs never looks at the number",
        (true, false) if said.is_empty() => "theirs applies a rule that does not hold",
        (true, false) => "theirs leaves out a rule that holds",
    }
}

#[test]
fn random_profiles_mean_the_same() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    let mut random = Random::new(1);
    for (names, most_conditions, optimize) in [
        (&NAMES[..], 3, 0),
        (&NAMES, 3, 2),
        (&NATIVE, 1, 0),
        (&NATIVE, 1, 2),
        (&NATIVE, 2, 0),
        (&NATIVE, 3, 0),
    ] {
        let mut outcome = Outcome::default();
        for _ in 0..2000 {
            let profile = Profile::random(&mut random, names, most_conditions);
            outcome.profiles += 1;
            let ours = profile.filter().compile();
            let theirs = reference.compile(&profile, optimize);
            let (ours, theirs) = match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => (ours, theirs),
                (Err(Error::Conflict { .. }), Err(17)) => {
                    outcome.refused += 1;
                    continue;
                }
                (ours, theirs) => {
                    let kind = if ours.is_ok() {
                        "only they refuse"
                    } else {
                        "only we refuse"
                    };
                    if *outcome.differences.entry(kind).or_default() < 2 {
                        println!("{kind}: {:?} {:?} {profile:?}", ours.err(), theirs.err());
                    }
                    *outcome.differences.entry(kind).or_default() += 1;
                    continue;
                }
            };
            check(&ours.instructions);
            let numbers = numbers(&profile, &mut reference);
            for data in profile.calls(&mut random, &numbers, 100) {
                outcome.calls += 1;
                let our = run(&ours.instructions, &data).result;
                if our != theirs.run(&data).result {
                    let mut number_of = |arch: Arch, name: &str| reference.number(arch, name);
                    let kind = explain(&profile, &data, our, &theirs, &mut number_of);
                    let count = outcome.differences.entry(kind).or_default();
                    if *count < 3 {
                        println!(
                            "{kind}: {data:x?} ours {our:x} theirs {:x?} {profile:?}",
                            theirs.run(&data)
                        );
                    }
                    *count += 1;
                }
            }
        }
        println!("{most_conditions} {optimize} {outcome:?}");
    }
}
