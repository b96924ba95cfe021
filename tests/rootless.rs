//! Containers of a user without privileges.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    user_runs_the_rootless_bundle,
    user_creates_starts_and_deletes,
    more_ids_than_ones_own_need_a_tool,
    root_of_a_user_namespace_execs,
    root_of_a_user_namespace_joins_a_pid_namespace,
    root_of_a_user_namespace_makes_a_time_namespace,
    root_of_a_user_namespace_opens_what_its_container_may_not,
    state_root_is_below_the_runtime_directory,
];

/// A user without privileges; it needs no entry in /etc/passwd.
pub(crate) const USER: u32 = 1234;

/// The output of `spec --rootless` as the user, with modes of the probe.
pub(crate) fn rootless_bundle(modes: &str) -> Bundle {
    let bundle = Bundle::new();
    for path in [&bundle.directory, &bundle.rootfs()] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    bundle.chown_rootfs(USER);
    let spec = call(["spec", "--rootless"]).in_directory(&bundle.directory);
    spec.output().ok();
    bundle.read().set("/process/terminal", false).probe(modes)
}

/// Prepares a call of the runtime by the user, with the default root.
pub(crate) fn call<const N: usize>(args: [&str; N]) -> Invocation {
    let call = Invocation::new(runtime()).args(args).by_user(USER);
    call.env("XDG_RUNTIME_DIR", runtime_directory())
        .env("HOME", "/nowhere")
        .env("USER", "someone")
}

/// A container of the user, not created yet, with this value for the OOM killer.
pub(crate) fn user_container(modes: &str, oom_score_adj: i32) -> Container {
    Container::new(rootless_bundle(modes).set("/process/oomScoreAdj", oom_score_adj))
}

fn runtime_directory() -> PathBuf {
    let directory = scratch().join("run");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(USER), Some(USER)).unwrap();
    }
    directory
}

