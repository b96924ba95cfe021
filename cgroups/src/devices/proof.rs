//! Proves that device rules have the same meaning everywhere. A plain evaluator, the device
//! program in an interpreter, and a process in a cgroup of this kernel, on v2 and on v1,
//! answer the same random questions. Also: no change of rules leaves a gap.
//!
//! The tests of the kernel need root. $TEU_DEVICE_CASES is the number of questions for each
//! hierarchy; 20000 if it is not set.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{AccessFlags, access, unlink};
use teu_cgroups_types::{Access, DeviceKind, DeviceRule};

use super::bpf::{program, tests::run};
use super::rules::tests::rule;
use super::{Rules, attach, v1};
use crate::directory::{self, Directory};
use crate::hierarchy;
use crate::sys;

/// Devices, each with whether open(2) is safe. Opening others might load a module or make a
/// device, so they are tested with access(2), which makes the same check in the kernel.
const DEVICES: [(DeviceKind, u32, u32, bool); 11] = [
    (DeviceKind::Character, 1, 3, true),
    (DeviceKind::Character, 1, 5, true),
    (DeviceKind::Character, 1, 7, true),
    // The major number has a driver, but the device does not exist.
    (DeviceKind::Character, 1, 200, true),
    (DeviceKind::Character, 5, 0, true),
    (DeviceKind::Character, 7, 3, false),
    (DeviceKind::Character, 7, 5, false),
    (DeviceKind::Block, 1, 3, false),
    (DeviceKind::Block, 1, 5, false),
    (DeviceKind::Block, 7, 3, false),
    (DeviceKind::Block, 7, 5, false),
];

/// The requests that can be made to the kernel: opening a device and making a node.
const ASKED: [&str; 4] = ["r", "w", "rw", "m"];

#[derive(Debug, Clone, Copy)]
struct Question {
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: Access,
}

fn questions() -> Vec<Question> {
    let each = DEVICES.iter().flat_map(|&(kind, major, minor, _)| {
        ASKED.map(|letters| Question {
            kind,
            major,
            minor,
            access: Access::from_letters(letters).unwrap(),
        })
    });
    each.collect()
}

/// Evaluates the whole list. For each access bit, the last rule about the device that names
/// the bit decides. Bits that are requested together have to be allowed together.
///
/// Returns `None` if different rules allow the bits and v1 cannot express the list. Then the
/// result depends on the order of the rules, and the test only requires that all answers agree.
fn reference(list: &[DeviceRule], question: Question) -> Option<bool> {
    let is_about = |rule: &DeviceRule| {
        rule.kind.is_none_or(|kind| kind == question.kind)
            && rule.major.is_none_or(|major| major == question.major)
            && rule.minor.is_none_or(|minor| minor == question.minor)
    };
    let bits = [1, 2, 4]
        .into_iter()
        .filter(|bit| question.access.bits() & bit != 0);
    let names = |rule: &DeviceRule, bit: u8| is_about(rule) && rule.access.bits() & bit != 0;
    let last_words = bits.map(|bit| list.iter().rposition(|rule| names(rule, bit)));
    let last_words: Vec<Option<usize>> = last_words.collect();
    let is_allowed = |word: &Option<usize>| word.is_some_and(|position| list[position].allow);
    if !last_words.iter().all(is_allowed) {
        Some(false)
    } else if last_words.iter().all(|word| *word == last_words[0]) {
        Some(true)
    } else {
        together(list, question)
    }
}

/// Evaluates the list as v1 does: a default, and exceptions to it by kind and numbers. Called if
/// different rules allow the requested bits. Returns `None` if v1 cannot express the list.
fn together(list: &[DeviceRule], question: Question) -> Option<bool> {
    let mut allow_is_default = false;
    let mut exceptions: BTreeMap<[Option<u32>; 2], u8> = BTreeMap::new();
    for rule in list {
        if rule.kind.is_some_and(|kind| kind != question.kind) {
            continue;
        }
        let (numbers, bits) = ([rule.major, rule.minor], rule.access.bits());
        if rule.kind.is_none() && numbers == [None; 2] && rule.access == Access::ALL {
            allow_is_default = rule.allow;
            exceptions.clear();
        } else if rule.allow != allow_is_default {
            *exceptions.entry(numbers).or_default() |= bits;
        } else {
            for (theirs, kept) in &mut exceptions {
                let pairs = || numbers.iter().zip(theirs);
                if pairs().all(|(ours, theirs)| ours.is_none() || ours == theirs) {
                    *kept &= !bits;
                } else if *kept & bits != 0
                    && pairs()
                        .all(|(ours, theirs)| theirs.is_none() || ours.is_none() || ours == theirs)
                {
                    return None;
                }
            }
        }
    }
    let asked = question.access.bits();
    let covers = |(numbers, bits): (&[Option<u32>; 2], &u8)| {
        numbers[0].is_none_or(|major| major == question.major)
            && numbers[1].is_none_or(|minor| minor == question.minor)
            && asked & !bits == 0
    };
    // All bits are allowed, so no exception denies one of them.
    Some(allow_is_default || exceptions.iter().any(covers))
}

