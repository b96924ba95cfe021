//! Invalid input and failing system calls: the error must be clear, and nothing may be left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::harness::*;

tests![
    failed_create_leaves_nothing,
    full_disk_fails_the_creation,
    readonly_state_root_fails_the_creation,
    killed_run_leaves_what_delete_removes,
    broken_state_can_be_deleted,
    state_without_what_protects_is_refused,
    state_of_another_container_is_refused,
    what_is_no_file_is_no_state,
    forced_deletion_finds_what_a_broken_state_names,
    forced_deletion_says_what_may_be_left,
    forced_deletion_needs_the_lock_and_the_state,
    init_says_nothing_of_its_parents_end,
    file_beside_the_pid_file_is_not_touched,
    signals_that_cannot_be_blocked_are_an_error,
    filter_is_made_without_random_numbers,
    every_bad_field_is_named,
    missing_bundle_is_named,
];

fn failed_create_leaves_nothing() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let failing = [
        Bundle::new().set("/process/cwd", "relative"),
        Bundle::new().set("/root/path", "elsewhere"),
        Bundle::new().args(["/no/such/program"]),
        Bundle::new().join_namespace("network", "/run/netns/nowhere"),
        Bundle::new().mount(json!({
            "destination": "/mnt", "type": "bind", "source": "/no/such", "options": ["bind"],
        })),
        Bundle::new().hook("createRuntime", json!({ "path": "/bin/false" })),
        Bundle::new().hook("createContainer", json!({ "path": "/bin/false" })),
    ];
    for bundle in failing {
        let container = Container::new(bundle);
        container.create().exits(1);
        assert!(!container.has_state());
    }
    before.assert_unchanged();
}

fn full_disk_fails_the_creation() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let root = scratch().join("small");
    let small = Mounted::new("tmpfs", &root, "size=4k,nr_inodes=3");
    fs::write(root.join("filler"), "x".repeat(4096)).unwrap();
    let container = Container::new(Bundle::new());
    let call = Invocation::new(runtime())
        .arg("--root")
        .arg(&root)
        .args(["create", "--bundle"]);
    let output = call
        .arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(1);
    output.says("no space left on device");
    assert!(!root.join(&container.id).exists());
    drop(small);
    before.assert_unchanged();
}

fn readonly_state_root_fails_the_creation() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let call = Invocation::new(runtime()).args(["--root", "/proc/nowhere", "create", "--bundle"]);
    let output = call
        .arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .exits(1);
    output.says("/proc/nowhere");
}

fn killed_run_leaves_what_delete_removes() {
    needs(&[Root, Seconds(60)]);
    let before = HostSnapshot::take();
    for step in 0..20 {
        let container = Container::new(Bundle::new().probe("sleep"));
        let running = container.command("run", NO_FLAGS).spawn();
        std::thread::sleep(std::time::Duration::from_micros(step * 1500));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        container.delete_force().ok();
        assert!(!container.has_state());
    }
    before.assert_unchanged();
}

fn broken_state_can_be_deleted() {
    needs(&[Root, Teu]);
    for text in ["", "{", "null"] {
        let container = Container::new(Bundle::new());
        let directory = state_root().join(&container.id);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("state.json"), text).unwrap();
        container.command("state", NO_FLAGS).output().exits(1);
        container.delete_force().ok();
        assert!(!container.has_state(), "{text:?}");
    }
}

/// The path of a container's state.json.
fn state_file(container: &Container) -> PathBuf {
    state_root().join(&container.id).join("state.json")
}

fn state_of(container: &Container) -> Value {
    serde_json::from_slice(&fs::read(state_file(container)).unwrap()).unwrap()
}

/// Checks that every command refuses the container's state file with `words`, within a
/// time limit, and that the file is left in place.
#[track_caller]
fn assert_unreadable(container: &Container, words: &str) {
    const LIMIT: Duration = Duration::from_secs(5);
    let call = |verb: &str, status| {
        let call = container.command(verb, NO_FLAGS);
        let call = match verb {
            "exec" => call.args(["/probe", "exit", "0"]),
            _ => call,
        };
        let output = call.within(LIMIT).output();
        output.exits(status).says(words)
    };
    call("exec", 255);
    for verb in ["state", "start", "kill", "ps", "pause", "update", "delete"] {
        call(verb, 1);
    }
    let list = teu(["list"]).within(LIMIT).output();
    list.ok().says(words);
    assert!(container.has_state(), "{words}");
}

