//! Faults of the shim: each system call of its server and of its spawner fails once. A call must
//! be answered, or the connection must end; what is answered must be so; and the engine's cleanup
//! must leave nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use teu_shim::proto::task::{CreateTaskRequest, DeleteRequest, ShutdownRequest};

use super::client::{Call, Client};
use super::engine::{
    Bootstrap, Engine, Shim, Streams, create_request_with_overlay, exec_request,
    has_rootfs_mounted, kill_request, start, wait,
};
use crate::harness::{
    Bundle, Container, HostSnapshot, Invocation, Overlayfs, Root, Running, Seconds, Teu, Tool,
    is_alive, needs, patience, process, rounds, scratch, tests, wait_until,
};

tests![each_system_call_may_fail];

const FAULTS: [&str; 5] = ["ENOSYS", "EPERM", "EIO", "ENOSPC", "EINTR"];
/// Calls that cannot fail, or that do not return.
const CANNOT_FAIL: [&str; 5] = [
    "exit_group",
    "getpid",
    "gettid",
    "restart_syscall",
    "rt_sigreturn",
];
/// The time limit for an answer: longer than the runtime waits for the end of a container.
const LIMIT: Duration = Duration::from_secs(30);

/// A process of the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Server,
    Spawner,
}

impl Role {
    fn pid(self, shim: &Shim) -> i32 {
        let program = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        match self {
            Role::Server => shim.pid,
            Role::Spawner => process::descendants(shim.pid)
                .into_iter()
                .find(|pid| program(*pid) == program(shim.pid))
                .expect("a spawner"),
        }
    }
}

/// A tracer of one process, but not of its children: those are traced by `integration/faults`.
struct Tracer(Running);

impl Tracer {
    fn attach(pid: i32, options: &[&str]) -> Tracer {
        let strace = Invocation::new("strace")
            .args(["-qq", "-p"])
            .arg(pid.to_string());
        let running = strace.args(options).spawn();
        wait_until("the tracer is attached", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        });
        Tracer(running)
    }

    /// Detaches. The process may have ended before.
    fn detach(self) {
        if is_alive(self.0.pid) {
            self.0.signal(Signal::SIGTERM);
        }
        self.0.wait();
    }
}

/// Why a life did not come to its end.
#[derive(Debug)]
enum End {
    /// A call was answered by an error. An engine gives up then.
    Refused(String),
    /// The connection ended, or no answer came in time.
    Silent(io::Error),
    /// An answer is not so.
    Wrong(String),
}

impl End {
    fn kind(&self) -> &'static str {
        match self {
            End::Refused(_) => "refused",
            End::Silent(_) => "the connection ended",
            End::Wrong(_) => "wrong",
        }
    }

    /// What no fault may lead to.
    fn is_wrong(&self) -> Option<&str> {
        match self {
            End::Refused(reason) if reason.is_empty() => Some("an error without a reason"),
            End::Silent(error) if error.kind() == io::ErrorKind::WouldBlock => Some("no answer"),
            End::Refused(_) | End::Silent(_) => None,
            End::Wrong(what) => Some(what),
        }
    }
}

fn ask<C: Call>(shim: &mut Client, request: &C) -> Result<C::Reply, End> {
    let answer = shim.try_call(request).map_err(End::Silent)?;
    answer.map_err(|status| End::Refused(status.message))
}

fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), End> {
    if found == expected {
        return Ok(());
    }
    Err(End::Wrong(format!("{what}: {found:?}, not {expected:?}")))
}

/// Makes the calls of a task's life.
fn live(shim: &mut Client, create: &CreateTaskRequest, container: &Container) -> Result<(), End> {
    let id = &container.id;
    ask(shim, create)?;
    expect("after create", container.status().as_str(), "created")?;
    ask(shim, &start(id, ""))?;
    expect("after start", container.status().as_str(), "running")?;
    ask(
        shim,
        &exec_request(id, "exec", "exit 7", &Streams::default()),
    )?;
    ask(shim, &start(id, "exec"))?;
    expect(
        "end of the exec",
        ask(shim, &wait(id, "exec"))?.exit_status,
        7,
    )?;
    ask(shim, &delete_request(id, "exec"))?;
    ask(shim, &kill_request(id, "", Signal::SIGKILL as i32))?;
    expect("end of init", ask(shim, &wait(id, ""))?.exit_status, 137)?;
    ask(shim, &delete_request(id, ""))?;
    expect("after delete", container.has_state(), false)
}

