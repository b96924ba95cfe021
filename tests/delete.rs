//! kill, delete and ps with many processes, and with processes in other cgroups.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, mkdirat};

use crate::harness::*;

tests![
    kill_catches_those_who_run_away,
    force_delete_ends_processes_in_cgroups_below,
    force_delete_ends_processes_frozen_below,
    kill_ends_processes_frozen_below,
    deep_cgroups_are_listed_thawed_and_removed,
    paused_container_with_its_hosts_processes_is_deleted,
    interrupted_wait_for_init_goes_on,
    somebody_elses_process_goes_only_by_force,
    init_that_cannot_be_looked_at_has_not_ended,
    ps_shows_processes_in_cgroups_below,
];

/// The container's cgroups in all hierarchies of the machine.
fn all_directories(pid: i32) -> Vec<PathBuf> {
    let cgroup = CgroupFiles::of(pid);
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let names = text.lines().filter_map(|line| line.split(':').nth(1));
    let directories = names.filter_map(|name| match name.strip_prefix("name=") {
        Some(name) => Some(cgroup.directory_at(name, &format!("name={name}"))),
        None if name.is_empty() => cgroup.unified(),
        // The names of controllers that share a hierarchy lead to the same directory.
        None => Some(cgroup.directory(name.split(',').next().unwrap_or_default())),
    });
    directories.filter(|directory| directory.exists()).collect()
}

/// Makes a cgroup below the container's in all hierarchies and moves a process into it.
fn move_below(container: &Container, pid: i32, name: &str) -> Vec<PathBuf> {
    let mut below = Vec::new();
    for directory in all_directories(container.pid()) {
        let path = directory.join(name);
        fs::create_dir(&path).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A new cpuset of v1 is empty and takes no process. On v2, empty means all.
            let is_v1 = path.join("cpuset.sched_load_balance").exists();
            if is_v1 && let Ok(set) = fs::read_to_string(directory.join(file)) {
                fs::write(path.join(file), set).unwrap();
            }
        }
        fs::write(path.join("cgroup.procs"), pid.to_string()).unwrap();
        below.push(path);
    }
    below
}

/// A container that shares the host's pid namespace; returns the pids of `count` children of
/// its init, too.
fn with_children(count: usize) -> (Container, Vec<i32>) {
    let bundle = Bundle::new().without_namespace("pid");
    let container = Container::running(bundle.probe(&format!("fork {count}; sleep")));
    container.wait_for_output("ok");
    let answer: serde_json::Value = serde_json::from_str(&container.stdout()).unwrap();
    let pids = answer["ok"].as_array().unwrap().iter();
    let pids = pids.map(|pid| i32::try_from(pid.as_i64().unwrap()).unwrap());
    let pids = pids.collect();
    (container, pids)
}

/// Freezes a cgroup.
fn freeze(directories: &[PathBuf]) {
    let has = |file: &str| {
        directories
            .iter()
            .map(|path| path.join(file))
            .find(|path| path.exists())
    };
    let (file, word) = match has("freezer.state") {
        Some(file) => (file, "FROZEN"),
        None => (has("cgroup.freeze").unwrap(), "1"),
    };
    fs::write(file, word).unwrap();
}

#[track_caller]
fn assert_gone(directories: &[PathBuf], pids: &[i32]) {
    let left: Vec<&Path> = directories
        .iter()
        .map(PathBuf::as_path)
        .filter(|path| path.exists())
        .collect();
    assert!(left.is_empty(), "left: {left:?}");
    wait_until("its processes have ended", || {
        !pids.iter().any(|pid| is_alive(*pid))
    });
}

fn kill_catches_those_who_run_away() {
    needs(&[Root, Controller("pids")]);
    let bundle = Bundle::new()
        .without_namespace("pid")
        .set("/linux/resources/pids/limit", 30);
    let container = Container::running(bundle.probe("run-away 3"));
    container.wait_for_output("running away");
    let directories = all_directories(container.pid());
    let pids = directories
        .iter()
        .find(|path| path.join("pids.current").exists())
        .unwrap();
    container.kill("KILL").ok();
    wait_until("nobody is left", || {
        fs::read_to_string(pids.join("pids.current"))
            .unwrap()
            .trim()
            == "0"
    });
    container.delete().ok();
    assert_gone(&directories, &[]);
}

fn force_delete_ends_processes_in_cgroups_below() {
    needs(&[Root]);
    let (container, pids) = with_children(4);
    let directories = all_directories(container.pid());
    for (number, pid) in pids.iter().enumerate() {
        move_below(&container, *pid, &format!("below{number}"));
    }
    let output = container.delete_force().ok();
    assert!(output.took < patience(Duration::from_secs(5)), "{output}");
    assert_gone(&directories, &pids);
}

fn force_delete_ends_processes_frozen_below() {
    needs(&[Root]);
    // In a new pid namespace, init waits for the frozen process to die.
    let container = Container::running(Bundle::new().probe("fork 1; sleep"));
    container.wait_for_output("ok");
    let directories = all_directories(container.pid());
    let pids = fs::read_to_string(directories[0].join("cgroup.procs")).unwrap();
    let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    let child = *pids.iter().find(|pid| **pid != container.pid()).unwrap();
    freeze(&move_below(&container, child, "below"));
    let output = container.delete_force().ok();
    assert!(output.took < patience(Duration::from_secs(5)), "{output}");
    assert_gone(&directories, &pids);
}

