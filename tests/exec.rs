//! exec, pause, resume and ps: further processes of a container, and commands on all of its
//! processes.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use serde_json::{Value, json};

use crate::harness::*;

tests![
    process_is_in_the_container,
    created_container_takes_processes,
    process_differs_from_the_containers,
    user_by_the_containers_names,
    passwd_is_not_what_the_kernel_tells,
    new_privileges_may_be_allowed,
    hundreds_leave_nothing,
    process_from_a_file,
    what_a_process_does_not_say_is_the_containers,
    limit_of_processes_is_the_users,
    limit_that_cannot_be_read_is_an_error,
    full_cgroup_is_told_as_such,
    file_of_the_caller_is_read,
    status_is_that_of_the_program,
    what_cannot_be_run_is_255,
    words_after_the_id_are_the_programs,
    user_namespace_is_entered,
    shared_namespaces_stay_shared,
    root_is_the_containers_without_a_mount_namespace,
    time_namespace_is_entered,
    cgroups_are_entered,
    processes_run_on_their_cpus,
    container_hands_down_its_settings,
    exec_joins_the_containers_session_keyring,
    apparmor_profile_of_exec_is_refused_without_apparmor,
    caller_hands_down_nothing,
    detached_process_lives_on,
    signals_are_passed_on,
    terminal_goes_to_the_console_socket,
    terminal_is_the_callers,
    terminal_needs_a_place_to_go,
    pidfd_of_the_process_is_sent,
    preserved_descriptors_reach_the_program,
    others_cannot_look_in_before_the_program_runs,
    nothing_can_be_taken_from_a_process_on_its_way,
    waiting_process_ends_with_its_host,
    rootless_container_is_entered,
    stopped_container_takes_no_process,
    paused_container_stands_still,
    paused_container_can_be_waited_for,
    pause_and_resume_know_the_status,
    ps_shows_the_processes,
];

/// A running container that sleeps.
pub(crate) fn sleeping(bundle: Bundle) -> Container {
    Container::running(bundle.probe("sleep"))
}

/// Prepares the call `exec FLAGS… ID WORDS…`.
pub(crate) fn exec<'a>(
    container: &Container,
    flags: impl IntoIterator<Item = &'a str>,
    words: &str,
) -> Invocation {
    container
        .command("exec", flags)
        .args(words.split_whitespace())
}

/// The probe's report from an exec with these flags.
#[track_caller]
fn report<'a>(container: &Container, flags: impl IntoIterator<Item = &'a str>) -> Value {
    exec(container, flags, "/probe report")
        .output()
        .ok()
        .probe()
}

/// A namespace of a process, in the form of the probe's report.
fn namespace(pid: i32, name: &str) -> Value {
    json!(fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap())
}

fn process_is_in_the_container() {
    needs(&[Root]);
    let before = HostSnapshot::take();
    let container = sleeping(Bundle::new().namespace("cgroup").set("/hostname", "box"));
    let seen = report(&container, []);
    assert_eq!(
        (&seen["hostname"], &seen["cwd"]),
        (&json!("box"), &json!("/"))
    );
    assert_eq!(seen["processes"], json!([1, seen["pid"]]));
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        assert_eq!(
            seen["namespaces"][name],
            namespace(container.pid(), name),
            "{name}"
        );
    }
    let set = |name: &str| {
        seen["capabilities"][name]["names"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((set("effective"), set("inheritable")), (3, 0));
    assert_eq!(
        (&seen["no_new_privileges"], &seen["dumpable"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        seen["rlimits"]["RLIMIT_NOFILE"],
        json!({ "soft": 1024, "hard": 1024 })
    );
    assert_eq!(seen["session"], seen["pid"]);
    assert_eq!(seen["parent_death_signal"], Value::Null);
    container.delete_force().ok();
    before.assert_unchanged();
}

fn created_container_takes_processes() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    let seen = report(&container, []);
    assert_eq!(seen["processes"], json!([1, seen["pid"]]));
    assert_eq!(container.status(), "created");
}

fn process_differs_from_the_containers() {
    needs(&[Root]);
    let container = sleeping(Bundle::new().env("A=1"));
    let flags = [
        "--cwd",
        "/tmp",
        "-e",
        "A=2",
        "--env",
        "B=3,4",
        "--user",
        "1000:1001",
        "-g",
        "5",
        "--additional-gids",
        "6",
        "--cap",
        "CAP_CHOWN",
    ];
    let seen = report(&container, flags);
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(1000), &json!(1001)));
    assert_eq!(seen["groups"], json!([5, 6]));
    assert_eq!(seen["cwd"], "/tmp");
    assert_eq!(
        (&seen["env"]["A"], &seen["env"]["B"]),
        (&json!("2"), &json!("3,4"))
    );
    assert_eq!(seen["env"]["HOME"], "/");
    assert!(
        seen["capabilities"]["bounding"]
            .to_string()
            .contains("CAP_CHOWN")
    );
    assert!(
        !seen["capabilities"]["inheritable"]
            .to_string()
            .contains("CAP_CHOWN")
    );
    assert_eq!(seen["tty"]["stdin"], false);
}