fn state_without_what_protects_is_refused() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
        }] }),
    );
    let container = Container::running(bundle.probe("sleep"));
    let whole = state_of(&container);
    let without = |pointer: &str| {
        let mut state = whole.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = state.pointer_mut(parent).unwrap().as_object_mut();
        parent.unwrap().remove(name).unwrap();
        state
    };
    let with = |field: &str, value: Value| {
        let mut state = whole.clone();
        state[field] = value;
        state
    };
    let cases = [
        (json!({}), "missing field"),
        (without("/cgroup"), "missing field `cgroup`"),
        (without("/cgroup/unit"), "missing field `unit`"),
        (without("/limits"), "missing field `limits`"),
        (without("/limits/devices"), "missing field `devices`"),
        (without("/shared"), "missing field `shared`"),
        (without("/shared/seccomp"), "missing field `seccomp`"),
        (
            without("/shared/seccomp/program"),
            "missing field `program`",
        ),
        (without("/shared/umask"), "missing field `umask`"),
        (without("/shared/newKeyring"), "missing field `newKeyring`"),
        (without("/shared/defaults"), "missing field `defaults`"),
        (
            without("/shared/defaults/noNewPrivileges"),
            "missing field `noNewPrivileges`",
        ),
        (without("/lacksProcess"), "missing field `lacksProcess`"),
        (without("/resctrlGroup"), "missing field `resctrlGroup`"),
        (without("/version"), "missing field `version`"),
        (with("version", json!(1)), "version 1 is not the one"),
        (with("version", json!(1000)), "version 1000 is not the one"),
        (with("id", json!("")), "it is the state of"),
        (with("pid", json!(-1)), "is no init"),
        (with("pid", json!(0)), "is no init"),
        (with("startTime", json!(0)), "is no init"),
    ];
    for (state, words) in cases {
        fs::write(state_file(&container), state.to_string()).unwrap();
        assert_unreadable(&container, words);
    }
    assert!(is_alive(container.pid()));
    fs::write(state_file(&container), whole.to_string()).unwrap();
}

fn state_of_another_container_is_refused() {
    needs(&[Root, Teu]);
    let other = Container::running(Bundle::new().probe("sleep"));
    let container = Container::new(Bundle::new());
    fs::create_dir(state_root().join(&container.id)).unwrap();
    fs::copy(state_file(&other), state_file(&container)).unwrap();
    assert_unreadable(&container, "it is the state of");
    container.delete_force().ok().says("may be left");
    assert!(is_alive(other.pid()));
    assert!(!container.has_state());
}

/// Devices and fifos have no end, and a link may lead to another user's file.
fn what_is_no_file_is_no_state() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let file = state_file(&container);
    let kept = scratch().join("kept");
    fs::rename(&file, &kept).unwrap();
    let mode = Mode::from_bits_truncate(0o600);
    let zero = makedev(1, 5);
    let makers: [(&str, &dyn Fn()); 5] = [
        ("not a regular file", &|| mkfifo(&file, mode).unwrap()),
        ("not a regular file", &|| {
            mknod(&file, SFlag::S_IFCHR, mode, zero).unwrap()
        }),
        ("not a regular file", &|| fs::create_dir(&file).unwrap()),
        ("symbolic link", &|| symlink(&kept, &file).unwrap()),
        ("file too large", &|| {
            File::create_new(&file).unwrap().set_len(1 << 40).unwrap()
        }),
    ];
    for (words, make) in makers {
        make();
        assert_unreadable(&container, words);
        match file.is_dir() && !file.is_symlink() {
            true => fs::remove_dir(&file).unwrap(),
            false => fs::remove_file(&file).unwrap(),
        }
    }
    fs::rename(&kept, &file).unwrap();
}

