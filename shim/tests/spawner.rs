//! Tests of the spawner: the surroundings of its jobs, and how they end.
//!
//! libtest is not used, because the spawner forks and its callers must be single-threaded.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write, pipe};
use std::os::fd::OwnedFd;

use teu_shim::Runtime;
use teu_shim::job::{Answer, Work};
use teu_shim::poll::{EventFlags, Poll};
use teu_shim::spawner::Spawner;

fn main() {
    let cases: [(&str, fn()); 5] = [
        ("the runtime runs in a process of its own", runtime_runs),
        ("other programs run too", other_programs_run),
        ("a runtime that is not there is named", missing_runtime),
        ("many jobs run at the same time", many_jobs),
        ("jobs get signals and end with the server", signals_and_end),
    ];
    for (name, case) in &cases {
        println!("test {name} ...");
        case();
    }
    println!("test result: ok. {} passed; 0 failed", cases.len());
}

/// A runtime that prints its arguments and the contents of descriptor 3.
struct Echo;

impl Runtime for Echo {
    fn run(&self, args: Vec<OsString>) -> u8 {
        let given = std::fs::read_to_string("/proc/self/fd/3");
        println!("{args:?} {}", given.unwrap_or_default());
        7
    }

    fn seal(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn features(&self) -> anyhow::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn version(&self) -> &str {
        ""
    }

    fn revision(&self) -> &str {
        ""
    }
}

/// Runs jobs; returns their output and all answers.
fn done(works: Vec<Work>, given: Option<OwnedFd>) -> (String, Vec<Answer>) {
    let mut spawner = Spawner::start(&Echo).expect("a spawner");
    let (mut reader, writer) = pipe().expect("pipe");
    let jobs = works.len();
    for work in works {
        let mut fds = vec![null(), writer.try_clone().expect("dup").into(), null()];
        fds.extend(given.as_ref().map(|fd| fd.try_clone().expect("dup")));
        spawner.job(work, fds).expect("job");
    }
    drop(writer);
    let mut answers = Vec::new();
    let is_end = |answer: &&Answer| matches!(answer, Answer::Ended(..));
    while answers.iter().filter(is_end).count() < jobs {
        answers.push(next(&mut spawner));
    }
    let mut output = String::new();
    reader.read_to_string(&mut output).expect("read");
    (output, answers)
}

/// Waits for the next answer.
fn next(spawner: &mut Spawner) -> Answer {
    let poll = Poll::new().expect("epoll_create");
    let flags = EventFlags::IN | EventFlags::OUT;
    poll.add(spawner.fd(), 0, flags).expect("epoll_ctl");
    loop {
        poll.wait(None).expect("epoll_wait");
        spawner.flush().expect("flush");
        if let Some(answer) = spawner.answer().expect("answer") {
            return answer;
        }
    }
}

fn null() -> OwnedFd {
    let null = File::options().write(true).open("/dev/null");
    null.expect("open").into()
}

fn runtime(program: Option<&str>, args: &[&str]) -> Work {
    Work::Runtime {
        program: program.map(str::to_owned),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        rootfs: None,
    }
}

fn runtime_runs() {
    let (reader, mut writer) = pipe().expect("pipe");
    writer.write_all(b"given").expect("write");
    drop(writer);
    let work = runtime(None, &["create", "x"]);
    let (output, answers) = done(vec![work], Some(reader.into()));
    assert_eq!(output, "[\"create\", \"x\"] given\n");
    assert!(matches!(answers[..], [Answer::Ended(1, 7)]), "{answers:?}");
}

fn other_programs_run() {
    let shell = Work::Program {
        path: "/bin/sh".into(),
        args: vec!["-c".into(), "echo $WORD; kill -9 $$".into()],
        env: vec!["WORD=said".into()],
    };
    let (output, answers) = done(vec![shell], None);
    assert_eq!(output, "said\n");
    assert!(
        matches!(answers[..], [Answer::Ended(1, 137)]),
        "{answers:?}"
    );
}

fn missing_runtime() {
    let (_, answers) = done(vec![runtime(Some("no-runc"), &["create"])], None);
    let [Answer::Failed(1, why), Answer::Ended(1, 1)] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(why, "exec: \"no-runc\": executable file not found in $PATH");
}

fn many_jobs() {
    let works = (0..100).map(|_| runtime(None, &[])).collect();
    assert_eq!(done(works, None).0, "[] \n".repeat(100));
}

fn signals_and_end() {
    let mut spawner = Spawner::start(&Echo).expect("a spawner");
    let (mut reader, writer) = pipe().expect("pipe");
    for _ in 0..2 {
        let sleep = Work::Program {
            path: "/bin/sleep".into(),
            args: vec!["1000".into()],
            env: Vec::new(),
        };
        let fd = || writer.try_clone().expect("dup").into();
        spawner.job(sleep, vec![fd(), fd(), fd()]).expect("job");
    }
    drop(writer);
    spawner.signal(1, 15).expect("signal");
    let answer = next(&mut spawner);
    assert!(matches!(answer, Answer::Ended(1, 143)), "{answer:?}");
    drop(spawner);
    // EOF arrives, because the last writer is gone.
    reader.read_to_end(&mut Vec::new()).expect("read");
}