fn user_by_the_containers_names() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new()
        .file("/etc/passwd", "root:x:0:0::/:\nbuild:x:1000:1001:::\n")
        .file("/etc/group", "video:x:44:build\nwheel:x:10:root,build\n");
    let container = sleeping(bundle);
    for (user, ids, groups) in [
        ("build", [1000, 1001], json!([10, 44])),
        ("build:video", [1000, 44], json!([])),
        ("7:wheel", [7, 10], json!([])),
    ] {
        let seen = report(&container, ["--user", user]);
        let own = (&seen["uid"], &seen["gid"]);
        assert_eq!(own, (&json!(ids[0]), &json!(ids[1])), "{user}");
        let mut found: Vec<u64> = serde_json::from_value(seen["groups"].clone()).unwrap();
        found.retain(|group| *group != ids[1]);
        found.sort_unstable();
        assert_eq!(json!(found), groups, "{user}");
    }
    let refused = exec(&container, ["--user", "nobody"], "/probe report").output();
    assert_eq!(refused.code(), 255);
    assert!(refused.stderr.contains("no such user"), "{refused}");
}

/// The container's passwd is a link to a file that only the machine's root user can read, to one
/// that blocks, or to one that is open in the process that looks. Its contents must not be used.
fn passwd_is_not_what_the_kernel_tells() {
    needs(&[Root, Teu, Tool("nsenter"), Tool("ip")]);
    let alias = "/sys/class/net/lo/ifalias";
    for file in ["/proc/1/environ", "/proc/kmsg", alias] {
        let bundle = Bundle::new().env("LINE=\nsomeone:x:0:0::/made/up:\n");
        for name in ["passwd", "group"] {
            symlink(file, bundle.rootfs().join("etc").join(name)).unwrap();
        }
        let container = sleeping(bundle);
        Invocation::new("nsenter")
            .args(["-n", "-t", &container.pid().to_string(), "ip", "link"])
            .args(["set", "lo", "alias", "someone:x:0:0::/made/up:"])
            .output()
            .ok();
        assert_eq!(report(&container, [])["env"]["HOME"], "/", "{file}");
        for user in ["someone", "0:someone"] {
            let call = exec(&container, ["--user", user], "/probe report");
            let output = call.within(Duration::from_secs(5)).output();
            output.exits(255).says("not a regular file");
        }
    }
    let bundle = Bundle::new();
    symlink("/proc/self/fd/0", bundle.rootfs().join("etc/passwd")).unwrap();
    let container = sleeping(bundle);
    let call = exec(&container, [], "/probe report").stdin("someone:x:0:0::/made/up:\n");
    assert_eq!(call.output().ok().probe()["env"]["HOME"], "/");
    let bundle = Bundle::new().file("/etc/passwd", "root:x:0:0::/a\0b:/bin/sh\n");
    assert_eq!(report(&sleeping(bundle), [])["env"]["HOME"], "/");
}

fn new_privileges_may_be_allowed() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let seen = report(&container, []);
    assert_eq!(seen["no_new_privileges"], 1);
    let seen = report(&container, ["--no-new-privs=false"]);
    assert_eq!(seen["no_new_privileges"], 0);
}

fn hundreds_leave_nothing() {
    needs(&[Root, Seconds(120)]);
    let container = sleeping(Bundle::new());
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap();
    let processes = || {
        let call = container.command("ps", ["--format", "json"]);
        call.output().ok().json()
    };
    let cgroups = || fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    exec(&container, [], "/probe exit 0").output().ok();
    let before = HostSnapshot::take();
    let (open, running, groups) = (descriptors().count(), processes(), cgroups());
    let own = || fs::read_dir("/proc/self/fd").unwrap().count();
    let ours = own();
    for number in 0..rounds(500) {
        // Every fifth exec fails, in different places.
        let words = match number % 15 {
            0 => "/nonexistent",
            5 => "relative",
            10 => "/etc",
            _ => "/probe exit 0",
        };
        let output = exec(&container, [], words).output();
        let expected = if number % 5 == 0 { 255 } else { 0 };
        assert_eq!(output.code(), expected, "{output}");
    }
    before.assert_unchanged();
    assert_eq!(descriptors().count(), open);
    assert_eq!((processes(), cgroups()), (running, groups));
    assert_eq!(own(), ours);
}

