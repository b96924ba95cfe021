//! The bundle's `config.json` as types: runtime-spec 1.3, the parts for Linux.
//!
//! Words with a fixed set of values (capabilities, policies, mount options …)
//! stay strings here: what an unknown word means differs per field (a warning,
//! an error with words that engines know), and that is decided in `plan/`.
//! Only `bundle.rs` and `plan/` may use these types.

use std::collections::BTreeMap;
use std::fmt;

use crate::json_tree::{Json, Object};

/// Is told of a field that its object does not have: the place of it, and the
/// fields there are.
pub(crate) type TellUnknown<'a> = &'a dyn Fn(&Place<'_>, &[&'static str]);

/// Parses a JSON text as one of the types below. `unknown` is told of every field
/// that the type does not have; they are allowed (config.md, "Extensibility").
///
/// # Errors
/// The text is no JSON, or a field has the wrong type: the error names it.
pub(crate) fn from_slice<T: FromJson>(text: &[u8], unknown: TellUnknown<'_>) -> Result<T, String> {
    let value = serde_json::from_slice(text).map_err(|err| err.to_string())?;
    T::from_json(
        value,
        &Place {
            parent: None,
            name: Name::Field(""),
            unknown,
        },
    )
}

/// What can be made of a JSON value. Without serde's generic way, which makes
/// a copy of the code for each source it reads from and for each field.
pub(crate) trait FromJson: Sized {
    /// The value at `place` as this type.
    ///
    /// # Errors
    /// It is of another type.
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<Self, String>;
}

/// Where in the document a value is, as `linux.namespaces[2].path`.
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    name: Name<'a>,
    unknown: TellUnknown<'a>,
}

#[derive(Clone, Copy)]
enum Name<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn below(&'a self, name: Name<'a>) -> Place<'a> {
        Place {
            parent: Some(self),
            name,
            unknown: self.unknown,
        }
    }

    /// The name of the field that is there; none for an item of a list.
    pub(crate) fn field(&self) -> Option<&str> {
        match self.name {
            Name::Field(name) => Some(name),
            Name::Index(_) => None,
        }
    }

    fn expected(&self, what: &str, found: &Json<'_>) -> String {
        let found = match found {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Number(value) => value.to_string(),
            Json::String(text) => serde_json::Value::from(text.as_str()).to_string(),
            Json::List(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        match self.parent {
            None => format!("expected {what}, found {found}"),
            Some(_) => format!("{self}: expected {what}, found {found}"),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.name {
            Name::Index(index) => write!(f, "[{index}]"),
            Name::Field(name) => {
                let is_first = self.parent.is_none_or(|parent| parent.parent.is_none());
                write!(f, "{}{name}", if is_first { "" } else { "." })
            }
        }
    }
}

/// Takes a field out of an object. Go writes an empty list or map as `null`;
/// it means the same as its absence.
fn field<T: FromJson + Default>(
    object: &mut Object<'_>,
    name: &str,
    place: &Place<'_>,
) -> Result<T, String> {
    match object.remove(name) {
        None | Some(Json::Null) => Ok(T::default()),
        Some(value) => T::from_json(value, &place.below(Name::Field(name))),
    }
}

fn object<'a>(value: Json<'a>, place: &Place<'_>) -> Result<Object<'a>, String> {
    match value {
        Json::Object(object) => Ok(object),
        other => Err(place.expected("an object", &other)),
    }
}

/// Gives a field that is written in another case the name it has here. Go takes
/// "CPU" for "cpu" (package encoding/json, Unmarshal), so callers of runc may
/// write it, and of both it takes what they hold together.
fn ignore_case(object: &mut Object<'_>, names: &[&'static str]) {
    let mut meant: Vec<&str> = Vec::new();
    let others = object.remove_if(|other| {
        if names.contains(&other) {
            return false;
        }
        let name = names.iter().find(|name| name.eq_ignore_ascii_case(other));
        meant.extend(name);
        name.is_some()
    });
    for (name, (_, value)) in meant.into_iter().zip(others) {
        object.add_missing(Object::from((name, value)));
    }
}

fn report_rest(object: &Object<'_>, place: &Place<'_>, names: &[&'static str]) {
    for name in object.names() {
        (place.unknown)(&place.below(Name::Field(name)), names);
    }
}

impl FromJson for String {
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<String, String> {
        match value {
            Json::String(text) => Ok(text),
            other => Err(place.expected("a string", &other)),
        }
    }
}

impl FromJson for bool {
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<bool, String> {
        match value {
            Json::Bool(value) => Ok(value),
            other => Err(place.expected("true or false", &other)),
        }
    }
}

macro_rules! number_from_json {
    ($($kind:ident)*) => {$(
        impl FromJson for $kind {
            fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<$kind, String> {
                let number = match &value {
                    Json::Number(number) => Some(number),
                    _ => None,
                };
                let unsigned = number.and_then(|number| number.as_u64()?.try_into().ok());
                let signed = number.and_then(|number| number.as_i64()?.try_into().ok());
                unsigned.or(signed).ok_or_else(|| {
                    let range = format!("a number from {} to {}", $kind::MIN, $kind::MAX);
                    place.expected(&range, &value)
                })
            }
        }
    )*};
}
number_from_json!(u16 u32 u64 i32 i64);

/// A section that is only looked at for being there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section;

impl FromJson for Section {
    fn from_json(_: Json<'_>, _: &Place<'_>) -> Result<Section, String> {
        Ok(Section)
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<Option<T>, String> {
        T::from_json(value, place).map(Some)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<Vec<T>, String> {
        let Json::List(values) = value else {
            return Err(place.expected("a list", &value));
        };
        let values = values.into_iter().enumerate();
        values
            .map(|(index, value)| T::from_json(value, &place.below(Name::Index(index))))
            .collect()
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<BTreeMap<String, T>, String> {
        let entries = object(value, place)?.into_iter();
        entries
            .map(|(key, value)| {
                let value = T::from_json(value, &place.below(Name::Field(&key)))?;
                Ok((key.into_owned(), value))
            })
            .collect()
    }
}

macro_rules! spec_struct {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_attr:meta])* $field:ident: $kind:ty = $key:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[$field_attr])* pub(crate) $field: $kind,)*
        }

        impl FromJson for $name {
            fn from_json(value: Json<'_>, place: &Place<'_>) -> Result<$name, String> {
                let mut object = object(value, place)?;
                ignore_case(&mut object, &[$($key),*]);
                let read = $name {
                    $($field: field(&mut object, $key, place)?,)*
                };
                report_rest(&object, place, &[$($key),*]);
                Ok(read)
            }
        }

        /// For the state, which keeps some of them, and for tests, which write
        /// specifications as JSON.
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<$name, D::Error> {
                let value = <Json<'_> as serde::Deserialize>::deserialize(json)?;
                let place = Place { parent: None, name: Name::Field(""), unknown: &|_, _| {} };
                $name::from_json(value, &place).map_err(serde::de::Error::custom)
            }
        }
    };
}

