//! Against this kernel's cgroups, as root. Needs: root, cgroup v1 or hybrid
//! with cpu, cpuset, memory, pids, devices and freezer; the tests of v2 use the
//! unified hierarchy of a hybrid host through saved paths. Each test has
//! cgroups of its own and removes them.
#![allow(
    clippy::unwrap_used,
    reason = "these are tests, their helpers included"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{AccessFlags, Pid, access};
use teu_cgroups::*;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("teu-cgroups-test-{}-{number}-{name}", std::process::id())
}

fn plan(path: &str, limits: Limits) -> CgroupPlan {
    CgroupPlan {
        driver: Driver::Filesystem,
        path: CgroupPath::new(Some(Path::new(&format!("/{path}"))), "id").unwrap(),
        limits,
        rootless: false,
    }
}

/// Whether this machine can run the test; a skip is printed.
fn has(controllers: &[&str]) -> bool {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    let missing = controllers.iter().find(|name| {
        !cgroup.lines().any(|line| {
            let field = line.split(':').nth(1).unwrap_or("-");
            field.split(',').any(|one| one == **name)
        }) || (name.is_empty() && unified().is_none())
    });
    match missing {
        _ if !is_root => eprintln!("skipped: needs root"),
        Some(name) => eprintln!("skipped: no hierarchy {name:?}"),
        None => return true,
    }
    false
}

fn unified() -> Option<PathBuf> {
    let path = PathBuf::from("/sys/fs/cgroup/unified");
    path.join("cgroup.procs").exists().then_some(path)
}