fn process_from_a_file() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let file = scratch().join("process.json");
    let process = json!({
        "args": ["/probe", "report"], "cwd": "/mnt", "env": ["ONLY=1"],
        "user": { "uid": 7, "umask": 0o27 }, "oomScoreAdj": 123,
    });
    fs::write(&file, process.to_string()).unwrap();
    // With `--process`, flags that describe the process have no effect.
    let flags = [
        "--process",
        file.to_str().unwrap(),
        "--cwd",
        "/tmp",
        "-u",
        "9",
    ];
    // The bundle is no longer needed.
    fs::remove_file(container.bundle.directory.join("config.json")).unwrap();
    let seen = report(&container, flags);
    assert_eq!((&seen["uid"], &seen["cwd"]), (&json!(7), &json!("/mnt")));
    assert_eq!(
        (&seen["umask"], &seen["oom_score_adj"]),
        (&json!("0027"), &json!(123))
    );
    assert_eq!(seen["env"], json!({ "ONLY": "1", "HOME": "/" }));
    fs::write(&file, "{\"args\":1}").unwrap();
    let refused = exec(&container, ["-p", file.to_str().unwrap()], "").output();
    refused.exits(255).says("args");
}

/// An exec has the attributes of the container's first process, unless its own description sets
/// them.
fn what_a_process_does_not_say_is_the_containers() {
    needs(&[Root]);
    let held = sleeping(
        Bundle::new()
            .capabilities(["CAP_KILL", "CAP_CHOWN"])
            .set(
                "/process/rlimits",
                json!([{ "type": "RLIMIT_NOFILE", "hard": 78, "soft": 77 }]),
            )
            .set(
                "/process/scheduler",
                json!({ "policy": "SCHED_BATCH", "nice": 3 }),
            )
            .set(
                "/process/ioPriority",
                json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
            ),
    );
    let file = scratch().join("process.json");
    let from_file = |process: Value| {
        fs::write(&file, process.to_string()).unwrap();
        report(&held, ["-p", file.to_str().unwrap()])
    };
    let args = ["/probe", "report"];
    let fields = [
        "capabilities",
        "no_new_privileges",
        "rlimits",
        "scheduler",
        "io_priority",
    ];
    let expected = report(&held, []);
    assert_eq!(expected["rlimits"]["RLIMIT_NOFILE"]["soft"], 77);
    assert_eq!(expected["scheduler"]["nice"], 3);
    let seen = from_file(json!({ "args": args, "cwd": "/" }));
    for field in fields {
        assert_eq!(seen[field], expected[field], "{field}");
    }
    let says = json!({
        "args": args, "cwd": "/", "noNewPrivileges": false,
        "capabilities": { "bounding": ["CAP_KILL"] },
    });
    let seen = from_file(says);
    let bounding = &seen["capabilities"]["bounding"]["names"];
    assert_eq!(
        (&seen["no_new_privileges"], bounding),
        (&json!(0), &json!(["CAP_KILL"]))
    );
    // Later changes of the bundle do not matter.
    let mut bundle: Value = held.bundle.spec.clone();
    for field in ["capabilities", "noNewPrivileges", "rlimits"] {
        bundle["process"].as_object_mut().unwrap().remove(field);
    }
    let config = held.bundle.directory.join("config.json");
    fs::write(config, bundle.to_string()).unwrap();
    let seen = report(&held, []);
    for field in fields {
        assert_eq!(seen[field], expected[field], "{field}");
    }
    let seen = report(&held, ["--cap", "CAP_AUDIT_WRITE", "--cap", "mknod"]);
    let effective = &seen["capabilities"]["effective"]["names"];
    assert_eq!(
        *effective,
        json!(["CAP_CHOWN", "CAP_KILL", "CAP_AUDIT_WRITE"])
    );
}