spec_struct! {
    /// The whole of config.json (config.md).
    Spec {
        oci_version: String = "ociVersion",
        root: Option<Root> = "root",
        mounts: Vec<Mount> = "mounts",
        process: Option<Process> = "process",
        hostname: String = "hostname",
        domainname: String = "domainname",
        hooks: Hooks = "hooks",
        annotations: BTreeMap<String, String> = "annotations",
        linux: Option<Linux> = "linux",
        // Sections for other platforms: kept only so that they can be refused.
        solaris: Option<Section> = "solaris",
        windows: Option<Section> = "windows",
        vm: Option<Section> = "vm",
        zos: Option<Section> = "zos",
        freebsd: Option<Section> = "freebsd",
    }
}

spec_struct! {
    /// The container's root filesystem (config.md, "Root").
    Root {
        path: String = "path",
        readonly: bool = "readonly",
    }
}

spec_struct! {
    /// One entry of `mounts` (config.md, "Mounts").
    Mount {
        destination: String = "destination",
        kind: String = "type",
        source: String = "source",
        options: Vec<String> = "options",
        uid_mappings: Vec<IdMapping> = "uidMappings",
        gid_mappings: Vec<IdMapping> = "gidMappings",
    }
}

spec_struct! {
    /// The process to run (config.md, "Process").
    Process {
        terminal: bool = "terminal",
        console_size: Option<ConsoleSize> = "consoleSize",
        user: User = "user",
        args: Vec<String> = "args",
        command_line: String = "commandLine",
        env: Vec<String> = "env",
        cwd: String = "cwd",
        capabilities: Option<Capabilities> = "capabilities",
        rlimits: Vec<Rlimit> = "rlimits",
        no_new_privileges: Option<bool> = "noNewPrivileges",
        apparmor_profile: String = "apparmorProfile",
        oom_score_adj: Option<i32> = "oomScoreAdj",
        scheduler: Option<Scheduler> = "scheduler",
        selinux_label: String = "selinuxLabel",
        io_priority: Option<IoPriority> = "ioPriority",
        exec_cpu_affinity: Option<CpuAffinity> = "execCPUAffinity",
    }
}

