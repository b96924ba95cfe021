//! The container's first process, as `process` in config.json describes it.

use std::path::PathBuf;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::*;

tests![
    ids_and_groups_are_set,
    groups_are_empty_by_default,
    umask_is_0022_or_as_given,
    working_directory_is_made,
    arguments_and_environment_are_exact,
    last_of_equal_variables_wins,
    program_is_found_in_path,
    home_comes_from_passwd,
    what_is_no_passwd_is_not_opened,
    rlimits_are_set,
    capability_sets_are_exact,
    ambient_capabilities_outlive_the_user_change,
    ambient_capabilities_of_the_caller_do_not,
    no_capabilities_are_none,
    unknown_capability_warns,
    capability_the_caller_lacks_is_left_out,
    caller_may_have_many_groups,
    no_new_privileges_is_as_asked,
    oom_score_is_set,
    nice_and_batch_scheduling_are_set,
    io_priority_is_set,
    personality_is_set,
    memory_policy_is_set,
    session_keyring_is_the_containers,
    session_keyring_can_be_kept,
    all_processors_are_allowed,
    signals_are_as_for_a_new_program,
    apparmor_profile_is_refused_without_apparmor,
];

fn ids_and_groups_are_set() {
    needs(&[Root]);
    let user = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 27] });
    let seen = Bundle::new().set("/process/user", user).run().probe();
    for (field, id) in [("uid", 1000), ("euid", 1000), ("gid", 1001), ("egid", 1001)] {
        assert_eq!(seen[field], id, "{field}");
    }
    assert_eq!(seen["groups"], json!([5, 27]));
}

fn groups_are_empty_by_default() {
    needs(&[Root]);
    assert_eq!(Bundle::new().run().probe()["groups"], json!([]));
}

fn umask_is_0022_or_as_given() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let call = container.command("run", NO_FLAGS).after_shell("umask 077");
    assert_eq!(call.output().probe()["umask"], "0022");
    let seen = Bundle::new()
        .set("/process/user/umask", 0o027)
        .run()
        .probe();
    assert_eq!(seen["umask"], "0027");
}

fn working_directory_is_made() {
    needs(&[Root]);
    let seen = Bundle::new()
        .set("/process/cwd", "/made/for/this")
        .run()
        .probe();
    assert_eq!(seen["cwd"], "/made/for/this");
}

fn arguments_and_environment_are_exact() {
    needs(&[Root]);
    let environment = ["PATH=/", "EMPTY=", "SPACED=a b=c", "HOME=/here"];
    let bundle = Bundle::new().set("/process/env", environment.to_vec());
    let seen = bundle.args(["/probe", "report"]).run().probe();
    assert_eq!(seen["args"], json!(["/probe", "report"]));
    assert_eq!(
        seen["env"],
        json!({ "PATH": "/", "EMPTY": "", "SPACED": "a b=c", "HOME": "/here" })
    );
}

fn last_of_equal_variables_wins() {
    needs(&[Root]);
    let seen = Bundle::new()
        .env("TWICE=first")
        .env("TWICE=second")
        .run()
        .probe();
    assert_eq!(seen["env"]["TWICE"], "second");
}

fn program_is_found_in_path() {
    needs(&[Root]);
    let seen = Bundle::new().args(["probe", "report"]).run().probe();
    assert_eq!(seen["args"][0], "probe");
    // A program with a slash is relative to the working directory.
    Bundle::new().args(["./probe", "exit", "3"]).run().exits(3);
}

fn home_comes_from_passwd() {
    needs(&[Root]);
    let passwd = "root:x:0:0::/root:/bin/sh\nsomeone:x:1000:1000::/home/someone:/bin/sh\n";
    let bundle = Bundle::new().file("/etc/passwd", passwd);
    let seen = bundle.set("/process/user/uid", 1000).run().probe();
    assert_eq!(seen["env"]["HOME"], "/home/someone");
}

/// Opening a fifo would unblock its writer, and opening a device may have effects of its own.
fn what_is_no_passwd_is_not_opened() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().file("/etc/fifo", "");
    let fifo = bundle.rootfs().join("etc/passwd");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let script = "echo ready; exec 3>\"$0\"; echo opened";
    let writer = Invocation::new("sh")
        .args(["-c", script])
        .arg(&fifo)
        .spawn();
    wait_until("it waits", || writer.stdout() == "ready\n");
    let container = Container::created(bundle.probe("sleep"));
    container.start().ok();
    container
        .command("exec", NO_FLAGS)
        .arg("/probe")
        .arg("report")
        .output()
        .ok();
    assert_eq!(writer.stdout(), "ready\n");
}

