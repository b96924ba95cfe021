//! Hooks: their kinds, their order, their surroundings, and the effect of their failure.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    all_hooks_run_in_order,
    hooks_get_the_state,
    hooks_run_in_their_namespaces,
    hooks_of_the_host_run_in_the_bundle,
    hooks_have_the_environment_given,
    container_hooks_have_nothing_of_the_caller,
    hooks_have_no_descriptor_of_the_caller,
    failing_hook_stops_creation,
    later_hooks_do_not_run_after_a_failure,
    poststart_hooks_wait_for_the_program,
    poststart_hooks_do_not_run_without_a_program,
    poststart_hooks_do_not_run_without_a_program_that_could_say_why,
    failing_poststart_hook_deletes,
    failing_poststart_hook_deletes_no_later_container,
    poststart_hooks_need_their_bundle_before_the_start,
    failing_poststart_hook_of_run_leaves_nothing,
    failing_poststop_hook_only_warns,
    hook_that_hangs_is_killed,
    missing_hook_is_named,
];

/// The kinds of hooks that run outside of the container's mounts.
const HOST_KINDS: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// A bundle with hooks of all six kinds, which record their calls.
fn recording(file: &Path) -> Bundle {
    let mut bundle = Bundle::new();
    for kind in HOST_KINDS.into_iter().chain(["createContainer"]) {
        let hook = json!({
            "path": bundle.host_probe(), "args": [kind, "hook", file], "env": [format!("KIND={kind}")],
        });
        bundle = bundle.hook(kind, hook);
    }
    // startContainer hooks run in the root filesystem, so the file is mounted there, too.
    let directory = file.parent().unwrap();
    let mount = json!({
        "destination": directory, "type": "bind", "source": directory, "options": ["bind"],
    });
    let hook = json!({
        "path": "/probe", "args": ["startContainer", "hook", file], "env": ["KIND=startContainer"],
    });
    bundle.mount(mount).hook("startContainer", hook)
}

/// The file in which the hooks of this test record their calls.
fn record_file() -> PathBuf {
    let directory = scratch().join("record");
    fs::create_dir_all(&directory).unwrap();
    directory.join("calls")
}

fn calls() -> Vec<Value> {
    let text = fs::read_to_string(record_file()).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn call_of<'a>(calls: &'a [Value], kind: &str) -> &'a Value {
    let call = calls.iter().find(|call| call["argv"][0] == kind);
    call.unwrap_or_else(|| panic!("{kind} did not run, only {:?}", kinds_called()))
}

fn kinds_called() -> Vec<String> {
    calls()
        .iter()
        .map(|call| call["argv"][0].as_str().unwrap().to_owned())
        .collect()
}

fn all_hooks_run_in_order() {
    needs(&[Root]);
    let container = Container::created(recording(&record_file()).probe("trap TERM"));
    assert_eq!(
        kinds_called(),
        ["prestart", "createRuntime", "createContainer"]
    );
    container.start().ok();
    container.wait_for_output("ready");
    let mut called = kinds_called();
    // startContainer hooks and the parent's hooks may run in either order.
    called[3..].sort();
    assert_eq!(called[3..], ["poststart", "startContainer"]);
    container.kill("TERM").ok();
    container.wait();
    container.delete().ok();
    assert_eq!(kinds_called()[5..], ["poststop"]);
}

fn hooks_get_the_state() {
    needs(&[Root]);
    let bundle = recording(&record_file()).set("/annotations", json!({ "colour": "green" }));
    let container = Container::running(bundle.probe("trap TERM"));
    container.wait_for_output("ready");
    let pid = container.pid();
    container.kill("TERM").ok();
    container.wait();
    container.delete().ok();
    let calls = calls();
    let expected = [
        ("prestart", "creating", json!(pid)),
        ("createRuntime", "creating", json!(pid)),
        ("createContainer", "creating", json!(pid)),
        ("startContainer", "created", json!(1)),
        ("poststart", "running", json!(pid)),
        ("poststop", "stopped", json!(0)),
    ];
    for (kind, status, pid) in expected {
        let state = &call_of(&calls, kind)["state"];
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], container.id, "{kind}");
        assert_eq!(state["bundle"], json!(container.bundle.directory), "{kind}");
        assert_eq!(state["annotations"]["colour"], "green", "{kind}");
        // A poststop hook may get no pid, because the process is gone.
        let is_as_expected = state["pid"] == pid || kind == "poststop" && state["pid"].is_null();
        assert!(
            is_as_expected || kind == "createContainer",
            "{kind}: {}",
            state["pid"]
        );
    }
}

