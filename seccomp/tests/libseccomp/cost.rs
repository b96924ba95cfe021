//! Measures a filter's cost: the instructions that each call runs, and the time
//! to compile the filter. The test fails if docs/seccomp.md has other figures.

use std::time::Instant;

use teu_seccomp::{Action, Arch};

use crate::bpf::{Data, End, run};
use crate::profile::Profile;
use crate::reference::Reference;

/// The calls that programs in containers make most, found by running web
/// servers, databases, shells and package managers under strace. Unsorted.
const MOST_USED: [&str; 60] = [
    "read",
    "write",
    "close",
    "openat",
    "newfstatat",
    "fstat",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "ioctl",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "access",
    "pipe2",
    "poll",
    "ppoll",
    "select",
    "sched_yield",
    "madvise",
    "dup2",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "getpid",
    "gettid",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "accept4",
    "connect",
    "bind",
    "listen",
    "getsockname",
    "setsockopt",
    "getsockopt",
    "execve",
    "exit_group",
    "wait4",
    "kill",
    "fcntl",
    "flock",
    "fsync",
    "ftruncate",
    "getdents64",
    "getcwd",
    "rename",
    "unlink",
    "epoll_wait",
    "epoll_ctl",
    "futex",
    "getrandom",
    "statx",
];

/// Returns the average number of instructions for the calls of [`MOST_USED`],
/// and asserts that the filter allows all of them.
fn average(end: impl Fn(&Data) -> End) -> f64 {
    let mut steps = 0;
    for name in MOST_USED {
        let number = Arch::X86_64.number(name).expect(name);
        let arch = Arch::X86_64.token();
        let end = end(&Data {
            number,
            arch,
            args: [0; 6],
        });
        assert_eq!(end.result, Action::Allow.value(), "{name}");
        steps += end.steps;
    }
    let (steps, calls) = (u32::try_from(steps), u32::try_from(MOST_USED.len()));
    f64::from(steps.expect("few")) / f64::from(calls.expect("few"))
}

/// Returns the shortest of 30 durations, in microseconds.
fn shortest(mut once: impl FnMut() -> u128) -> u128 {
    (0..30).map(|_| once()).min().unwrap_or_default() / 1000
}

#[test]
fn costs_are_those_of_the_documentation() {
    let Some(mut reference) = Reference::start() else {
        return;
    };
    let documentation = include_str!("../../../docs/seccomp.md");
    let mut missing = false;
    for engine in ["docker", "podman", "containerd"] {
        let mut profile = Profile::of_engine(engine, &[]);
        profile.retain_names(|name| reference.knows(name));
        let ours = profile.filter().compile().expect("a program").instructions;
        let row = |who: &str, length: usize, average: f64| {
            format!("| {engine} | {who} | {length} | {average:.1} |")
        };
        let own = average(|data| run(&ours, data));
        let mut rows = vec![row("teu", ours.len(), own)];
        for (optimize, who) in [(2, "libseccomp, tree"), (0, "libseccomp")] {
            let theirs = reference.compile(&profile, optimize).expect("a program");
            let average = average(|data| theirs.run(data));
            assert!(own <= average / if optimize == 0 { 2.0 } else { 1.0 });
            rows.push(row(who, theirs.length(), average));
        }
        for row in rows {
            println!("{row}");
            missing |= !documentation.contains(&row);
        }
        let own = shortest(|| {
            let start = Instant::now();
            let program = profile.filter().compile();
            let elapsed = start.elapsed().as_nanos();
            assert!(program.is_ok());
            elapsed
        });
        let theirs = shortest(|| {
            reference.compile(&profile, 2).expect("a program");
            reference.time().into()
        });
        println!("{engine}: compiled in {own} µs, by libseccomp (with pipes to it) in {theirs} µs");
        // Only in an optimised build: a debug build is several times slower.
        assert!(cfg!(debug_assertions) || own < 300, "{own} µs");
    }
    assert!(!missing, "docs/seccomp.md has other figures");
}