fn user_runs_the_rootless_bundle() {
    needs(&[Root, UserNamespaces]);
    let container = Container::new(rootless_bundle("report"));
    let call = call(["run", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(&container.id);
    let seen = call.output().probe();
    assert_eq!((&seen["pid"], &seen["uid"]), (&json!(1), &json!(0)));
    assert_eq!(seen["uid_map"], json!([[0, USER, 1]]));
    assert_eq!(seen["gid_map"], json!([[0, USER, 1]]));
}

fn user_creates_starts_and_deletes() {
    needs(&[Root, UserNamespaces]);
    let container = Container::new(rootless_bundle("trap TERM"));
    let id = container.id.as_str();
    let create = call(["create", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(id);
    create.output().ok();
    assert_eq!(
        call(["state", id]).output().ok().json()["status"],
        "created"
    );
    call(["start", id]).output().ok();
    call(["delete", "--force", id]).output().ok();
    call(["state", id])
        .output()
        .exits(1)
        .says("container does not exist");
}

/// newgidmap(1) and newuidmap(1) write maps that the kernel permits only root to write.
fn more_ids_than_ones_own_need_a_tool() {
    needs(&[Root, UserNamespaces]);
    let map = json!([
        { "containerID": 0, "hostID": USER, "size": 1 },
        { "containerID": 1, "hostID": 100_000, "size": 9 },
    ]);
    let bundle = rootless_bundle("report")
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    let container = Container::new(bundle);
    let tools = scratch().join("tools");
    let run = || {
        let call = call(["run", "--bundle"]).arg(&container.bundle.directory);
        call.arg(&container.id)
            .env("PATH", &tools)
            .output()
            .exits(1)
    };
    run().says("newgidmap, which may do it, is not in PATH");
    fs::create_dir(&tools).unwrap();
    let tool = tools.join("newgidmap");
    fs::write(
        &tool,
        "#!/bin/sh\necho \"no range for $3 $4 $5 $6 $7\" >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    run().says("newgidmap: no range for 1234 1 1 100000 9");
}

/// A user namespace whose root user does not own the pid and time namespaces around it, as when
/// rootless Podman or Docker call a runtime. It ends when dropped.
struct UserNamespace {
    /// Kills the process in the namespace when dropped.
    _holder: Running,
    pid: i32,
    owns_mounts: bool,
}

impl UserNamespace {
    /// Makes the namespace, with a mount namespace of its own or in the host's.
    fn new(owns_mounts: bool) -> UserNamespace {
        let flags = ["--user", "--mount"];
        let flags = if owns_mounts { &flags[..] } else { &flags[..1] };
        let words = ["sh", "-c", "echo up; exec sleep 1000"];
        let holder = Invocation::new("unshare").args(flags).args(words).spawn();
        wait_until("the user namespace is there", || {
            holder.stdout().contains("up")
        });
        let pid = holder.pid;
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{file}"), "0 0 65536").unwrap();
        }
        UserNamespace {
            _holder: holder,
            pid,
            owns_mounts,
        }
    }

    /// Makes a call run in the namespace.
    fn enter(&self, call: Invocation) -> Invocation {
        let mut words = vec!["nsenter".into(), "--preserve-credentials".into()];
        words.push(format!("--user=/proc/{}/ns/user", self.pid));
        if self.owns_mounts {
            words.push(format!("--mount=/proc/{}/ns/mnt", self.pid));
        }
        words.push(runtime().display().to_string());
        call.with_program(words)
    }

    /// Starts a detached container in the namespace.
    #[track_caller]
    fn running(&self, bundle: Bundle) -> Container {
        let container = Container::new(bundle);
        let call = container.command("run", ["--detach"]);
        container.detach(self.enter(call)).ok();
        container
    }

    /// The probe's report from an exec.
    #[track_caller]
    fn report(&self, container: &Container) -> Value {
        let call = container
            .command("exec", NO_FLAGS)
            .args(["/probe", "report"]);
        self.enter(call).output().ok().probe()
    }
}

/// A bundle that this root user may run.
fn bundle_in_a_user_namespace() -> Bundle {
    Bundle::new()
        .without_namespace("network")
        .without_mount("/sys")
        .without_mount("/sys/fs/cgroup")
        .remove("/linux/resources")
}

fn link(pid: i32, namespace: &str) -> Value {
    json!(fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap())
}

fn root_of_a_user_namespace_execs() {
    needs(&[Root, UserNamespaces, Tool("unshare"), Tool("nsenter")]);
    let outside = UserNamespace::new(true);
    let container = outside.running(bundle_in_a_user_namespace().probe("sleep"));
    let seen = outside.report(&container);
    assert_eq!(seen["processes"], json!([1, seen["pid"]]));
    for namespace in ["user", "pid", "mnt", "ipc"] {
        let own = link(container.pid(), namespace);
        assert_eq!(seen["namespaces"][namespace], own, "{namespace}");
    }
    let call = container.command("exec", NO_FLAGS);
    let call = outside.enter(call.args(["/probe", "exit", "5"]));
    call.output().exits(5);
}

fn root_of_a_user_namespace_joins_a_pid_namespace() {
    needs(&[Root, UserNamespaces, Tool("unshare"), Tool("nsenter")]);
    let outside = UserNamespace::new(true);
    let first = outside.running(bundle_in_a_user_namespace().probe("sleep"));
    let path = format!("/proc/{}/ns/pid", first.pid());
    let bundle = bundle_in_a_user_namespace().join_namespace("pid", path);
    let second = outside.running(bundle.probe("sleep"));
    let seen = outside.report(&second);
    assert_eq!(seen["namespaces"]["pid"], link(first.pid(), "pid"));
    assert_eq!(seen["processes"], json!([1, 2, seen["pid"]]));
}

fn root_of_a_user_namespace_makes_a_time_namespace() {
    needs(&[
        Root,
        UserNamespaces,
        TimeNamespaces,
        Tool("unshare"),
        Tool("nsenter"),
    ]);
    let outside = UserNamespace::new(true);
    let first = outside.running(bundle_in_a_user_namespace().probe("sleep"));
    let offsets = json!({ "boottime": { "secs": 86_400_000, "nanosecs": 0 } });
    // It joins the pid namespace and the time namespace, which the process cannot leave again.
    let bundle = bundle_in_a_user_namespace()
        .join_namespace("pid", format!("/proc/{}/ns/pid", first.pid()))
        .namespace("time")
        .set("/linux/timeOffsets", offsets);
    let container = outside.running(bundle.probe("sleep"));
    let seen = outside.report(&container);
    for (namespace, owner) in [("pid", &first), ("time", &container)] {
        let expected = link(owner.pid(), namespace);
        assert_eq!(seen["namespaces"][namespace], expected, "{namespace}");
    }
    assert!(seen["clocks"]["boottime"].as_f64().unwrap() > 86_400_000.0);
}

/// This root user has no privileges in a mount namespace that it did not make.
fn root_of_a_user_namespace_opens_what_its_container_may_not() {
    needs(&[Root, UserNamespaces, Tool("unshare"), Tool("nsenter")]);
    let outside = UserNamespace::new(false);
    let secret = scratch().join("secret");
    fs::create_dir_all(secret.join("inner")).unwrap();
    fs::write(secret.join("inner/file"), "text").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    let mount = json!({
        "destination": "/mnt", "type": "bind", "source": secret.join("inner"), "options": ["bind"],
    });
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 100 }]);
    let bundle = bundle_in_a_user_namespace().mount(mount).namespace("user");
    bundle.chown_rootfs(1000);
    let bundle = bundle
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .probe("read /mnt/file");
    let container = Container::new(bundle);
    let call = outside.enter(container.command("run", NO_FLAGS));
    assert_eq!(call.output().ok().answer(), "text");
}

fn state_root_is_below_the_runtime_directory() {
    needs(&[Root, UserNamespaces, Teu]);
    let container = Container::new(rootless_bundle("report"));
    let id = container.id.as_str();
    let create = call(["create", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(id);
    create.output().ok();
    let root = runtime_directory().join("teu");
    assert!(root.join(id).is_dir());
    // Sticky, so that programs that clean the runtime directory leave it.
    assert_eq!(
        root.metadata().unwrap().permissions().mode() & 0o7777,
        0o1700
    );
    call(["delete", "--force", id]).output().ok();
}