fn hooks_run_in_their_namespaces() {
    needs(&[Root]);
    let container = Container::running(recording(&record_file()).probe("trap TERM"));
    container.wait_for_output("ready");
    let own = |kind: &str| json!(fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", container.pid());
    let inside = |kind: &str| json!(fs::read_link(path(kind)).unwrap());
    let calls = calls();
    for kind in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(
            call_of(&calls, kind)["namespaces"]["mnt"],
            own("mnt"),
            "{kind}"
        );
        assert_eq!(
            call_of(&calls, kind)["namespaces"]["net"],
            own("net"),
            "{kind}"
        );
    }
    for kind in ["createContainer", "startContainer"] {
        assert_eq!(
            call_of(&calls, kind)["namespaces"]["mnt"],
            inside("mnt"),
            "{kind}"
        );
        assert_eq!(
            call_of(&calls, kind)["namespaces"]["net"],
            inside("net"),
            "{kind}"
        );
    }
    // createContainer hooks run before the root is changed, startContainer hooks after.
    assert_eq!(
        call_of(&calls, "createContainer")["root"],
        call_of(&calls, "prestart")["root"]
    );
    assert_ne!(
        call_of(&calls, "startContainer")["root"],
        call_of(&calls, "prestart")["root"]
    );
}

fn hooks_of_the_host_run_in_the_bundle() {
    needs(&[Root]);
    let container = Container::running(recording(&record_file()).probe("trap TERM"));
    container.wait_for_output("ready");
    let bundle = json!(container.bundle.directory);
    for kind in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(call_of(&calls(), kind)["cwd"], bundle, "{kind}");
    }
    fs::remove_file(record_file()).unwrap();
    let bundle = recording(&record_file()).probe("exit 0");
    let directory = json!(bundle.directory);
    bundle.run().ok();
    for kind in HOST_KINDS {
        assert_eq!(call_of(&calls(), kind)["cwd"], directory, "{kind}");
    }
}

fn hooks_have_the_environment_given() {
    needs(&[Root]);
    let container = Container::running(recording(&record_file()).probe("trap TERM"));
    container.wait_for_output("ready");
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        assert_eq!(call_of(&calls(), kind)["env"], json!({ "KIND": kind }));
    }
}

/// Hooks without an environment of their own get an empty one.
fn container_hooks_have_nothing_of_the_caller() {
    needs(&[Root]);
    let bundle = Bundle::new().recording_hook("createContainer", &record_file());
    let container = Container::new(bundle.probe("exit 0"));
    let call = container.command("run", NO_FLAGS).env("SECRET", "1");
    call.output().ok();
    assert_eq!(calls()[0]["env"], json!({}));
}

fn hooks_have_no_descriptor_of_the_caller() {
    needs(&[Root, Tool("sh")]);
    let file = record_file();
    let list = format!("exec ls /proc/self/fd >> {}", file.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", list] });
    let bundle = HOST_KINDS.into_iter().fold(Bundle::new(), |bundle, kind| {
        bundle.hook(kind, hook.clone())
    });
    let container = Container::created(bundle.probe("exit 0"));
    for command in [&["start"] as &[_], &["delete", "--force"]] {
        let call = container.command(command[0], &command[1..]);
        call.after_shell("exec 3</ 4</etc 9</usr").output().ok();
    }
    let seen = fs::read_to_string(file).unwrap();
    // ls itself has the directory open.
    assert_eq!(seen, "0\n1\n2\n3\n".repeat(HOST_KINDS.len()));
}

fn failing_hook_stops_creation() {
    needs(&[Root]);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new();
        let hook = json!({ "path": bundle.host_probe(), "args": ["probe", "hook-fail", "4"] });
        let container = Container::new(bundle.hook(kind, hook));
        // The error contains the hook's output.
        container
            .create()
            .exits(1)
            .says(kind)
            .says("hook fails as told");
        assert!(!container.has_state());
    }
}

fn later_hooks_do_not_run_after_a_failure() {
    needs(&[Root]);
    let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/bin/false" }));
    let bundle = bundle.recording_hook("createRuntime", &record_file());
    Container::new(bundle).create().exits(1);
    assert!(kinds_called().is_empty());
}

fn poststart_hooks_wait_for_the_program() {
    needs(&[Root, Kernel(5, 9), Teu]);
    for detached in [false, true] {
        let agent = FdSocket::new(&format!("agent-{detached}"));
        let execve = json!({ "names": ["execve"], "action": "SCMP_ACT_NOTIFY" });
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [execve], "listenerPath": agent.path(),
        });
        let bundle = Bundle::new().set("/linux/seccomp", profile).probe("sleep");
        let container = Container::new(bundle.recording_hook("poststart", &record_file()));
        let call = match detached {
            true => container.command("run", ["--detach"]),
            false => {
                container.create().ok();
                container.command("start", NO_FLAGS)
            }
        };
        let running = call.spawn();
        let listener = agent.receive().1;
        let execve = receive_notification(&listener).unwrap();
        // Delay the program, so that a hook that does not wait for it finds the runtime.
        std::thread::sleep(Duration::from_millis(100));
        answer_notification(&listener, &execve, None).unwrap();
        running.wait().ok();
        let [call] = &calls()[..] else {
            panic!("not called once: {:?}", calls())
        };
        let program = call["exe"].as_str().unwrap();
        assert!(program.ends_with("/probe"), "{program}");
        fs::remove_file(record_file()).unwrap();
    }
}