/// A limit that cannot be read is not guessed: the first call of the middle process reads one.
fn limit_that_cannot_be_read_is_an_error() {
    needs(&[Root, Teu, Tool("strace")]);
    let limit = json!([{ "type": "RLIMIT_NPROC", "hard": 4096, "soft": 4096 }]);
    let container = sleeping(Bundle::new().set("/process/rlimits", limit));
    let tracer = "strace -f -qq -o /dev/null -e inject=prlimit64:error=ENOSYS:when=1";
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.push(runtime().into());
    let call = exec(&container, NO_FLAGS, "/probe exit 0").with_program(program);
    let refused = call.output().exits(255);
    refused.says("error setting rlimit RLIMIT_NPROC: function not implemented");
}

/// The process that clones the program's has to tell why it could not.
fn full_cgroup_is_told_as_such() {
    needs(&[Root, Controller("pids"), Teu]);
    let container = sleeping(Bundle::new().set("/linux/resources/pids/limit", 1));
    let refused = exec(&container, NO_FLAGS, "/probe exit 0")
        .output()
        .exits(255);
    assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("resource temporarily unavailable"),
        "{}",
        refused.stderr
    );
}

fn limit_of_processes_is_the_users() {
    needs(&[Root, UserNamespaces, Teu]);
    let user = ["--user", "54321"];
    for bundle in [Bundle::new(), Bundle::new().user_namespace()] {
        let limit = json!([{ "type": "RLIMIT_NPROC", "hard": 0, "soft": 0 }]);
        let container = sleeping(bundle.set("/process/rlimits", limit));
        // The kernel compares with the limit when the process changes its user.
        let flags = ["--detach"].into_iter().chain(user);
        exec(&container, flags, "/probe sleep").output().ok();
        let second = exec(&container, user, "/probe exit 0").output();
        second.exits(255).says("resource temporarily unavailable");
    }
}

fn file_of_the_caller_is_read() {
    needs(&[Root, Tool("sh")]);
    let container = sleeping(Bundle::new());
    let file = scratch().join("process.json");
    fs::write(&file, r#"{"args":["/probe","exit","4"],"cwd":"/"}"#).unwrap();
    let shell = format!("exec 9<{}; rm {}", file.display(), file.display());
    let call = exec(&container, ["--process", "/dev/fd/9"], "").after_shell(&shell);
    call.output().exits(4);
}

fn status_is_that_of_the_program() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    exec(&container, [], "/probe exit 42").output().exits(42);
    exec(&container, [], "/probe kill KILL").output().exits(137);
    exec(&container, [], "/probe kill TERM").output().exits(143);
    exec(&container, ["--detach"], "/probe exit 42")
        .output()
        .ok();
    assert_eq!(container.status(), "running");
}

fn what_cannot_be_run_is_255() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let pid_file = scratch().join("none/pid");
    let pid_file = pid_file.to_str().unwrap();
    let start = "exec failed: unable to start container process: exec: \\\"";
    for (flags, words, why) in [
        (
            &[][..],
            "nosuch",
            format!("{start}nosuch\\\": executable file not found in $PATH"),
        ),
        (
            &[],
            "/nosuch",
            format!("{start}/nosuch\\\": stat /nosuch: no such file or directory"),
        ),
        (&[], "/tmp", format!("{start}/tmp\\\": is a directory")),
        (&["--cwd", "/none"], "/probe", "chdir to cwd".into()),
        (&["--user", "root"], "/probe", "exec failed: bad uid".into()),
        (
            &["--pid-file", pid_file],
            "/probe",
            "no such file or directory".into(),
        ),
        (
            &["--cgroup", ".."],
            "/probe",
            "bad sub cgroup path: ..".into(),
        ),
        (
            &["--cgroup", "none"],
            "/probe",
            "no such file or directory".into(),
        ),
        (&[], "", "exec args cannot be empty".into()),
    ] {
        let output = exec(&container, flags.iter().copied(), words)
            .output()
            .exits(255);
        output.says(&why);
    }
    let unknown = teu(["exec", "never-was", "true"]).output();
    unknown
        .exits(255)
        .says("exec failed: container does not exist");
    // The failed calls left nothing.
    let seen = report(&container, []);
    assert_eq!(seen["processes"].as_array().unwrap().len(), 2);
}

fn words_after_the_id_are_the_programs() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let output = exec(&container, [], "/probe echo --tty -d --user x")
        .output()
        .ok();
    assert_eq!(output.stdout, "--tty -d --user x\n");
}

fn user_namespace_is_entered() {
    needs(&[Root, UserNamespaces]);
    let container = sleeping(Bundle::new().user_namespace());
    let seen = report(&container, ["--user", "0:7"]);
    assert_eq!(seen["uid_map"], json!([[0, 100_000, 65_536]]));
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(0), &json!(7)));
    assert_eq!(seen["groups"], json!([]));
    assert_eq!(
        seen["namespaces"]["user"],
        namespace(container.pid(), "user")
    );
    assert_eq!(
        seen["rlimits"]["RLIMIT_NOFILE"],
        json!({ "soft": 1024, "hard": 1024 })
    );
}

