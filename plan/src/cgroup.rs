//! Decides where the container's cgroup is and which limits of `linux.resources` it gets.
//! Not for making the cgroup: see the crate `teu-cgroups`.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxNetwork,
    LinuxResources, LinuxThrottleDevice, Mount, Spec,
};
use teu_cgroups_types::{
    Access, BlockIoLimits, CgroupPath, CgroupPlan, CpuLimits, DeviceKind, DeviceRate, DeviceRule,
    DeviceWeight, Driver, HugepageLimit, Limits, Manager, MemoryLimits, NetworkLimits, RdmaLimit,
    Unit,
};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::options::{CgroupManager, PlanOptions};
use super::seen::Caller;
use super::sorted::sorted;
use crate::prelude::*;

/// The prefix of a systemd unit's name if `linux.cgroupsPath` is empty.
const PROGRAM: &str = "teu";

/// Decides the place of the container's cgroup and its limits.
///
/// A rootless container gets no device rules, because only the machine's root may set them.
///
/// # Errors
/// Returns an error that names the field if a value is not valid.
pub fn plan(
    spec: &Spec,
    namespaces: &NamespacePlan,
    options: &PlanOptions,
    rootless: bool,
) -> Result<CgroupPlan> {
    let linux = spec.linux().as_ref();
    let cgroups_path = linux.and_then(|linux| linux.cgroups_path().as_ref()?.to_str());
    let cgroups_path = cgroups_path.unwrap_or_default();
    let default = LinuxResources::default();
    let resources = linux
        .and_then(|linux| linux.resources().as_ref())
        .unwrap_or(&default);
    let mut limits = limits(resources)?;
    if !rootless {
        limits.devices = Some(device_rules(
            resources.devices().as_deref().unwrap_or_default(),
        )?);
    }
    let (driver, path) = match options.cgroup_manager {
        CgroupManager::Filesystem => (Driver::Filesystem, cgroups_path),
        CgroupManager::Disabled => (Driver::Disabled, ""),
        CgroupManager::Systemd => {
            let mut unit = unit(spec, &options.id, cgroups_path, rootless)?;
            if let Some(owner) = owner(spec, namespaces) {
                unit.delegate_to(owner);
            }
            (Driver::Systemd(Box::new(unit)), "")
        }
    };
    let path = CgroupPath::new(Some(Path::new(path)), &options.id).context("linux.cgroupsPath")?;
    Ok(CgroupPlan {
        driver,
        path,
        limits,
        rootless,
    })
}

/// Returns whether a container may lack a cgroup because teu has no permission to make one.
/// The command line decides. If it does not, the container is rootless if the caller lacks
/// the privileges of the machine's root.
///
/// Exception: the root user of a container that runs its own systemd. This user may be root
/// of a user namespace, but can ask that systemd for a cgroup.
pub fn is_rootless(options: &PlanOptions, caller: &Caller) -> bool {
    let has_own_systemd = options.cgroup_manager == CgroupManager::Systemd
        && !caller.is_unprivileged
        && !caller.has_users_systemd;
    options
        .rootless
        .unwrap_or(caller.is_rootless() && !has_own_systemd)
}

/// Returns the systemd instance that makes the unit: the user's for a rootless container,
/// otherwise the system's.
pub fn unit_manager(rootless: bool) -> Manager {
    match rootless {
        true => Manager::User,
        false => Manager::System,
    }
}

/// Describes the unit that systemd will make, with the properties that annotations set.
fn unit(spec: &Spec, id: &str, cgroups_path: &str, rootless: bool) -> Result<Unit> {
    let unit = Unit::new(cgroups_path, PROGRAM, id, unit_manager(rootless));
    let mut unit = unit.context("linux.cgroupsPath")?;
    for (key, value) in sorted(spec.annotations().as_ref()) {
        unit.annotate(key, value)?;
    }
    Ok(unit)
}

