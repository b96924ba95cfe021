//! The bundle's `config.json` as types: runtime-spec 1.3, the parts for Linux.
//!
//! Words with a fixed set of values (capabilities, policies, mount options …)
//! stay strings here: what an unknown word means differs per field (a warning,
//! an error with words that engines know), and that is decided in `plan/`.
//! Only `bundle.rs` and `plan/` may use these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Go writes an empty list or map as `null`; it means the same as its absence.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! spec_struct {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_attr:meta])* $field:ident: $kind:ty = $key:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        #[serde(default)]
        pub(crate) struct $name {
            $(
                $(#[$field_attr])*
                #[serde(rename = $key, deserialize_with = "null_is_empty")]
                pub(crate) $field: $kind,
            )*
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
        solaris: Option<serde::de::IgnoredAny> = "solaris",
        windows: Option<serde::de::IgnoredAny> = "windows",
        vm: Option<serde::de::IgnoredAny> = "vm",
        zos: Option<serde::de::IgnoredAny> = "zos",
        freebsd: Option<serde::de::IgnoredAny> = "freebsd",
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
        no_new_privileges: bool = "noNewPrivileges",
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
    Rlimit {
        kind: String = "type",
        hard: u64 = "hard",
        soft: u64 = "soft",
    }
}

spec_struct! {
    /// Scheduling attributes of sched_setattr(2).
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
    IoPriority {
        class: String = "class",
        priority: i32 = "priority",
    }
}

spec_struct! {
    /// CPU lists for processes started by `exec`.
    CpuAffinity {
        initial: String = "initial",
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
        let error = serde_json::from_str::<Spec>(r#"{"process":{"user":{"uid":"root"}}}"#)
            .expect_err("refused");
        assert!(error.to_string().contains("invalid type"), "{error}");
    }
}
