//! Starts children with `spawn` and asks them which namespaces they are in. Needs root.
//!
//! The test has its own main function instead of libtest's, because callers of `spawn`
//! must be single-threaded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use teu_namespaces::{Child, IdMap, Kind, Namespace, NamespacePlan, TimeOffset, id_maps, spawn};

fn main() {
    let cases: [(&str, fn()); 12] = [
        (
            "only the new namespaces differ from the parent's",
            only_new_namespaces_differ,
        ),
        (
            "the child is process 1 of a new pid namespace",
            the_child_is_process_1_of_a_new_pid_namespace,
        ),
        (
            "id maps are written and the child is root",
            id_maps_are_written,
        ),
        (
            "time offsets apply to the child only",
            time_offsets_apply_to_the_child_only,
        ),
        (
            "namespaces of another process are joined",
            namespaces_are_joined,
        ),
        (
            "a user namespace and those it owns are joined",
            a_user_namespace_is_joined,
        ),
        (
            "time offsets apply in a user namespace",
            time_offsets_apply_in_a_user_namespace,
        ),
        (
            "the reason why id maps cannot be read is told",
            unreadable_id_maps_are_explained,
        ),
        (
            "no child is left if a map is refused",
            no_child_is_left_if_a_map_is_refused,
        ),
        (
            "the parent keeps its namespaces",
            the_parent_keeps_its_namespaces,
        ),
        ("the child starts in its cgroup", starts_in_its_cgroup),
        (
            "the child starts elsewhere if its cgroup is refused",
            starts_elsewhere_if_the_cgroup_is_refused,
        ),
    ];
    if !nix::unistd::geteuid().is_root() {
        println!(
            "test result: ok. 0 passed; 0 failed; {} ignored (not root)",
            cases.len()
        );
        return;
    }
    for (name, case) in &cases {
        println!("test {name} ...");
        case();
    }
    println!(
        "test result: ok. {} passed; 0 failed; 0 ignored",
        cases.len()
    );
}

type Seen = BTreeMap<String, String>;

/// Returns the process's namespaces, uid, pid, id map and uptime.
fn look() -> Seen {
    let mut seen = Seen::new();
    for kind in Kind::ALL {
        let link = fs::read_link(format!("/proc/thread-self/ns/{}", kind.proc_name()));
        let link = link.unwrap_or_else(|_| PathBuf::from("?"));
        seen.insert(kind.spec_name().into(), link.to_string_lossy().into_owned());
    }
    seen.insert("uid".into(), nix::unistd::getuid().to_string());
    seen.insert("own pid".into(), nix::unistd::getpid().to_string());
    let is_clone = teu_namespaces::is_clone();
    seen.insert("is a clone".into(), is_clone.to_string());
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    seen.insert(
        "uid_map".into(),
        map.split_whitespace().collect::<Vec<_>>().join(" "),
    );
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split('.').next().unwrap_or_default();
    seen.insert("uptime".into(), seconds.into());
    seen
}

/// Starts a child that reports what [`look`] returns, and then waits to be killed.
fn child_of(plan: &NamespacePlan) -> (Child, Seen) {
    child_in(plan, None)
}

fn child_in(plan: &NamespacePlan, cgroup: Option<&Path>) -> (Child, Seen) {
    let cgroup = cgroup.map(|path| fs::File::open(path).expect("open the cgroup"));
    let cgroup = cgroup.as_ref().map(AsFd::as_fd);
    let ends = UnixStream::pair().expect("socketpair");
    let (child, mut host) = spawn(plan, cgroup, ends, |mut inside, joined| {
        let mut text = String::new();
        if let Err(err) = &joined {
            text = format!("error={err}\n");
        }
        for (key, value) in look() {
            text.push_str(&format!("{key}={value}\n"));
        }
        text.push('\n');
        inside.write_all(text.as_bytes()).expect("write");
        loop {
            nix::unistd::pause();
        }
    })
    .expect("spawn");
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\n\n") && host.read(&mut byte).expect("read") == 1 {
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).expect("text");
    let seen = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect::<Seen>();
    assert_eq!(seen.get("error"), None);
    (child, seen)
}

fn plan_of(kinds: &[Kind]) -> NamespacePlan {
    let mut plan = NamespacePlan::default();
    for kind in kinds {
        plan.set(*kind, Namespace::New);
    }
    if kinds.contains(&Kind::User) {
        let map = vec![IdMap {
            container: 0,
            host: 100_000,
            size: 10,
        }];
        plan.id_maps.uid.clone_from(&map);
        plan.id_maps.gid = map;
    }
    plan
}