/// Returns the host uid that owns the container's cgroup: the uid of the container's
/// program, if the container has its own cgroup namespace and mounts cgroups writable at
/// /sys/fs/cgroup. Otherwise returns `None`, and the cgroup is not delegated.
fn owner(spec: &Spec, namespaces: &NamespacePlan) -> Option<u32> {
    let is_writable_view = |mount: &Mount| {
        let source = mount.source().as_deref().map(Path::as_os_str);
        let mut options = mount.options().iter().flatten();
        // Compare paths by components, because config.json may have slashes at the end.
        source == Some("cgroup".as_ref())
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !options.any(|option| option == "ro" || option == "rro")
    };
    let mut mounts = spec.mounts().iter().flatten();
    if !namespaces.is_private(Kind::Cgroup) || !mounts.any(is_writable_view) {
        return None;
    }
    let process = spec.process().as_ref();
    let user = process.map_or(0, |process| process.user().uid());
    if !namespaces.is_private(Kind::User) {
        return Some(user);
    }
    namespaces.id_maps.host_uid(user)
}

/// Decides which limits an update of a container's resources changes. An empty list of
/// device rules changes no device rule.
///
/// # Errors
/// Returns an error that names the field if a value is not valid.
pub fn change(resources: &LinuxResources) -> Result<Limits> {
    let rules = resources.devices().as_deref().unwrap_or_default();
    let devices = match rules.is_empty() {
        true => None,
        false => Some(given_rules(rules)?),
    };
    Ok(Limits {
        devices,
        ..limits(resources)?
    })
}

fn limits(resources: &LinuxResources) -> Result<Limits> {
    Ok(Limits {
        cpu: resources.cpu().as_ref().map(cpu).unwrap_or_default(),
        memory: resources
            .memory()
            .as_ref()
            .map(memory)
            .transpose()?
            .unwrap_or_default(),
        pids: resources.pids().map(|pids| pids.limit()),
        block_io: resources
            .block_io()
            .as_ref()
            .map(block_io)
            .unwrap_or_default(),
        hugetlb: resources
            .hugepage_limits()
            .iter()
            .flatten()
            .map(|h| {
                Ok(HugepageLimit {
                    page_size: h.page_size().clone(),
                    limit: u64::try_from(h.limit()).context("linux.resources.hugepageLimits")?,
                })
            })
            .collect::<Result<_>>()?,
        network: resources
            .network()
            .as_ref()
            .map(network)
            .unwrap_or_default(),
        rdma: resources
            .rdma()
            .iter()
            .flatten()
            .map(|(device, rdma)| {
                let limit = RdmaLimit {
                    hca_handles: rdma.hca_handles(),
                    hca_objects: rdma.hca_objects(),
                };
                (device.clone(), limit)
            })
            .collect(),
        unified: resources.unified().clone().into_iter().flatten().collect(),
        devices: None,
    })
}

fn cpu(cpu: &LinuxCpu) -> CpuLimits {
    CpuLimits {
        shares: cpu.shares(),
        quota: cpu.quota(),
        period: cpu.period(),
        burst: cpu.burst(),
        idle: cpu.idle(),
        realtime_runtime: cpu.realtime_runtime(),
        realtime_period: cpu.realtime_period(),
        cpus: cpu.cpus().clone().unwrap_or_default(),
        mems: cpu.mems().clone().unwrap_or_default(),
    }
}

fn memory(memory: &LinuxMemory) -> Result<MemoryLimits> {
    // Linux has no separate limits for kernel memory any more; runc warns, too (since 1.0).
    for (field, value) in [
        ("kernel", memory.kernel()),
        ("kernelTCP", memory.kernel_tcp()),
    ] {
        if value.is_some_and(|limit| limit != 0) {
            log::warn!(
                "linux.resources.memory.{field}: kernel memory limits are obsolete and not set"
            );
        }
    }
    if memory.use_hierarchy() == Some(false) {
        bail!("linux.resources.memory.useHierarchy: accounting is always hierarchical");
    }
    Ok(MemoryLimits {
        limit: memory.limit(),
        reservation: memory.reservation(),
        swap: memory.swap(),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer().unwrap_or(false),
        check_before_update: memory.check_before_update().unwrap_or(false),
    })
}