spec_struct! {
    /// Size of the terminal in characters.
    ConsoleSize {
        height: u16 = "height",
        width: u16 = "width",
    }
}

spec_struct! {
    /// User and groups of the process, as ids inside the container.
    User {
        uid: u32 = "uid",
        gid: u32 = "gid",
        umask: Option<u32> = "umask",
        additional_gids: Vec<u32> = "additionalGids",
        username: String = "username",
    }
}

spec_struct! {
    /// The five capability sets of capabilities(7), by name.
    #[derive(serde::Serialize)]
    Capabilities {
        bounding: Vec<String> = "bounding",
        effective: Vec<String> = "effective",
        inheritable: Vec<String> = "inheritable",
        permitted: Vec<String> = "permitted",
        ambient: Vec<String> = "ambient",
    }
}

spec_struct! {
    /// One resource limit of getrlimit(2).
    #[derive(serde::Serialize)]
    Rlimit {
        #[serde(rename = "type")]
        kind: String = "type",
        hard: u64 = "hard",
        soft: u64 = "soft",
    }
}

spec_struct! {
    /// Scheduling attributes of sched_setattr(2).
    #[derive(serde::Serialize)]
    Scheduler {
        policy: String = "policy",
        nice: i32 = "nice",
        priority: i32 = "priority",
        flags: Vec<String> = "flags",
        runtime: u64 = "runtime",
        deadline: u64 = "deadline",
        period: u64 = "period",
    }
}

spec_struct! {
    /// I/O scheduling class and level of ioprio_set(2).
    #[derive(serde::Serialize)]
    IoPriority {
        class: String = "class",
        priority: i32 = "priority",
    }
}

spec_struct! {
    /// CPU lists for processes started by `exec`.
    #[derive(serde::Serialize)]
    CpuAffinity {
        initial: String = "initial",
        #[serde(rename = "final")]
        last: String = "final",
    }
}

spec_struct! {
    /// The six kinds of hook (config.md, "POSIX-platform Hooks").
    Hooks {
        prestart: Vec<Hook> = "prestart",
        create_runtime: Vec<Hook> = "createRuntime",
        create_container: Vec<Hook> = "createContainer",
        start_container: Vec<Hook> = "startContainer",
        poststart: Vec<Hook> = "poststart",
        poststop: Vec<Hook> = "poststop",
    }
}

spec_struct! {
    /// One program to run at a moment of the container's life.
    Hook {
        path: String = "path",
        args: Vec<String> = "args",
        env: Option<Vec<String>> = "env",
        timeout: Option<i64> = "timeout",
    }
}

spec_struct! {
    /// What only Linux has (config-linux.md).
    Linux {
        uid_mappings: Vec<IdMapping> = "uidMappings",
        gid_mappings: Vec<IdMapping> = "gidMappings",
        sysctl: BTreeMap<String, String> = "sysctl",
        resources: Option<Resources> = "resources",
        cgroups_path: String = "cgroupsPath",
        namespaces: Vec<Namespace> = "namespaces",
        devices: Vec<Device> = "devices",
        net_devices: BTreeMap<String, NetDevice> = "netDevices",
        seccomp: Option<Seccomp> = "seccomp",
        rootfs_propagation: String = "rootfsPropagation",
        masked_paths: Vec<String> = "maskedPaths",
        readonly_paths: Vec<String> = "readonlyPaths",
        mount_label: String = "mountLabel",
        intel_rdt: Option<IntelRdt> = "intelRdt",
        memory_policy: Option<MemoryPolicy> = "memoryPolicy",
        personality: Option<Personality> = "personality",
        time_offsets: BTreeMap<String, TimeOffset> = "timeOffsets",
    }
}

spec_struct! {
    /// A range of ids: container ids from `container_id` are host ids from `host_id`.
    IdMapping {
        container_id: u32 = "containerID",
        host_id: u32 = "hostID",
        size: u32 = "size",
    }
}

spec_struct! {
    /// A namespace to make, or to join when it has a path.
    Namespace {
        kind: String = "type",
        path: String = "path",
    }
}

spec_struct! {
    /// A device node to make in the container.
    Device {
        path: String = "path",
        kind: String = "type",
        major: i64 = "major",
        minor: i64 = "minor",
        file_mode: Option<u32> = "fileMode",
        uid: Option<u32> = "uid",
        gid: Option<u32> = "gid",
    }
}

spec_struct! {
    /// A network device to move in; the key in `netDevices` is its name outside.
    NetDevice {
        name: String = "name",
    }
}

