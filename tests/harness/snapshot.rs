//! Compares the host before and after a test: mounts, cgroups, processes, network
//! interfaces and state directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::net::if_::{Interface, if_nameindex};

use super::{patience, process, state_root};

/// The text with which the ids of all containers of this run begin; in a worker, those of
/// its test. Names that are made from an id, such as those of cgroups, contain it.
pub(crate) fn marker() -> String {
    match std::env::var("TEU_TEST_RUN") {
        Ok(run) => format!("teu-test-{run}-{}-", std::process::id()),
        Err(_) => format!("teu-test-{}-", std::process::id()),
    }
}

/// The maximum number of differences to print, because a cgroup that is left over may be left
/// in a dozen hierarchies.
const MOST_SHOWN: usize = 12;

/// The mounts, cgroups, processes, network interfaces and state directories that tests may
/// have made or removed. Others are left out, because they may come and go on the machine.
///
/// Mounts and interfaces are those of the worker's own namespaces, and cgroups
/// count if their path holds the marker. If $TEU_TEST_ALONE is set, all mounts,
/// cgroups and interfaces of the machine count, and new network namespaces with their processes.
#[derive(Debug)]
pub(crate) struct HostSnapshot {
    facts: BTreeSet<String>,
}

impl HostSnapshot {
    pub(crate) fn take() -> HostSnapshot {
        let is_alone = std::env::var_os("TEU_TEST_ALONE").is_some();
        let mut facts = BTreeSet::new();
        let is_worker = std::env::var_os("TEU_TEST_RUN").is_some();
        let has_own_namespaces = is_worker && nix::unistd::geteuid().is_root();
        let counts = |mount: &String| is_alone || has_own_namespaces || mount.contains(&marker());
        facts.extend(
            mounts()
                .filter(counts)
                .map(|mount| format!("mount {mount}")),
        );
        for cgroup in cgroups() {
            let cgroup = cgroup.display().to_string();
            if is_alone || cgroup.contains(&marker()) {
                facts.insert(format!("cgroup {cgroup}"));
            }
        }
        for pid in process::descendants(std::process::id().try_into().expect("a pid")) {
            facts.insert(format!("process {pid}: {}", process::command_line(pid)));
        }
        if is_alone || has_own_namespaces {
            facts.extend(interfaces());
        }
        if is_worker {
            let names = names(&state_root()).collect::<Vec<_>>();
            facts.extend(names.iter().map(|name| format!("state directory {name}")));
        }
        if is_alone {
            facts.extend(network_namespaces());
        }
        HostSnapshot { facts }
    }

    /// Returns the differences between this snapshot and the host as it is now. Waits up to two
    /// seconds for resources that the kernel frees after a command has returned.
    pub(crate) fn differences(&self) -> Vec<String> {
        let deadline = Instant::now() + patience(Duration::from_secs(2));
        loop {
            let mut differences = self.differences_from(&HostSnapshot::take());
            if differences.is_empty() || Instant::now() > deadline {
                let more = differences.len().saturating_sub(MOST_SHOWN);
                differences.truncate(MOST_SHOWN);
                if more > 0 {
                    differences.push(format!("and {more} more"));
                }
                return differences;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn differences_from(&self, now: &HostSnapshot) -> Vec<String> {
        let new = now.facts.difference(&self.facts);
        let gone = self.facts.difference(&now.facts);
        let gone = gone.filter(|fact| !lost_its_mountpoint(fact));
        new.map(|fact| format!("new: {fact}"))
            .chain(gone.map(|fact| format!("gone: {fact}")))
            .collect()
    }

    /// The cgroups of this test that still exist.
    pub(super) fn cgroups(&self) -> impl Iterator<Item = &Path> {
        let cgroups = self.facts.iter();
        let cgroups = cgroups.filter_map(|fact| fact.strip_prefix("cgroup "));
        // With $TEU_TEST_ALONE, cgroups of others are in the snapshot, too.
        cgroups
            .filter(|cgroup| cgroup.contains(&marker()))
            .map(Path::new)
    }

    /// Asserts that nothing has changed since the snapshot.
    #[track_caller]
    pub(crate) fn assert_unchanged(&self) {
        let differences = self.differences();
        assert!(
            differences.is_empty(),
            "the host changed:\n  {}",
            differences.join("\n  ")
        );
    }
}

/// The mounts of this mount namespace without their ids, which change from run to run.
fn mounts() -> impl Iterator<Item = String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let without_ids = |line: &str| line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
    mounts
        .lines()
        .map(without_ids)
        .collect::<Vec<_>>()
        .into_iter()
}

/// Whether it is a mount whose mount point another process has removed. That removes the mount
/// from every namespace, including this one (unlink(2) and rmdir(2), since Linux 3.18).
/// ip-netns(8) and Docker do so regularly; a runtime that unmounts too much does not. A mount
/// that this test has made does not count.
fn lost_its_mountpoint(fact: &str) -> bool {
    let mount = fact.strip_prefix("mount ");
    let mountpoint = mount.and_then(|mount| mount.split(' ').nth(2));
    mountpoint.is_some_and(|path| {
        !path.contains(&marker()) && fs::symlink_metadata(unescaped(path)).is_err()
    })
}

/// Unescapes a path of mountinfo (proc_pid_mountinfo(5)). The backslash comes last, because it
/// is the escape character.
fn unescaped(path: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(path.to_owned(), |path, (escape, text)| {
            path.replace(escape, text)
        })
}

/// The interfaces of this network namespace.
fn interfaces() -> Vec<String> {
    let interfaces = if_nameindex().expect("list the network interfaces");
    let name = |interface: &Interface| interface.name().to_string_lossy().into_owned();
    interfaces
        .iter()
        .map(|interface| format!("interface {}", name(interface)))
        .collect()
}

/// All cgroups in all mounted hierarchies.
fn cgroups() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = mounts()
        .filter(|mount| mount.contains(" - cgroup"))
        .filter_map(|mount| mount.split(' ').nth(2).map(unescaped))
        .map(PathBuf::from)
        .collect();
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        directories.extend(entries.filter(is_directory).map(|entry| entry.path()));
    }
    directories
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// The network namespaces that have processes.
fn network_namespaces() -> BTreeSet<String> {
    let link = |pid: String| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let links = names(Path::new("/proc")).filter_map(link);
    links
        .map(|link| format!("network namespace {}", link.display()))
        .collect()
}
