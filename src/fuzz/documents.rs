//! Fuzzes the readers of config.json, of its parts, and of state.json.
//!
//! Compares the result with the bare JSON of the document, which knows no types: every
//! protection that the JSON asks for must be in the plan.

use std::path::Path;

use libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY};
use oci_spec::runtime::{LinuxResources, LinuxSeccomp, LinuxSeccompAction, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use teu_cgroups::{Limits, Location};
use teu_namespaces::{IdMap, IdMaps, Kind, Namespace, NamespacePlan};
use teu_plan::capability_set::CapabilitySet;
use teu_plan::document;
use teu_plan::exec::ExecPlan;
use teu_plan::mounts::{Mount, MountKind, clean};
use teu_plan::process::{Defaults, ForEveryProcess, ProcessPlan};
use teu_plan::rootfs::RestrictedPath;
use teu_plan::seccomp::SeccompFilter;
use teu_plan::seen::{Caller, DevicesSeen, Resctrl, Seen};
use teu_plan::{CgroupManager, Plan, PlanOptions, cgroup};

use crate::state::{ContainerState, StateDir};

/// The interpreter of filters. It is part of the tests of the crate teu-seccomp.
#[allow(dead_code, reason = "the tests of teu-seccomp use more of it")]
#[path = "../../seccomp/tests/libseccomp/bpf.rs"]
mod bpf;

fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    document::read(text, &|_, _| {}).ok()
}

/// Reads the bare JSON, with names of fields in small letters, as their case does not
/// matter. Returns `None` if a name is there in more than one case.
fn bare(text: &[u8]) -> Option<Value> {
    with_names(read(text)?, &|name| name.to_ascii_lowercase())
}

fn with_names(value: Value, change: &dyn Fn(&str) -> String) -> Option<Value> {
    match value {
        Value::Object(object) => {
            let fields = object.into_iter();
            let fields = fields.map(|(name, value)| Some((name, with_names(value, change)?)));
            renamed(fields.collect::<Option<_>>()?, change).map(Value::Object)
        }
        Value::Array(list) => {
            let items = list.into_iter().map(|item| with_names(item, change));
            items.collect::<Option<_>>().map(Value::Array)
        }
        other => Some(other),
    }
}

fn renamed(
    object: Map<String, Value>,
    change: &dyn Fn(&str) -> String,
) -> Option<Map<String, Value>> {
    let mut renamed = Map::new();
    for (name, value) in object {
        if renamed.insert(change(&name), value).is_some() {
            return None;
        }
    }
    Some(renamed)
}

/// Returns the items of a list, or none if the value is not a list.
fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// Returns the text, or `None` if it is empty or the value is not a text.
fn word(text: &Value) -> Option<&str> {
    text.as_str().filter(|text| !text.is_empty())
}

/// Makes a plan of config.json, for root and for a user without privileges. Checks that the
/// plan is the same a second time and with names of fields in another case, and that it has
/// all protections that the document asks for.
pub fn config(text: &[u8]) -> Option<()> {
    let mut accepted = None;
    for is_rootless in [false, true] {
        let Some(plan) = plan(text, is_rootless) else {
            continue;
        };
        if let Some(asked) = bare(text) {
            assert_planned(&plan, &asked, is_rootless);
        }
        let said = said(plan);
        assert_eq!(
            self::plan(text, is_rootless).map(self::said).as_ref(),
            Some(&said)
        );
        if let Some(other) = in_capitals(text) {
            assert_eq!(self::plan(&other, is_rootless).map(self::said), Some(said));
        }
        accepted = Some(());
    }
    accepted
}

/// Returns the plan as text. The defaults are returned separately, because they have sets
/// of capabilities, whose order differs each time.
fn said(mut plan: Box<Plan>) -> (Defaults, String) {
    let defaults = std::mem::take(&mut plan.shared.defaults);
    (defaults, format!("{plan:?}"))
}

fn plan(text: &[u8], is_rootless: bool) -> Option<Box<Plan>> {
    let joined = IdMap {
        container: 0,
        host: 1000,
        size: 1,
    };
    let seen = Seen {
        caller: Caller {
            is_unprivileged: is_rootless,
            ..root()
        },
        rootfs: Ok(()),
        cgroups: Location::none(),
        has_kcore: true,
        joined_id_maps: Some(IdMaps {
            uid: vec![joined],
            ..IdMaps::default()
        }),
        joins_own_network: false,
        knows_wait_killable: true,
        resctrl: Some(Resctrl {
            root: "/sys/fs/resctrl".into(),
            has_cache_allocation: true,
            has_bandwidth_allocation: true,
        }),
        devices: DevicesSeen::default(),
    };
    let options = PlanOptions {
        id: "box".into(),
        // Use a systemd unit for one of the two plans, because annotations set its
        // properties.
        cgroup_manager: match is_rootless {
            true => CgroupManager::Systemd,
            false => CgroupManager::Filesystem,
        },
        may_lack_process: true,
        ..PlanOptions::default()
    };
    let spec: Box<Spec> = read(text)?;
    Plan::new(&spec, Path::new("/bundle"), &options, &seen).ok()
}