/// A process to put into cgroups; ended when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.number())
    }

    fn number(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn ends(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn file(cgroup: &Cgroup, controller: &str, name: &str) -> String {
    let saved = cgroup.saved_paths();
    let path = saved.get(controller).unwrap().join(name);
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

/// A v2-only cgroup on a hybrid host, made by hand and opened.
struct Unified {
    path: PathBuf,
    cgroup: Cgroup,
}

impl Unified {
    fn new(name: &str) -> Unified {
        let path = unified().unwrap().join(unique(name));
        std::fs::create_dir(&path).unwrap();
        let saved = serde_json::json!({ "": path.to_str().unwrap() });
        let saved: SavedPaths = serde_json::from_value(saved).unwrap();
        Unified {
            path,
            cgroup: Cgroup::open(&saved),
        }
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        self.cgroup.remove().unwrap();
    }
}

#[test]
fn a_whole_life() {
    if !has(&["cpu", "cpuset", "memory", "pids", "freezer"]) {
        return;
    }
    let name = unique("life");
    let limits = Limits {
        cpu: CpuLimits {
            shares: Some(512),
            cpus: "0".into(),
            mems: "0".into(),
            ..Default::default()
        },
        memory: MemoryLimits {
            limit: Some(64 << 20),
            ..Default::default()
        },
        pids: Some(0),
        ..Default::default()
    };
    let mut cgroup = Cgroup::prepare(&plan(&name, limits.clone())).unwrap();
    assert!(cgroup.clone_target().unwrap().is_none());
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), false).unwrap();
    assert_eq!(cgroup.apply(&limits).unwrap(), []);

    let seen = std::fs::read_to_string(format!("/proc/{}/cgroup", sleeper.number())).unwrap();
    for line in seen.lines() {
        assert!(line.ends_with(&format!(":/{name}")), "{line}");
    }
    assert_eq!(file(&cgroup, "cpu", "cpu.shares"), "512");
    assert_eq!(file(&cgroup, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(file(&cgroup, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(&cgroup, "pids", "pids.max"), "1");

    let saved = cgroup.saved_paths();
    cgroup.keep();
    let text = serde_json::to_string(&saved).unwrap();
    let cgroup = Cgroup::open(&serde_json::from_str(&text).unwrap());
    assert_eq!(cgroup.processes().unwrap(), [sleeper.number()]);
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
    assert_eq!(cgroup.processes().unwrap(), Vec::<i32>::new());
    cgroup.kill_all(SIGKILL).unwrap();
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(saved.iter().all(|(_, path)| !path.exists()));
}

#[test]
fn dropping_removes_what_was_made_and_no_more() {
    if !has(&["cpuset"]) {
        return;
    }
    let outer = unique("outer");
    let first = Cgroup::prepare(&plan(&format!("{outer}/a"), Limits::default())).unwrap();
    let second = Cgroup::prepare(&plan(&format!("{outer}/x/y"), Limits::default())).unwrap();
    let parent = |cgroup: &Cgroup| {
        cgroup
            .saved_paths()
            .get("cpuset")
            .unwrap()
            .parent()
            .unwrap()
            .to_owned()
    };
    // Every level of a v1 cpuset is filled, or nothing could join.
    assert_eq!(file(&second, "cpuset", "cpuset.cpus"), root_cpus());
    assert!(
        !std::fs::read(parent(&second).join("cpuset.mems"))
            .unwrap()
            .is_empty()
    );
    let (outer, inner) = (parent(&first), parent(&second));
    drop(second);
    assert!(!inner.exists());
    assert!(outer.exists());
    drop(first);
    assert!(!outer.exists());
}

fn root_cpus() -> String {
    let path = "/sys/fs/cgroup/cpuset/cpuset.cpus";
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

#[test]
fn a_used_or_frozen_cgroup_is_refused() {
    if !has(&["freezer"]) {
        return;
    }
    let name = unique("used");
    let mut cgroup = Cgroup::prepare(&plan(&name, Limits::default())).unwrap();
    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), false).unwrap();
    let again = || {
        Cgroup::prepare(&plan(&name, Limits::default()))
            .unwrap_err()
            .to_string()
    };
    let words = again();
    assert!(
        words.ends_with("container's cgroup is not empty: 1 process(es) found"),
        "{words}"
    );
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleeper.ends());
    cgroup.freeze().unwrap();
    let words = again();
    assert!(
        words.ends_with("container's cgroup unexpectedly frozen"),
        "{words}"
    );
    let below = Cgroup::prepare(&plan(&format!("{name}/below"), Limits::default()));
    assert!(
        below
            .unwrap_err()
            .to_string()
            .ends_with("unexpectedly frozen")
    );
    cgroup.thaw().unwrap();
    // The refused ones removed nothing.
    assert!(cgroup.saved_paths().iter().all(|(_, path)| path.exists()));
}

#[test]
fn freezing_and_signalling() {
    if !has(&["freezer"]) {
        return;
    }
    let mut cgroup = Cgroup::prepare(&plan(&unique("freeze"), Limits::default())).unwrap();
    let mut sleepers = [Sleeper::new(), Sleeper::new()];
    for sleeper in &sleepers {
        cgroup.enter(sleeper.pid(), false).unwrap();
    }
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    // A frozen one gets the signal when it goes on.
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(cgroup.is_frozen().unwrap());
    assert!(sleepers[0].0.try_wait().unwrap().is_none());
    cgroup.thaw().unwrap();
    assert!(sleepers.iter_mut().all(Sleeper::ends));

    let mut sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), false).unwrap();
    cgroup.freeze().unwrap();
    cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    assert!(!cgroup.is_frozen().unwrap());
}

#[test]
fn nested_cgroups_are_seen_and_removed() {
    if !has(&["memory", "freezer"]) {
        return;
    }
    let cgroup = Cgroup::prepare(&plan(&unique("nested"), Limits::default())).unwrap();
    let mut sleeper = Sleeper::new();
    let saved = cgroup.saved_paths();
    for (_, path) in saved.iter() {
        std::fs::create_dir_all(path.join("a/b")).unwrap();
    }
    let below: std::collections::BTreeMap<String, String> = saved
        .iter()
        .filter(|(name, _)| *name != "cpuset")
        .map(|(name, path)| (name.to_owned(), format!("{}/a/b", path.display())))
        .collect();
    let below: SavedPaths = serde_json::from_value(serde_json::json!(below)).unwrap();
    let mut below = Cgroup::open(&below);
    below.enter(sleeper.pid(), false).unwrap();
    assert_eq!(cgroup.processes().unwrap(), [sleeper.number()]);
    assert_eq!(cgroup.remove().unwrap_err().raw_os_error(), Some(16));
    cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleeper.ends());
    cgroup.remove().unwrap();
    assert!(saved.iter().all(|(_, path)| !path.exists()));
}

