//! Reports what the container sees, as a JSON object. A field is null if the container cannot see
//! it, because /proc, /dev or a permission is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, major, minor, umask};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{getegid, geteuid, getgid, getgroups, getpid, getppid, getuid};
use serde_json::{Map, Value, json};
use teu_mountinfo::Mount;

use crate::sys;

/// Capability names by number (include/uapi/linux/capability.h).
pub(crate) const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const RLIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

/// The whole report.
pub(crate) fn report() -> Value {
    let mut all = Map::new();
    // First, so that descriptors opened for the rest are not included.
    all.insert("fds".into(), open_descriptors());
    for part in [identity(), process(), kernel_view(), surroundings()] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn identity() -> Value {
    json!({
        "pid": getpid().as_raw(),
        "ppid": getppid().as_raw(),
        "uid": getuid().as_raw(),
        "gid": getgid().as_raw(),
        "euid": geteuid().as_raw(),
        "egid": getegid().as_raw(),
        "groups": getgroups().ok().map(|groups| groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>()),
        "session": nix::unistd::getsid(None).ok().map(nix::unistd::Pid::as_raw),
        "process_group": nix::unistd::getpgrp().as_raw(),
        "uid_map": id_map("/proc/self/uid_map"),
        "gid_map": id_map("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "capabilities": capabilities(),
        "no_new_privileges": status_number("NoNewPrivs"),
        "seccomp": status_number("Seccomp"),
        "seccomp_filters": status_number("Seccomp_filters"),
        "lsm": {
            "current": text("/proc/self/attr/current"),
            "exec": text("/proc/self/attr/exec"),
            "apparmor": text("/proc/self/attr/apparmor/current"),
            "keyring": sys::session_keyring_label().ok(),
        },
        "keyring": sys::session_keyring().ok(),
    })
}

fn process() -> Value {
    json!({
        "umask": current_umask(),
        "cwd": std::env::current_dir().ok(),
        "args": std::env::args().collect::<Vec<_>>(),
        "env": environment(),
        "oom_score_adj": text("/proc/self/oom_score_adj").and_then(|text| text.parse::<i64>().ok()),
        "rlimits": rlimits(),
        "scheduler": scheduler(),
        "io_priority": io_priority(),
        "personality": sys::personality().ok(),
        "cpu_affinity": affinity(),
        "memory_policy": sys::memory_policy()
            .ok()
            .map(|(mode, nodes)| json!({ "mode": mode, "nodes": nodes })),
        "tty": terminal(),
        "comm": text("/proc/self/comm"),
        "threads": status_number("Threads"),
        "signals": {
            "blocked": status("SigBlk"),
            "ignored": status("SigIgn"),
        },
        "parent_death_signal": nix::sys::prctl::get_pdeathsig().ok().flatten().map(|signal| signal.as_str()),
        "dumpable": nix::sys::prctl::get_dumpable().ok(),
    })
}

fn kernel_view() -> Value {
    let names = nix::sys::utsname::uname().ok();
    let name = |field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        names
            .as_ref()
            .map(|names| field(names).to_string_lossy().into_owned())
    };
    json!({
        "hostname": name(nix::sys::utsname::UtsName::nodename),
        "domainname": name(nix::sys::utsname::UtsName::domainname),
        "machine": name(nix::sys::utsname::UtsName::machine),
        "namespaces": namespaces(),
        "timens_offsets": text("/proc/self/timens_offsets"),
        "clocks": {
            "boottime": clock(ClockId::CLOCK_BOOTTIME),
            "monotonic": clock(ClockId::CLOCK_MONOTONIC),
        },
        "mounts": mounts(),
        "root": fs::metadata("/").ok().map(|root| json!({ "dev": root.dev(), "ino": root.ino() })),
        "root_entries": names_in("/"),
        "network": network(),
    })
}

fn surroundings() -> Value {
    json!({
        "cgroup": cgroup(),
        "devices": devices(Path::new("/dev"), 0),
        "processes": names_in("/proc").map(|names| {
            names.iter().filter_map(|name| name.parse::<i32>().ok()).collect::<Vec<_>>()
        }),
    })
}

/// The trimmed contents of a file, or nothing if it cannot be read.
pub(crate) fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read(path).ok()?;
    Some(
        String::from_utf8_lossy(&text)
            .trim_end_matches(['\n', '\0'])
            .to_owned(),
    )
}

