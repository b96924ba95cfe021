//! The system call filter of `linux.seccomp`: its effects in containers.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use serde_json::{Value, json};

use crate::harness::*;

tests![
    calls_fail_as_the_profile_says,
    init_ends_though_it_may_not,
    init_that_may_not_end_ends_nobody_else,
    killing_actions_end_the_process,
    arguments_are_compared_as_asked,
    masked_comparison_takes_the_first_value_as_the_mask,
    what_is_left_out_is_the_default,
    newer_calls_do_not_exist,
    calls_of_32_bit_programs_are_filtered,
    calls_of_x32_programs_are_filtered,
    privileges_of_the_program_are_as_asked,
    user_namespace_has_its_filter,
    exec_has_the_filter,
    start_container_hooks_have_the_filter,
    log_tells_flags_and_unknown_names,
    flags_have_their_effect,
    runtime_does_without_newer_calls,
    engines_default_profile_confines,
    agent_answers_for_the_container,
    agent_answers_for_exec,
    agent_may_answer_for_what_the_runtime_calls,
    waiting_init_holds_nothing_of_the_host,
    abstract_socket_reaches_the_agent,
    calls_do_not_exist_without_their_agent,
    container_needs_its_agent,
    signals_are_waited_for_as_before_the_filter,
    working_directory_is_looked_at_before_the_filter,
    profiles_that_cannot_be_are_refused,
];

// The probe gets system calls as numbers of this architecture.
const GETPPID: i64 = libc::SYS_getppid;
const GETPID: i64 = libc::SYS_getpid;
const UMASK: i64 = libc::SYS_umask;

fn rule(names: &[&str], action: &str) -> Value {
    json!({ "names": names, "action": action })
}

/// A profile that allows calls without a rule.
fn allowing<const N: usize>(rules: [Value; N]) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules.to_vec() })
}

fn confined(profile: Value) -> Bundle {
    Bundle::new().set("/linux/seccomp", profile)
}

/// The answers to the probe's modes.
#[track_caller]
fn answers(profile: Value, modes: &str) -> Vec<Value> {
    confined(profile).probe(modes).run().answers()
}

fn errno(name: &str) -> Value {
    json!({ "errno": name })
}

fn calls_fail_as_the_profile_says() {
    needs(&[Root]);
    let mut down = rule(&["umask"], "SCMP_ACT_ERRNO");
    down["errnoRet"] = json!(100);
    let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO"), down]);
    let modes = format!("syscall {GETPPID}; syscall {UMASK} 18; syscall {GETPID}");
    let answers = answers(profile, &modes);
    assert_eq!(answers[0], errno("EPERM"));
    assert_eq!(answers[1], errno("ENETDOWN"));
    assert_eq!(answers[2], json!({ "ok": 1 }));
}

/// The profile allows no call, not even exit_group(2) and exit(2).
fn init_ends_though_it_may_not() {
    needs(&[Root]);
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO" });
    let bundle = Bundle::new().set("/linux/seccomp", profile);
    bundle.run().exits(1).says("container init ended");
}

/// Init has failed to execute its program, and may not exit. In musl, abort(3) signals the thread
/// id from before the clone: the parent's, which init sees in the host's pid namespace.
fn init_that_may_not_end_ends_nobody_else() {
    needs(&[Root]);
    let profile = allowing([rule(&["exit_group"], "SCMP_ACT_ERRNO")]);
    let bundle = confined(profile).without_namespace("pid");
    let program = bundle.rootfs().join("no-program");
    fs::write(&program, "#!/nowhere\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    bundle
        .args(["/no-program"])
        .run()
        .says("no such file or directory");
}

fn killing_actions_end_the_process() {
    needs(&[Root]);
    const SIGSYS: i32 = 31;
    for action in ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"] {
        let profile = allowing([rule(&["getppid"], &format!("SCMP_ACT_{action}"))]);
        let bundle = confined(profile).push(
            "/process/rlimits",
            json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }),
        );
        let probe = format!("syscall {GETPPID}");
        bundle.probe(&probe).run().exits(128 + SIGSYS);
    }
    // Without a tracer, a traced call fails with ENOSYS.
    let traced = allowing([rule(&["getppid"], "SCMP_ACT_TRACE")]);
    let modes = format!("syscall {GETPPID}; syscall {GETPID}");
    assert_eq!(answers(traced, &modes)[0], errno("ENOSYS"));
    let logged = allowing([rule(&["getppid"], "SCMP_ACT_LOG")]);
    assert_eq!(answers(logged, &modes)[0], json!({ "ok": 0 }));
}