#[test]
fn refused_values_are_named() {
    if !has(&["cpuset", "memory", "cpu"]) {
        return;
    }
    let name = unique("refused");
    let bad_cpus = Limits {
        cpu: CpuLimits {
            cpus: "4095".into(),
            ..Default::default()
        },
        ..Default::default()
    };
    let words = Cgroup::prepare(&plan(&name, bad_cpus))
        .unwrap_err()
        .to_string();
    assert!(
        words.starts_with("linux.resources.cpu.cpus: write \"4095\" to \""),
        "{words}"
    );
    assert!(
        words.ends_with(&format!(
            "{name}/cpuset.cpus\": numerical result out of range"
        )) || words.ends_with(": invalid argument"),
        "{words}"
    );
    assert!(!Path::new("/sys/fs/cgroup/cpuset").join(&name).exists());

    let cgroup = Cgroup::prepare(&plan(&name, Limits::default())).unwrap();
    let words = |limits: Limits| cgroup.apply(&limits).unwrap_err().to_string();
    let shares = CpuLimits {
        shares: Some(1),
        ..Default::default()
    };
    assert!(
        words(Limits {
            cpu: shares,
            ..Default::default()
        })
        .contains("cpu.shares: the minimum")
    );
    let unified = [("memory.high".to_owned(), "max".to_owned())].into();
    let words = words(Limits {
        unified,
        ..Default::default()
    });
    assert_eq!(
        words,
        "linux.resources.unified: invalid configuration: cannot use unified on cgroup v1"
    );
    let mut systemd = plan(&name, Limits::default());
    systemd.driver = Driver::Systemd;
    assert!(
        Cgroup::prepare(&systemd)
            .unwrap_err()
            .to_string()
            .contains("\"systemd\"")
    );
}

#[test]
fn all_v1_limits_reach_the_kernel_and_can_change() {
    if !has(&["cpu", "memory", "blkio"]) {
        return;
    }
    let cgroup = Cgroup::prepare(&plan(&unique("limits"), Limits::default())).unwrap();
    let check = |limits: &Limits, expected: &[(&str, &str, &str)]| {
        assert_eq!(cgroup.apply(limits).unwrap(), []);
        for (controller, name, value) in expected {
            assert_eq!(file(&cgroup, controller, name), *value, "{name}");
        }
    };
    let memory = |limit, swap| MemoryLimits {
        limit: Some(limit),
        swap: Some(swap),
        ..Default::default()
    };
    let mut limits = Limits {
        cpu: CpuLimits {
            quota: Some(20_000),
            period: Some(50_000),
            burst: Some(10_000),
            idle: Some(0),
            shares: Some(300),
            ..Default::default()
        },
        memory: MemoryLimits {
            reservation: Some(32 << 20),
            swappiness: Some(10),
            disable_oom_killer: true,
            ..memory(64 << 20, 128 << 20)
        },
        block_io: BlockIoLimits {
            weight: Some(300),
            ..Default::default()
        },
        pids: Some(-1),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "20000"),
            ("cpu", "cpu.cfs_period_us", "50000"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
            ("cpu", "cpu.shares", "300"),
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.swappiness", "10"),
            ("blkio", "blkio.bfq.weight", "300"),
            ("pids", "pids.max", "max"),
        ],
    );
    assert!(file(&cgroup, "memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    // Up past the old sum, then down below: each order is wrong once.
    limits.memory = memory(256 << 20, 512 << 20);
    check(&limits, &[("memory", "memory.limit_in_bytes", "268435456")]);
    limits.memory = memory(16 << 20, 16 << 20);
    check(
        &limits,
        &[("memory", "memory.memsw.limit_in_bytes", "16777216")],
    );
    limits.memory = MemoryLimits {
        limit: Some(-1),
        ..Default::default()
    };
    check(
        &limits,
        &[(
            "memory",
            "memory.memsw.limit_in_bytes",
            "9223372036854771712",
        )],
    );
    // The old burst does not fit the new quota.
    limits.cpu = CpuLimits {
        quota: Some(5000),
        period: Some(10_000),
        burst: Some(1000),
        idle: Some(1),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "5000"),
            ("cpu", "cpu.idle", "1"),
        ],
    );
    limits.cpu = CpuLimits {
        quota: Some(-1),
        idle: Some(0),
        shares: Some(2),
        ..Default::default()
    };
    check(
        &limits,
        &[
            ("cpu", "cpu.cfs_quota_us", "-1"),
            ("cpu", "cpu.shares", "2"),
        ],
    );
}