fn names_in(directory: &str) -> Option<Vec<String>> {
    let entries = fs::read_dir(directory).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Some(names)
}

/// The value after `field:` in /proc/self/status.
fn status(field: &str) -> Option<String> {
    let status = text("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

fn status_number(field: &str) -> Option<u64> {
    status(field)?.parse().ok()
}

/// The lines of a uid_map or gid_map as `[inside, outside, length]`.
fn id_map(path: &str) -> Option<Vec<Vec<u32>>> {
    let map = text(path)?;
    Some(map.lines().map(|line| numbers(line).collect()).collect())
}

fn numbers(line: &str) -> impl Iterator<Item = u32> {
    line.split_whitespace().filter_map(|word| word.parse().ok())
}

fn capabilities() -> Value {
    let sets = [
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("inheritable", "CapInh"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ];
    let set = |field| {
        let hex = status(field)?;
        let bits = u64::from_str_radix(&hex, 16).ok()?;
        let names: Vec<String> = (0..64)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(capability_name)
            .collect();
        Some(json!({ "hex": hex, "names": names }))
    };
    sets.iter()
        .map(|(name, field)| ((*name).to_owned(), json!(set(field))))
        .collect()
}

fn capability_name(bit: usize) -> String {
    CAPABILITIES
        .get(bit)
        .map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned())
}

fn current_umask() -> String {
    // Reading the mask requires setting it.
    let mask = umask(Mode::empty());
    umask(mask);
    format!("{:04o}", mask.bits())
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn rlimits() -> Value {
    let value = |limit: u64| {
        if limit == u64::MAX {
            json!("unlimited")
        } else {
            json!(limit)
        }
    };
    RLIMITS
        .iter()
        .filter_map(|(name, resource)| {
            let (soft, hard) = getrlimit(*resource).ok()?;
            Some((
                (*name).to_owned(),
                json!({ "soft": value(soft), "hard": value(hard) }),
            ))
        })
        .collect()
}

fn scheduler() -> Option<Value> {
    let attributes = sys::scheduler_attributes().ok()?;
    let policy = match attributes.policy {
        0 => "SCHED_OTHER",
        1 => "SCHED_FIFO",
        2 => "SCHED_RR",
        3 => "SCHED_BATCH",
        5 => "SCHED_IDLE",
        6 => "SCHED_DEADLINE",
        _ => "unknown",
    };
    Some(json!({
        "policy": policy,
        "nice": attributes.nice,
        "priority": attributes.priority,
        "flags": attributes.flags,
        "runtime": attributes.runtime,
        "deadline": attributes.deadline,
        "period": attributes.period,
    }))
}

fn io_priority() -> Option<Value> {
    let packed = sys::io_priority().ok()?;
    let class = match packed >> 13 {
        0 => "none",
        1 => "realtime",
        2 => "best-effort",
        3 => "idle",
        _ => "unknown",
    };
    Some(json!({ "class": class, "priority": packed & 0x1fff }))
}

fn affinity() -> Option<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).ok()?;
    let is_set = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    Some((0..nix::sched::CpuSet::count()).filter(is_set).collect())
}

fn clock(clock: ClockId) -> Option<i64> {
    clock_gettime(clock).ok().map(|time| time.tv_sec())
}

fn namespaces() -> Option<BTreeMap<String, String>> {
    let names = names_in("/proc/self/ns")?;
    Some(
        names
            .into_iter()
            .filter_map(|name| {
                let link = fs::read_link(format!("/proc/self/ns/{name}")).ok()?;
                Some((name, link.to_string_lossy().into_owned()))
            })
            .collect(),
    )
}

/// The targets of all open descriptors, by number; null without /proc.
pub(crate) fn open_descriptors() -> Value {
    // Collect the numbers first. They include the descriptor of the directory itself, which is
    // closed when the links are read.
    let numbers = names_in("/proc/self/fd").unwrap_or_else(|| {
        (0..1024)
            .filter(|number| sys::is_open(*number))
            .map(|number| number.to_string())
            .collect()
    });
    let mut open = Map::new();
    for number in numbers {
        if number.parse().is_ok_and(sys::is_open) {
            let link = fs::read_link(format!("/proc/self/fd/{number}")).ok();
            open.insert(
                number,
                json!(link.map(|link| link.to_string_lossy().into_owned())),
            );
        }
    }
    Value::Object(open)
}

/// The terminals behind the standard descriptors.
fn terminal() -> Value {
    let size = sys::window_size(io::stdin().as_fd()).ok();
    json!({
        "stdin": io::stdin().is_terminal(),
        "stdout": io::stdout().is_terminal(),
        "stderr": io::stderr().is_terminal(),
        "rows": size.map(|(rows, _)| rows),
        "columns": size.map(|(_, columns)| columns),
        // Field 7 of proc_pid_stat(5), after the name, which may contain spaces.
        "controlling": text("/proc/self/stat").and_then(|stat| {
            let fields = stat.rsplit_once(')')?.1.to_owned();
            let device: u64 = fields.split_whitespace().nth(4)?.parse().ok()?;
            (device != 0).then(|| format!("{}:{}", major(device), minor(device)))
        }),
    })
}

/// The mounts of /proc/self/mountinfo in order, as objects (proc_pid_mountinfo(5)).
pub(crate) fn mounts() -> Option<Vec<Value>> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    let mounts = teu_mountinfo::mounts(&table).expect("a table of mounts");
    Some(mounts.iter().map(mount).collect())
}