fn rlimits_are_set() {
    needs(&[Root]);
    let limits = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        { "type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 22 },
    ]);
    let seen = Bundle::new().set("/process/rlimits", limits).run().probe();
    assert_eq!(
        seen["rlimits"]["RLIMIT_NOFILE"],
        json!({ "soft": 100, "hard": 200 })
    );
    assert_eq!(
        seen["rlimits"]["RLIMIT_CORE"],
        json!({ "soft": 0, "hard": 0 })
    );
    assert_eq!(
        seen["rlimits"]["RLIMIT_STACK"],
        json!({ "soft": 1 << 20, "hard": 1 << 22 })
    );
}

fn capability_sets_are_exact() {
    needs(&[Root]);
    let bundle = Bundle::new().set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        }),
    );
    // Runs as another user, because for root execve(2) would add to the ambient capabilities.
    let seen = bundle.set("/process/user/uid", 1000).run().probe();
    let names = |set: &str| seen["capabilities"][set]["names"].clone();
    assert_eq!(
        names("bounding"),
        json!(["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"])
    );
    assert_eq!(names("inheritable"), json!(["CAP_KILL"]));
    assert_eq!(names("ambient"), json!(["CAP_KILL"]));
    assert_eq!(names("permitted"), json!(["CAP_KILL"]));
    assert_eq!(names("effective"), json!(["CAP_KILL"]));
}

fn ambient_capabilities_outlive_the_user_change() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .set("/process/user/uid", 1000)
        .capabilities(["CAP_NET_RAW"]);
    let without = bundle.run().probe();
    assert_eq!(without["capabilities"]["effective"]["names"], json!([]));
    let bundle = Bundle::new()
        .set("/process/user/uid", 1000)
        .capabilities(["CAP_NET_RAW"]);
    let with = bundle
        .set("/process/capabilities/ambient", json!(["CAP_NET_RAW"]))
        .run()
        .probe();
    assert_eq!(
        with["capabilities"]["effective"]["names"],
        json!(["CAP_NET_RAW"])
    );
}

fn ambient_capabilities_of_the_caller_do_not() {
    needs(&[Root, Tool("setpriv")]);
    let container = Container::new(Bundle::new().capabilities(["CAP_KILL"]));
    let caller = ["setpriv", "--inh-caps", "+kill", "--ambient-caps", "+kill"];
    let words = caller.iter().map(PathBuf::from).chain([runtime()]);
    let call = container.command("run", NO_FLAGS).with_program(words);
    let seen = call.output().probe();
    assert_eq!(seen["capabilities"]["ambient"]["names"], json!([]));
}

fn no_capabilities_are_none() {
    needs(&[Root, UserNamespaces]);
    for bundle in [
        Bundle::new().set("/process/capabilities", json!({})),
        Bundle::new().remove("/process/capabilities"),
        Bundle::new()
            .remove("/process/capabilities")
            .user_namespace(),
    ] {
        let seen = bundle.run().probe();
        for set in [
            "bounding",
            "effective",
            "permitted",
            "inheritable",
            "ambient",
        ] {
            assert_eq!(seen["capabilities"][set]["names"], json!([]), "{set}");
        }
    }
}

fn capability_the_caller_lacks_is_left_out() {
    needs(&[Root, Tool("setpriv"), Teu]);
    let bundle = Bundle::new().capabilities(["CAP_KILL", "CAP_SYS_TIME"]);
    let run = Container::new(bundle).command("run", NO_FLAGS);
    let without = ["setpriv", "--bounding-set", "-sys_time"].map(PathBuf::from);
    let run = run.with_program(without.into_iter().chain([runtime()]));
    let output = run.output().ok().says("capabilities: [CAP_SYS_TIME]");
    let names = &output.probe()["capabilities"]["bounding"]["names"];
    assert_eq!(*names, json!(["CAP_KILL"]));
}

fn caller_may_have_many_groups() {
    needs(&[Root, Tool("setpriv"), Teu]);
    let groups: Vec<String> = (100_000..101_000).map(|id| id.to_string()).collect();
    let words = ["setpriv", "--groups", &groups.join(",")].map(PathBuf::from);
    let words = words.into_iter().chain([runtime()]);
    let run = Container::new(Bundle::new()).command("run", NO_FLAGS);
    run.with_program(words).output().ok();
}