/// The values of umask(2)'s argument with which the call fails, under a condition.
#[track_caller]
fn failing(condition: Value, values: &[u64]) -> Vec<u64> {
    let mut umask = rule(&["umask"], "SCMP_ACT_ERRNO");
    umask["args"] = condition;
    let modes: Vec<String> = values
        .iter()
        .map(|value| format!("syscall {UMASK} {}", value.cast_signed()))
        .collect();
    let answers = answers(allowing([umask]), &modes.join("; "));
    let failed = values.iter().zip(answers);
    failed
        .filter(|(_, answer)| *answer == errno("EPERM"))
        .map(|(value, _)| *value)
        .collect()
}

fn arguments_are_compared_as_asked() {
    needs(&[Root]);
    let values = [0, 17, 18, 19, 1 << 32 | 18];
    for (operator, expected) in [
        ("EQ", &[18][..]),
        ("NE", &[0, 17, 19, 1 << 32 | 18]),
        ("LT", &[0, 17]),
        ("LE", &[0, 17, 18]),
        ("GE", &[18, 19, 1 << 32 | 18]),
        ("GT", &[19, 1 << 32 | 18]),
    ] {
        let condition = json!([{ "index": 0, "value": 18, "op": format!("SCMP_CMP_{operator}") }]);
        assert_eq!(failing(condition, &values), expected, "{operator}");
    }
    // Two conditions on the same argument: either; on two arguments: both.
    let equal =
        |index: u8, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    assert_eq!(
        failing(json!([equal(0, 17), equal(0, 19)]), &values),
        [17, 19]
    );
    assert_eq!(failing(json!([equal(0, 17), equal(1, 0)]), &values), [17]);
    assert!(failing(json!([equal(0, 17), equal(1, 1)]), &values).is_empty());
}

fn masked_comparison_takes_the_first_value_as_the_mask() {
    needs(&[Root]);
    let masked = |mask: u64, value: u64| json!([{ "index": 0, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" }]);
    assert_eq!(failing(masked(0o070, 0), &[0o777, 0o707, 0]), [0o707, 0]);
    assert_eq!(
        failing(masked(0o070, 0o010), &[0o777, 0o717, 0o010]),
        [0o717, 0o010]
    );
}

/// The calls that a container's program needs to start, to print and to end.
const NEEDED: [&str; 48] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "close",
    "close_range",
    "dup",
    "execve",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchown",
    "fcntl",
    "fstat",
    "getcwd",
    "getpid",
    "getrandom",
    "getuid",
    "ioctl",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "openat",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setuid",
    "sigaltstack",
    "statx",
    "write",
    "writev",
];

/// A profile that denies calls without a rule.
fn denying(more: &[&str]) -> Value {
    let names: Vec<&str> = NEEDED.iter().chain(more).copied().collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 6,
        "architectures": [format!("SCMP_ARCH_{}", std::env::consts::ARCH.to_uppercase())],
        "syscalls": [rule(&names, "SCMP_ACT_ALLOW")],
    })
}

fn what_is_left_out_is_the_default() {
    needs(&[Root]);
    let modes = format!("syscall {GETPPID}; syscall {GETPID}");
    let answers = answers(denying(&[]), &modes);
    assert_eq!(answers[0], errno("ENXIO"));
    assert_eq!(answers[1], json!({ "ok": 1 }));
}

/// Calls that are newer than all calls in the profile fail with ENOSYS.
fn newer_calls_do_not_exist() {
    needs(&[Root]);
    const FACCESSAT2: i64 = 439;
    let modes = format!(
        "syscall {GETPPID}; syscall {}; syscall 9999",
        FACCESSAT2 + 1
    );
    let denied = answers(denying(&[]), &modes);
    assert_eq!(denied, [errno("ENXIO"), errno("ENOSYS"), errno("ENOSYS")]);
    // A newer call in the profile moves the limit, even with the default action.
    let mut newer = denying(&[]);
    let rules = newer["syscalls"].as_array_mut().unwrap();
    let mut known = rule(&["futex_waitv"], "SCMP_ACT_ERRNO");
    known["errnoRet"] = json!(6);
    rules.push(known);
    let denied = answers(newer, &modes);
    assert_eq!(denied, [errno("ENXIO"), errno("ENXIO"), errno("ENOSYS")]);
}

fn with_architectures(mut profile: Value, words: &[&str]) -> Value {
    let words = words.iter().map(|word| format!("SCMP_ARCH_{word}"));
    profile["architectures"] = words.collect();
    profile
}