fn mount(mount: &Mount) -> Value {
    let words = |field: &[u8], separator| -> Vec<String> {
        let field = String::from_utf8_lossy(field);
        let words = field.split(separator).map(str::to_owned);
        words.filter(|word| !word.is_empty()).collect()
    };
    json!({
        "id": mount.id,
        "parent": mount.parent,
        "device": String::from_utf8_lossy(mount.device),
        "root": mount.root().to_string_lossy(),
        "target": mount.point().to_string_lossy(),
        "options": words(mount.options, ','),
        "propagation": words(mount.optional, ' '),
        "type": String::from_utf8_lossy(mount.kind),
        "source": mount.source().to_string_lossy(),
        "super_options": words(mount.super_options, ','),
    })
}

fn network() -> Option<Value> {
    let mut interfaces: BTreeMap<String, Value> = BTreeMap::new();
    for address in nix::ifaddrs::getifaddrs().ok()? {
        let flags: Vec<String> = address
            .flags
            .iter_names()
            .map(|(name, _)| name.to_owned())
            .collect();
        let interface = interfaces
            .entry(address.interface_name.clone())
            .or_insert_with(|| json!({ "flags": flags, "addresses": [] }));
        let inet = address.address.filter(|address| {
            address.as_sockaddr_in().is_some() || address.as_sockaddr_in6().is_some()
        });
        if let (Some(inet), Some(list)) = (inet, interface["addresses"].as_array_mut()) {
            list.push(json!(inet.to_string()));
        }
    }
    Some(json!(interfaces))
}