/// Runs the device program in the interpreter.
fn interpreted(rules: &Rules, question: Question) -> bool {
    let kind = match question.kind {
        DeviceKind::Block => 1,
        DeviceKind::Character => 2,
    };
    let asked = u32::from(question.access.bits()) << 16 | kind;
    run(&program(rules), [asked, question.major, question.minor]) == 1
}

struct Random(u64);

impl Random {
    /// Makes a generator. The same seed gives the same numbers.
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let number = usize::try_from(self.0 >> 33).unwrap();
        choices[number % choices.len()]
    }

    fn list(&mut self) -> Vec<DeviceRule> {
        use DeviceKind::{Block, Character};
        let length = self.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 12]);
        let mut list = Vec::new();
        // Most lists begin with a rule for all devices, as those of engines do.
        list.extend(self.pick(&[None, Some(rule("deny a")), Some(rule("allow a"))]));
        for _ in 0..length {
            list.push(DeviceRule {
                allow: self.pick(&[true, true, false]),
                kind: self.pick(&[None, Some(Block), Some(Character), Some(Character)]),
                major: self.pick(&[None, Some(1), Some(1), Some(5), Some(7)]),
                minor: self.pick(&[None, Some(3), Some(3), Some(5), Some(0), Some(200)]),
                access: Access::from_bits(self.pick(&[1, 2, 3, 4, 5, 6, 6, 7, 7])).unwrap(),
            });
        }
        list
    }
}

/// A process in a cgroup of its own, which runs `inside`. Dropping it removes both.
struct Asked {
    directory: Directory,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Asked {
    /// Starts the process. Prints a skip and returns `None` without the hierarchy or without
    /// permission.
    fn new(controller: &str, job: &str) -> Option<Asked> {
        let found = hierarchy::of_this_process().unwrap();
        let hierarchy = match controller {
            "" => found.v2,
            name => found
                .v1
                .into_iter()
                .find(|one| one.controllers.contains(&name.to_owned())),
        };
        let Some(hierarchy) = hierarchy else {
            eprintln!("[skipped] no hierarchy {controller:?}");
            return None;
        };
        if !nix::unistd::geteuid().is_root() {
            eprintln!("[skipped] needs root");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "{}-proof-{}-{number}",
            env!("CARGO_PKG_NAME"),
            std::process::id()
        );
        let directory = Directory::new(hierarchy.mountpoint.join(name));
        std::fs::create_dir(&directory.path).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "devices::proof::inside", "--ignored"])
            .arg("--nocapture")
            .env("TEU_PROOF_JOB", job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut asked = Asked {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()),
            directory,
            child,
        };
        // The process makes its device nodes before any rule is set.
        assert_eq!(asked.line("is:"), "ready");
        asked
            .directory
            .enter(i32::try_from(asked.child.id()).unwrap())
            .unwrap();
        Some(asked)
    }

    /// Returns the rest of the next line that begins with `prefix`.
    fn line(&mut self, prefix: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the process inside ended");
            if let Some((_, rest)) = line.trim_end().split_once(prefix) {
                return rest.to_owned();
            }
        }
    }

    /// Returns the process's answers to `questions()`, in order.
    fn answers(&mut self) -> Vec<bool> {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        let answers = self.line("may:");
        answers.chars().map(|answer| answer == '1').collect()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        directory::remove([&self.directory]).unwrap();
    }
}