fn calls_of_32_bit_programs_are_filtered() {
    needs(&[Root, X86]);
    const GETPPID_32: i32 = 64;
    const GETPID_32: i32 = 20;
    const REBOOT_32: i32 = 88;
    let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
    let modes = format!("syscall32 {GETPPID_32}; syscall32 {GETPID_32}");
    let both = with_architectures(profile.clone(), &["X86_64", "X86"]);
    assert_eq!(answers(both, &modes), [errno("EPERM"), json!({ "ok": 1 })]);
    let one = with_architectures(profile, &["X86_64"]);
    let bundle = confined(one).push(
        "/process/rlimits",
        json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }),
    );
    bundle
        .probe(&format!("syscall32 {GETPID_32}"))
        .run()
        .exits(159);
    let modes = format!("syscall32 {GETPID_32}; syscall32 {REBOOT_32}");
    let of_an_engine = answers(docker_profile(), &modes);
    assert_eq!(of_an_engine, [json!({ "ok": 1 }), errno("EPERM")]);
}

fn calls_of_x32_programs_are_filtered() {
    needs(&[Root, X86]);
    const X32_BIT: i64 = 1 << 30;
    let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
    let mode = format!("syscall {}", X32_BIT | GETPPID);
    let both = with_architectures(profile.clone(), &["X86_64", "X32"]);
    assert_eq!(answers(both, &mode), [errno("EPERM")]);
    let one = with_architectures(profile, &["X86_64"]);
    let bundle = confined(one).push(
        "/process/rlimits",
        json!({ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }),
    );
    bundle.probe(&mode).run().exits(159);
}

/// Runs with and without no_new_privs, which loading the filter must not set.
fn privileges_of_the_program_are_as_asked() {
    needs(&[Root]);
    for (asked, expected) in [(Value::Null, 0), (json!(false), 0), (json!(true), 1)] {
        for capabilities in [&[][..], &["CAP_SYS_ADMIN", "CAP_KILL"]] {
            let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
            let set = json!(capabilities);
            let bundle = confined(profile).set("/process/noNewPrivileges", asked.clone());
            let seen = bundle
                .set("/process/capabilities/bounding", set.clone())
                .set("/process/capabilities/permitted", set.clone())
                .set("/process/capabilities/effective", set)
                .set("/process/user/uid", 1000)
                .run()
                .probe();
            assert_eq!(seen["no_new_privileges"], expected, "{asked}");
            assert_eq!(
                (&seen["seccomp"], &seen["seccomp_filters"]),
                (&json!(2), &json!(1))
            );
        }
    }
}

fn user_namespace_has_its_filter() {
    needs(&[Root, UserNamespaces]);
    for no_new_privileges in [false, true] {
        let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
        let bundle = confined(profile).user_namespace();
        let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges);
        let output = bundle.probe(&format!("syscall {GETPPID}")).run();
        assert_eq!(output.answers(), [errno("EPERM")]);
    }
}

/// An exec gets the container's filter, even if config.json was changed.
fn exec_has_the_filter() {
    needs(&[Root]);
    let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
    let container = Container::running(confined(profile).probe("sleep"));
    let config = container.bundle.directory.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW")).unwrap();
    let number = GETPPID.to_string();
    for flags in [&[][..], &["--no-new-privs"]] {
        let exec = container.command("exec", flags);
        let output = exec.args(["/probe", "syscall", &number]).output();
        assert_eq!(output.answers(), [errno("EPERM")], "{flags:?}");
    }
    let process = json!({ "args": ["/probe", "syscall", number], "cwd": "/", "user": {} });
    let file = scratch().join("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let exec = container.command("exec", ["--process", file.to_str().unwrap()]);
    assert_eq!(exec.output().answers(), [errno("EPERM")]);
}

fn start_container_hooks_have_the_filter() {
    needs(&[Root]);
    let number = GETPPID.to_string();
    let hook = json!({ "path": "/probe", "args": ["probe", "syscall", number] });
    let profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
    let output = confined(profile).hook("startContainer", hook).run();
    assert_ne!(output.code(), 0);
    output
        .says("error running startContainer hook")
        .says("EPERM");
}

fn debug_output(profile: Value) -> String {
    let container = Container::new(confined(profile).probe("exit 0"));
    let call = teu(["--debug", "--root", state_root().to_str().unwrap(), "run"]);
    let bundle = container.bundle.directory.to_str().unwrap();
    let output = call.args(["--bundle", bundle, &container.id]).output().ok();
    output.stderr.clone()
}

fn log_tells_flags_and_unknown_names() {
    needs(&[Root, Teu]);
    let mut profile = allowing([rule(&["getppid", "nosuchcall"], "SCMP_ACT_ERRNO")]);
    let said = debug_output(profile.clone());
    assert!(said.contains("unknown seccomp syscall"), "{said}");
    assert!(said.contains("nosuchcall"), "{said}");
    assert!(said.contains("\"seccomp filter flags: 4\""), "{said}");
    profile["flags"] = json!([]);
    assert!(debug_output(profile).contains("\"seccomp filter flags: 0\""));
}

/// Only SPEC_ALLOW has an effect that a process can see: without the flag, the kernel may disable
/// speculation for a filtered process.
fn flags_have_their_effect() {
    needs(&[Root]);
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]),
    ] {
        let mut profile = allowing([rule(&["getppid"], "SCMP_ACT_ERRNO")]);
        profile["flags"] = flags;
        assert_eq!(confined(profile).run().probe()["seccomp"], 2);
    }
}

