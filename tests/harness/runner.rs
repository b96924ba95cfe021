//! Runs the tests, each in a worker process, several at a time, and counts the results.
//! `skips.rs` compares the skipped tests with those expected on this kind of machine.
//!
//! The arguments are those of libtest that make sense here: any number of filters, `--exact`,
//! `--skip TEXT`, `--list`, `--test-threads N`, `--nocapture`. In the environment, $TEU_BINARY
//! names another runtime to test; $TEU_TEST_ALONE counts every change on the machine (see
//! `snapshot.rs`); $TEU_TEST_SKIPS is `check`, with which a difference from the needs in
//! tests/data/skips fails, or `write`, which replaces them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::needs::Skip;
use super::skips::unexpected_skips;
use super::snapshot::{HostSnapshot, marker};
use super::{patience, process, repository, runtime, state_root};

/// The time limit of the running test on a common machine.
pub(super) static LIMIT_SECONDS: AtomicU64 = AtomicU64::new(30);
/// The time after which the runner gives a worker up.
const LOST: Duration = Duration::from_secs(900);

const PASSED: u8 = 0;
const FAILED: u8 = 1;
const SKIPPED: u8 = 77;

/// A test, as `tests!` lists it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    /// The module path with the crate's name, as `module_path!` returns it.
    pub(crate) path: &'static str,
    pub(crate) run: fn(),
}

impl Test {
    fn name(&self) -> &'static str {
        self.path
            .split_once("::")
            .map_or(self.path, |(_, name)| name)
    }

    fn last_name(&self) -> &'static str {
        self.path
            .rsplit_once("::")
            .map_or(self.path, |(_, name)| name)
    }
}

/// Runs the tests that the arguments select; in a worker, a single test.
pub(crate) fn main(tests: &[&[Test]]) -> ExitCode {
    let tests: Vec<Test> = tests.iter().flat_map(|file| file.iter().copied()).collect();
    let names: BTreeSet<_> = tests.iter().map(Test::last_name).collect();
    assert_eq!(names.len(), tests.len(), "two tests of one name");
    // Not the caller's umask, because teu refuses to read files that a group may write to.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(name) = std::env::var_os("TEU_TEST_NAME") {
        let test = tests
            .iter()
            .find(|test| *test.name() == *name)
            .expect("a test of this name");
        return work(test);
    }
    let options = Options::from_args(std::env::args().skip(1));
    let chosen: Vec<Test> = tests
        .into_iter()
        .filter(|test| options.wants(test))
        .collect();
    if chosen.is_empty() {
        eprintln!("no test has such a name");
        return ExitCode::FAILURE;
    }
    if options.list {
        chosen
            .iter()
            .for_each(|test| println!("{}: test", test.name()));
        return ExitCode::SUCCESS;
    }
    run_all(&chosen, &options)
}

#[derive(Debug, Default)]
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    capture_nothing: bool,
    threads: Option<usize>,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Options {
        let mut options = Options::default();
        while let Some(arg) = args.next() {
            let (flag, value) = arg.split_once('=').unwrap_or((&arg, ""));
            let mut value = || {
                if value.is_empty() {
                    args.next().unwrap_or_default()
                } else {
                    value.to_owned()
                }
            };
            match flag {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--nocapture" => options.capture_nothing = true,
                "--skip" => options.skips.push(value()),
                "--test-threads" => options.threads = value().parse().ok(),
                _ if flag.starts_with('-') => eprintln!("ignored: {arg}"),
                _ => options.filters.push(arg),
            }
        }
        options
    }

    fn wants(&self, test: &Test) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                test.name() == filter
            } else {
                test.name().contains(filter.as_str())
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }

    /// Whether all tests run except those left out by name.
    fn is_complete(&self) -> bool {
        self.filters.is_empty()
    }
}

/// The results so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: BTreeSet<String>,
}