/// Cleans up as an engine does after an error.
fn give_up(shim: &Shim, engine: &Engine, container: &Container, process: &OwnedFd) {
    // A connection of its own: the other may be closed, or wait for an answer.
    if let Ok(mut client) = shim.try_connect() {
        client.limit(patience(LIMIT));
        client.is_open_after(&kill_request(&container.id, "", Signal::SIGKILL as i32));
        client.is_open_after(&delete_request(&container.id, ""));
        client.is_open_after(&ShutdownRequest::default());
    }
    // ESRCH: it has ended as it was asked to.
    pidfd_send_signal(process, rustix::process::Signal::KILL).ok();
    wait_until("the shim has ended", || !is_alive(shim.pid));
    engine.delete(container);
}

/// A fault: the process, the system call, the number of its occurrence, and the errno.
type Fault<'a> = (Role, &'a str, u32, &'a str);

/// A life with a fault. Returns how it ended, and whether the call was made at all.
fn live_with(engine: &Engine, (role, call, nth, errno): Fault) -> (Result<(), End>, bool) {
    let container = Container::new(Bundle::new().probe("sleep"));
    let create = create_request_with_overlay(engine, &container);
    let mut shim = engine.start(&container, Bootstrap::Flags);
    shim.limit(patience(LIMIT));
    let process = process_of(&shim);
    // Another call is made in its place, which the shim's seccomp filter allows.
    let inject = format!("inject={call}:error={errno}:syscall=getpid:when={nth}");
    let log = scratch().join("strace");
    let options = ["-o", log.to_str().unwrap(), "-e", &inject];
    let tracer = Tracer::attach(role.pid(&shim), &options);
    let ended = live(&mut shim, &create, &container);
    tracer.detach();
    give_up(&shim, engine, &container, &process);
    let is_made = fs::read_to_string(log).unwrap().contains("(INJECTED)");
    if container.has_state() || has_rootfs_mounted(&container) {
        let what = format!("state or mount is left after {ended:?}");
        return (Err(End::Wrong(what)), is_made);
    }
    (ended, is_made)
}

fn process_of(shim: &Shim) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(shim.pid).expect("a pid");
    pidfd_open(pid, PidfdFlags::empty()).expect("open the shim's process")
}

/// The system calls of an undisturbed life, and how often each was made.
fn calls_of_a_life(engine: &Engine) -> BTreeMap<(Role, String), u32> {
    let mut calls = BTreeMap::new();
    for role in [Role::Server, Role::Spawner] {
        let container = Container::new(Bundle::new().probe("sleep"));
        let create = create_request_with_overlay(engine, &container);
        let mut shim = engine.start(&container, Bootstrap::Flags);
        let process = process_of(&shim);
        let log = scratch().join(format!("{role:?}"));
        let tracer = Tracer::attach(role.pid(&shim), &["-o", log.to_str().unwrap()]);
        live(&mut shim, &create, &container).expect("an undisturbed life");
        tracer.detach();
        give_up(&shim, engine, &container, &process);
        for line in fs::read_to_string(log).unwrap().lines() {
            if let Some((call, _)) = line.split_once('(') {
                *calls.entry((role, call.to_owned())).or_default() += 1;
            }
        }
    }
    calls.retain(|(_, call), _| !CANNOT_FAIL.contains(&call.as_str()));
    calls
}

/// `make races` tries all faults.
fn each_system_call_may_fail() {
    needs(&[Root, Overlayfs, Teu, Tool("strace"), Seconds(600)]);
    let engine = Engine::new();
    let before = HostSnapshot::take();
    let calls = calls_of_a_life(&engine);
    let mut faults: Vec<Fault> = Vec::new();
    for ((role, call), count) in &calls {
        for nth in 1..=*count {
            faults.extend(FAULTS.map(|errno| (*role, call.as_str(), nth, errno)));
        }
    }
    assert!(faults.len() > 300, "{calls:?}");
    let chosen = usize::try_from(rounds(50)).unwrap().min(faults.len());
    let mut wrong = Vec::new();
    let mut ends = BTreeMap::<&str, u32>::new();
    let mut made = 0;
    for number in 0..chosen {
        let fault = faults[number * faults.len() / chosen];
        println!("{fault:?}");
        let (ended, is_made) = live_with(&engine, fault);
        made += usize::from(is_made);
        if let Some(what) = ended.as_ref().err().and_then(End::is_wrong) {
            wrong.push(format!("{fault:?}: {what}"));
        }
        *ends
            .entry(ended.as_ref().map_or_else(End::kind, |()| "fell back"))
            .or_default() += 1;
        let left = before.differences();
        assert!(left.is_empty(), "{fault:?} leaves {left:?}");
    }
    println!("{chosen} of {} faults, {made} made: {ends:?}", faults.len());
    // The number of calls differs a little from life to life.
    assert!(
        made >= chosen * 3 / 4,
        "only {made} of {chosen} faults were made"
    );
    assert!(
        wrong.is_empty(),
        "{} answers are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn delete_request(id: &str, exec: &str) -> DeleteRequest {
    DeleteRequest {
        id: id.to_owned(),
        exec_id: exec.to_owned(),
    }
}