#[test]
fn a_memory_limit_below_use_says_how_much_is_used() {
    if !has(&["memory"]) {
        return;
    }
    let mut cgroup = Cgroup::prepare(&plan(&unique("usage"), Limits::default())).unwrap();
    // A megabyte that cannot be written anywhere.
    let script = "x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo; read y";
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = Sleeper(shell.spawn().unwrap());
    cgroup.enter(child.pid(), false).unwrap();
    child.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let memory = MemoryLimits {
        limit: Some(4096),
        ..Default::default()
    };
    // Swap, if there is any, would take it.
    let result = cgroup.apply(&Limits {
        memory,
        ..Default::default()
    });
    if let Err(error) = result {
        let words = error.to_string();
        assert!(
            words.contains("unable to set memory limit to 4096 (current usage: "),
            "{words}"
        );
    }
}

#[test]
fn hybrid_uses_v2_for_a_controller_that_v1_lacks() {
    if !has(&["cpu", ""]) {
        return;
    }
    let root = unified().unwrap();
    let control = root.join("cgroup.subtree_control");
    let before = std::fs::read_to_string(&control).unwrap();
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap();
    if !controllers.contains("hugetlb") {
        eprintln!("skipped: hugetlb is not on cgroup v2");
        return;
    }
    let limits = Limits {
        hugetlb: vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 4 << 20,
        }],
        network: NetworkLimits {
            class_id: Some(1),
            ..Default::default()
        },
        ..Default::default()
    };
    let cgroup = Cgroup::prepare(&plan(&unique("hybrid"), limits.clone())).unwrap();
    let ignored = cgroup.apply(&limits).unwrap();
    assert_eq!(file(&cgroup, "", "hugetlb.2MB.max"), "4194304");
    assert_eq!(file(&cgroup, "", "hugetlb.2MB.rsvd.max"), "4194304");
    assert_eq!(ignored[0].field, "linux.resources.network.classID");
    drop(cgroup);
    if !before.contains("hugetlb") {
        std::fs::write(&control, "-hugetlb").unwrap();
    }
}

#[test]
fn v2_freezes_kills_and_takes_clones() {
    if !has(&[""]) {
        return;
    }
    let mut unified = Unified::new("v2");
    assert!(unified.cgroup.clone_target().unwrap().is_some());
    let mut sleepers = [Sleeper::new(), Sleeper::new()];
    unified.cgroup.enter(sleepers[0].pid(), false).unwrap();
    std::fs::create_dir(unified.path.join("below")).unwrap();
    std::fs::write(
        unified.path.join("below/cgroup.procs"),
        sleepers[1].number().to_string(),
    )
    .unwrap();
    assert_eq!(unified.cgroup.processes().unwrap().len(), 2);
    unified.cgroup.freeze().unwrap();
    assert!(unified.cgroup.is_frozen().unwrap());
    unified.cgroup.thaw().unwrap();
    unified.cgroup.kill_all(SIGTERM).unwrap();
    assert!(sleepers.iter_mut().all(Sleeper::ends));
    let mut sleeper = Sleeper::new();
    unified.cgroup.enter(sleeper.pid(), false).unwrap();
    unified.cgroup.freeze().unwrap();
    unified.cgroup.kill_all(SIGKILL).unwrap();
    assert!(sleeper.ends());
    unified.cgroup.thaw().unwrap();
}

#[test]
fn v2_names_the_controller_that_is_not_there() {
    if !has(&["memory", ""]) {
        return;
    }
    let unified = Unified::new("missing");
    let apply = |limits: Limits| unified.cgroup.apply(&limits);
    let memory = MemoryLimits {
        limit: Some(4096),
        ..Default::default()
    };
    let words = apply(Limits {
        memory,
        ..Default::default()
    })
    .unwrap_err()
    .to_string();
    let expected = "linux.resources.memory.limit: controller \"memory\" is not available in cgroup";
    assert!(words.starts_with(expected), "{words}");
    let map = [("memory.high".to_owned(), "1".to_owned())].into();
    let words = apply(Limits {
        unified: map,
        ..Default::default()
    })
    .unwrap_err()
    .to_string();
    let expected = "linux.resources.unified[\"memory.high\"]: controller \"memory\" is not avail";
    assert!(words.starts_with(expected), "{words}");
    let map = [("cgroup.max.depth".to_owned(), "5".to_owned())].into();
    assert_eq!(
        apply(Limits {
            unified: map,
            ..Default::default()
        })
        .unwrap(),
        []
    );
    let depth = std::fs::read_to_string(unified.path.join("cgroup.max.depth")).unwrap();
    assert_eq!(depth, "5\n");
}