/// Returns root of a machine with SELinux.
fn root() -> Caller {
    Caller {
        is_unprivileged: false,
        in_user_namespace: false,
        has_users_systemd: false,
        group: 0,
        bounding: CapabilitySet::all(),
        effective: CapabilitySet::all(),
        ignored_signals: 0,
        known_capabilities: Some(CapabilitySet::all()),
        has_selinux: true,
        is_confined_by_apparmor: false,
    }
}

/// Returns the document with some names of fields in capitals.
fn in_capitals(text: &[u8]) -> Option<Vec<u8>> {
    let capitals = |name: &str| name.to_ascii_uppercase();
    let mut document: Map<String, Value> = read(text)?;
    for section in ["process", "root", "linux"] {
        if let Some(Value::Object(fields)) = document.get_mut(section) {
            *fields = renamed(std::mem::take(fields), &capitals)?;
        }
    }
    serde_json::to_vec(&renamed(document, &capitals)?).ok()
}

fn assert_planned(plan: &Plan, asked: &Value, is_rootless: bool) {
    let linux = &asked["linux"];
    for namespace in items(&linux["namespaces"]) {
        let word = namespace["type"].as_str();
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| Some(kind.spec_name()) == word);
        assert!(plan.namespaces.is_private(kind.expect("a kind")));
    }
    if word(&linux["seccomp"]["defaultaction"]).is_some() {
        assert!(plan.shared.seccomp.is_some() && plan.process.seccomp.is_some());
    }
    if plan.namespaces.is_private(Kind::Mount) && asked["root"]["readonly"] == true {
        assert!(plan.rootfs.readonly);
    }
    let paths = |planned: &[RestrictedPath], asked: &Value| {
        for path in items(asked).iter().filter_map(Value::as_str) {
            let path = clean(Path::new(path));
            assert!(planned.iter().any(|planned| planned.path == path));
        }
    };
    paths(&plan.rootfs.masked_paths, &linux["maskedpaths"]);
    paths(&plan.rootfs.readonly_paths, &linux["readonlypaths"]);
    let mounts = items(&asked["mounts"]);
    assert_eq!(plan.rootfs.mounts.len(), mounts.len());
    for (mount, asked) in plan.rootfs.mounts.iter().zip(mounts) {
        assert_mounted(mount, &asked["options"]);
    }
    if plan.namespaces.is_new(Kind::User) {
        let mapped = items(&linux["uidmappings"]);
        assert_eq!(plan.namespaces.id_maps.uid.len(), mapped.len());
    }
    assert_limited(&plan.cgroup.limits, &linux["resources"]);
    match &plan.cgroup.limits.devices {
        Some(rules) => {
            let asked = items(&linux["resources"]["devices"]);
            assert!(rules.len() > asked.len(), "those of every container, too");
            for (rule, asked) in rules.iter().zip(asked) {
                assert_eq!(rule.allow, asked["allow"] == true);
            }
        }
        None => assert!(is_rootless),
    }
    let process = &asked["process"];
    assert_process(&plan.process, process);
    assert_capabilities(&plan.process, &process["capabilities"]);
    let no_new_privileges = process["nonewprivileges"] == true;
    assert_eq!(plan.process.no_new_privileges, no_new_privileges);
}

/// Checks that the mount has the protecting options. Of an option and its opposite, the
/// last one counts.
fn assert_mounted(mount: &Mount, options: &Value) {
    let options: Vec<&str> = items(options).iter().filter_map(Value::as_str).collect();
    for (set, cleared, flag) in [
        ("ro", "rw", MS_RDONLY),
        ("nosuid", "suid", MS_NOSUID),
        ("nodev", "dev", MS_NODEV),
        ("noexec", "exec", MS_NOEXEC),
    ] {
        let mut options = options.iter().rev();
        if options.find(|option| [set, cleared].contains(option)) != Some(&set) {
            continue;
        }
        let planned = match &mount.kind {
            MountKind::Bind(bind) => bind.flags.map_or(0, |flags| flags.set),
            MountKind::Filesystem(filesystem) => filesystem.flags,
            MountKind::Remount(remount) => remount.flags.set,
            MountKind::CgroupV1(cgroup) => cgroup.flags,
            MountKind::CgroupV2(cgroup) => cgroup.filesystem.flags,
        };
        let is_late = flag == MS_RDONLY && mount.readonly_at_end;
        assert!(planned & flag != 0 || is_late, "{set}");
    }
}