fn kill_ends_processes_frozen_below() {
    needs(&[Root]);
    let (container, pids) = with_children(1);
    let directories = all_directories(container.pid());
    freeze(&move_below(&container, pids[0], "below"));
    container.kill("KILL").ok();
    wait_until("all have ended", || {
        !is_alive(pids[0]) && !is_alive(container.pid())
    });
    container.delete().ok();
    assert_gone(&directories, &pids);
}

/// A container that was given cgroups of its own can nest them deeper than `PATH_MAX`, and freeze
/// its processes there.
fn deep_cgroups_are_listed_thawed_and_removed() {
    needs(&[Root]);
    let (container, pids) = with_children(1);
    let directories = all_directories(container.pid());
    let mut deepest = Vec::new();
    for directory in move_below(&container, pids[0], "below") {
        // A new cpuset of v1 takes no process.
        let takes_processes = !directory.join("cpuset.sched_load_balance").exists();
        let opened = make_40_below(&directory);
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        if takes_processes {
            fs::write(path.join("cgroup.procs"), pids[0].to_string()).unwrap();
        }
        deepest.push((path, opened));
    }
    let paths: Vec<PathBuf> = deepest.iter().map(|(path, _)| path.clone()).collect();
    freeze(&paths);
    drop(deepest);
    let shown = container.command("ps", ["--format", "json"]).output().ok();
    let shown: Vec<i32> = serde_json::from_str(&shown.stdout).unwrap();
    assert!(shown.contains(&pids[0]), "{shown:?}");
    container.kill("KILL").ok();
    wait_until("all have ended", || {
        !is_alive(pids[0]) && !is_alive(container.pid())
    });
    container.delete().ok();
    assert_gone(&directories, &pids);
}

/// Makes 40 cgroups, one in the other and each with a sibling. Returns the last.
fn make_40_below(directory: &Path) -> OwnedFd {
    let names = ["n", "s"].map(|letter| letter.repeat(255));
    let mut deepest = open_directory(None, directory);
    for _ in 0..40 {
        for name in &names {
            mkdirat(&deepest, name.as_str(), Mode::from_bits_retain(0o755)).unwrap();
        }
        deepest = open_directory(Some(&deepest), Path::new(&names[0]));
    }
    deepest
}

fn open_directory(parent: Option<&OwnedFd>, path: &Path) -> OwnedFd {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = parent.map_or(AT_FDCWD, AsFd::as_fd);
    nix::fcntl::openat(parent, path, flags, Mode::empty()).unwrap()
}

fn paused_container_with_its_hosts_processes_is_deleted() {
    needs(&[Root]);
    let (container, pids) = with_children(2);
    let directories = all_directories(container.pid());
    container.command("pause", NO_FLAGS).output().ok();
    container.delete_force().ok();
    assert_gone(&directories, &pids);
}

/// An init whose file in /proc cannot be read has not necessarily ended.
fn init_that_cannot_be_looked_at_has_not_ended() {
    needs(&[Root, Teu, Tool("strace")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    for verb in ["state", "pause", "update", "delete", "kill", "exec"] {
        let call = container.command(verb, NO_FLAGS).args(match verb {
            "exec" => &["/probe", "exit", "0"][..],
            _ => &[],
        });
        let output = without_stat_of(&container, call);
        assert_ne!(output.code(), 0, "{output}");
        assert!(
            container.has_state() && is_alive(container.pid()),
            "{output}"
        );
    }
    without_stat_of(&container, teu(["list"])).ok();
    // The processes are those in init's pid namespace.
    let container = Container::new(Bundle::new().probe("sleep"));
    let created = container.create_with(["--cgroup-manager", "disabled"]);
    created.ok();
    without_stat_of(&container, container.command("ps", NO_FLAGS)).exits(1);
}

/// Makes a call while init's file in /proc cannot be read. The call must report that.
#[track_caller]
fn without_stat_of(container: &Container, call: Invocation) -> Output {
    let stat = format!("/proc/{}/stat", container.pid());
    let tracer = "strace -qq -o /dev/null -e inject=openat,open:error=EMFILE -P";
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.extend([OsString::from(&stat), runtime().into()]);
    call.with_program(program).output().says(&stat)
}

/// A signal that arrives while teu waits for a killed init does not end the wait.
fn interrupted_wait_for_init_goes_on() {
    needs(&[Root, Teu, Tool("strace")]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let tracer = "strace -qq -o /dev/null -e inject=ppoll:error=EINTR:when=1";
    let mut program: Vec<OsString> = tracer.split(' ').map(Into::into).collect();
    program.push(runtime().into());
    let call = container.command("delete", ["--force"]);
    call.with_program(program).output().ok();
    assert!(!container.has_state());
}

fn somebody_elses_process_goes_only_by_force() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let directories = all_directories(container.pid());
    let probe = container.bundle.host_probe();
    let stranger = Invocation::new(probe).arg("sleep").spawn();
    for directory in &directories {
        fs::write(directory.join("cgroup.procs"), stranger.pid.to_string()).unwrap();
    }
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().exits(1).says("device or resource busy");
    assert!(is_alive(stranger.pid));
    assert!(container.has_state());
    container.delete_force().ok();
    assert_gone(&directories, &[stranger.pid]);
}

fn ps_shows_processes_in_cgroups_below() {
    needs(&[Root]);
    let (container, mut pids) = with_children(2);
    move_below(&container, pids[0], "below");
    pids.push(container.pid());
    pids.sort_unstable();
    let output = container.command("ps", ["--format", "json"]).output().ok();
    let mut shown: Vec<i32> = serde_json::from_str(&output.stdout).unwrap();
    shown.sort_unstable();
    assert_eq!(shown, pids);
}