#[test]
#[ignore = "the process inside a cgroup, started by other tests"]
fn inside() {
    let Ok(job) = std::env::var("TEU_PROOF_JOB") else {
        return;
    };
    // Mount a file system for the nodes that no other process sees.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&Path>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .unwrap();
    let nodes = std::env::temp_dir();
    mount(nothing, &nodes, Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
    for (kind, major, minor, _) in DEVICES {
        mknod(
            &node(kind, major, minor),
            flag(kind),
            Mode::S_IRWXU,
            makedev(major.into(), minor.into()),
        )
        .unwrap();
    }
    println!("is:ready");
    match job.as_str() {
        "watch" => watch(),
        _ => answer_questions(),
    }
}

fn node(kind: DeviceKind, major: u32, minor: u32) -> PathBuf {
    std::env::temp_dir().join(format!("{kind:?}-{major}-{minor}"))
}

fn flag(kind: DeviceKind) -> SFlag {
    match kind {
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Character => SFlag::S_IFCHR,
    }
}

fn answer_questions() {
    for _ in std::io::stdin().lines() {
        let mut answers = String::from("may:");
        for (kind, major, minor, opens) in DEVICES {
            for letters in ASKED {
                let allowed = match letters {
                    "m" => may_make(kind, major, minor),
                    _ => may_use(&node(kind, major, minor), letters, opens),
                };
                answers.push(if allowed { '1' } else { '0' });
            }
        }
        println!("{answers}");
    }
}

fn may_make(kind: DeviceKind, major: u32, minor: u32) -> bool {
    let made = std::env::temp_dir().join("made");
    match mknod(
        &made,
        flag(kind),
        Mode::S_IRWXU,
        makedev(major.into(), minor.into()),
    ) {
        Ok(()) => {
            unlink(&made).unwrap();
            true
        }
        Err(Errno::EPERM) => false,
        Err(other) => panic!("make {made:?}: {other}"),
    }
}

fn may_use(path: &Path, letters: &str, opens: bool) -> bool {
    let (mode, flags) = match letters {
        "r" => (AccessFlags::R_OK, OFlag::O_RDONLY),
        "w" => (AccessFlags::W_OK, OFlag::O_WRONLY),
        _ => (AccessFlags::R_OK | AccessFlags::W_OK, OFlag::O_RDWR),
    };
    let allowed = match access(path, mode) {
        Ok(()) => true,
        Err(Errno::EPERM) => false,
        Err(other) => panic!("access {path:?}: {other}"),
    };
    if opens {
        assert_eq!(
            may_open(path, flags),
            allowed,
            "open {path:?} for {letters}"
        );
    }
    allowed
}

fn may_open(path: &Path, flags: OFlag) -> bool {
    let flags = flags | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match open(path, flags, Mode::empty()) {
        // ENXIO means that the request was allowed and the device does not exist.
        Ok(_) | Err(Errno::ENXIO) => true,
        Err(Errno::EPERM) => false,
        Err(other) => panic!("open {path:?}: {other}"),
    }
}

/// Uses three devices until the input ends: one must always be allowed, one must never be, and
/// one is allowed at times. Prints how often each was allowed.
fn watch() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
    println!("is:watching");
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        told.store(true, Ordering::Relaxed);
    });
    let mut rounds = 0;
    let mut allowed = [0; 3];
    while !ended.load(Ordering::Relaxed) {
        for (minor, count) in [3, 5, 7].into_iter().zip(&mut allowed) {
            let path = node(DeviceKind::Character, 1, minor);
            *count += i32::from(may_open(&path, OFlag::O_RDWR));
        }
        rounds += 1;
    }
    let [always, never, sometimes] = allowed;
    println!("saw:{rounds} {always} {never} {sometimes}");
}

fn cases() -> usize {
    let asked = std::env::var("TEU_DEVICE_CASES").ok();
    asked.map_or(20_000, |number| number.parse().expect("TEU_DEVICE_CASES"))
}

/// Compares answers until there were enough questions. `set` sets the rules, and returns
/// whether the hierarchy can express them.
fn compare(asked: &mut Asked, set: impl Fn(&Directory, &Rules) -> bool) {
    let questions = questions();
    let (mut compared, mut lists, mut granted, mut open) = (0, 0, 0, 0);
    let mut random = Random::new(1);
    while compared < cases() {
        let list = random.list();
        let rules = Rules::new(&list);
        lists += 1;
        if !set(&asked.directory, &rules) {
            continue;
        }
        for (&question, kernel) in questions.iter().zip(asked.answers()) {
            let interpreted = interpreted(&rules, question);
            assert_eq!(kernel, interpreted, "{list:?} {question:?}");
            let expected = reference(&list, question);
            assert_eq!(kernel, expected.unwrap_or(kernel), "{list:?} {question:?}");
            open += usize::from(expected.is_none());
            granted += usize::from(kernel);
            compared += 1;
        }
    }
    eprintln!("{compared} questions about {lists} lists: {granted} allowed, {open} open");
    // Enough requests were allowed and enough denied for the comparison to mean something.
    assert!(granted > compared / 10 && granted < compared * 9 / 10);
    assert!(open < compared / 100);
}

#[test]
fn v2_answers_as_the_evaluator() {
    if let Some(mut asked) = Asked::new("", "questions") {
        compare(&mut asked, |directory, rules| {
            attach::attach(&directory.path, &program(rules)).unwrap();
            true
        });
        assert_eq!(attach::count(&asked.directory.path).unwrap(), 1);
    }
}

/// Compares lists that v1 can express. The test also covers the change from one list to the
/// next, because rules are not reset between lists.
#[test]
fn v1_answers_as_the_evaluator() {
    if let Some(mut asked) = Asked::new("devices", "questions") {
        compare(&mut asked, |directory, rules| {
            match v1::apply(directory, rules) {
                Ok(()) => true,
                Err(error) => {
                    let words = error.to_string();
                    assert!(words.contains("cgroup v1 cannot except"), "{words}");
                    false
                }
            }
        });
    }
}

