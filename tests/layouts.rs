//! Cgroup hierarchies that are mounted in other ways than on this machine, each in the mount
//! namespace of its test; and cgroup paths that lead elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

use crate::harness::*;

tests![
    v2_alone_takes_a_container,
    v2_alone_init_is_born_in_its_cgroup,
    v2_alone_a_refused_birth_is_followed_by_joining,
    v2_alone_exec_follows_init,
    v1_alone_takes_a_container,
    v2_has_what_v1_lacks,
    hierarchies_are_found_where_they_are,
    a_cgroup_namespace_is_all_there_is,
    a_cgroup_namespace_with_v1_hierarchies,
    paths_do_not_lead_out,
    paths_that_can_be_no_cgroup_are_refused,
];

/// The path of a process's v2 cgroup, from the root of this process's cgroup namespace.
fn v2_cgroup_of(pid: i32) -> String {
    cgroup_of(pid, "")
}

fn cgroup_of(pid: i32, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let is_it = fields.next()?.split(',').any(|one| one == controller);
        fields.next().filter(|_| is_it).map(str::to_owned)
    });
    path.unwrap()
}

fn v2_alone_takes_a_container() {
    needs(&[Root, Alone]);
    let _v2 = V2Alone::new();
    let path = format!("/{}alone/box", marker());
    let container = Container::running(
        Bundle::new()
            .probe("sleep")
            .set("/linux/cgroupsPath", path.as_str()),
    );
    assert_eq!(v2_cgroup_of(container.pid()), path);
    let directory = V2Alone::path(&path[1..]);
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    assert_eq!(read("cgroup.procs"), format!("{}\n", container.pid()));
    // A service manager in the container has all controllers.
    let all = fs::read_to_string(V2Alone::path("cgroup.controllers")).unwrap();
    assert_eq!(read("cgroup.controllers"), all);
    container.command("pause", NO_FLAGS).output().ok();
    assert_eq!(container.status(), "paused");
    container.command("resume", NO_FLAGS).output().ok();
    container.delete_force().ok();
    assert!(!directory.exists());
    fs::remove_dir(directory.parent().unwrap()).unwrap();
}

/// Uses CLONE_INTO_CGROUP (Linux 5.7), so that no process waits for an attach. The test watches
/// the file that an attach would write to, cgroup.procs.
fn v2_alone_init_is_born_in_its_cgroup() {
    needs(&[Root, Alone, Teu]);
    let _v2 = V2Alone::new();
    let path = format!("{}born", marker());
    let directory = V2Alone::path(&path);
    fs::create_dir(&directory).unwrap();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    watch
        .add_watch(&directory.join("cgroup.procs"), AddWatchFlags::IN_MODIFY)
        .unwrap();
    let bundle = Bundle::new()
        .probe("sleep")
        .set("/linux/cgroupsPath", format!("/{path}"));
    let container = Container::running(bundle);
    assert_eq!(v2_cgroup_of(container.pid()), format!("/{path}"));
    let exec = container.command("exec", NO_FLAGS);
    let output = exec
        .args(["/probe", "read", "/proc/self/cgroup"])
        .output()
        .ok();
    assert!(output.stdout.contains(&format!("0::/{path}")), "{output}");
    assert!(watch.read_events().is_err(), "cgroup.procs was written to");
    // Shows that the watch reports a write.
    fs::write(directory.join("cgroup.procs"), container.pid().to_string()).unwrap();
    assert_eq!(watch.read_events().unwrap().len(), 1);
}

/// A cgroup that enables controllers for its children takes no process: the clone into it fails,
/// and so does the attach, which the error names. See also namespaces/tests/spawn.rs.
fn v2_alone_a_refused_birth_is_followed_by_joining() {
    needs(&[Root, DomainController, Alone, Teu]);
    let _v2 = V2Alone::new();
    let (controller, ..) = domain_limit().unwrap();
    let path = format!("{}hands-down", marker());
    let directory = V2Alone::path(&path);
    let hand_down = |directory: &Path, word: String| {
        fs::write(directory.join("cgroup.subtree_control"), word).unwrap();
    };
    hand_down(&V2Alone::path(""), format!("+{controller}"));
    fs::create_dir(&directory).unwrap();
    hand_down(&directory, format!("+{controller}"));
    let container = Container::new(Bundle::new().set("/linux/cgroupsPath", format!("/{path}")));
    let output = container.create().exits(1).says("into cgroup");
    output.says(&path).says("device or resource busy");
    assert!(!container.has_state());
    fs::remove_dir(&directory).unwrap();
}