fn runtime_does_without_newer_calls() {
    needs(&[Root]);
    let newer = [
        "close_range",
        "fsopen",
        "fsconfig",
        "fspick",
        "openat2",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "faccessat2",
        "clone3",
        "pidfd_open",
    ];
    for errno in [38, 1] {
        for no_new_privileges in [false, true] {
            let mut old = rule(&newer, "SCMP_ACT_ERRNO");
            old["errnoRet"] = json!(errno);
            let bundle = confined(allowing([old]));
            let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges);
            let seen = bundle.probe("fds").run();
            assert_eq!(seen.answer().as_object().unwrap().len(), 3, "{seen}");
        }
    }
}

/// Docker's profile for this machine and for the capabilities that Docker gives by default.
fn docker_profile() -> Value {
    let (machine, architectures) = if cfg!(target_arch = "x86_64") {
        ("amd64", ["X86_64", "X86", "X32"].as_slice())
    } else {
        ("arm64", ["AARCH64", "ARM"].as_slice())
    };
    let text = fs::read_to_string(repository("seccomp/tests/data/docker.json")).unwrap();
    let mut profile: Value = serde_json::from_str(&text).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    rules.retain(|rule| {
        let arches = rule["includes"]["arches"].as_array();
        let is_here = |arches: &Vec<Value>| arches.iter().any(|arch| arch == machine);
        let excluded = rule["excludes"]["arches"].as_array();
        arches.is_none_or(is_here)
            && !excluded.is_some_and(is_here)
            && rule["includes"]["caps"].is_null()
    });
    for rule in rules {
        rule.as_object_mut()
            .unwrap()
            .retain(|key, _| !matches!(key.as_str(), "includes" | "excludes"));
    }
    with_architectures(profile, architectures)
}

fn engines_default_profile_confines() {
    needs(&[Root]);
    const CLONE_NEWUSER: i64 = 0x1000_0000;
    const AF_VSOCK: i64 = 40;
    let modes = [
        format!("syscall {} 0 0 0 0", libc::SYS_kexec_load),
        format!("syscall {} {CLONE_NEWUSER}", libc::SYS_clone),
        format!("syscall {} 0 0", libc::SYS_clone3),
        format!("syscall {} {AF_VSOCK} 1 0", libc::SYS_socket),
        format!("syscall {} 1 1 0", libc::SYS_socket),
        format!("syscall {} 4294967295", libc::SYS_personality),
        format!("syscall {} 1024", libc::SYS_personality),
    ];
    let found = answers(docker_profile(), &modes.join("; "));
    let (kexec, clone, clone3) = (&found[0], &found[1], &found[2]);
    assert_eq!(
        (kexec, clone, clone3),
        (&errno("EPERM"), &errno("EPERM"), &errno("ENOSYS"))
    );
    assert_eq!(found[3], errno("EPERM"));
    assert_eq!(found[4]["errno"], Value::Null);
    assert_eq!(found[5]["errno"], Value::Null);
    assert_eq!(found[6], errno("EPERM"));
}

fn notifying(names: &[&str], socket: &str) -> Value {
    let mut profile = allowing([rule(names, "SCMP_ACT_NOTIFY")]);
    profile["listenerPath"] = json!(socket);
    profile["listenerMetadata"] = json!("some metadata");
    profile
}