/// A capability in another spelling is unknown.
fn unknown_capability_warns() {
    needs(&[Root]);
    for unknown in ["CAP_WALKING", "cap_chown", "CHOWN", "CAP_CAP_CHOWN"] {
        let bundle = Bundle::new().capabilities(["CAP_KILL", unknown]);
        let output = bundle.run().ok().says(unknown);
        assert_eq!(
            output.probe()["capabilities"]["bounding"]["names"],
            json!(["CAP_KILL"])
        );
    }
}

fn no_new_privileges_is_as_asked() {
    needs(&[Root]);
    for (asked, seen) in [(json!(true), 1), (json!(false), 0), (json!(null), 0)] {
        let report = Bundle::new()
            .set("/process/noNewPrivileges", asked)
            .run()
            .probe();
        assert_eq!(report["no_new_privileges"], seen);
    }
}

fn oom_score_is_set() {
    needs(&[Root]);
    let seen = Bundle::new().set("/process/oomScoreAdj", 345).run().probe();
    assert_eq!(seen["oom_score_adj"], 345);
}

fn nice_and_batch_scheduling_are_set() {
    needs(&[Root, Teu]);
    let scheduler = json!({ "policy": "SCHED_BATCH", "nice": 7 });
    let seen = Bundle::new()
        .set("/process/scheduler", scheduler)
        .run()
        .probe();
    assert_eq!(seen["scheduler"]["policy"], "SCHED_BATCH");
    assert_eq!(seen["scheduler"]["nice"], 7);
}

fn io_priority_is_set() {
    needs(&[Root, Teu]);
    let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    let seen = Bundle::new()
        .set("/process/ioPriority", priority)
        .run()
        .probe();
    assert_eq!(
        seen["io_priority"],
        json!({ "class": "best-effort", "priority": 6 })
    );
}

fn personality_is_set() {
    needs(&[Root, Teu]);
    let seen = Bundle::new()
        .set("/linux/personality/domain", "LINUX32")
        .run()
        .probe();
    assert_eq!(seen["personality"], 8);
    let seen = Bundle::new()
        .set("/linux/personality/domain", "LINUX")
        .run()
        .probe();
    assert_eq!(seen["personality"], 0);
}

fn memory_policy_is_set() {
    needs(&[Root, Teu]);
    let policy = json!({ "mode": "MPOL_BIND", "nodes": "0" });
    let seen = Bundle::new()
        .set("/linux/memoryPolicy", policy)
        .run()
        .probe();
    assert_eq!(seen["memory_policy"], json!({ "mode": 2, "nodes": [0] }));
}

fn session_keyring_is_the_containers() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let keyring = container.run().probe()["keyring"].clone();
    let keyring = keyring.as_str().unwrap();
    assert!(keyring.contains(&container.id), "{keyring}");
}

fn session_keyring_can_be_kept() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let seen = container
        .command("run", ["--no-new-keyring"])
        .output()
        .probe();
    let keyring = seen["keyring"].as_str().unwrap_or_default();
    assert!(!keyring.contains(&container.id), "{keyring}");
}

fn all_processors_are_allowed() {
    needs(&[Root, Tool("taskset")]);
    let container = Container::new(Bundle::new());
    let call = container
        .command("run", NO_FLAGS)
        .after_shell("taskset -cp 0 $$ >/dev/null");
    let seen = call.output().probe();
    let count = std::thread::available_parallelism().unwrap().get();
    assert_eq!(seen["cpu_affinity"].as_array().unwrap().len(), count);
}

fn signals_are_as_for_a_new_program() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let call = container
        .command("run", NO_FLAGS)
        .after_shell("trap '' USR1 HUP");
    let seen = call.output().probe();
    assert_eq!(seen["signals"]["blocked"], "0000000000000000");
    // Rust's runtime makes the probe itself ignore SIGPIPE.
    assert_eq!(seen["signals"]["ignored"], "0000000000001000");
}

fn apparmor_profile_is_refused_without_apparmor() {
    needs(&[Root, NoAppArmor]);
    let output = Bundle::new()
        .set("/process/apparmorProfile", "some-profile")
        .run();
    output.exits(1).says("apparmor");
}