fn shared_namespaces_stay_shared() {
    needs(&[Root]);
    let bundle = Bundle::new().remove("/hostname");
    let bundle = bundle.without_namespace("network").without_namespace("uts");
    let container = sleeping(bundle.without_namespace("pid"));
    let seen = report(&container, []);
    let own = std::process::id().try_into().unwrap();
    for name in ["net", "uts", "pid"] {
        assert_eq!(seen["namespaces"][name], namespace(own, name), "{name}");
    }
    assert_eq!(seen["namespaces"]["mnt"], namespace(container.pid(), "mnt"));
    container.kill("KILL").ok();
}

fn root_is_the_containers_without_a_mount_namespace() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .without_namespace("mount")
        .set("/mounts", json!([]))
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let container = sleeping(bundle);
    let output = exec(&container, [], "/probe list /").output().ok();
    assert!(
        output.answer().to_string().contains("\"probe\""),
        "{output}"
    );
    container.delete_force().ok();
}

fn time_namespace_is_entered() {
    needs(&[Root, TimeNamespaces]);
    let offsets = json!({ "boottime": { "secs": 86_400_000, "nanosecs": 0 } });
    let bundle = Bundle::new()
        .namespace("time")
        .set("/linux/timeOffsets", offsets);
    let container = sleeping(bundle);
    let seen = report(&container, []);
    assert_eq!(
        seen["namespaces"]["time"],
        namespace(container.pid(), "time")
    );
    assert!(seen["clocks"]["boottime"].as_f64().unwrap() > 86_400_000.0);
}

fn cgroups_are_entered() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let file = format!("/proc/{}/cgroup", container.pid());
    let own = fs::read_to_string(file).unwrap();
    let output = exec(&container, [], "/probe read /proc/self/cgroup")
        .output()
        .ok();
    assert_eq!(output.answer(), own);
    let output = exec(
        &container,
        ["--cgroup", "/"],
        "/probe read /proc/self/cgroup",
    )
    .output();
    assert_eq!(output.ok().answer(), own);
}

fn processes_run_on_their_cpus() {
    needs(&[Root, Tool("taskset")]);
    let all = sleeping(Bundle::new());
    let cpus = report(&all, [])["cpu_affinity"].clone();
    if !cpus.as_array().unwrap().contains(&json!(1)) {
        return;
    }
    let affinity = json!({ "initial": "0", "final": "1" });
    let container = sleeping(Bundle::new().set("/process/execCPUAffinity", affinity));
    assert_eq!(report(&container, [])["cpu_affinity"], json!([1]));
    // Without the field, the caller's own affinity does not count.
    let call = exec(&all, [], "/probe report").after_shell("taskset -pc 0 $$ >/dev/null");
    assert_eq!(call.output().ok().probe()["cpu_affinity"], cpus);
}

fn container_hands_down_its_settings() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .set("/process/user/umask", 0o31)
        .set("/process/oomScoreAdj", 321)
        .set("/linux/personality", json!({ "domain": "LINUX32" }));
    let container = sleeping(bundle);
    // They are those of the creation, not of config.json.
    let config = container.bundle.directory.join("config.json");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("LINUX32", "LINUX");
    fs::write(&config, text).unwrap();
    let seen = report(&container, []);
    assert_eq!(
        (&seen["umask"], &seen["oom_score_adj"]),
        (&json!("0031"), &json!(321))
    );
    assert_eq!(seen["personality"], 8);
}

/// The container's keyring with all keys in it, not the caller's.
fn exec_joins_the_containers_session_keyring() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let keyring = report(&container, [])["keyring"].to_string();
    assert!(keyring.contains(&container.id), "{keyring}");
}

fn apparmor_profile_of_exec_is_refused_without_apparmor() {
    needs(&[Root, NoAppArmor]);
    let container = sleeping(Bundle::new());
    let flags = ["--apparmor", "some-profile"];
    let output = exec(&container, flags, "/probe").output();
    output.exits(255).says("apparmor");
}