spec_struct! {
    /// Cache and memory bandwidth allocation (kernel: Documentation/filesystems/resctrl.rst).
    IntelRdt {
        clos_id: String = "closID",
        schemata: Vec<String> = "schemata",
        l3_cache_schema: String = "l3CacheSchema",
        mem_bw_schema: String = "memBwSchema",
        enable_monitoring: bool = "enableMonitoring",
        // Left the specification in 1.3; refused by name.
        enable_cmt: bool = "enableCMT",
        enable_mbm: bool = "enableMBM",
    }
}

spec_struct! {
    /// NUMA memory policy of set_mempolicy(2).
    MemoryPolicy {
        mode: String = "mode",
        nodes: String = "nodes",
        flags: Vec<String> = "flags",
    }
}

spec_struct! {
    /// Execution domain of personality(2).
    Personality {
        domain: String = "domain",
        flags: Vec<String> = "flags",
    }
}

spec_struct! {
    /// Clock offset of a time namespace, in seconds and nanoseconds.
    TimeOffset {
        secs: i64 = "secs",
        nanosecs: u32 = "nanosecs",
    }
}

spec_struct! {
    /// What the container's cgroup allows (config-linux.md, "Control groups").
    Resources {
        devices: Vec<DeviceCgroup> = "devices",
        memory: Option<Memory> = "memory",
        cpu: Option<Cpu> = "cpu",
        pids: Option<Pids> = "pids",
        block_io: Option<BlockIo> = "blockIO",
        hugepage_limits: Vec<HugepageLimit> = "hugepageLimits",
        network: Option<Network> = "network",
        rdma: BTreeMap<String, Rdma> = "rdma",
        unified: BTreeMap<String, String> = "unified",
    }
}

spec_struct! {
    /// One rule of the device cgroup; absent numbers match any device.
    DeviceCgroup {
        allow: bool = "allow",
        kind: String = "type",
        major: Option<i64> = "major",
        minor: Option<i64> = "minor",
        access: String = "access",
    }
}

spec_struct! {
    /// Memory limits in bytes; -1 is unlimited.
    Memory {
        limit: Option<i64> = "limit",
        reservation: Option<i64> = "reservation",
        swap: Option<i64> = "swap",
        kernel: Option<i64> = "kernel",
        kernel_tcp: Option<i64> = "kernelTCP",
        swappiness: Option<u64> = "swappiness",
        disable_oom_killer: Option<bool> = "disableOOMKiller",
        use_hierarchy: Option<bool> = "useHierarchy",
        check_before_update: Option<bool> = "checkBeforeUpdate",
    }
}

spec_struct! {
    /// CPU time and placement; times in microseconds.
    Cpu {
        shares: Option<u64> = "shares",
        quota: Option<i64> = "quota",
        burst: Option<u64> = "burst",
        period: Option<u64> = "period",
        realtime_runtime: Option<i64> = "realtimeRuntime",
        realtime_period: Option<u64> = "realtimePeriod",
        cpus: String = "cpus",
        mems: String = "mems",
        idle: Option<i64> = "idle",
    }
}

spec_struct! {
    /// Number of tasks.
    Pids {
        limit: Option<i64> = "limit",
    }
}

spec_struct! {
    /// Block I/O weights and throttles.
    BlockIo {
        weight: Option<u16> = "weight",
        leaf_weight: Option<u16> = "leafWeight",
        weight_device: Vec<WeightDevice> = "weightDevice",
        throttle_read_bps_device: Vec<ThrottleDevice> = "throttleReadBpsDevice",
        throttle_write_bps_device: Vec<ThrottleDevice> = "throttleWriteBpsDevice",
        throttle_read_iops_device: Vec<ThrottleDevice> = "throttleReadIOPSDevice",
        throttle_write_iops_device: Vec<ThrottleDevice> = "throttleWriteIOPSDevice",
    }
}

spec_struct! {
    /// Block I/O weight of one device.
    WeightDevice {
        major: i64 = "major",
        minor: i64 = "minor",
        weight: Option<u16> = "weight",
        leaf_weight: Option<u16> = "leafWeight",
    }
}

spec_struct! {
    /// Bytes or operations a second on one device.
    ThrottleDevice {
        major: i64 = "major",
        minor: i64 = "minor",
        rate: u64 = "rate",
    }
}

spec_struct! {
    /// Limit in bytes for one huge page size.
    HugepageLimit {
        page_size: String = "pageSize",
        limit: u64 = "limit",
    }
}

spec_struct! {
    /// Network class and priorities (v1 only).
    Network {
        class_id: Option<u32> = "classID",
        priorities: Vec<InterfacePriority> = "priorities",
    }
}