/// Answers calls until no process has the filter any more. `answer` gets the number of a call and
/// returns the errno, or nothing to let the kernel execute the call. Returns the callers' pids.
fn serve(listener: &OwnedFd, mut answer: impl FnMut(i32) -> Option<Errno>) -> Vec<i32> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut pids = vec![];
    loop {
        let mut events = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut events, PollTimeout::from(10_000_u16)).unwrap();
        if !events[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLIN))
        {
            return pids;
        }
        // The calling process may have been killed meanwhile.
        let Ok(call) = receive_notification(listener) else {
            continue;
        };
        pids.push(call.pid.cast_signed());
        answer_notification(listener, &call, answer(call.number)).ok();
    }
}

fn agent_answers_for_the_container() {
    needs(&[Root, Kernel(5, 9)]);
    for no_new_privileges in [false, true] {
        let agent = FdSocket::new(&format!("agent-{no_new_privileges}"));
        let bundle = confined(notifying(&["getppid"], agent.path()))
            .set("/process/noNewPrivileges", no_new_privileges)
            .set("/annotations", json!({ "a": "b" }))
            .probe(&format!("syscall {GETPPID}"));
        let container = Container::new(bundle);
        let (message, output) = thread::scope(|scope| {
            let answers = scope.spawn(|| {
                let (message, listener) = agent.receive();
                serve(&listener, |_| Some(Errno::EXDEV));
                message
            });
            let output = container.run();
            (answers.join().unwrap(), output)
        });
        assert_eq!(output.answers(), [errno("EXDEV")]);
        let state: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "some metadata");
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["id"], json!(container.id));
        assert_eq!(state["state"]["pid"], state["pid"]);
        assert_eq!(state["state"]["annotations"], json!({ "a": "b" }));
        let directory = container.bundle.directory.to_str().unwrap();
        assert_eq!(state["state"]["bundle"], directory);
    }
}

fn agent_answers_for_exec() {
    needs(&[Root, Kernel(5, 9)]);
    let agent = FdSocket::new("agent-exec");
    let bundle = confined(notifying(&["getppid"], agent.path())).probe("sleep");
    // The container's own listener is unused, because the container makes no such call.
    let container = thread::scope(|scope| {
        let listener = scope.spawn(|| agent.receive());
        let container = Container::running(bundle);
        drop(listener.join().unwrap());
        container
    });
    let number = GETPPID.to_string();
    for flags in [&[][..], &["--no-new-privs"]] {
        let exec = container.command("exec", flags);
        let exec = exec.args(["/probe", "syscall", &number]);
        let (message, output) = thread::scope(|scope| {
            let answers = scope.spawn(|| {
                let (message, listener) = agent.receive();
                serve(&listener, |_| Some(Errno::EXDEV));
                message
            });
            let output = exec.output();
            (answers.join().unwrap(), output)
        });
        assert_eq!(output.answers(), [errno("EXDEV")]);
        let state: Value = serde_json::from_str(&message).unwrap();
        assert_eq!(state["state"]["status"], "running");
        assert_eq!(state["state"]["pid"], container.pid());
        assert_ne!(state["pid"], state["state"]["pid"]);
    }
}

/// The runtime makes such calls with the filter loaded, so the parent must send the listener
/// without waiting for the process.
fn agent_may_answer_for_what_the_runtime_calls() {
    needs(&[Root, Kernel(5, 9)]);
    let names = [
        "execve",
        "openat",
        "open",
        "read",
        "close",
        "fcntl",
        "sendmsg",
        "recvmsg",
        "setuid",
        "setgid",
        "capset",
        "prctl",
        "chdir",
        "rt_sigaction",
        "close_range",
        "poll",
    ];
    for no_new_privileges in [false, true] {
        let agent = FdSocket::new(&format!("agent-runtime-{no_new_privileges}"));
        let bundle = confined(notifying(&names, agent.path()));
        let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges);
        let (calls, output) = thread::scope(|scope| {
            let answers = scope.spawn(|| serve(&agent.receive().1, |_| None).len());
            let output = bundle.probe(&format!("syscall {GETPID}")).run();
            (answers.join().unwrap(), output)
        });
        assert_eq!(output.answers(), [json!({ "ok": 1 })]);
        assert!(calls > 1, "{calls}");
    }
}