fn caller_hands_down_nothing() {
    needs(&[Root, Tool("sh")]);
    let container = sleeping(Bundle::new());
    let shell = "trap '' USR1; export SECRET=1; exec 7</etc/passwd; ulimit -c 0";
    let output = exec(&container, [], "/probe report")
        .after_shell(shell)
        .output();
    let seen = output.ok().probe();
    assert_eq!(seen["env"]["SECRET"], Value::Null);
    let open: Vec<_> = seen["fds"].as_object().unwrap().keys().collect();
    assert_eq!(open, ["0", "1", "2"]);
    assert_eq!(seen["signals"]["blocked"], "0000000000000000");
    // Rust's runtime makes the probe itself ignore SIGPIPE.
    assert_eq!(seen["signals"]["ignored"], "0000000000001000");
}

fn detached_process_lives_on() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let file = scratch().join("exec.pid");
    let flags = ["-d", "--pid-file", file.to_str().unwrap()];
    exec(&container, flags, "/probe sleep").output().ok();
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(is_alive(pid) && pid != container.pid());
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/root")).unwrap(),
        Path::new("/")
    );
    assert_eq!(namespace(pid, "pid"), namespace(container.pid(), "pid"));
    container.delete_force().ok();
    wait_until("the process ends with its container", || !is_alive(pid));
}

fn signals_are_passed_on() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let running = exec(&container, [], "/probe seq trap HUP -- exit 6").spawn();
    wait_until("the program is ready", || {
        running.stdout().contains("ready")
    });
    running.signal(Signal::SIGHUP);
    let output = running.wait().exits(6);
    assert!(output.stdout.contains("trapped HUP"));
    assert_eq!(container.status(), "running");
}

fn terminal_goes_to_the_console_socket() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let socket = FdSocket::new("console");
    let flags = ["--tty", "--detach", "--console-socket", socket.path()];
    exec(&container, flags, "/probe report").output().ok();
    let (name, master) = socket.receive();
    assert_eq!(name, "/dev/pts/ptmx");
    let text = Terminal::from_master(master).read_to_end();
    let seen: Value = serde_json::from_str(&text).expect("a report");
    for stream in ["stdin", "stdout", "stderr"] {
        assert_eq!(seen["tty"][stream], true, "{stream}");
    }
    assert_eq!(seen["tty"]["controlling"], "136:0");
    // An exec must not change the container's console.
    assert!(!seen["devices"].to_string().contains("/dev/console"));
}

fn terminal_is_the_callers() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let (mut terminal, other_side) = Terminal::pair();
    terminal.resize(24, 81);
    let call = exec(&container, ["-t"], "/probe seq winsize-watch");
    let running = call.on_terminal(other_side).spawn();
    terminal.expect("24x81\r\n");
    terminal.resize(40, 132);
    terminal.expect("40x132\r\n");
    // Ctrl+C reaches the program.
    terminal.write("\x03");
    running.wait().exits(130);
}

fn terminal_needs_a_place_to_go() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let socket = FdSocket::new("console");
    for (flags, why) in [
        (&["-t", "-d"][..], "cannot allocate tty if runc will detach"),
        (
            &["-d", "--console-socket", socket.path()],
            "cannot use console socket",
        ),
        (
            &["-t", "--console-socket", socket.path()],
            "cannot use console socket",
        ),
    ] {
        let output = exec(&container, flags.iter().copied(), "/probe").output();
        output.exits(255).says(why);
    }
}

fn pidfd_of_the_process_is_sent() {
    needs(&[Root]);
    let container = sleeping(Bundle::new());
    let socket = FdSocket::new("pidfd");
    exec(
        &container,
        ["--pidfd-socket", socket.path()],
        "/probe exit 0",
    )
    .output()
    .ok();
    let (text, pidfd) = socket.receive();
    assert_eq!(text, "setns");
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut polled, PollTimeout::from(10_000_u16)), Ok(1));
}

fn preserved_descriptors_reach_the_program() {
    needs(&[Root, Tool("sh")]);
    let container = sleeping(Bundle::new());
    let shell = "exec 3</dev/zero 4</dev/full 5</dev/null; export LISTEN_FDS=3 LISTEN_PID=$$";
    let call = exec(&container, ["--preserve-fds", "2"], "/probe fds").after_shell(shell);
    let open = call.output().ok().answer();
    let open: Vec<_> = open.as_object().unwrap().keys().collect();
    assert_eq!(open, ["0", "1", "2", "3", "4"]);
    let call = exec(&container, ["--preserve-fds", "1"], "/probe fds");
    let refused = call.after_shell("exec 3<&-").output().exits(255);
    refused.says("unable to stat preserved-fd 0 (of 1)");
}

/// A listening socket with a full backlog: a client blocks until the first connection in the
/// backlog is accepted.
struct BusySocket {
    listener: OwnedFd,
    _first: OwnedFd,
}