/// Bundles whose start fails late: when the program is executed, and before that, in the last
/// hook.
fn without_a_program() -> [Bundle; 2] {
    let broken = Bundle::new().file("/broken", "#!/nowhere\n");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(broken.rootfs().join("broken"), mode).unwrap();
    let hook = json!({ "path": "/probe", "args": ["probe", "exit", "1"] });
    let failing = Bundle::new().hook("startContainer", hook);
    [broken.args(["/broken"]), failing]
        .map(|bundle| bundle.recording_hook("poststart", &record_file()))
}

fn poststart_hooks_do_not_run_without_a_program() {
    needs(&[Root, Teu]);
    for bundle in without_a_program() {
        let container = Container::created(bundle);
        container.start().ok();
        assert_eq!(container.wait(), 255);
    }
    for bundle in without_a_program() {
        bundle.run().exits(255);
    }
    assert!(kinds_called().is_empty());
}

/// The reader of init's stderr is gone.
fn poststart_hooks_do_not_run_without_a_program_that_could_say_why() {
    needs(&[Root, Teu]);
    let lose_stderr = "test -p pipe || mkfifo pipe; : <pipe & exec 2>pipe; wait";
    for bundle in without_a_program() {
        let container = Container::new(bundle);
        let call = container.command("create", NO_FLAGS);
        container.detach(call.after_shell(lose_stderr)).ok();
        container.start().ok();
        container.wait();
    }
    for bundle in without_a_program() {
        let call = Container::new(bundle).command("run", NO_FLAGS);
        call.after_shell(lose_stderr).output();
    }
    assert!(kinds_called().is_empty());
}

fn failing_poststart_hook_deletes() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .probe("sleep")
        .hook("poststart", json!({ "path": "/bin/false" }))
        .recording_hook("poststop", &record_file());
    let before = HostSnapshot::take();
    let container = Container::created(bundle);
    container.start().exits(1).says("poststart");
    wait_until("init is gone", || !is_alive(container.pid()));
    assert!(!container.has_state());
    assert_eq!(kinds_called(), ["probe"], "the poststop hook ran");
    before.assert_unchanged();
}

/// During the hook the container is deleted, and another of its name is made.
fn failing_poststart_hook_deletes_no_later_container() {
    needs(&[Root, Teu]);
    let script = scratch().join("hook");
    let bundle = Bundle::new().probe("sleep");
    let container = Container::new(bundle.hook("poststart", json!({ "path": script })));
    let (program, root, id) = (runtime(), state_root(), &container.id);
    let call = format!("{} --root {}", program.display(), root.display());
    let bundle = container.bundle.directory.display();
    let commands = format!(
        "#!/bin/sh\n{call} delete --force {id}\n\
         {call} create --bundle {bundle} {id} < /dev/null > /dev/null 2>&1\nexit 4\n"
    );
    fs::write(&script, commands).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    container.create().ok();
    container.start().exits(1).says("poststart");
    assert_eq!(container.status(), "created");
}

/// Hooks run in the bundle's directory. Without it the container is neither started nor deleted.
fn poststart_hooks_need_their_bundle_before_the_start() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().recording_hook("poststart", &record_file());
    let container = Container::created(bundle.probe("sleep"));
    let (directory, elsewhere) = (&container.bundle.directory, scratch().join("elsewhere"));
    fs::rename(directory, &elsewhere).unwrap();
    container.start().exits(1).says("enter the bundle");
    assert_eq!(container.status(), "created");
    fs::rename(&elsewhere, directory).unwrap();
    container.start().ok();
    assert_eq!(calls().len(), 1);
}

fn failing_poststart_hook_of_run_leaves_nothing() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .probe("sleep")
        .hook("poststart", json!({ "path": "/bin/false" }))
        .recording_hook("poststop", &record_file());
    let container = Container::new(bundle);
    container.run().exits(1).says("poststart");
    assert!(!container.has_state());
    assert_eq!(calls().len(), 1, "the poststop hook ran");
}

fn failing_poststop_hook_only_warns() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new()
        .probe("exit 0")
        .hook("poststop", json!({ "path": "/bin/false" }));
    let bundle = bundle.recording_hook("poststop", &record_file());
    let container = Container::running(bundle);
    container.wait();
    container.delete().ok().says("poststop");
    assert_eq!(calls().len(), 1, "the hook after the one that failed runs");
}

fn hook_that_hangs_is_killed() {
    needs(&[Root]);
    let bundle = Bundle::new();
    let hook = json!({
        "path": bundle.host_probe(), "args": ["probe", "hook-sleep", "600"], "timeout": 1,
    });
    let output = Container::new(bundle.hook("createRuntime", hook))
        .create()
        .exits(1);
    assert!(output.took < patience(Duration::from_secs(10)), "{output}");
    output.says("hook ran past specified timeout");
}

fn missing_hook_is_named() {
    needs(&[Root]);
    let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/no/such/hook" }));
    Container::new(bundle)
        .create()
        .exits(1)
        .says("/no/such/hook")
        .says("no such file or directory");
}
