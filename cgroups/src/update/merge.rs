//! Merges a change into the limits in force, and decides which values have to be written.
//! Pure; `update` writes them.

use std::collections::BTreeMap;

use teu_cgroups_types::{
    BlockIoLimits, CpuLimits, DeviceRate, DeviceWeight, HugepageLimit, Limits, MemoryLimits,
    NetworkLimits, RdmaLimit,
};
use teu_cgroups_types::{DeviceRule, default_device_rules};

use crate::v2::unified::{IDLE, WEIGHT, end_of_idleness};

/// Returns the old limits with the change applied.
pub(super) fn merged(old: &Limits, change: &Limits) -> Limits {
    Limits {
        cpu: cpu(&old.cpu, &change.cpu),
        memory: memory(&old.memory, &change.memory),
        pids: change.pids.or(old.pids),
        block_io: block_io(&old.block_io, &change.block_io),
        hugetlb: with(&old.hugetlb, &change.hugetlb, |limit: &HugepageLimit| {
            limit.page_size.clone()
        }),
        network: NetworkLimits {
            class_id: change.network.class_id.or(old.network.class_id),
            priorities: with(
                &old.network.priorities,
                &change.network.priorities,
                |(interface, _)| interface.clone(),
            ),
        },
        rdma: rdma(&old.rdma, &change.rdma),
        unified: old
            .unified
            .iter()
            .chain(&change.unified)
            .map(|(file, value)| (file.clone(), value.clone()))
            .chain(end_of_idleness(&old.unified, &change.unified))
            .collect(),
        devices: match (&old.devices, &change.devices) {
            (Some(old), Some(change)) => Some(devices(old, change)),
            (old, change) => change.as_ref().or(old.as_ref()).cloned(),
        },
    }
}

/// Returns the limits without the device rules in `ended`. Rules that every container has
/// are kept.
pub(super) fn without(old: &Limits, ended: &[DeviceRule]) -> Limits {
    let mut limits = old.clone();
    if let Some(rules) = &mut limits.devices {
        let default = default_device_rules();
        let own = rules
            .strip_suffix(default.as_slice())
            .map_or(rules.len(), <[_]>::len);
        let mut number = 0;
        rules.retain(|rule| {
            number += 1;
            number > own || !ended.contains(rule)
        });
    }
    limits
}

/// Returns the limits to write: those that `change` sets, and those of `merged` that the
/// kernel or the conversion for v2 needs together with them.
pub(super) fn writes(merged: &Limits, change: &Limits) -> Limits {
    Limits {
        cpu: cpu_writes(&merged.cpu, &change.cpu),
        memory: memory_writes(&merged.memory, &change.memory),
        devices: change.devices.as_ref().and(merged.devices.clone()),
        unified: unified_writes(&merged.unified, &change.unified),
        // The other limits do not depend on each other.
        ..change.clone()
    }
}

/// Returns the files to write. A new weight makes an idle cgroup leave the idle state
/// first.
fn unified_writes(
    merged: &BTreeMap<String, String>,
    change: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut writes = change.clone();
    if let (true, Some(idle)) = (change.contains_key(WEIGHT), merged.get(IDLE)) {
        writes.insert(IDLE.to_owned(), idle.clone());
    }
    writes
}

/// Returns a number for which 0 means not set.
fn set<T: Default + PartialEq>(number: Option<T>) -> Option<T> {
    number.filter(|number| *number != T::default())
}

fn text(change: &str, old: &str) -> String {
    if change.is_empty() { old } else { change }.to_owned()
}

fn cpu(old: &CpuLimits, change: &CpuLimits) -> CpuLimits {
    // Shares make an idle cgroup leave the idle state, as a weight in `unified` does. The
    // kernel refuses shares before that, and systemd may do it later.
    let ends_idle = old.idle == Some(1) && set(change.shares).is_some();
    CpuLimits {
        shares: set(change.shares).or(old.shares),
        quota: set(change.quota).or(old.quota),
        period: set(change.period).or(old.period),
        burst: change.burst.or(old.burst),
        idle: change.idle.or(if ends_idle { Some(0) } else { old.idle }),
        realtime_runtime: set(change.realtime_runtime).or(old.realtime_runtime),
        realtime_period: set(change.realtime_period).or(old.realtime_period),
        cpus: text(&change.cpus, &old.cpus),
        mems: text(&change.mems, &old.mems),
    }
}

fn cpu_writes(merged: &CpuLimits, change: &CpuLimits) -> CpuLimits {
    let changes_bandwidth = set(change.quota).is_some() || set(change.period).is_some();
    let leaves_idle = change.idle == Some(0);
    CpuLimits {
        // An idle cgroup takes no weight, and has the default weight when it is no longer
        // idle.
        shares: match set(change.shares) {
            None if leaves_idle => merged.shares,
            shares => shares,
        },
        idle: set(change.shares).map_or(change.idle, |_| merged.idle),
        // v2 has one file for them, and v1 checks them against each other.
        quota: merged.quota.filter(|_| changes_bandwidth),
        period: merged.period.filter(|_| changes_bandwidth),
        ..change.clone()
    }
}