fn run_all(tests: &[Test], options: &Options) -> ExitCode {
    let start = Instant::now();
    let before = HostSnapshot::take();
    let scratch = std::env::temp_dir().join(marker().trim_end_matches('-'));
    prepare(&scratch);
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_in_worker(test, &scratch, options, &tally);
                }
            });
        }
    });
    let mut tally = tally.into_inner().expect("no worker thread panicked");
    let left = before.differences();
    if !left.is_empty() {
        // In the form of a failed test, for programs that keep only these lines.
        let name = "the host after all tests";
        println!("test {name} ... FAILED: {}", left.join("; "));
        let failure = format!("{name}\n  {}", left.join("\n  "));
        tally.failed.push(failure);
    }
    if options.is_complete() {
        tally
            .failed
            .extend(unexpected_skips(&tally.skipped, &options.skips));
    }
    remove(&scratch);
    report(&tally, start.elapsed())
}

/// Makes the directory of this run and puts the probe into it.
fn prepare(scratch: &Path) {
    fs::create_dir_all(scratch).expect("create the directory for the tests");
    let built = std::env::current_exe().expect("the path of this program");
    let built = built
        .ancestors()
        .nth(2)
        .expect("the target directory")
        .join("teu-probe");
    // Build the probe, because cargo builds only the programs of the package under test.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "teu-probe"])
            .current_dir(repository(""));
        if built
            .parent()
            .is_some_and(|profile| profile.ends_with("release"))
        {
            build.arg("--release");
        }
        let status = build.status().expect("start cargo");
        assert!(status.success(), "build the probe: {status}");
    }
    fs::copy(&built, scratch.join("probe"))
        .unwrap_or_else(|error| panic!("copy {}: {error}", built.display()));
}

fn remove(scratch: &Path) {
    if let Err(error) = fs::remove_dir_all(scratch) {
        eprintln!("remove {}: {error}", scratch.display());
    }
}

fn run_in_worker(test: &Test, scratch: &Path, options: &Options, tally: &Mutex<Tally>) {
    let name = test.name();
    // A number instead of the name, because the path of a socket is limited to 108 bytes.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = scratch.join(number.to_string());
    fs::create_dir_all(directory.join("state")).expect("create the directory of a test");
    let log = directory.join("log");
    let mut worker = Command::new(std::env::current_exe().expect("the path of this program"));
    worker
        .env("TEU_TEST_NAME", name)
        .env("TEU_TEST_RUN", std::process::id().to_string())
        .env("RUST_BACKTRACE", "0")
        .env("TEU_TEST_SCRATCH", &directory);
    if !options.capture_nothing {
        let file = || {
            File::options()
                .append(true)
                .create(true)
                .open(&log)
                .expect("open a log")
        };
        worker.stdout(file()).stderr(file());
    }
    let start = Instant::now();
    let code = wait_for(worker.spawn().expect("start a worker"));
    let took = start.elapsed().as_secs_f64();
    let log = fs::read_to_string(&log).unwrap_or_default();
    let mut tally = tally.lock().expect("no worker thread panicked");
    match code {
        Some(PASSED) => {
            println!("test {name} ... ok ({took:.2} s)");
            tally.passed += 1;
        }
        Some(SKIPPED) => {
            let reason = log.lines().last().unwrap_or_default();
            println!("test {name} ... skipped: {reason}");
            tally.skipped.insert(format!("{name}: {reason}"));
        }
        _ => {
            println!("test {name} ... FAILED ({took:.2} s): {}", reason(&log));
            tally.failed.push(format!("{name}\n{log}"));
        }
    }
    drop(tally);
    remove(&directory);
}

/// The reason of a failure in a single line. The whole log is printed after all tests, and may
/// be lost where only such lines are kept.
fn reason(log: &str) -> String {
    const LONGEST: usize = 400;
    let from_panic = log.lines().skip_while(|line| !line.contains("panicked at"));
    let mut lines: Vec<&str> = from_panic.take(6).map(str::trim).collect();
    if lines.is_empty() {
        lines.extend(log.lines().last());
    }
    lines.join(" ").chars().take(LONGEST).collect()
}