fn join(plan: &mut NamespacePlan, child: &Child, kinds: &[Kind]) {
    for kind in kinds {
        let path = format!("/proc/{}/ns/{}", child.pid(), kind.proc_name());
        plan.set(*kind, Namespace::Joined(path.into()));
    }
}

const ALL_BUT_CGROUP: [Kind; 7] = [
    Kind::User,
    Kind::Mount,
    Kind::Pid,
    Kind::Network,
    Kind::Ipc,
    Kind::Uts,
    Kind::Time,
];

fn only_new_namespaces_differ() {
    let own = look();
    for new in ALL_BUT_CGROUP {
        // /proc is the parent's, so a pid namespace is not visible in it; another test
        // looks at the pid.
        if new == Kind::Pid {
            continue;
        }
        let (_child, seen) = child_of(&plan_of(&[new]));
        for kind in Kind::ALL {
            let word = kind.spec_name();
            assert_eq!(
                seen[word] != own[word],
                kind == new,
                "new {new:?}: {word} {}",
                seen[word]
            );
        }
    }
}

fn the_child_is_process_1_of_a_new_pid_namespace() {
    let (child, seen) = child_of(&plan_of(&[Kind::Pid]));
    assert_eq!(seen["own pid"], "1");
    assert_eq!(seen["is a clone"], "true");
    assert_eq!(look()["is a clone"], "false");
    assert!(child.pid().as_raw() > 1);
}

fn id_maps_are_written() {
    let (_child, seen) = child_of(&plan_of(&[Kind::User, Kind::Mount]));
    assert_eq!(seen["uid_map"], "0 100000 10");
    assert_eq!(seen["uid"], "0");
}

fn one_day() -> Vec<TimeOffset> {
    vec![TimeOffset {
        clock: "boottime".into(),
        secs: 86400,
        nanosecs: 0,
    }]
}

fn time_offsets_apply_to_the_child_only() {
    let before: i64 = look()["uptime"].parse().expect("uptime");
    let mut plan = plan_of(&[Kind::Time]);
    plan.time_offsets = one_day();
    let (_child, seen) = child_of(&plan);
    let inside: i64 = seen["uptime"].parse().expect("uptime");
    assert!(
        (inside - before - 86400).abs() < 10,
        "{inside} after {before}"
    );
    let after: i64 = look()["uptime"].parse().expect("uptime");
    assert!(
        (after - before).abs() < 10,
        "the parent's clock moved by {}",
        after - before
    );
}

fn namespaces_are_joined() {
    let kinds = [
        Kind::Mount,
        Kind::Network,
        Kind::Ipc,
        Kind::Uts,
        Kind::Time,
        Kind::Pid,
    ];
    let (first, seen_first) = child_of(&plan_of(&kinds));
    let mut plan = NamespacePlan::default();
    join(&mut plan, &first, &kinds);
    let (_second, seen) = child_of(&plan);
    for kind in kinds.into_iter().filter(|kind| *kind != Kind::Pid) {
        assert_eq!(seen[kind.spec_name()], seen_first[kind.spec_name()]);
    }
    assert_eq!(
        seen["own pid"], "2",
        "the second process of the first's pid namespace"
    );
}

fn a_user_namespace_is_joined() {
    let kinds = [Kind::User, Kind::Network, Kind::Ipc];
    let (first, seen_first) = child_of(&plan_of(&kinds));
    let mut plan = plan_of(&[Kind::Mount, Kind::Pid, Kind::Uts, Kind::Time]);
    join(&mut plan, &first, &kinds);
    plan.time_offsets = one_day();
    let (_second, seen) = child_of(&plan);
    for kind in kinds {
        assert_eq!(seen[kind.spec_name()], seen_first[kind.spec_name()]);
    }
    assert_eq!((seen["own pid"].as_str(), seen["uid"].as_str()), ("1", "0"));
}

fn time_offsets_apply_in_a_user_namespace() {
    let before: i64 = look()["uptime"].parse().expect("uptime");
    let mut plan = plan_of(&[Kind::User, Kind::Time, Kind::Pid]);
    plan.time_offsets = one_day();
    let (_child, seen) = child_of(&plan);
    let inside: i64 = seen["uptime"].parse().expect("uptime");
    assert!(
        (inside - before - 86400).abs() < 10,
        "{inside} after {before}"
    );
}