fn memory(old: &MemoryLimits, change: &MemoryLimits) -> MemoryLimits {
    let limit = set(change.limit).or(old.limit);
    let swap = match set(change.swap) {
        // Removing the memory limit also removes the limit of memory plus swap.
        None if change.limit == Some(-1) => None,
        swap => swap.or(old.swap),
    };
    MemoryLimits {
        limit,
        reservation: set(change.reservation).or(old.reservation),
        swap,
        swappiness: change.swappiness.or(old.swappiness),
        disable_oom_killer: change.disable_oom_killer || old.disable_oom_killer,
        check_before_update: change.check_before_update || old.check_before_update,
    }
}

fn memory_writes(merged: &MemoryLimits, change: &MemoryLimits) -> MemoryLimits {
    let changes = set(change.limit).is_some() || set(change.swap).is_some();
    MemoryLimits {
        // The conversion to v2's limit of swap alone needs both.
        limit: merged.limit.filter(|_| changes),
        swap: merged.swap.filter(|_| changes),
        check_before_update: merged.check_before_update,
        ..change.clone()
    }
}

fn block_io(old: &BlockIoLimits, change: &BlockIoLimits) -> BlockIoLimits {
    let rates = |old: &[DeviceRate], change: &[DeviceRate]| {
        with(old, change, |rate| (rate.major, rate.minor))
    };
    BlockIoLimits {
        weight: set(change.weight).or(old.weight),
        leaf_weight: set(change.leaf_weight).or(old.leaf_weight),
        weight_device: weights(&old.weight_device, &change.weight_device),
        throttle_read_bps: rates(&old.throttle_read_bps, &change.throttle_read_bps),
        throttle_write_bps: rates(&old.throttle_write_bps, &change.throttle_write_bps),
        throttle_read_iops: rates(&old.throttle_read_iops, &change.throttle_read_iops),
        throttle_write_iops: rates(&old.throttle_write_iops, &change.throttle_write_iops),
    }
}

fn weights(old: &[DeviceWeight], change: &[DeviceWeight]) -> Vec<DeviceWeight> {
    let mut all = old.to_vec();
    for new in change {
        let same = |one: &&mut DeviceWeight| (one.major, one.minor) == (new.major, new.minor);
        match all.iter_mut().find(same) {
            Some(one) => {
                one.weight = new.weight.or(one.weight);
                one.leaf_weight = new.leaf_weight.or(one.leaf_weight);
            }
            None => all.push(*new),
        }
    }
    all
}

fn rdma(
    old: &BTreeMap<String, RdmaLimit>,
    change: &BTreeMap<String, RdmaLimit>,
) -> BTreeMap<String, RdmaLimit> {
    let mut all = old.clone();
    for (device, new) in change {
        let one = all.entry(device.clone()).or_default();
        one.hca_handles = new.hca_handles.or(one.hca_handles);
        one.hca_objects = new.hca_objects.or(one.hca_objects);
    }
    all
}

/// Returns the old list without entries whose keys the new list has, followed by the new
/// list.
fn with<T: Clone, K: PartialEq>(old: &[T], new: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let is_replaced = |one: &&T| new.iter().any(|other| key(other) == key(one));
    let kept = old.iter().filter(|one| !is_replaced(one));
    kept.chain(new).cloned().collect()
}