/// Checks the settings that every process must have as its document asks for them.
fn assert_process(plan: &ProcessPlan, asked: &Value) {
    assert!(plan.no_new_privileges || asked["nonewprivileges"] != true);
    let id = |name: &str| asked["user"][name].as_u64().unwrap_or(0);
    assert_eq!(u64::from(plan.credentials.uid), id("uid"));
    assert_eq!(u64::from(plan.credentials.gid), id("gid"));
    for limit in items(&asked["rlimits"]) {
        let mut planned = plan.rlimits.iter();
        let planned = planned.find(|planned| limit["type"] == planned.name);
        let soft = planned.expect("a limit").soft.unwrap_or(u64::MAX);
        assert_eq!(soft, limit["soft"].as_u64().unwrap_or(0));
    }
    for (label, asked) in [
        (&plan.lsm.apparmor_profile, &asked["apparmorprofile"]),
        (&plan.lsm.selinux_label, &asked["selinuxlabel"]),
    ] {
        if let Some(asked) = word(asked) {
            let label = label.as_ref().expect("a label");
            assert_eq!(label.to_bytes(), asked.as_bytes());
        }
    }
}

/// Checks that no set has a capability that the document does not name for this set.
fn assert_capabilities(plan: &ProcessPlan, asked: &Value) {
    let planned = &plan.capabilities;
    for (planned, name) in [
        (planned.bounding, "bounding"),
        (planned.effective, "effective"),
        (planned.inheritable, "inheritable"),
        (planned.permitted, "permitted"),
        (planned.ambient, "ambient"),
    ] {
        let words = items(&asked[name]).iter().filter_map(Value::as_str);
        let names = words.filter_map(|word| word.strip_prefix("CAP_"));
        let asked: CapabilitySet = names.filter_map(CapabilitySet::from_name).collect();
        assert!(asked.contains(planned), "{name}");
    }
}

/// Makes a further process of a container from process.json. Checks that the process has
/// the container's protections, unless process.json has its own.
pub fn process(text: &[u8]) -> Option<()> {
    const CONTAINER: &[u8] = br#"{"process": {"cwd": "/", "noNewPrivileges": true,
        "apparmorProfile": "a-profile", "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}]},
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}}"#;
    let process: Process = read(text)?;
    let container: Spec = read(CONTAINER).expect("a container");
    let mut shared = ForEveryProcess::new(&container, true).expect("what it has");
    let seccomp = container
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let filter = seccomp.map(|seccomp| SeccompFilter::new(seccomp, true).expect("a filter"));
    shared.seccomp.clone_from(&filter);
    let mut namespaces = NamespacePlan::default();
    namespaces.set(Kind::Pid, Namespace::Joined("/proc/1/ns/pid".into()));
    let process = shared.defaults.complete(process);
    let plan = ExecPlan::new("box", &process, &shared, &root(), &namespaces, false).ok()?;
    let plan = plan.process;
    assert_eq!(
        plan.seccomp.as_ref().map(|seccomp| &seccomp.filter),
        filter.as_ref()
    );
    let asked = bare(text)?;
    assert_process(&plan, &asked);
    match &asked["capabilities"] {
        Value::Null => {
            assert_eq!(plan.capabilities.bounding, CapabilitySet::KILL);
            assert!(plan.capabilities.permitted.is_empty());
        }
        asked => assert_capabilities(&plan, asked),
    }
    assert!(plan.no_new_privileges || asked["nonewprivileges"] == false);
    assert!(plan.lsm.apparmor_profile.is_some());
    assert!(!plan.rlimits.is_empty());
    Some(())
}

/// Makes limits from the resources of an update. Checks that state.json keeps them
/// unchanged.
pub fn resources(text: &[u8]) -> Option<()> {
    let resources: LinuxResources = read(text)?;
    let limits = cgroup::change(&resources).ok()?;
    let saved = serde_json::to_vec(&limits).expect("saved");
    assert_eq!(
        serde_json::from_slice::<Limits>(&saved).expect("read"),
        limits
    );
    let asked = bare(text)?;
    assert_limited(&limits, &asked);
    let rules = limits.devices.iter().flatten();
    let rules: Vec<bool> = rules.map(|rule| rule.allow).collect();
    let asked = items(&asked["devices"]).iter();
    assert_eq!(
        rules,
        asked.map(|rule| rule["allow"] == true).collect::<Vec<_>>()
    );
    Some(())
}