/// Waits for a worker. Returns its exit status, or nothing if it had to be killed.
fn wait_for(mut worker: std::process::Child) -> Option<u8> {
    let start = Instant::now();
    loop {
        if let Some(status) = worker.try_wait().expect("wait for a worker") {
            return status.code().and_then(|code| code.try_into().ok());
        }
        if start.elapsed() > patience(LOST) {
            process::kill_descendants(worker.id().try_into().expect("a pid"));
            worker.kill().expect("kill a worker");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn report(tally: &Tally, took: Duration) -> ExitCode {
    for failure in &tally.failed {
        println!("\n---- {failure}");
    }
    println!("\nfinished in {:.1} s", took.as_secs_f64());
    let failed = tally.failed.len();
    println!(
        "{} passed, {failed} failed, {} skipped",
        tally.passed,
        tally.skipped.len()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The work of a worker: runs a test, and compares the host before and after it.
fn work(test: &Test) -> ExitCode {
    isolate();
    let machine = OpenOptions::new()
        .read(true)
        .open(state_root().join("../.."))
        .expect("open the directory of the run");
    machine.lock_shared().expect("share the machine");
    *MACHINE.lock().expect("not poisoned") = Some(machine);
    process::reap_in_background();
    watch_time();
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<Skip>().is_none() {
            default_hook(panic);
        }
    }));
    let before = HostSnapshot::take();
    let result = std::panic::catch_unwind(test.run);
    let skip = match &result {
        Ok(()) => None,
        Err(payload) => payload.downcast_ref::<Skip>(),
    };
    if let Some(Skip(reason)) = skip {
        eprintln!("{reason}");
        return ExitCode::from(SKIPPED);
    }
    let left = before.differences();
    if !left.is_empty() {
        eprintln!(
            "the host is not as it was before the test:\n  {}",
            left.join("\n  ")
        );
        clean_up();
    }
    ExitCode::from(if result.is_ok() && left.is_empty() {
        PASSED
    } else {
        FAILED
    })
}

/// Makes this process a subreaper, and gives it namespaces of its own: mounts, which are shared
/// as on a machine with systemd, so that mounts that a runtime leaks out of its namespace show
/// up; and a network, in which no other process makes interfaces.
fn isolate() {
    nix::sys::prctl::set_child_subreaper(true).expect("become a subreaper");
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("make namespaces");
    // As on every machine. CRIU, for example, probes TCP on the loopback device.
    super::sys::switch_on_loopback().expect("switch the loopback device on");
    for propagation in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        let none: Option<&str> = None;
        mount(none, "/", none, propagation | MsFlags::MS_REC, none).expect("set the propagation");
    }
}

/// The lock that every test holds shared, and a test that needs the machine alone exclusively.
static MACHINE: Mutex<Option<File>> = Mutex::new(None);

/// Waits until no other test runs, and prevents others from starting.
pub(super) fn hold_machine_alone() {
    let machine = MACHINE.lock().expect("not poisoned");
    machine
        .as_ref()
        .expect("taken at the start of the worker")
        .lock()
        .expect("lock the machine");
}

/// Kills this worker and its descendants when the test exceeds its time limit.
fn watch_time() {
    let start = Instant::now();
    std::thread::spawn(move || {
        // The test may raise the limit while it runs.
        let limit = || patience(Duration::from_secs(LIMIT_SECONDS.load(Ordering::Relaxed)));
        while start.elapsed() < limit() {
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("the test took longer than {:?}", limit());
        for pid in process::descendants(own_pid()) {
            eprintln!("still running: {pid} {}", process::command_line(pid));
        }
        clean_up();
        #[expect(clippy::disallowed_methods, reason = "the main thread hangs")]
        std::process::exit(FAILED.into());
    });
}

fn own_pid() -> i32 {
    std::process::id().try_into().expect("a pid")
}

/// Kills the test's processes and makes the runtime delete its containers.
fn clean_up() {
    process::kill_descendants(own_pid());
    for entry in fs::read_dir(state_root()).into_iter().flatten().flatten() {
        let mut delete = Command::new(runtime());
        delete
            .arg("--root")
            .arg(state_root())
            .args(["delete", "--force"])
            .arg(entry.file_name());
        if let Err(error) = delete.spawn() {
            eprintln!("delete {}: {error}", entry.path().display());
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    // In reverse order, because children come after their parents.
    let left = HostSnapshot::take();
    let cgroups: Vec<&Path> = left.cgroups().collect();
    for cgroup in cgroups.iter().rev() {
        if let Err(error) = fs::remove_dir(cgroup) {
            eprintln!("remove {}: {error}", cgroup.display());
        }
    }
}