/// The cgroup of this process in each hierarchy, and its readable limits.
fn cgroup() -> Option<Value> {
    let memberships = text("/proc/self/cgroup")?;
    let limits = [
        ("cpus", "cpuset", "cpuset.cpus", "cpuset.cpus"),
        ("mems", "cpuset", "cpuset.mems", "cpuset.mems"),
        ("shares", "cpu", "cpu.shares", "cpu.weight"),
        ("memory", "memory", "memory.limit_in_bytes", "memory.max"),
        ("pids", "pids", "pids.max", "pids.max"),
    ];
    let mut cgroup = Map::new();
    cgroup.insert(
        "memberships".into(),
        json!(memberships.lines().collect::<Vec<_>>()),
    );
    for (name, controller, version1, version2) in limits {
        let value =
            limit(&memberships, controller, version1).or_else(|| limit(&memberships, "", version2));
        cgroup.insert(name.into(), json!(value));
    }
    cgroup.insert("cpus_allowed".into(), json!(status("Cpus_allowed_list")));
    cgroup.insert("mems_allowed".into(), json!(status("Mems_allowed_list")));
    Some(Value::Object(cgroup))
}

/// Reads `file` of this process's cgroup in the hierarchy of `controller` (empty for v2).
fn limit(memberships: &str, controller: &str, file: &str) -> Option<String> {
    let own = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let has = fields.next()?.split(',').any(|name| name == controller);
        fields.next().filter(|_| has)
    })?;
    let fs_type = if controller.is_empty() {
        "cgroup2"
    } else {
        "cgroup"
    };
    let mount = mounts()?.into_iter().rev().find(|mount| {
        mount["type"] == fs_type
            && (controller.is_empty()
                || mount["super_options"]
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(controller))))
    })?;
    // The whole hierarchy may be mounted, or only this cgroup.
    let below = own
        .strip_prefix(mount["root"].as_str()?)
        .unwrap_or_default();
    let directory = Path::new(mount["target"].as_str()?).join(below.trim_start_matches('/'));
    text(directory.join(file))
}

/// The nodes below /dev, with the result of opening each.
fn devices(directory: &Path, depth: usize) -> Option<Vec<Value>> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    names.sort();
    let mut nodes = Vec::new();
    for path in names {
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let file_type = metadata.file_type();
        nodes.push(device(&path, &metadata));
        if file_type.is_dir() && depth < 2 {
            nodes.extend(devices(&path, depth + 1).unwrap_or_default());
        }
    }
    Some(nodes)
}

fn device(path: &Path, metadata: &fs::Metadata) -> Value {
    let kind = file_type(metadata);
    let mut node = json!({
        "path": path,
        "type": kind,
        "mode": format!("{:04o}", metadata.permissions().mode() & 0o7777),
        "uid": metadata.uid(),
        "gid": metadata.gid(),
    });
    if matches!(kind, "char" | "block") {
        node["major"] = json!(major(metadata.rdev()));
        node["minor"] = json!(minor(metadata.rdev()));
        node["read"] = json!(opens(path, OFlag::O_RDONLY));
        node["write"] = json!(opens(path, OFlag::O_WRONLY));
    }
    if kind == "symlink" {
        node["target"] = json!(fs::read_link(path).ok());
    }
    node
}

/// The name of a file type.
pub(crate) fn file_type(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    match kind {
        _ if kind.is_dir() => "directory",
        _ if kind.is_symlink() => "symlink",
        _ if kind.is_char_device() => "char",
        _ if kind.is_block_device() => "block",
        _ if kind.is_fifo() => "fifo",
        _ if kind.is_socket() => "socket",
        _ => "file",
    }
}

/// The result of open(2): "ok" or the name of the errno.
fn opens(path: &Path, access: OFlag) -> String {
    // Opening a watchdog would arm it and restart the machine.
    if path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("watchdog"))
    {
        return "not tried".to_owned();
    }
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match nix::fcntl::open(path, flags, Mode::empty()) {
        Ok(_) => "ok".to_owned(),
        Err(errno) => errno_name(errno),
    }
}

/// The errno's name as in errno(3), such as `EROFS`.
pub(crate) fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}