/// With the listener, a process of the container could answer for the agent; with the log, it
/// could truncate the log. A waiting init may have only the fifo open, to which `start` writes.
fn waiting_init_holds_nothing_of_the_host() {
    needs(&[Root, Kernel(5, 9)]);
    for no_new_privileges in [false, true] {
        let agent = FdSocket::new(&format!("agent-waiting-{no_new_privileges}"));
        let bundle = confined(notifying(&["getppid"], agent.path()));
        let container = Container::new(bundle.set("/process/noNewPrivileges", no_new_privileges));
        let log = scratch().join("log");
        let words = [runtime(), "--log".into(), log];
        let call = container.command("create", NO_FLAGS).with_program(words);
        let listener = thread::scope(|scope| {
            let listener = scope.spawn(|| agent.receive().1);
            container.detach(call).ok();
            listener.join().unwrap()
        });
        let fifo = state_root().join(&container.id).join("exec.fifo");
        let open = format!("/proc/{}/fd", container.pid());
        wait_until("init has closed all but the fifo", || {
            let entries = fs::read_dir(&open).unwrap().map(|entry| entry.unwrap());
            let streams = ["0", "1", "2"];
            let beyond =
                entries.filter(|entry| streams.iter().all(|name| entry.file_name() != *name));
            let targets = beyond.map(|entry| fs::read_link(entry.path()).unwrap_or_default());
            // Init's own signalfd.
            let is_inits = |target: &PathBuf| *target == Path::new("anon_inode:[signalfd]");
            targets
                .filter(|target| !is_inits(target))
                .collect::<Vec<_>>()
                == [fifo.clone()]
        });
        drop(listener);
    }
}

fn abstract_socket_reaches_the_agent() {
    needs(&[Root, Kernel(5, 9)]);
    let name = format!("teu-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let agent = UnixListener::bind_addr(&address).unwrap();
    let bundle = confined(notifying(&["getppid"], &format!("@{name}"))).probe("exit 3");
    bundle.run().exits(3);
    agent.accept().expect("the runtime connected");
}

fn calls_do_not_exist_without_their_agent() {
    needs(&[Root, Kernel(5, 9)]);
    let agent = FdSocket::new("agent-gone");
    let bundle = confined(notifying(&["getppid"], agent.path()));
    let output = thread::scope(|scope| {
        scope.spawn(|| drop(agent.receive()));
        bundle.probe(&format!("sleep 1; syscall {GETPPID}")).run()
    });
    assert_eq!(output.answers()[1], errno("ENOSYS"));
}

fn container_needs_its_agent() {
    needs(&[Root, Kernel(5, 9)]);
    for no_new_privileges in [false, true] {
        for socket in ["/nonexistent/agent.sock", "@teu-test-nobody-listens"] {
            let bundle = confined(notifying(&["getppid"], socket));
            let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges);
            let container = Container::new(bundle);
            let output = container.run();
            assert_ne!(output.code(), 0);
            output.says("failed to connect with seccomp agent");
            assert!(!container.has_state());
        }
    }
}

fn signals_are_waited_for_as_before_the_filter() {
    needs(&[Root]);
    let rule = rule(&["signalfd4"], "SCMP_ACT_ERRNO");
    let container = Container::created(confined(allowing([rule])).probe("exit 7"));
    container.start().ok();
    assert_eq!(container.wait(), 7);
}

fn working_directory_is_looked_at_before_the_filter() {
    needs(&[Root, Teu]);
    for no_new_privileges in [false, true] {
        let rule = rule(&["getcwd"], "SCMP_ACT_ERRNO");
        let bundle = confined(allowing([rule])).set("/process/cwd", "/mnt");
        let bundle = bundle.set("/process/noNewPrivileges", no_new_privileges);
        let container = Container::running(bundle.probe("sleep"));
        let exec = container.command("exec", NO_FLAGS);
        exec.args(["/probe", "exit", "0"]).output().ok();
    }
}

fn profiles_that_cannot_be_are_refused() {
    needs(&[Root]);
    let notify = |names: &[&str], path: &str| {
        let mut profile = allowing([rule(names, "SCMP_ACT_NOTIFY")]);
        profile["listenerPath"] = json!(path);
        profile
    };
    for (profile, words) in [
        (
            notify(&["write"], "/x"),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (notify(&["read"], ""), "seccomp listenerPath is not set"),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 }),
            "SCMP_ACT_ALLOW takes no errnoRet",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095 }),
            "errnoRet 4095 is no error number",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NONE" }),
            "string SCMP_ACT_NONE is not a valid action for seccomp",
        ),
    ] {
        let container = Container::new(confined(profile));
        let output = container.run();
        assert_eq!(output.code(), 1);
        output.says(words);
        assert!(!container.has_state());
    }
    assert!(Path::new("/proc/self").exists());
}