fn assert_limited(limits: &Limits, asked: &Value) {
    let (memory, cpu) = (&asked["memory"], &asked["cpu"]);
    assert_eq!(limits.memory.limit, memory["limit"].as_i64());
    assert_eq!(limits.memory.swap, memory["swap"].as_i64());
    assert_eq!(limits.cpu.quota, cpu["quota"].as_i64());
    assert_eq!(limits.cpu.shares, cpu["shares"].as_u64());
    assert_eq!(limits.cpu.cpus, cpu["cpus"].as_str().unwrap_or_default());
    if let Some(pids) = asked["pids"]["limit"].as_i64() {
        assert_eq!(limits.pids, Some(pids));
    }
    assert_eq!(limits.hugetlb.len(), items(&asked["hugepagelimits"]).len());
    let unified = asked["unified"].as_object().map_or(0, Map::len);
    assert_eq!(limits.unified.len(), unified);
}

/// Makes a filter from a profile. Checks that the filter allows no call that the profile
/// does not allow, and that the kernel would accept the filter.
pub fn seccomp(text: &[u8]) -> Option<()> {
    /// Some system calls that usual profiles name, and a number without a call.
    const CALLS: [(&str, i64); 6] = [
        ("read", libc::SYS_read),
        ("getpid", libc::SYS_getpid),
        ("clone", libc::SYS_clone),
        ("mount", libc::SYS_mount),
        ("ptrace", libc::SYS_ptrace),
        ("", 100_000),
    ];
    const ARCH: u32 = if cfg!(target_arch = "aarch64") {
        0xc000_00b7
    } else {
        0xc000_003e
    };
    let profile: LinuxSeccomp = read(text)?;
    let filter = SeccompFilter::new(&profile, true).ok()?;
    bpf::check(&filter.program);
    let result = |number: i64, arch| {
        let number = u32::try_from(number).expect("a number");
        let data = bpf::Data {
            number,
            arch,
            ..bpf::Data::default()
        };
        bpf::run(&filter.program, &data).result
    };
    assert_eq!(
        result(0, 0x1234_5678),
        0,
        "the thread of another machine is killed"
    );
    let rules = profile.syscalls().iter().flatten();
    for (name, number) in CALLS {
        let mut of_call = rules
            .clone()
            .filter(|rule| rule.names().iter().any(|other| other == name));
        // The first rule without conditions decides. If there is none, any rule with
        // conditions may decide.
        let mut for_all = of_call
            .clone()
            .filter(|rule| rule.args().iter().flatten().next().is_none());
        let may_pass = match for_all.next() {
            Some(rule) => passes(rule.action()),
            None => passes(profile.default_action()) || of_call.any(|rule| passes(rule.action())),
        };
        let result = result(number, ARCH);
        assert!(may_pass || !lets_pass(result), "{name:?}: {result:#x}");
    }
    Some(())
}

fn passes(action: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
    matches!(action, ScmpActAllow | ScmpActLog | ScmpActTrace)
}

/// Returns whether the call is executed with this result: `SECCOMP_RET_TRACE`, `LOG` or
/// `ALLOW` of linux/seccomp.h.
fn lets_pass(result: u32) -> bool {
    matches!(result >> 16, 0x7ff0 | 0x7ffc | 0x7fff)
}

/// Reads a state. Checks that it is the same after it is written and read again, that
/// enough of it can be read to delete the container, and that reading fails if a field is
/// missing.
pub fn state(text: &[u8]) -> Option<()> {
    let document: Value = serde_json::from_slice(text).ok()?;
    let dir = StateDir::find(Path::new("/run/teu"), document["id"].as_str()?).ok()?;
    let state = dir.parse(text).ok()?;
    let remains = dir.parse_remains(text).expect("enough to end it");
    assert_eq!(
        (remains.pid, remains.start_time),
        (state.pid, state.start_time)
    );
    assert_eq!(remains.cgroup, state.cgroup);
    let json = written(&state);
    let parse = |json: &Value| dir.parse(json.to_string().as_bytes());
    assert_eq!(written(&parse(&json).expect("read again")), json);
    for section in ["", "/shared", "/shared/defaults"] {
        let fields = json.pointer(section).and_then(Value::as_object);
        for name in fields.expect("a section").keys() {
            let mut without = json.clone();
            let fields = without.pointer_mut(section).and_then(Value::as_object_mut);
            fields.expect("a section").remove(name);
            assert!(parse(&without).is_err(), "{section}/{name} is missing");
        }
    }
    Some(())
}

/// Returns the JSON of a state. Sorts the sets of capabilities, because their order differs
/// each time.
fn written(state: &ContainerState) -> Value {
    let mut json = serde_json::to_value(state).expect("JSON");
    if let Some(Value::Object(sets)) = json.pointer_mut("/shared/defaults/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_unstable_by_key(Value::to_string);
        }
    }
    json
}