/// A process that says which devices it may use; see `probe`.
struct Probe {
    child: Sleeper,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    nodes: PathBuf,
}

/// Numbers of the device nodes, the same as in the lists below.
const NUMBERS: [(u64, u64); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

impl Probe {
    fn new() -> Probe {
        let nodes = std::env::temp_dir().join(unique("nodes"));
        std::fs::create_dir(&nodes).unwrap();
        for (kind, flag) in [("b", SFlag::S_IFBLK), ("c", SFlag::S_IFCHR)] {
            for (major, minor) in NUMBERS {
                let path = nodes.join(format!("{kind}-{major}-{minor}"));
                mknod(&path, flag, Mode::S_IRWXU, makedev(major, minor)).unwrap();
            }
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "probe", "--ignored", "--nocapture"])
            .env("TEU_PROBE_NODES", &nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Probe {
            child: Sleeper(child),
            input,
            output,
            nodes,
        }
    }

    /// What it may do now, as "c-1-1:r c-1-1:rw …".
    fn ask(&mut self) -> Vec<String> {
        self.input.write_all(b"\n").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the probe ended"
            );
            if let Some((_, answer)) = line.split_once("may:") {
                return answer.split_whitespace().map(str::to_owned).collect();
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.nodes).unwrap();
    }
}

#[test]
#[ignore = "the other side of Probe, run by other tests"]
fn probe() {
    let Ok(nodes) = std::env::var("TEU_PROBE_NODES") else {
        return;
    };
    let nodes = Path::new(&nodes);
    let made = nodes.join("made");
    for _ in std::io::stdin().lines() {
        let mut may = String::new();
        for (kind, flag) in [("b", SFlag::S_IFBLK), ("c", SFlag::S_IFCHR)] {
            for (major, minor) in NUMBERS {
                let name = format!("{kind}-{major}-{minor}");
                let modes = [
                    ("r", AccessFlags::R_OK),
                    ("w", AccessFlags::W_OK),
                    ("rw", AccessFlags::R_OK | AccessFlags::W_OK),
                ];
                for (letters, mode) in modes {
                    // access(2) asks the device controller as open(2) does.
                    if access(&nodes.join(&name), mode).is_ok() {
                        may.push_str(&format!(" {name}:{letters}"));
                    }
                }
                if mknod(&made, flag, Mode::S_IRWXU, makedev(major, minor)).is_ok() {
                    std::fs::remove_file(&made).unwrap();
                    may.push_str(&format!(" {name}:m"));
                }
            }
        }
        println!("may:{may}");
    }
}

fn rule(
    allow: bool,
    kind: Option<DeviceKind>,
    major: u32,
    minor: u32,
    letters: &str,
) -> DeviceRule {
    let number = |number: u32| Some(number).filter(|&number| number != 0);
    DeviceRule {
        allow,
        kind,
        major: number(major),
        minor: number(minor),
        access: Access::from_letters(letters).unwrap(),
    }
}

fn with_devices(rules: &[DeviceRule]) -> Limits {
    Limits {
        devices: Some(rules.to_vec()),
        ..Default::default()
    }
}

/// A short random list; 0 stands for every number.
fn random_list(seed: u64) -> Vec<DeviceRule> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from((state >> 33) % bound).unwrap()
    };
    let kinds = [None, Some(DeviceKind::Block), Some(DeviceKind::Character)];
    let letters = ["r", "w", "m", "rw", "rm", "wm", "rwm", "rwm"];
    (0..=next(5))
        .map(|_| {
            let numbers = [next(3), next(3)].map(|number| u32::try_from(number).unwrap());
            rule(
                next(3) > 0,
                kinds[next(3)],
                numbers[0],
                numbers[1],
                letters[next(8)],
            )
        })
        .collect()
}