fn block_io(io: &LinuxBlockIo) -> BlockIoLimits {
    let rates = |devices: &Option<Vec<LinuxThrottleDevice>>| {
        devices
            .iter()
            .flatten()
            .map(|d| DeviceRate {
                major: d.major(),
                minor: d.minor(),
                rate: d.rate(),
            })
            .collect()
    };
    BlockIoLimits {
        weight: io.weight(),
        leaf_weight: io.leaf_weight(),
        weight_device: io
            .weight_device()
            .iter()
            .flatten()
            .map(|d| DeviceWeight {
                major: d.major(),
                minor: d.minor(),
                weight: d.weight(),
                leaf_weight: d.leaf_weight(),
            })
            .collect(),
        throttle_read_bps: rates(io.throttle_read_bps_device()),
        throttle_write_bps: rates(io.throttle_write_bps_device()),
        throttle_read_iops: rates(io.throttle_read_iops_device()),
        throttle_write_iops: rates(io.throttle_write_iops_device()),
    }
}

fn network(network: &LinuxNetwork) -> NetworkLimits {
    NetworkLimits {
        class_id: network.class_id(),
        priorities: network
            .priorities()
            .iter()
            .flatten()
            .map(|p| (p.name().clone(), p.priority()))
            .collect(),
    }
}

/// Returns the device rules of `linux.resources.devices`, followed by the default rules of
/// every container. A node in `linux.devices` adds no rule: config.json has to list the
/// rule separately.
fn device_rules(rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let mut all = given_rules(rules)?;
    all.extend(teu_cgroups_types::default_device_rules());
    Ok(all)
}

pub(super) fn given_rules(rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let mut all = Vec::with_capacity(rules.len() + 16);
    for (index, rule) in rules.iter().enumerate() {
        all.push(device_rule(rule).with_context(|| format!("linux.resources.devices[{index}]"))?);
    }
    Ok(all)
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::C => Some(DeviceKind::Character),
        LinuxDeviceType::B => Some(DeviceKind::Block),
        other => bail!("type {:?} is none of a, b and c", other.as_str()),
    };
    let letters = rule.access().as_deref().unwrap_or_default();
    let (known, others): (String, String) =
        letters.chars().partition(|letter| "rwm".contains(*letter));
    let Some(access) = Access::from_letters(&known) else {
        bail!("access {letters:?} is not made of the letters r, w and m");
    };
    // Ignore unknown letters as runc does: even runc's tests have such a letter.
    if !others.is_empty() {
        log::warn!("linux.resources.devices: access {letters:?}: ignored: {others:?}");
    }
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: number(rule.major()).context("major")?,
        minor: number(rule.minor()).context("minor")?,
        access,
    })
}