/// A service manager in a container leaves the container's cgroup, to enable controllers there.
/// Later processes cannot be cloned into the cgroup any more, and go to init's cgroup.
fn v2_alone_exec_follows_init() {
    needs(&[Root, DomainController, Alone]);
    let _v2 = V2Alone::new();
    let (controller, ..) = domain_limit().unwrap();
    let path = format!("{}manager", marker());
    let bundle = Bundle::new()
        .probe("sleep")
        .set("/linux/cgroupsPath", format!("/{path}"));
    let container = Container::running(bundle);
    let directory = V2Alone::path(&path);
    fs::create_dir(directory.join("init.scope")).unwrap();
    let moved = container.pid().to_string();
    fs::write(directory.join("init.scope/cgroup.procs"), moved).unwrap();
    fs::write(
        directory.join("cgroup.subtree_control"),
        format!("+{controller}"),
    )
    .unwrap();
    let exec = container.command("exec", NO_FLAGS);
    let output = exec
        .args(["/probe", "read", "/proc/self/cgroup"])
        .output()
        .ok();
    assert!(
        output.stdout.contains(&format!("0::/{path}/init.scope")),
        "{output}"
    );
    container.delete_force().ok();
    assert!(!directory.exists());
}

fn v1_alone_takes_a_container() {
    needs(&[Root, CgroupV1, Controller("pids")]);
    let unified = Path::new("/sys/fs/cgroup/unified");
    let _nothing = unified.exists().then(|| Mounted::new("tmpfs", unified, ""));
    let bundle = Bundle::new()
        .probe("sleep")
        .set("/linux/resources/pids/limit", 40);
    let container = Container::running(bundle);
    let path = cgroup_of(container.pid(), "pids");
    assert!(path.ends_with(&container.id), "{path}");
    let limit = Path::new("/sys/fs/cgroup/pids")
        .join(&path[1..])
        .join("pids.max");
    assert_eq!(fs::read_to_string(limit).unwrap(), "40\n");
    container.command("pause", NO_FLAGS).output().ok();
    container.command("resume", NO_FLAGS).output().ok();
    container.delete_force().ok();
}

/// A hybrid host with controllers on v2, which crun refuses.
fn v2_has_what_v1_lacks() {
    needs(&[
        Root,
        CgroupV1,
        Controller("pids"),
        DomainController,
        Alone,
        Teu,
    ]);
    let unified = "/sys/fs/cgroup/unified";
    let _controllers = EnabledControllers::of(unified);
    let (controller, field, value) = domain_limit().unwrap();
    let bundle = Bundle::new()
        .probe("sleep")
        .set("/linux/resources/pids/limit", 40);
    let container = Container::running(bundle.set(&format!("/linux/resources/{field}"), value));
    let read = |top: &str, path: String, file: &str| {
        fs::read_to_string(Path::new(top).join(&path[1..]).join(file)).unwrap()
    };
    let file = match controller {
        "hugetlb" => "hugetlb.2MB.max",
        _ => "memory.max",
    };
    assert_ne!(read(unified, v2_cgroup_of(container.pid()), file), "max\n");
    let path = cgroup_of(container.pid(), "pids");
    assert_eq!(read("/sys/fs/cgroup/pids", path, "pids.max"), "40\n");
    container.delete_force().ok();
}

/// Hierarchies are found by mountinfo, not by names: here below a directory with a space in its
/// name, under names that are not controllers.
fn hierarchies_are_found_where_they_are() {
    needs(&[
        Root,
        CgroupV1,
        Controller("pids"),
        Controller("cpuset"),
        Teu,
    ]);
    let elsewhere = Elsewhere::new();
    let bundle = Bundle::new()
        .without_mount("/sys/fs/cgroup")
        .probe("sleep")
        .set("/linux/resources/pids/limit", 40)
        .set("/linux/resources/cpu/cpus", "0");
    let container = Container::running(bundle);
    let file = |controller: &str, file: &str| {
        let path = cgroup_of(container.pid(), controller);
        let entries = fs::read_dir(&elsewhere.place).unwrap().flatten();
        let found: Vec<PathBuf> = entries
            .map(|entry| entry.path().join(&path[1..]).join(file))
            .filter(|file| file.exists())
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        fs::read_to_string(&found[0]).unwrap().trim().to_owned()
    };
    assert_eq!(file("pids", "pids.max"), "40");
    assert_eq!(file("cpuset", "cpuset.cpus"), "0");
    container.delete_force().ok();
    drop(elsewhere);
}