/// Returns the old rules, the new rules, and the rules that every container has, in this
/// order, which is that of creation. Rules that no longer decide any request are dropped, so
/// that the list does not grow with each update.
fn devices(old: &[DeviceRule], change: &[DeviceRule]) -> Vec<DeviceRule> {
    let default = default_device_rules();
    let (old, default) = match old.strip_suffix(default.as_slice()) {
        Some(old) => (old, default.as_slice()),
        None => (old, [].as_slice()),
    };
    let change = change.strip_suffix(default).unwrap_or(change);
    let is_reset = |rule: &DeviceRule| {
        (rule.kind, rule.major, rule.minor) == (None, None, None)
            && rule.access == crate::Access::ALL
    };
    let rules: Vec<DeviceRule> = old.iter().chain(change).copied().collect();
    let first = rules.iter().rposition(is_reset).unwrap_or(0);
    let rules = &rules[first..];
    let comes_again =
        |(at, rule): &(usize, &DeviceRule)| rules.iter().skip(at + 1).any(|later| later == *rule);
    let rules = rules.iter().enumerate().filter(|each| !comes_again(each));
    rules
        .map(|(_, rule)| *rule)
        .chain(default.to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::rules::tests::rule;

    fn cpu_of(text: &str) -> CpuLimits {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn cpu_values_go_together() {
        // (old, change, merged, written)
        let table = [
            (
                r#"{"quota":5000,"period":10000}"#,
                r#"{"period":9000}"#,
                r#"{"quota":5000,"period":9000}"#,
                r#"{"quota":5000,"period":9000}"#,
            ),
            (
                "{}",
                r#"{"period":9000}"#,
                r#"{"period":9000}"#,
                r#"{"period":9000}"#,
            ),
            (
                r#"{"quota":5000,"burst":100,"idle":1,"cpus":"0"}"#,
                r#"{"shares":0,"quota":0,"mems":"0"}"#,
                r#"{"quota":5000,"burst":100,"idle":1,"cpus":"0","mems":"0"}"#,
                r#"{"mems":"0"}"#,
            ),
            (
                r#"{"shares":200}"#,
                r#"{"idle":1}"#,
                r#"{"shares":200,"idle":1}"#,
                r#"{"idle":1}"#,
            ),
            (
                r#"{"shares":200,"idle":1}"#,
                r#"{"idle":0}"#,
                r#"{"shares":200,"idle":0}"#,
                r#"{"shares":200,"idle":0}"#,
            ),
            (
                r#"{"shares":100,"idle":1}"#,
                r#"{"shares":200}"#,
                r#"{"shares":200,"idle":0}"#,
                r#"{"shares":200,"idle":0}"#,
            ),
        ];
        for (old, change, all, written) in table {
            let change = Limits {
                cpu: cpu_of(change),
                ..Limits::default()
            };
            let old = Limits {
                cpu: cpu_of(old),
                ..Limits::default()
            };
            let merged = merged(&old, &change);
            assert_eq!(merged.cpu, cpu_of(all), "{change:?}");
            let writes = writes(&merged, &change).cpu;
            let writes = CpuLimits {
                shares: set(writes.shares),
                ..writes
            };
            assert_eq!(writes, cpu_of(written), "{change:?}");
        }
    }

    #[test]
    fn memory_and_swap_go_together() {
        let memory = |limit, swap| MemoryLimits {
            limit,
            swap,
            ..Default::default()
        };
        // (old, change, merged)
        let table = [
            (
                (Some(100), Some(200)),
                (Some(150), None),
                (Some(150), Some(200)),
            ),
            (
                (Some(100), Some(200)),
                (None, Some(-1)),
                (Some(100), Some(-1)),
            ),
            ((Some(100), Some(200)), (Some(-1), None), (Some(-1), None)),
            (
                (Some(100), Some(200)),
                (Some(-1), Some(0)),
                (Some(-1), None),
            ),
            ((Some(100), None), (Some(0), None), (Some(100), None)),
        ];
        for (old, change, expected) in table {
            let (old, change) = (memory(old.0, old.1), memory(change.0, change.1));
            let merged = super::memory(&old, &change);
            assert_eq!((merged.limit, merged.swap), expected, "{change:?}");
            let written = memory_writes(&merged, &change);
            let unchanged = change.limit == Some(0);
            let expected = if unchanged { (None, None) } else { expected };
            assert_eq!((written.limit, written.swap), expected, "{change:?}");
        }
    }

    #[test]
    fn rules_of_every_container_do_not_end() {
        let own = ["deny a", "allow c 1:3 rwm", "allow c 239:1 rw"].map(rule);
        let old = Limits {
            devices: Some([&own[..], &default_device_rules()].concat()),
            ..Limits::default()
        };
        let left = without(&old, &own[1..]).devices.unwrap();
        assert_eq!(left, [&own[..1], &default_device_rules()].concat());
        assert_eq!(without(&old, &[]), old);
        assert_eq!(without(&Limits::default(), &own).devices, None);
    }

    #[test]
    fn devices_are_replaced_one_by_one() {
        let rate = |minor, rate| DeviceRate {
            major: 8,
            minor,
            rate,
        };
        let io = |rates: &[DeviceRate]| BlockIoLimits {
            throttle_read_bps: rates.to_vec(),
            ..Default::default()
        };
        let merged = block_io(
            &io(&[rate(0, 1), rate(16, 2), rate(0, 1)]),
            &io(&[rate(0, 5), rate(32, 3)]),
        );
        assert_eq!(merged, io(&[rate(16, 2), rate(0, 5), rate(32, 3)]));
    }

    #[test]
    fn no_rule_gets_lost() {
        let list = |words: &[&str]| words.iter().map(|word| rule(word)).collect::<Vec<_>>();
        let with_default = |words: &[&str]| [list(words), default_device_rules()].concat();
        for (old, change, expected) in [
            (
                &["deny a", "allow c 195:0 rw"][..],
                &["allow c 10:229 rwm"][..],
                &["deny a", "allow c 195:0 rw", "allow c 10:229 rwm"][..],
            ),
            (
                &["deny a", "allow c 195:0 rw", "allow c 10:229 rw"],
                &["deny c 10:229 w", "allow c 195:0 rw"],
                &[
                    "deny a",
                    "allow c 10:229 rw",
                    "deny c 10:229 w",
                    "allow c 195:0 rw",
                ],
            ),
            (&["deny a", "allow b 8:0 r"], &["deny a"], &["deny a"]),
            (&["deny a"], &[], &["deny a"]),
        ] {
            let merged = devices(&with_default(old), &list(change));
            assert_eq!(merged, with_default(expected), "{change:?}");
        }
        assert_eq!(
            devices(&list(&["deny a"]), &list(&["allow b 8:0 r"])),
            list(&["deny a", "allow b 8:0 r"])
        );
    }
}