/// Parses a device number. An absent number and -1 both mean every number.
fn number(number: Option<i64>) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => Ok(Some(u32::try_from(number).context("device number")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(config: &str) -> Result<CgroupPlan> {
        plan_with(
            config,
            CgroupManager::Filesystem,
            &NamespacePlan::default(),
            false,
        )
    }

    fn plan_with(
        config: &str,
        cgroup_manager: CgroupManager,
        namespaces: &NamespacePlan,
        rootless: bool,
    ) -> Result<CgroupPlan> {
        let spec: Spec = crate::testing::read(config);
        let options = PlanOptions {
            id: "c1".into(),
            cgroup_manager,
            ..PlanOptions::default()
        };
        plan(&spec, namespaces, &options, rootless)
    }

    fn unit_of(config: &str, namespaces: &NamespacePlan, rootless: bool) -> Result<Unit> {
        match plan_with(config, CgroupManager::Systemd, namespaces, rootless)?.driver {
            Driver::Systemd(unit) => Ok(*unit),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cgroups_path_is_read_as_the_manager_wants_it() {
        let config = |path: &str| format!(r#"{{"linux":{{"cgroupsPath":"{path}"}}}}"#);
        let nothing = NamespacePlan::default();
        for (rootless, manager) in [(false, Manager::System), (true, Manager::User)] {
            let unit = unit_of(&config("a.slice:p:n"), &nothing, rootless).expect("unit");
            let expected = Unit::new("a.slice:p:n", PROGRAM, "c1", manager);
            assert_eq!(unit, expected.expect("unit"));
        }
        let error = unit_of(&config("/a/b"), &nothing, false).expect_err("refused");
        assert!(
            format!("{error:#}").starts_with("linux.cgroupsPath: expected"),
            "{error}"
        );
        // Without cgroups, `linux.cgroupsPath` is not read, so a wrong path is not refused.
        for manager in [CgroupManager::Disabled, CgroupManager::Filesystem] {
            plan_with(&config("a:b"), manager, &nothing, false).expect("plan");
        }
    }

    #[test]
    fn annotations_about_the_unit_are_read() {
        let config = r#"{"annotations":{"org.systemd.property.KillMode":"'mixed'","other":"x"}}"#;
        let nothing = NamespacePlan::default();
        let mut expected = Unit::new("", PROGRAM, "c1", Manager::System).expect("unit");
        assert_ne!(unit_of(config, &nothing, false).expect("unit"), expected);
        let name = "org.systemd.property.KillMode";
        expected.annotate(name, "'mixed'").expect("annotation");
        assert_eq!(unit_of(config, &nothing, false).expect("unit"), expected);
        let wrong = r#"{"annotations":{"org.systemd.property.KillMode":"mixed"}}"#;
        let error = unit_of(wrong, &nothing, false)
            .expect_err("refused")
            .to_string();
        assert!(
            error.starts_with("annotations[\"org.systemd.property.KillMode\"]: "),
            "{error}"
        );
        plan_of(wrong).expect("only systemd reads it");
    }

    #[test]
    fn only_a_writable_view_of_the_own_cgroup_is_given_away() {
        use teu_namespaces_types::{IdMap, Namespace};
        let config = |options: &str| {
            format!(
                r#"{{"process":{{"user":{{"uid":7}}}},"mounts":[{{"destination":"/sys/fs/cgroup/",
                    "type":"cgroup","source":"cgroup","options":[{options}]}}]}}"#
            )
        };
        let owner_of = |options: &str, kinds: &[Kind]| {
            let spec: Spec = crate::testing::read(&config(options));
            let mut namespaces = NamespacePlan::default();
            kinds
                .iter()
                .for_each(|&kind| namespaces.set(kind, Namespace::New));
            namespaces.id_maps.uid = vec![
                IdMap {
                    container: 0,
                    host: 1000,
                    size: 1,
                },
                IdMap {
                    container: 1,
                    host: 100_000,
                    size: 10,
                },
            ];
            owner(&spec, &namespaces)
        };
        assert_eq!(owner_of("", &[Kind::Cgroup]), Some(7));
        assert_eq!(owner_of("", &[Kind::Cgroup, Kind::User]), Some(100_006));
        assert_eq!(owner_of("\"ro\"", &[Kind::Cgroup]), None);
        assert_eq!(owner_of("", &[Kind::User]), None);
    }

    #[test]
    fn limits_are_taken_over() {
        let plan = plan_of(
            r#"{"linux":{"resources":{"cpu":{"shares":512,"cpus":"0"},"memory":{"limit":1048576},"pids":{"limit":7}}}}"#,
        )
        .expect("plan");
        assert_eq!(plan.limits.cpu.shares, Some(512));
        assert_eq!(plan.limits.cpu.cpus, "0");
        assert_eq!(plan.limits.memory.limit, Some(1 << 20));
        assert_eq!(plan.limits.pids, Some(7));
    }

    #[test]
    fn a_rule_that_means_nothing_is_named() {
        for (rule, words) in [
            (
                r#"{"allow":true,"access":"x"}"#,
                "linux.resources.devices[0]: access \"x\"",
            ),
            (
                r#"{"allow":true,"type":"p","access":"r"}"#,
                "linux.resources.devices[0]: type \"p\"",
            ),
            (
                r#"{"allow":true,"major":-2,"access":"r"}"#,
                "linux.resources.devices[0]: major",
            ),
        ] {
            let config = format!(r#"{{"linux":{{"resources":{{"devices":[{rule}]}}}}}}"#);
            let error = format!("{:#}", plan_of(&config).expect_err(rule));
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_node_of_its_own_may_still_be_denied() {
        let plan = plan_of(
            r#"{"linux":{"devices":[{"path":"/dev/kmsg","type":"c","major":1,"minor":11}],
                "resources":{"devices":[{"allow":false,"access":"rwm"}]}}}"#,
        )
        .expect("plan");
        let rules = plan.limits.devices.expect("rules");
        assert!(
            !rules
                .iter()
                .any(|rule| (rule.major, rule.minor) == (Some(1), Some(11)))
        );
        assert!(!rules[0].allow);
    }
}