fn unreadable_id_maps_are_explained() {
    let (owner, _) = child_of(&plan_of(&[Kind::User]));
    let namespace = fs::File::open(format!("/proc/{}/ns/user", owner.pid())).expect("open");
    let path = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
    let ends = UnixStream::pair().expect("socketpair");
    let plan = NamespacePlan::default();
    let (child, mut host) = spawn(&plan, None, ends, |mut inside, _| {
        nix::unistd::setuid(1000.into()).expect("setuid");
        let error = id_maps::of_namespace(&path).expect_err("not permitted");
        let line = teu_errno::line(&error);
        inside.write_all(line.as_bytes()).expect("write");
        0
    })
    .expect("spawn");
    let mut text = String::new();
    host.read_to_string(&mut text).expect("read");
    child.wait().expect("wait");
    assert!(
        text.contains("join user namespace") && text.ends_with(": operation not permitted"),
        "{text}"
    );
}

fn no_child_is_left_if_a_map_is_refused() {
    let mut plan = plan_of(&[Kind::User]);
    // Overlapping ranges.
    plan.id_maps.uid = vec![
        IdMap {
            container: 0,
            host: 5,
            size: 10,
        },
        IdMap {
            container: 5,
            host: 50,
            size: 10,
        },
    ];
    let refused = teu_errno::line(&spawn(&plan, None, ((), ()), |(), _| 0).expect_err("refused"));
    assert!(
        refused.contains("uid_map") && refused.ends_with("invalid argument"),
        "{refused}"
    );
    let gone = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    assert_eq!(gone, Err(nix::errno::Errno::ECHILD));
}

fn the_parent_keeps_its_namespaces() {
    let own = look();
    let (_child, _) = child_of(&plan_of(&ALL_BUT_CGROUP));
    let now = look();
    for kind in Kind::ALL {
        assert_eq!(own[kind.spec_name()], now[kind.spec_name()]);
    }
    for file in ["pid_for_children", "time_for_children"] {
        let own_file = file.split('_').next().expect("a word");
        let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("link");
        assert_eq!(link(file), link(own_file), "{file}");
    }
}

/// A v2 cgroup for the test, with a child cgroup. Both are removed when it is dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes the cgroups. Prints a skip and returns `None` without a v2 hierarchy.
    fn new() -> Option<Cgroup> {
        let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let is_v2 = |top: &&Path| top.join("cgroup.controllers").exists();
        let Some(top) = tops.into_iter().find(is_v2) else {
            println!("[skipped] needs a cgroup v2 hierarchy");
            return None;
        };
        let cgroup = Cgroup(top.join(format!("teu-spawn-test-{}", std::process::id())));
        fs::create_dir_all(cgroup.0.join("below")).expect("make cgroups");
        Some(cgroup)
    }

    /// Returns the last line of /proc/PID/cgroup for processes in the cgroup.
    fn name(&self) -> String {
        let name = self.0.file_name().expect("a name").to_string_lossy();
        format!("0::/{name}")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(self.0.join("below")).expect("remove the inner cgroup");
        fs::remove_dir(&self.0).expect("remove the cgroup");
    }
}

fn v2_cgroup_of(child: &Child) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", child.pid())).expect("read");
    text.lines().last().expect("a line").to_owned()
}

/// Returns a plan that clones directly, and a plan that needs a middle process.
fn plans() -> [NamespacePlan; 2] {
    [plan_of(&[Kind::Mount]), plan_of(&[Kind::User, Kind::Time])]
}

fn starts_in_its_cgroup() {
    let Some(cgroup) = Cgroup::new() else { return };
    for plan in plans() {
        let (child, _) = child_in(&plan, Some(&cgroup.0));
        assert!(child.is_in_cgroup());
        assert_eq!(v2_cgroup_of(&child), cgroup.name());
    }
}

/// The kernel refuses a directory that is not a v2 cgroup with EBADF, and a cgroup below
/// a threaded one with EOPNOTSUPP. A kernel without CLONE_INTO_CGROUP returns E2BIG.
fn starts_elsewhere_if_the_cgroup_is_refused() {
    let (child, _) = child_in(&plan_of(&[Kind::Mount]), Some(Path::new("/")));
    assert!(!child.is_in_cgroup());
    let Some(cgroup) = Cgroup::new() else { return };
    fs::write(cgroup.0.join("cgroup.type"), "threaded").expect("make it threaded");
    let below = cgroup.0.join("below");
    let kind = fs::read_to_string(below.join("cgroup.type")).expect("read");
    assert_eq!(kind, "domain invalid\n");
    let own = fs::read_to_string("/proc/self/cgroup").expect("read");
    for plan in plans() {
        let (child, _) = child_in(&plan, Some(&below));
        assert!(!child.is_in_cgroup());
        assert_eq!(Some(&*v2_cgroup_of(&child)), own.lines().last());
    }
}