impl BusySocket {
    fn new(path: &Path) -> BusySocket {
        let stream = || {
            socket(
                AddressFamily::Unix,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .unwrap()
        };
        let (listener, first) = (stream(), stream());
        let address = UnixAddr::new(path).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &address).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        connect(std::os::fd::AsRawFd::as_raw_fd(&first), &address).unwrap();
        BusySocket {
            listener,
            _first: first,
        }
    }

    fn accept(&self) {
        let listener = std::os::fd::AsRawFd::as_raw_fd(&self.listener);
        nix::sys::socket::accept(listener).unwrap();
    }
}

/// Starts an exec that is complete except for executing the program. Returns its process, too.
fn waiting_exec(container: &Container, user: &str, socket: &Path) -> (Running, i32) {
    let flags = ["--user", user, "--pidfd-socket", socket.to_str().unwrap()];
    let running = exec(container, flags, "/probe report").spawn();
    let most = effective_capabilities(container.pid()).unwrap();
    // While it has more capabilities than the container, it is not complete.
    let is_container = |pid| effective_capabilities(pid).is_some_and(|held| held & !most == 0);
    // The middle process has no other pid in the container.
    let is_inside = |pid| status_line(pid, "NSpid:").is_some_and(|id| id != pid.to_string());
    let is_there = |pid: &i32| is_container(*pid) && is_inside(*pid);
    let child = || running.children().into_iter().find(is_there);
    wait_until("the process has only what is the container's", || {
        child().is_some()
    });
    let child = child().unwrap();
    (running, child)
}

/// The effective capabilities of a process; nothing if it has ended.
fn effective_capabilities(pid: i32) -> Option<u64> {
    u64::from_str_radix(&status_line(pid, "CapEff:")?, 16).ok()
}

/// The last word of a line of /proc/PID/status.
fn status_line(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().last().map(str::to_owned)
}

/// CVE-2016-9962: processes of the container see an exec before it executes the program, with all
/// its open files.
fn others_cannot_look_in_before_the_program_runs() {
    needs(&[Root, UserNamespaces]);
    // An exec that stays root is protected by nothing else.
    for (bundle, user) in [
        (Bundle::new(), "0"),
        (Bundle::new(), "1000"),
        (Bundle::new().user_namespace(), "0"),
    ] {
        let container = sleeping(bundle);
        let path = scratch().join(&container.id);
        let socket = BusySocket::new(&path);
        let (running, child) = waiting_exec(&container, user, &path);
        let inside = status_line(child, "NSpid:").unwrap();
        let attack = format!("/probe open /proc/{inside}/environ r");
        let attack = exec(&container, ["--user", user], &attack).output();
        assert_eq!(attack.answer(), "EACCES", "{attack}");
        socket.accept();
        let seen = running.wait().ok().probe();
        let own: u32 = user.parse().unwrap();
        assert_eq!(
            (&seen["uid"], &seen["dumpable"]),
            (&json!(own), &json!(true))
        );
    }
}

/// A container that may trace processes looks into each exec from its first moment in the pid
/// namespace on, and could take it over.
fn nothing_can_be_taken_from_a_process_on_its_way() {
    needs(&[Root, Processors(2)]);
    let bundle = Bundle::new().capabilities(["CAP_SYS_PTRACE", "CAP_KILL"]);
    let filtered = Bundle::new()
        .capabilities(["CAP_SYS_PTRACE", "CAP_KILL"])
        .set("/process/noNewPrivileges", false)
        .set(
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }] }),
        );
    // Then seccomp(2) requires CAP_SYS_ADMIN.
    for (bundle, needed) in [(bundle, 0), (filtered, 1 << 21)] {
        let container = Container::running(bundle.probe("say up; watch 12; sleep"));
        let own = effective_capabilities(container.pid()).unwrap();
        // The last exec shows that the exec before it has ended.
        for _ in 0..13 {
            let ended = exec(&container, [], "/probe exit 0").output();
            assert_eq!(ended.code(), 0, "{ended}");
        }
        container.wait_for_output("capabilities");
        let seen: Value = serde_json::from_str(container.stdout().trim()).unwrap();
        let held = seen["ok"]["capabilities"].as_u64().unwrap();
        assert_eq!(held & !(own | needed), 0, "{held:#x} beyond {own:#x}");
        // The streams, and the pipe to the parent.
        let open: Vec<&str> = seen["ok"]["descriptors"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(!open.is_empty(), "none of them was seen");
        let is_harmless = |link: &&&str| {
            link.starts_with("socket:")
                || **link == "/dev/null"
                || Path::new(link).starts_with(scratch())
                // The C library of the program reads these at its start.
                || link.ends_with("/maps")
        };
        let taken: Vec<_> = open.iter().filter(|link| !is_harmless(link)).collect();
        assert!(taken.is_empty(), "{taken:?}");
    }
}