/// Compares the program and the evaluator, which need no kernel, on many more lists.
#[test]
fn the_program_answers_as_the_evaluator() {
    let questions = questions();
    let mut random = Random::new(2);
    for _ in 0..5000 {
        let list = random.list();
        let rules = Rules::new(&list);
        for &question in &questions {
            let answer = interpreted(&rules, question);
            let expected = reference(&list, question);
            assert_eq!(answer, expected.unwrap_or(answer), "{list:?} {question:?}");
            let Question {
                kind,
                major,
                minor,
                access,
            } = question;
            assert_eq!(answer, rules.decide(kind, major, minor, access));
        }
    }
}

/// With other runtimes' programs, opening a device for reading and writing passes a rule that
/// denies writing.
const DENIED_WRITE: [&str; 2] = ["allow a", "deny c 1:3 w"];

/// The right answers for 1:3 to reading, writing, both, and making a node.
const READING_AND_MAKING: [bool; 4] = [true, false, false, true];

#[test]
fn a_denied_write_refuses_reading_and_writing() {
    let list = DENIED_WRITE.map(rule);
    // The first four questions are about 1:3.
    let answers = questions().into_iter().take(4).map(|question| {
        let answer = interpreted(&Rules::new(&list), question);
        assert_eq!(reference(&list, question), Some(answer));
        answer
    });
    assert_eq!(answers.collect::<Vec<_>>(), READING_AND_MAKING);
}

#[test]
fn v2_refuses_reading_and_writing_for_a_denied_write() {
    if let Some(mut asked) = Asked::new("", "questions") {
        let program = program(&Rules::new(&DENIED_WRITE.map(rule)));
        attach::attach(&asked.directory.path, &program).unwrap();
        assert_eq!(asked.answers()[..4], READING_AND_MAKING);
    }
}

#[test]
fn v1_refuses_reading_and_writing_for_a_denied_write() {
    if let Some(mut asked) = Asked::new("devices", "questions") {
        v1::apply(&asked.directory, &Rules::new(&DENIED_WRITE.map(rule))).unwrap();
        assert_eq!(asked.answers()[..4], READING_AND_MAKING);
    }
}

/// Changes the rules 200 times while a process uses devices. The process must never get an
/// answer that neither the old nor the new rules give.
fn change_under_use(controller: &str, set: impl Fn(&Directory, &Rules)) {
    let Some(mut asked) = Asked::new(controller, "watch") else {
        return;
    };
    let (without, with) = (
        ["deny a", "allow c 1:3 rw"].map(rule),
        ["deny a", "allow c 1:3 rw", "allow c 1:7 rw"].map(rule),
    );
    let (without, with) = (Rules::new(&without), Rules::new(&with));
    set(&asked.directory, &without);
    asked.input.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(asked.line("is:"), "watching");
    for _ in 0..100 {
        for rules in [&with, &without] {
            set(&asked.directory, rules);
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    drop(asked.input.take());
    let saw = asked.line("saw:");
    eprintln!("rounds, always, never, sometimes: {saw}");
    let numbers: Vec<u32> = saw.split(' ').map(|word| word.parse().unwrap()).collect();
    let [rounds, always, never, sometimes] = numbers[..] else {
        panic!("{saw}");
    };
    assert_eq!((always, never), (rounds, 0));
    assert!(sometimes > 0 && sometimes < rounds, "no change seen: {saw}");
}

#[test]
fn v2_changes_without_a_gap() {
    change_under_use("", |directory, rules| {
        attach::attach(&directory.path, &program(rules)).unwrap();
        assert_eq!(attach::count(&directory.path).unwrap(), 1);
    });
}

/// With a second program, which a service manager may have attached, the kernel cannot replace
/// one program by another.
#[test]
fn v2_changes_without_a_gap_if_there_are_two_programs() {
    let everything = program(&Rules::new(&[rule("allow a")]));
    change_under_use("", move |directory, rules| {
        let cgroup = std::fs::File::open(&directory.path).unwrap();
        let other = sys::load_device_program(&everything, None).unwrap();
        let already = attach::count(&directory.path).unwrap();
        sys::attach_device_program(cgroup.as_fd(), other.as_fd(), None).unwrap();
        assert_eq!(attach::count(&directory.path).unwrap(), already + 1);
        attach::attach(&directory.path, &program(rules)).unwrap();
        assert_eq!(attach::count(&directory.path).unwrap(), 1);
    });
}

#[test]
fn v1_changes_without_a_gap() {
    change_under_use("devices", |directory, rules| {
        v1::apply(directory, rules).unwrap()
    });
}