spec_struct! {
    /// Priority of traffic on one interface.
    InterfacePriority {
        name: String = "name",
        priority: u32 = "priority",
    }
}

spec_struct! {
    /// Limits for one RDMA device.
    Rdma {
        hca_handles: Option<u32> = "hcaHandles",
        hca_objects: Option<u32> = "hcaObjects",
    }
}

spec_struct! {
    /// System call filter (config-linux.md, "Seccomp").
    Seccomp {
        default_action: String = "defaultAction",
        default_errno_ret: Option<u32> = "defaultErrnoRet",
        architectures: Vec<String> = "architectures",
        flags: Option<Vec<String>> = "flags",
        listener_path: String = "listenerPath",
        listener_metadata: String = "listenerMetadata",
        syscalls: Vec<Syscall> = "syscalls",
    }
}

spec_struct! {
    /// One rule of a system call filter.
    Syscall {
        names: Vec<String> = "names",
        action: String = "action",
        errno_ret: Option<u32> = "errnoRet",
        args: Vec<SyscallArg> = "args",
    }
}

spec_struct! {
    /// A condition on one argument of a system call.
    SyscallArg {
        index: u32 = "index",
        value: u64 = "value",
        value_two: u64 = "valueTwo",
        op: String = "op",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_means_absent() {
        let spec: Spec = serde_json::from_str(
            r#"{"ociVersion":"1.3.0","mounts":null,"process":{"args":null,"cwd":"/"},"linux":{"resources":null,"uidMappings":null}}"#,
        )
        .expect("parses");
        assert!(spec.mounts.is_empty());
        assert!(spec.process.expect("process").args.is_empty());
        assert_eq!(spec.linux.expect("linux").resources, None);
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let cases = [
            (
                r#"{"process":{"user":{"uid":"root"}}}"#,
                "process.user.uid: expected a number from 0 to 4294967295, found \"root\"",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":7}]}}"#,
                "linux.namespaces[1].type: expected a string, found 7",
            ),
            (
                r#"{"mounts":{}}"#,
                "mounts: expected a list, found an object",
            ),
            (
                r#"{"linux":{"sysctl":{"a.b":1}}}"#,
                "linux.sysctl.a.b: expected a string, found 1",
            ),
            (
                r#"{"root":{"readonly":1}}"#,
                "root.readonly: expected true or false, found 1",
            ),
            (
                r#"{"process":{"consoleSize":{"height":-1}}}"#,
                "process.consoleSize.height: expected a number from 0 to 65535, found -1",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(
                from_slice::<Spec>(text.as_bytes(), &|_, _| {}).expect_err(text),
                words
            );
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        let text = r#"{"limit":-1,"swap":9223372036854775807}"#;
        let memory: Memory = from_slice(text.as_bytes(), &|_, _| {}).expect("parses");
        assert_eq!((memory.limit, memory.swap), (Some(-1), Some(i64::MAX)));
        let rlimit: Rlimit =
            from_slice(br#"{"hard":18446744073709551615}"#, &|_, _| {}).expect("parses");
        assert_eq!(rlimit.hard, u64::MAX);
    }

    #[test]
    fn case_of_names_does_not_matter_as_in_go() {
        let resources: Resources =
            serde_json::from_str(r#"{"CPU":{"Cpus":"1","MEMS":"0"},"pids":{"Limit":5,"limit":7}}"#)
                .expect("resources");
        let cpu = resources.cpu.expect("cpu");
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str()), ("1", "0"));
        // Both are there: the name itself counts.
        assert_eq!(resources.pids.expect("pids").limit, Some(7));
        let both = r#"{"cpu":{"shares":5,"mems":"0"},"CPU":{"Cpus":"1","mems":"1"}}"#;
        let cpu = serde_json::from_str::<Resources>(both)
            .expect("resources")
            .cpu;
        let cpu = cpu.expect("cpu");
        assert_eq!(
            (cpu.shares, cpu.cpus.as_str(), cpu.mems.as_str()),
            (Some(5), "1", "0")
        );
    }

    #[test]
    fn unknown_fields_are_told_by_place() {
        let seen = std::cell::RefCell::new(Vec::new());
        let text = br#"{"process":{"nice":1},"linux":{"namespaces":[{"kind":"pid"}]},"x":{}}"#;
        let tell =
            |place: &Place<'_>, _: &[&'static str]| seen.borrow_mut().push(place.to_string());
        from_slice::<Spec>(text, &tell).expect("parses");
        assert_eq!(
            *seen.borrow(),
            ["process.nice", "linux.namespaces[0].kind", "x"]
        );
    }
}