fn forced_deletion_finds_what_a_broken_state_names() {
    needs(&[Root, Teu, Controller("pids")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let cgroup = CgroupFiles::of(container.pid()).directory("pids");
    let mut state = state_of(&container);
    state.as_object_mut().unwrap().remove("shared");
    fs::write(state_file(&container), state.to_string()).unwrap();
    assert!(cgroup.exists());
    container.delete_force().ok().says("may be left");
    assert!(!is_alive(container.pid()));
    assert!(!cgroup.exists());
    assert!(!container.has_state());
}

fn forced_deletion_says_what_may_be_left() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let whole = fs::read(state_file(&container)).unwrap();
    fs::write(state_file(&container), "{}").unwrap();
    let words = "is deleted: its processes, cgroups and mounts may be left";
    container.delete_force().ok().says(words);
    assert!(!container.has_state());
    assert!(is_alive(container.pid()));
    // An entry of which nothing is left after the deletion.
    fs::create_dir(state_root().join(&container.id)).unwrap();
    fs::write(state_file(&container), whole).unwrap();
}

/// A state that cannot be locked or read at the moment is not a broken state.
fn forced_deletion_needs_the_lock_and_the_state() {
    needs(&[Root, Teu, Tool("strace")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let file = state_file(&container);
    let file = file.to_str().unwrap();
    for (fault, words) in [
        ("-e inject=flock:error=ENOLCK", "no locks available"),
        (
            &*format!("-P {file} -e inject=open,openat:error=EMFILE"),
            "too many open files",
        ),
    ] {
        let tracer = format!("strace -qq -o /dev/null {fault}");
        let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
        program.push(runtime().into());
        let call = container.command("delete", ["--force"]);
        call.with_program(program).output().exits(1).says(words);
        assert!(container.has_state() && is_alive(container.pid()));
    }
}

/// The command that ends has a reason of its own. Here it is killed as it releases init, so that
/// init has the time to see the end of the pipe.
fn init_says_nothing_of_its_parents_end() {
    needs(&[Root, Teu, Tool("strace")]);
    let bundle = Bundle::new().probe("sleep");
    let container = Container::new(bundle);
    let log = scratch().join("strace");
    let inject = "-e inject=sendmsg:signal=KILL:when=2";
    let tracer = format!("strace -qq -o {} {inject}", log.display());
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.push(runtime().into());
    let call = container.command("create", NO_FLAGS).with_program(program);
    let running = call.spawn();
    wait_until("the command is killed", || !is_alive(running.pid));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(running.stderr(), "");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("killed by SIGKILL"), "{log}");
    container.delete_force().ok();
}

fn file_beside_the_pid_file_is_not_touched() {
    needs(&[Root, Teu]);
    let directory = scratch().join("pids");
    fs::create_dir(&directory).unwrap();
    let other = directory.join(".pid");
    fs::write(&other, "another's").unwrap();
    let container = Container::new(Bundle::new());
    let file = directory.join("pid");
    container
        .create_with(["--pid-file", file.to_str().unwrap()])
        .ok();
    let pid = fs::read_to_string(&file).unwrap();
    assert_eq!(pid, container.pid().to_string());
    assert_eq!(fs::read_to_string(&other).unwrap(), "another's");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

/// Calls `run` while the kernel refuses a system call.
fn run_without(bundle: Bundle, call: &str, error: &str) -> Output {
    let container = Container::new(bundle.probe("exit 0"));
    let inject = format!("inject={call}:error={error}");
    let strace = ["strace", "-fqqo/dev/null", "-e", &inject];
    let strace = strace.map(PathBuf::from);
    let program = strace.into_iter().chain([runtime()]);
    let call = container.command("run", NO_FLAGS).with_program(program);
    call.within(Duration::from_secs(10)).output()
}

fn signals_that_cannot_be_blocked_are_an_error() {
    needs(&[Root, Teu, Tool("strace")]);
    let output = run_without(Bundle::new(), "rt_sigprocmask", "EPERM");
    output
        .exits(1)
        .says("block signals: operation not permitted");
}

/// The standard library seeds its maps with getrandom(2), which a filter around the runtime may
/// refuse, and which a kernel may lack.
fn filter_is_made_without_random_numbers() {
    needs(&[Root, Tool("strace")]);
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
        "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
    }] });
    for error in ["EPERM", "ENOSYS"] {
        let bundle = Bundle::new().set("/linux/seccomp", profile.clone());
        run_without(bundle, "getrandom", error).ok();
    }
}

fn every_bad_field_is_named() {
    needs(&[Root, Teu]);
    let before = HostSnapshot::take();
    let bad = [
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_LUCK", "soft": 1, "hard": 1 }]),
            "RLIMIT_LUCK",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_NEVER" }),
            "SCHED_NEVER",
        ),
        (
            "/process/ioPriority",
            json!({ "class": "IOPRIO_CLASS_X", "priority": 1 }),
            "IOPRIO_CLASS_X",
        ),
        ("/process/env", json!(["=value"]), "environment variable"),
        ("/process/consoleSize", json!("wide"), "consoleSize"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        (
            "/linux/personality",
            json!({ "domain": "LINUX99" }),
            "LINUX99",
        ),
        (
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_WISH" }),
            "MPOL_WISH",
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/x", "type": "z" }]),
            "/dev/x",
        ),
        (
            "/linux/timeOffsets",
            json!({ "boottime": { "secs": 1 } }),
            "time namespace offsets",
        ),
        ("/linux/intelRdt", json!({ "closID": ".." }), "intelRdt"),
        ("/linux/netDevices", json!({ "no/such": {} }), "no/such"),
        (
            "/linux/sysctl",
            json!({ "kernel.hostname": "x" }),
            "kernel.hostname",
        ),
    ];
    for (pointer, value, words) in bad {
        let container = Container::new(Bundle::new().set(pointer, value));
        container.create().exits(1).says(words);
        assert!(!container.has_state(), "{pointer}");
    }
    before.assert_unchanged();
}

fn missing_bundle_is_named() {
    needs(&[Root]);
    let call = teu(["create", "--bundle", "/no/such/bundle", "one"]);
    call.output()
        .exits(1)
        .says("/no/such/bundle")
        .says("no such file or directory");
    assert!(!state_root().join("one").exists());
}