#[test]
fn v1_and_v2_agree_about_devices() {
    if !has(&["devices", ""]) {
        return;
    }
    let (mut on_v1, mut on_v2) = (Probe::new(), Probe::new());
    let mut v1 = Cgroup::prepare(&plan(&unique("devices"), Limits::default())).unwrap();
    v1.enter(on_v1.child.pid(), false).unwrap();
    let mut v2 = Unified::new("devices");
    v2.cgroup.enter(on_v2.child.pid(), false).unwrap();
    let mut compared = 0;
    for seed in 0..300 {
        let list = random_list(seed);
        v2.cgroup.apply(&with_devices(&list)).unwrap();
        match v1.apply(&with_devices(&list)) {
            Ok(_) => {
                assert_eq!(on_v1.ask(), on_v2.ask(), "seed {seed}: {list:?}");
                compared += 1;
            }
            Err(error) => assert!(
                error.to_string().contains("cgroup v1 cannot except"),
                "{error}"
            ),
        }
    }
    eprintln!("{compared} of 300 lists can be said on v1");
    assert!(compared > 100);
    drop((on_v1, on_v2));
}

#[test]
fn v2_device_programs_replace_each_other() {
    if !has(&[""]) {
        return;
    }
    let mut probe = Probe::new();
    let mut unified = Unified::new("program");
    unified.cgroup.enter(probe.child.pid(), false).unwrap();
    let character = Some(DeviceKind::Character);
    let everything = probe.ask();
    assert_eq!(everything.len(), 2 * NUMBERS.len() * 4);
    let mut allowed = |rules: &[DeviceRule]| {
        unified.cgroup.apply(&with_devices(rules)).unwrap();
        probe.ask()
    };
    let all = rule(true, None, 0, 0, "rwm");
    assert_eq!(allowed(&[all]), everything);
    assert_eq!(
        allowed(&[rule(true, character, 1, 1, "rw")]),
        ["c-1-1:r", "c-1-1:w", "c-1-1:rw"]
    );
    assert_eq!(allowed(&[]), Vec::<String>::new());
    // A hole in a wildcard, which v1 cannot have; and a denied write stops
    // reading and writing together.
    let hole = [
        rule(true, character, 1, 0, "rw"),
        rule(false, character, 1, 1, "w"),
    ];
    assert_eq!(
        allowed(&hole),
        ["c-1-1:r", "c-1-2:r", "c-1-2:w", "c-1-2:rw"]
    );
    assert_eq!(allowed(&[all]), everything);
    // Many rules, all of them numbers that are not asked for.
    let many: Vec<DeviceRule> = (1..=1000)
        .map(|minor| rule(true, character, 100, minor, "r"))
        .collect();
    assert_eq!(allowed(&many), Vec::<String>::new());
    drop(probe);
}

#[test]
fn v1_devices_are_updated_without_a_gap() {
    if !has(&["devices"]) {
        return;
    }
    let cgroup = Cgroup::prepare(&plan(&unique("update"), Limits::default())).unwrap();
    let path = cgroup.saved_paths().get("devices").unwrap().to_owned();
    let character = Some(DeviceKind::Character);
    let mut rules = vec![rule(false, None, 0, 0, "rwm")];
    rules.extend(default_device_rules());
    cgroup.apply(&with_devices(&rules)).unwrap();
    let before = file(&cgroup, "devices", "devices.list");
    assert_eq!(before.lines().count(), 11, "{before}");
    // With a cgroup below, the kernel refuses to change the default: so this
    // passes only if the default is left alone.
    std::fs::create_dir(path.join("below")).unwrap();
    rules.push(rule(true, character, 195, 1, "rw"));
    rules.push(rule(false, character, 10, 200, "rw"));
    cgroup.apply(&with_devices(&rules)).unwrap();
    let after = file(&cgroup, "devices", "devices.list");
    assert!(after.contains("c 195:1 rw"), "{after}");
    assert!(after.contains("c 10:200 m"), "{after}");
    assert!(after.contains("c 1:3 rwm"), "{after}");
    std::fs::remove_dir(path.join("below")).unwrap();
}

#[test]
fn the_layout_names_the_hosts_hierarchies() {
    if !has(&["pids"]) {
        return;
    }
    let name = unique("layout");
    let cgroup = Cgroup::prepare(&plan(&name, Limits::default())).unwrap();
    let Some(Layout::V1(views)) = cgroup.layout() else {
        panic!("{:?}", cgroup.layout());
    };
    let pids = views.iter().find(|view| view.options == "pids").unwrap();
    assert_eq!(pids.directory, Path::new("/sys/fs/cgroup/pids").join(&name));
    assert_eq!(
        (pids.name.as_str(), pids.links.as_slice()),
        ("pids", [].as_slice())
    );
    assert!(views.iter().all(|view| view.directory.is_dir()));
}