/// In a container, the runtime's own cgroup is the root of everything it sees. Here it is a v2
/// cgroup that contains the runtime, as for a nested engine.
fn a_cgroup_namespace_is_all_there_is() {
    needs(&[Root, Tool("unshare"), Alone, Teu]);
    let _v2 = V2Alone::new();
    let own = V2Alone::path(&format!("{}own", marker()));
    fs::create_dir(&own).unwrap();
    let container = Container::new(Bundle::new().probe("read /proc/self/cgroup"));
    let script = format!(
        "echo $$ > {}/cgroup.procs\n\
         exec unshare --cgroup --mount --propagation private sh -c \
         'umount --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" \"$@\"' \"$0\" \"$@\"",
        own.display()
    );
    let output = container
        .command("run", NO_FLAGS)
        .after_shell(&script)
        .output()
        .ok();
    // As seen from the namespace; a cgroup beside it would be "/../ID".
    let expected = format!("0::/{}\n", container.id);
    assert!(
        output.answer().as_str().unwrap().ends_with(&expected),
        "{output}"
    );
    fs::remove_dir(&own).unwrap();
}

/// v1 hierarchies, each mounted from within the namespace with the runtime's cgroup as its root.
fn a_cgroup_namespace_with_v1_hierarchies() {
    needs(&[Root, CgroupV1, Controller("pids"), Tool("unshare"), Teu]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (mut join, mut mount_anew, mut made) = (String::new(), String::new(), Vec::new());
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let point = line.split(' ').nth(4).unwrap();
        let options = line.rsplit(' ').next().unwrap().trim_start_matches("rw,");
        let own = format!("{point}/{}own", marker());
        fs::create_dir(&own).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(set) = fs::read_to_string(format!("{point}/{file}")) {
                fs::write(format!("{own}/{file}"), set).unwrap();
            }
        }
        join.push_str(&format!("echo $$ > {own}/cgroup.procs\n"));
        // On a hybrid machine cgroup2, too, because a process cannot be moved through a mount of
        // another cgroup namespace.
        let what = match line.contains(" - cgroup2 ") {
            true => "cgroup2".to_owned(),
            false if options.contains("name=") => format!("cgroup -o none,{options}"),
            false => format!("cgroup -o {options}"),
        };
        let mount = format!("umount {point} && mount -t {what} none {point} && ");
        mount_anew.push_str(&mount);
        made.push(own);
    }
    let bundle = Bundle::new().set("/linux/resources/pids/limit", 40);
    let container = Container::new(bundle.probe("read /proc/self/cgroup"));
    let script = format!(
        "{join}exec unshare --cgroup --mount --propagation private \
         sh -c '{mount_anew} exec \"$0\" \"$@\"' \"$0\" \"$@\""
    );
    let call = container.command("run", NO_FLAGS).after_shell(&script);
    let output = call.output().ok();
    let seen = output.answer();
    let v1 = seen
        .as_str()
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("0:"));
    for line in v1 {
        assert!(line.ends_with(&format!(":/{}", container.id)), "{output}");
    }
    for own in made {
        fs::remove_dir(own).unwrap();
    }
}

/// ".." does not lead above the start, as in runc.
fn paths_do_not_lead_out() {
    needs(&[Root, Controller("pids")]);
    let name = marker();
    for (given, end) in [
        (format!("../../../{name}a"), format!("/{name}a")),
        (format!("/../..//{name}b/./x/.."), format!("/{name}b")),
        (format!("{name}c/../../{name}d"), format!("/{name}d")),
    ] {
        let bundle = Bundle::new().set("/linux/cgroupsPath", given.as_str());
        let container = Container::created(bundle);
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let path = cgroup_of(container.pid(), if v2 { "" } else { "pids" });
        assert!(
            path.ends_with(&end) && !path.contains(".."),
            "{given:?}: {path}"
        );
        container.delete_force().ok();
    }
}

fn paths_that_can_be_no_cgroup_are_refused() {
    needs(&[Root, Teu]);
    let two_lines = format!("/{}\n0::", marker());
    for (path, words) in [
        ("/", "is the root of the hierarchy"),
        ("..", "is the root of the hierarchy"),
        ("/cgroup.procs", "not a directory"),
        ("/cgroup.procs/box", "not a directory"),
        // The path would look like another line of /proc/PID/cgroup.
        (&two_lines, "invalid argument"),
    ] {
        let bundle = Bundle::new().set("/linux/cgroupsPath", json!(path));
        let container = Container::new(bundle);
        container.create().exits(1).says(words);
        assert!(!container.has_state());
    }
}
