//! What a test needs from the machine it runs on.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::process;
use super::runner::{LIMIT_SECONDS, hold_machine_alone};

/// A requirement of a test. A test is skipped and counted if the machine does not meet it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// uid 0 in the first user namespace.
    Root,
    /// v1 hierarchies hold the limits of containers, as on v1 and hybrid machines.
    CgroupV1,
    /// The unified hierarchy without v1 hierarchies.
    CgroupV2,
    /// The unified hierarchy, with or without v1 hierarchies.
    UnifiedHierarchy,
    /// A controller in a v1 hierarchy or in the unified hierarchy.
    Controller(&'static str),
    /// A controller is missing in all hierarchies.
    NoController(&'static str),
    /// The unified hierarchy, with or without v1 hierarchies, has a controller that threaded
    /// cgroups cannot use: see [`domain_limit`].
    DomainController,
    UserNamespaces,
    TimeNamespaces,
    /// At least this kernel version.
    Kernel(u32, u32),
    /// An effective capability, by its bit, because a machine may restrict its root.
    Capability(u32, &'static str),
    /// An x86_64 machine, also for 32-bit programs.
    X86,
    AppArmor,
    NoAppArmor,
    Selinux,
    NoSelinux,
    /// A label in tests/data/lsm: a loaded AppArmor profile, or a SELinux context that the
    /// policy knows.
    Label(&'static str),
    /// systemd runs as pid 1.
    Systemd,
    NoSystemd,
    /// A user other than root who is logged in and has a systemd user manager.
    UserSystemd,
    /// The kernel has overlayfs.
    Overlayfs,
    /// At least this many processors.
    Processors(usize),
    /// A program in $PATH.
    Tool(&'static str),
    /// A CRIU that works on this kernel: $TEU_TEST_CRIU, or the program in $PATH.
    Criu,
    /// A CRIU with a feature, by its name for `criu check --feature`.
    CriuFeature(&'static str),
    /// containerd's own shim, named by $TEU_GO_SHIM.
    GoShim,
    /// teu, and not another runtime in $TEU_BINARY, because the test is about messages or
    /// behaviour in which teu differs on purpose, or about newer specifications.
    Teu,
    /// This time limit instead of 30 seconds.
    Seconds(u64),
    /// No other test may run at the same time.
    Alone,
}

use Need::*;

/// The panic payload of a skipped test; the runner's panic hook does not print it.
pub(super) struct Skip(pub(super) String);

/// Skips the running test unless the machine meets all of `needs`.
pub(crate) fn needs(needs: &[Need]) {
    for need in needs {
        match need {
            Seconds(limit) => LIMIT_SECONDS.store(*limit, Ordering::Relaxed),
            Alone => hold_machine_alone(),
            _ => {}
        }
        if !need.is_met() {
            std::panic::panic_any(Skip(format!("needs {}", need.words())));
        }
    }
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Root => nix::unistd::geteuid().is_root(),
            CgroupV1 => !unified(),
            CgroupV2 => unified(),
            UnifiedHierarchy => has_unified_hierarchy(),
            Controller(name) => controllers().iter().any(|controller| controller == name),
            NoController(name) => !Controller(name).is_met(),
            DomainController => domain_limit().is_some(),
            UserNamespaces => {
                Path::new("/proc/self/ns/user").exists()
                    && number("/proc/sys/user/max_user_namespaces") != Some(0)
            }
            TimeNamespaces => Path::new("/proc/self/ns/time").exists(),
            Kernel(major, minor) => kernel() >= (major, minor),
            Capability(bit, _) => effective_capabilities() >> bit & 1 == 1,
            X86 => cfg!(target_arch = "x86_64"),
            AppArmor => fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|enabled| enabled.starts_with('Y')),
            NoAppArmor => !AppArmor.is_met(),
            Selinux => Path::new("/sys/fs/selinux/enforce").exists(),
            NoSelinux => !Selinux.is_met(),
            Label(label) => has_profile(label) || is_context(label),
            Systemd => Path::new("/run/systemd/system").is_dir(),
            NoSystemd => !Systemd.is_met(),
            UserSystemd => {
                let directory = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
                !Root.is_met() && Path::new(&directory).join("systemd/private").exists()
            }
            Overlayfs => fs::read_to_string("/proc/filesystems")
                .is_ok_and(|names| names.lines().any(|name| name == "nodev\toverlay")),
            Processors(count) => {
                std::thread::available_parallelism().is_ok_and(|number| number.get() >= count)
            }
            Tool(name) => in_path(name),
            Criu => criu_says_yes(&["check"]),
            CriuFeature(name) => criu_says_yes(&["check", "--feature", name]),
            GoShim => std::env::var_os("TEU_GO_SHIM").is_some(),
            Teu => super::runtime().ends_with("teu"),
            Seconds(_) | Alone => true,
        }
    }

    fn words(self) -> String {
        match self {
            Root => "root".to_owned(),
            CgroupV1 => "cgroup v1".to_owned(),
            CgroupV2 => "cgroup v2".to_owned(),
            UnifiedHierarchy => "the unified hierarchy".to_owned(),
            Controller(name) => format!("the {name} controller"),
            NoController(name) => format!("no {name} controller"),
            DomainController => "a controller of cgroup v2 that is not threaded".to_owned(),
            UserNamespaces => "user namespaces".to_owned(),
            TimeNamespaces => "time namespaces".to_owned(),
            Kernel(major, minor) => format!("kernel >= {major}.{minor}"),
            Capability(_, name) => format!("capability {name}"),
            X86 => "x86_64".to_owned(),
            AppArmor => "AppArmor".to_owned(),
            NoAppArmor => "a kernel without AppArmor".to_owned(),
            Selinux => "SELinux".to_owned(),
            NoSelinux => "a kernel without SELinux".to_owned(),
            Label(label) => format!("the label {label}"),
            Systemd => "systemd".to_owned(),
            NoSystemd => "a machine without systemd".to_owned(),
            UserSystemd => "a user's systemd".to_owned(),
            Overlayfs => "overlayfs".to_owned(),
            Processors(count) => format!("{count} processors"),
            Tool(name) => format!("the program {name}"),
            Criu => "a CRIU that works".to_owned(),
            CriuFeature(name) => format!("{name} of CRIU"),
            GoShim => "containerd's shim for runc".to_owned(),
            Teu => "a runtime named teu".to_owned(),
            Seconds(limit) => format!("{limit} seconds"),
            Alone => "the machine alone".to_owned(),
        }
    }
}

/// The kind of this machine, which decides which tests are expected to be skipped: the name
/// of a file in tests/data/skips. Virtual machines are told theirs ($TEU_TEST_MACHINE).
pub(super) fn machine_kind() -> String {
    if let Ok(kind) = std::env::var("TEU_TEST_MACHINE") {
        return kind;
    }
    let mut words = vec![if Root.is_met() { "root" } else { "user" }];
    words.push(match (unified(), hybrid()) {
        (true, _) => "cgroup2",
        (false, true) => "hybrid",
        (false, false) => "cgroup1",
    });
    let extras = [
        (Systemd, "systemd"),
        (AppArmor, "apparmor"),
        (Selinux, "selinux"),
    ];
    words.extend(
        extras
            .iter()
            .filter(|(need, _)| need.is_met())
            .map(|(_, word)| *word),
    );
    // A CRIU in $PATH does not change the kind: its tests run wherever it works.
    if std::env::var_os("TEU_TEST_CRIU").is_some() {
        words.push("criu");
    }
    words.join("-")
}

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn hybrid() -> bool {
    Path::new("/sys/fs/cgroup/unified").exists()
}

pub(crate) fn has_unified_hierarchy() -> bool {
    unified() || hybrid()
}

/// A limit for the first controller of the kind: the controller's name, the field below
/// linux.resources that holds the limit, and a value.
pub(crate) fn domain_limit() -> Option<(&'static str, &'static str, Value)> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let present = read("/sys/fs/cgroup/cgroup.controllers")
        .or_else(|| read("/sys/fs/cgroup/unified/cgroup.controllers"))?;
    let limits = [
        ("memory", "memory/limit", json!(64 << 20)),
        (
            "hugetlb",
            "hugepageLimits",
            json!([{ "pageSize": "2MB", "limit": 4 << 20 }]),
        ),
    ];
    limits
        .into_iter()
        .find(|(name, ..)| present.split_whitespace().any(|one| one == *name))
}

fn controllers() -> Vec<String> {
    let v1 = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let v1 = v1
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .flat_map(|list| list.split(','));
    // Controllers of v1 that are part of v2's core.
    let core: &[&str] = if unified() {
        &["freezer", "devices"]
    } else {
        &[]
    };
    let v2 = v2.split_whitespace().chain(core.iter().copied());
    v1.chain(v2).map(str::to_owned).collect()
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn has_profile(name: &str) -> bool {
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    let loaded = loaded.unwrap_or_default();
    let mut names = loaded.lines().filter_map(|line| line.split(' ').next());
    names.any(|loaded| loaded == name)
}

/// Whether the policy knows a context: the kernel refuses to write an unknown context, and
/// without a policy takes any.
fn is_context(label: &str) -> bool {
    let takes = |label| fs::write("/sys/fs/selinux/context", label).is_ok();
    takes(label) && !takes("no context")
}

/// A $PATH with which a runtime finds the CRIU of the tests.
pub(crate) fn criu_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(program) = std::env::var_os("TEU_TEST_CRIU") else {
        return path;
    };
    let directory = Path::new(&program).parent().expect("a path of CRIU");
    let directories = [directory.to_owned()];
    let directories = directories.into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(directories).expect("a PATH")
}

fn criu_says_yes(args: &[&str]) -> bool {
    let program = std::env::split_paths(&criu_path())
        .map(|directory| directory.join("criu"))
        .find(|program| program.is_file());
    let Some(program) = program else {
        return false;
    };
    let mut command = Command::new(program);
    command.args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let pid = child.id().try_into().expect("a pid");
    // In a test, all children are reaped in the background, so waiting may fail.
    child
        .wait()
        .unwrap_or_else(|_| process::wait(pid))
        .success()
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}
