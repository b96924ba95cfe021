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
use reference::Reference;

/// Calls of every kind; all have few arguments, which does not matter to a
/// filter.
const NAMES: [&str; 16] = [
    "read", "write", "open", "openat", "socket", "accept", "send", "shmat", "semtimedop", "clone",
    "personality", "ioctl", "_llseek", "set_tls", "mmap2", "futex_waitv",
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

#[test]
fn random_profiles_mean_the_same() {
    let Some(mut reference) = Reference::start() else { return };
    let mut outcome = Outcome::default();
    let mut random = Random::new(1);
    for _ in 0..3000 {
        let profile = Profile::random(&mut random, &NAMES);
        outcome.profiles += 1;
        let ours = profile.filter().compile();
        let theirs = reference.compile(&profile, 0);
        let (ours, theirs) = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (Err(Error::Conflict { .. }), Err(17)) => {
                outcome.refused += 1;
                continue;
            }
            (ours, theirs) => {
                let kind = if ours.is_ok() { "only they refuse" } else { "only we refuse" };
                if *outcome.differences.entry(kind).or_default() < 2 {
                    println!("{kind}: {:?} {:?} {profile:#?}", ours.err(), theirs.err());
                }
                *outcome.differences.entry(kind).or_default() += 1;
                continue;
            }
        };
        check(&ours.instructions);
        let numbers = numbers(&profile, &mut reference);
        for data in profile.calls(&mut random, &numbers, 100) {
            outcome.calls += 1;
            let (our, their) = (run(&ours.instructions, &data).0, theirs.run(&data).0);
            if our != their {
                let mut number_of = |arch: Arch, name: &str| reference.number(arch, name);
                let said = profile.said(&data, &mut number_of);
                let kind = if said.contains(&their) && said.contains(&our) {
                    "both right"
                } else if said.contains(&our) || said.is_empty() && our == profile.default.value() {
                    "they are wrong"
                } else {
                    "we are wrong"
                };
                let count = outcome.differences.entry(kind).or_default();
                if *count < 3 {
                    println!("{kind}: {data:x?} ours {our:x} theirs {their:x} said {said:x?} {profile:#?}");
                }
                *count += 1;
            }
        }
    }
    println!("{outcome:?}");
    assert!(outcome.differences.is_empty());
    let _ = Data::default();
}