fn waiting_process_ends_with_its_host() {
    needs(&[Root]);
    let path = scratch().join("busy");
    let _socket = BusySocket::new(&path);
    let container = sleeping(Bundle::new());
    let (running, child) = waiting_exec(&container, "1000", &path);
    running.signal(Signal::SIGKILL);
    running.wait();
    wait_until("the process has ended", || !is_alive(child));
}

fn rootless_container_is_entered() {
    needs(&[Root, UserNamespaces]);
    let container = crate::rootless::user_container("sleep", 456);
    let id = container.id.as_str();
    let call = |words: &[&str]| crate::rootless::call([]).args(words);
    call(&["run", "--detach", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(id)
        .output()
        .ok();
    let seen = call(&["exec", id, "/probe", "report"])
        .output()
        .ok()
        .probe();
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(0), &json!(0)));
    assert_eq!(seen["processes"], json!([1, seen["pid"]]));
    assert_eq!(seen["oom_score_adj"], 456);
    call(&["exec", id, "/probe", "exit", "5"]).output().exits(5);
    call(&["delete", "--force", id]).output().ok();
}

fn stopped_container_takes_no_process() {
    needs(&[Root]);
    let container = Container::running(Bundle::new().probe("exit 0"));
    container.wait();
    let output = exec(&container, [], "/probe").output();
    output
        .exits(255)
        .says("exec failed: cannot exec in a stopped container");
}

fn paused_container_stands_still() {
    needs(&[Root, Controller("freezer")]);
    let container = sleeping(Bundle::new());
    container.command("pause", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "paused");
    let why = "exec failed: cannot exec in a paused container (use --ignore-paused to override)";
    exec(&container, [], "/probe").output().exits(255).says(why);
    container.command("resume", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "running");
    exec(&container, [], "/probe exit 0").output().ok();
}

fn paused_container_can_be_waited_for() {
    needs(&[Root, Controller("freezer")]);
    let container = sleeping(Bundle::new());
    container.command("pause", NO_FLAGS).output().ok();
    let running = exec(&container, ["--ignore-paused"], "/probe echo up").spawn();
    wait_until("there is a process", || !running.children().is_empty());
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(running.stdout(), "");
    container.command("resume", NO_FLAGS).output().ok();
    assert_eq!(running.wait().ok().stdout, "up\n");
}

fn pause_and_resume_know_the_status() {
    needs(&[Root, Controller("freezer")]);
    let container = Container::created(Bundle::new().probe("exit 0"));
    let call = |verb: &str| container.command(verb, NO_FLAGS).output();
    call("resume").exits(1).says("container not paused");
    call("pause").ok();
    call("pause").exits(1).says("container not running");
    call("resume").ok();
    container.start().ok();
    container.wait();
    call("pause").exits(1).says("container not running");
    call("resume").exits(1).says("container not paused");
    for verb in ["pause", "resume", "ps"] {
        teu([verb, "never-was"])
            .output()
            .exits(1)
            .says("container does not exist");
    }
}

fn ps_shows_the_processes() {
    needs(&[Root, Tool("ps")]);
    let container = sleeping(Bundle::new());
    exec(&container, ["-d"], "/probe sleep").output().ok();
    let json = container
        .command("ps", ["--format", "json"])
        .output()
        .ok()
        .json();
    let pids = json.as_array().unwrap();
    assert!(
        pids.len() == 2 && pids.contains(&json!(container.pid())),
        "{json}"
    );
    let table = container.command("ps", NO_FLAGS).output().ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = container
        .command("ps", NO_FLAGS)
        .args(["-e", "-o", "pid,args"])
        .output()
        .ok();
    assert_eq!(table.stdout.matches("/probe").count(), 2, "{table}");
    container
        .command("ps", NO_FLAGS)
        .args(["-e", "-o", "args"])
        .output()
        .exits(1);
    container
        .command("ps", ["-f", "xml"])
        .output()
        .exits(1)
        .says("invalid format option");
    container.kill("KILL").ok();
    container.wait();
    let stopped = container.command("ps", ["-f", "json"]).output().ok().stdout;
    assert_eq!(stopped, "null\n");
}
