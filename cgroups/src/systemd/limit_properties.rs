//! Turns limits into properties of a unit (systemd.resource-control(5)).
//!
//! systemd has to know the limits, because it overwrites files of the cgroup when it
//! changes the unit. The files are written too, after systemd, because some limits have no
//! property, or none in older versions. Pure; the module above sends the properties.

use teu_cgroups_types::{Access, CpuLimits, DeviceKind, Limits, Property};

use crate::cpu_list;
use crate::devices::{Entry, Rules};
use crate::directory::Ignored;
use crate::error::{Error, Result};
use crate::to_v2::weight_from_shares;

/// systemd's spelling of "no limit".
const INFINITY: u64 = u64::MAX;

// Versions of systemd that introduced a property.
const CPU_QUOTA_PERIOD: u32 = 242;
const ALLOWED_CPUS: u32 = 244;
const CPU_IDLE: u32 = 252;
const DEVICE_NUMBERS: u32 = 240;

/// The kernel's default period, in microseconds (sched-bwc.rst).
const DEFAULT_PERIOD: u64 = 100_000;

/// Returns the version of the running systemd. Called only if the version matters, because
/// it takes a call to systemd.
pub(crate) type Version<'a> = &'a mut dyn FnMut() -> u32;

/// Rounds the quota up to whole percents of a processor, as systemd does, because systemd
/// writes its own number sooner or later. Never rounds down, because a cgroup below may already
/// have the quota that was requested, and the kernel refuses a smaller quota in the container's
/// cgroup above it.
pub(crate) fn rounded(limits: &Limits) -> Limits {
    let mut limits = limits.clone();
    let cpu = &mut limits.cpu;
    if let (Some(quota @ 1..), period) = (cpu.quota, period(cpu)) {
        let exact = per_second(quota, period);
        let percents = round_up(exact);
        if percents != exact {
            let quota = percents * u128::from(period) / 1_000_000;
            cpu.quota = i64::try_from(quota).ok().or(cpu.quota);
        }
    }
    limits
}

/// Returns the period in microseconds; never 0.
fn period(cpu: &CpuLimits) -> u64 {
    cpu.period
        .filter(|&period| period != 0)
        .unwrap_or(DEFAULT_PERIOD)
}

/// Returns a quota as microseconds of processor time in each second.
fn per_second(quota: i64, period: u64) -> u128 {
    u128::from(quota.unsigned_abs()) * 1_000_000 / u128::from(period)
}

/// Rounds up to a whole percent of a processor.
fn round_up(per_second: u128) -> u128 {
    per_second.next_multiple_of(10_000)
}

/// Returns the properties on a host with cgroup v1.
pub(crate) fn on_v1(limits: &Limits, version: Version) -> Vec<Property> {
    let mut all = Vec::new();
    all.extend(bytes("MemoryLimit", limits.memory.limit));
    if let Some(shares) = limits.cpu.shares.filter(|&shares| shares != 0) {
        all.push(Property::number("CPUShares", shares));
    }
    all.extend(quota(limits.cpu.quota, limits.cpu.period, version));
    if let Some(weight) = limits.block_io.weight.filter(|&weight| weight != 0) {
        all.push(Property::number("BlockIOWeight", u64::from(weight)));
    }
    all.extend(limits.pids.map(tasks_maximum));
    all.extend(processors(&limits.cpu.cpus, &limits.cpu.mems, version));
    all
}

/// Returns the properties on a host with cgroup v2.
pub(crate) fn on_v2(limits: &Limits, version: Version) -> Vec<Property> {
    let mut all = Vec::new();
    let memory = &limits.memory;
    all.extend(bytes("MemoryMax", memory.limit));
    all.extend(bytes("MemoryLow", memory.reservation));
    // Limits that cannot be converted were refused before.
    let (limit, swap) = (
        memory.limit.unwrap_or_default(),
        memory.swap.unwrap_or_default(),
    );
    if let Ok(Some(swap)) = crate::to_v2::swap_only(limit, swap)
        && let Some(swap) = maximum(&swap)
    {
        all.push(Property::number("MemorySwapMax", swap));
    }
    all.extend(weight(limits, version));
    all.extend(quota(limits.cpu.quota, limits.cpu.period, version));
    all.extend(limits.pids.map(tasks_maximum));
    all.extend(processors(&limits.cpu.cpus, &limits.cpu.mems, version));
    for (file, value) in &limits.unified {
        all.extend(unified(file, value.trim(), version));
    }
    all
}

/// Returns the property of a number of bytes. -1 removes a limit, 0 means not set; other
/// negative numbers were refused before.
fn bytes(name: &str, number: Option<i64>) -> Option<Property> {
    match number? {
        0 => None,
        number => Some(Property::number(
            name,
            u64::try_from(number).unwrap_or(INFINITY),
        )),
    }
}

/// Returns the property of the maximum number of processes. 0 means 1, and systemd refuses
/// 0.
fn tasks_maximum(limit: i64) -> Property {
    let limit = u64::try_from(limit).map_or(INFINITY, |limit| limit.max(1));
    Property::number("TasksMax", limit)
}

/// Returns the weight. `CPUWeight` 0 makes a cgroup idle; an idle cgroup has no weight.
fn weight(limits: &Limits, version: Version) -> Option<Property> {
    let cpu = &limits.cpu;
    let file = |name: &str| limits.unified.get(name).map(|value| value.trim());
    let is_idle = match file("cpu.idle") {
        Some(value) => value == "1",
        None => cpu.idle == Some(1),
    };
    if is_idle && version() >= CPU_IDLE {
        return Some(Property::number("CPUWeight", 0));
    }
    let weight = match file("cpu.weight") {
        Some(value) => value.parse().ok(),
        None => cpu.shares.map(weight_from_shares),
    };
    let weight = weight.filter(|&weight| weight != 0);
    weight.map(|weight| Property::number("CPUWeight", weight))
}

fn quota(quota: Option<i64>, given_period: Option<u64>, version: Version) -> Vec<Property> {
    let quota = quota.unwrap_or_default();
    let given_period = given_period.unwrap_or_default();
    let mut all = Vec::new();
    if given_period != 0 && version() >= CPU_QUOTA_PERIOD {
        all.push(Property::number("CPUQuotaPeriodUSec", given_period));
    }
    if quota != 0 || given_period != 0 {
        let period = if given_period == 0 {
            DEFAULT_PERIOD
        } else {
            given_period
        };
        let per_second = match quota {
            1.. => u64::try_from(round_up(per_second(quota, period))).unwrap_or(INFINITY),
            _ => INFINITY,
        };
        all.push(Property::number("CPUQuotaPerSecUSec", per_second));
    }
    all
}

fn processors(cpus: &str, mems: &str, version: Version) -> Vec<Property> {
    let pairs = [("AllowedCPUs", cpus), ("AllowedMemoryNodes", mems)];
    let sets = pairs
        .into_iter()
        .filter_map(|(name, list)| Some((name, bits(list)?)));
    let all: Vec<Property> = sets.map(|(name, bits)| Property::new(name, bits)).collect();
    match all.is_empty() || version() >= ALLOWED_CPUS {
        true => all,
        false => Vec::new(),
    }
}

/// Converts a list such as "0-3,7" to bits, the lowest byte first and without zero bytes at
/// the end. Returns `None` for an empty list, and for a list that only the kernel can parse
/// (such as "0-7:2/4"), which is written to the file only.
fn bits(list: &str) -> Option<Vec<u8>> {
    let numbers = cpu_list::parse(list)?;
    let highest = usize::try_from(*numbers.last()?).ok()?;
    let mut set = vec![0; highest / 8 + 1];
    for number in numbers
        .into_iter()
        .filter_map(|number| usize::try_from(number).ok())
    {
        set[number / 8] |= 1 << (number % 8);
    }
    Some(set)
}

/// Returns the properties for a file of cgroup v2.
fn unified(file: &str, value: &str, version: Version) -> Vec<Property> {
    let name = match file {
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let limit = words.next().map(|word| match word {
                "max" => Some(-1),
                word => word.parse().ok(),
            });
            let period = words
                .next()
                .map_or(Some(DEFAULT_PERIOD), |word| word.parse().ok());
            return match (limit.flatten(), period) {
                (Some(limit), Some(period)) => quota(Some(limit), Some(period), version),
                _ => Vec::new(),
            };
        }
        "cpuset.cpus" => return processors(value, "", version),
        "cpuset.mems" => return processors("", value, version),
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.max" => "MemoryMax",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        // cpu.idle and cpu.weight share a property, memory.oom.group is set when the unit
        // starts, and other files have no property.
        _ => return Vec::new(),
    };
    let number = maximum(value).map(|number| match name {
        "TasksMax" => number.max(1),
        _ => number,
    });
    number
        .map(|number| Property::number(name, number))
        .into_iter()
        .collect()
}

/// Parses a number as the kernel does, such as "64M". Returns `None` if the text is not a
/// number, which the kernel refuses when the file is written.
fn maximum(value: &str) -> Option<u64> {
    if value == "max" {
        return Some(INFINITY);
    }
    let shift = match value.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return value.parse().ok(),
    };
    let number: u64 = value[..value.len() - 1].parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Returns the properties of the device rules: they clear the list, close it and fill it, in
/// this order. With another order, systemd takes the unit's files for newer than the loaded
/// unit (NeedDaemonReload).
///
/// systemd's lists can only allow. On v2 systemd may allow more than the rules, because the
/// device program of this crate also restricts the container, but it must not allow less.
/// On v1 systemd writes the same file as this crate, and must not allow more either.
pub(crate) fn devices(
    rules: &Rules,
    is_v2: bool,
    version: u32,
    proc_devices: &dyn Fn() -> String,
) -> (Vec<Property>, Vec<Ignored>) {
    let open = || vec![device_list(&[]), Property::new("DevicePolicy", "auto")];
    if rules.allow_everything() || rules.default_allow && is_v2 {
        return (open(), Vec::new());
    }
    let mut ignored = Vec::new();
    let mut ignore = |what: String| {
        let field = "devices".to_owned();
        let reason = format!(
            "systemd cannot express a rule {what}; after `systemctl daemon-reload` it denies that"
        );
        ignored.push(Ignored { field, reason });
    };
    let mut list = Vec::new();
    if rules.default_allow {
        ignore("to allow everything but a few devices".into());
    } else {
        for entry in joined(&rules.entries) {
            match path(&entry, version, proc_devices) {
                Some(path) => list.push((path, entry.access)),
                None if is_v2 => return (open(), Vec::new()),
                None => ignore(format!("to allow {:?}", entry.to_string())),
            }
        }
    }
    let closed = Property::new("DevicePolicy", "strict");
    (vec![device_list(&[]), closed, device_list(&list)], ignored)
}

/// Joins the entries that allow the same devices, because systemd takes one access for each
/// device.
fn joined(entries: &[Entry]) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.allow) {
        let same = |other: &&mut Entry| {
            (other.kind, other.major, other.minor) == (entry.kind, entry.major, entry.minor)
        };
        match all.iter_mut().find(same) {
            Some(other) => {
                let bits = other.access.bits() | entry.access.bits();
                other.access = Access::from_bits(bits).unwrap_or(entry.access);
            }
            None => all.push(*entry),
        }
    }
    all
}

fn device_list(list: &[(String, Access)]) -> Property {
    let pairs = list
        .iter()
        .map(|(path, access)| (path.clone(), access.to_string()));
    Property::new("DeviceAllow", pairs.collect::<Vec<_>>())
}

/// Returns systemd's name for the devices of an entry, or `None` if it has no name.
fn path(entry: &Entry, version: u32, proc_devices: &dyn Fn() -> String) -> Option<String> {
    let kind = match entry.kind {
        DeviceKind::Block => "block",
        DeviceKind::Character => "char",
    };
    match (entry.major, entry.minor) {
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
        (Some(major), None) if version >= DEVICE_NUMBERS => Some(format!("{kind}-{major}")),
        (Some(major), None) => {
            group(&proc_devices(), entry.kind, major).map(|group| format!("{kind}-{group}"))
        }
        // Before version 240, systemd warns if the path does not exist.
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
    }
}

/// Returns the name of a driver's devices in /proc/devices.
fn group(proc_devices: &str, kind: DeviceKind, major: u32) -> Option<String> {
    let heading = match kind {
        DeviceKind::Block => "Block devices:",
        DeviceKind::Character => "Character devices:",
    };
    let section = proc_devices
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1);
    let mut lines = section.take_while(|line| !line.is_empty());
    lines.find_map(|line| {
        let (number, name) = line.trim_start().split_once(' ')?;
        (number.parse() == Ok(major)).then(|| name.to_owned())
    })
}

/// Refuses limits that systemd cannot be told, before anything is changed.
pub(crate) fn check(limits: &Limits) -> Result<()> {
    let memory = &limits.memory;
    for (field, value) in [("limit", memory.limit), ("reservation", memory.reservation)] {
        if let Some(value @ ..-1) = value {
            let reason = format!("invalid memory value: {value}");
            return Err(Error::refused(format!("memory.{field}"), reason));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::devices::rules::tests::rules;
    use teu_cgroups_types::MemoryLimits;
    use zbus::Variant;

    /// Returns the property as "Name=type value".
    pub(in crate::systemd) fn line(property: &Property) -> String {
        format!("{}={}", property.name, shown(&property.value))
    }

    fn shown(value: &Variant) -> String {
        let list = |values: &[Variant]| values.iter().map(shown).collect::<Vec<_>>().join(", ");
        let text = match value {
            Variant::U8(number) => number.to_string(),
            Variant::Bool(truth) => truth.to_string(),
            Variant::I32(number) => number.to_string(),
            Variant::U32(number) => number.to_string(),
            Variant::U64(INFINITY) => "infinity".into(),
            Variant::U64(number) => number.to_string(),
            Variant::Str(text) => text.to_string(),
            Variant::Array(values) => format!("[{}]", list(values.inner())),
            Variant::Structure(fields) => return format!("({})", list(fields.fields())),
            other => format!("{other:?}"),
        };
        format!("{} {text}", value.value_signature())
    }

    fn lines(properties: &[Property]) -> Vec<String> {
        properties.iter().map(line).collect()
    }

    fn unified_limits(pairs: &[(&str, &str)]) -> Limits {
        let pairs = pairs
            .iter()
            .map(|(file, value)| ((*file).into(), (*value).into()));
        Limits {
            unified: pairs.collect(),
            ..Limits::default()
        }
    }

    fn full() -> Limits {
        let mut limits = Limits {
            cpu: CpuLimits {
                shares: Some(512),
                quota: Some(5000),
                period: Some(10_000),
                cpus: "0-1".into(),
                mems: "0".into(),
                ..Default::default()
            },
            memory: MemoryLimits {
                limit: Some(4096),
                reservation: Some(1024),
                swap: Some(8192),
                ..Default::default()
            },
            pids: Some(7),
            ..Default::default()
        };
        limits.block_io.weight = Some(500);
        limits
    }

    #[test]
    fn limits_on_v1() {
        let expected = [
            "MemoryLimit=t 4096",
            "CPUShares=t 512",
            "CPUQuotaPeriodUSec=t 10000",
            "CPUQuotaPerSecUSec=t 500000",
            "BlockIOWeight=t 500",
            "TasksMax=t 7",
            "AllowedCPUs=ay [y 3]",
            "AllowedMemoryNodes=ay [y 1]",
        ];
        assert_eq!(lines(&on_v1(&full(), &mut || 252)), expected);
        let old: Vec<&str> = expected[..6]
            .iter()
            .copied()
            .filter(|line| !line.contains("Period"))
            .collect();
        assert_eq!(lines(&on_v1(&full(), &mut || 219)), old);
        // Without limits, the version is not asked for.
        let unasked = &mut || panic!("the version does not matter");
        assert_eq!(on_v1(&Limits::default(), unasked), []);
    }

    #[test]
    fn limits_on_v2() {
        let expected = [
            "MemoryMax=t 4096",
            "MemoryLow=t 1024",
            "MemorySwapMax=t 4096",
            "CPUWeight=t 59",
            "CPUQuotaPeriodUSec=t 10000",
            "CPUQuotaPerSecUSec=t 500000",
            "TasksMax=t 7",
            "AllowedCPUs=ay [y 3]",
            "AllowedMemoryNodes=ay [y 1]",
        ];
        assert_eq!(lines(&on_v2(&full(), &mut || 252)), expected);
        let unasked = &mut || panic!("the version does not matter");
        assert_eq!(on_v2(&Limits::default(), unasked), []);
    }

    #[test]
    fn limits_that_are_lifted() {
        let mut limits = Limits {
            pids: Some(-1),
            ..Default::default()
        };
        limits.memory.limit = Some(-1);
        limits.cpu.quota = Some(-1);
        assert_eq!(
            lines(&on_v2(&limits, &mut || 252)),
            [
                "MemoryMax=t infinity",
                "MemorySwapMax=t infinity",
                "CPUQuotaPerSecUSec=t infinity",
                "TasksMax=t infinity"
            ]
        );
        limits.pids = Some(0);
        assert_eq!(
            lines(&on_v1(&limits, &mut || 252)),
            [
                "MemoryLimit=t infinity",
                "CPUQuotaPerSecUSec=t infinity",
                "TasksMax=t 1"
            ]
        );
    }

    #[test]
    fn an_idle_cgroup_has_no_weight() {
        let mut limits = Limits::default();
        (limits.cpu.shares, limits.cpu.idle) = (Some(512), Some(1));
        assert_eq!(lines(&on_v2(&limits, &mut || 252)), ["CPUWeight=t 0"]);
        assert_eq!(lines(&on_v2(&limits, &mut || 251)), ["CPUWeight=t 59"]);
        let both = unified_limits(&[("cpu.idle", "1\n"), ("cpu.weight", "33")]);
        assert_eq!(lines(&on_v2(&both, &mut || 252)), ["CPUWeight=t 0"]);
        let weight = unified_limits(&[("cpu.idle", "0"), ("cpu.weight", "33")]);
        assert_eq!(lines(&on_v2(&weight, &mut || 252)), ["CPUWeight=t 33"]);
    }

    #[test]
    fn unified_files_with_a_property() {
        let limits = unified_limits(&[
            ("cpu.max", "5000 10000"),
            ("cpuset.cpus", "1,3-4"),
            ("cpuset.mems", "0"),
            ("hugetlb.2MB.max", "0"),
            ("io.max", "8:0 rbps=1"),
            ("memory.high", "20M"),
            ("memory.low", "524288"),
            ("memory.max", "max"),
            ("memory.min", "131072"),
            ("memory.oom.group", "1"),
            ("memory.swap.max", "1g"),
            ("pids.max", "0"),
        ]);
        assert_eq!(
            lines(&on_v2(&limits, &mut || 252)),
            [
                "CPUQuotaPeriodUSec=t 10000",
                "CPUQuotaPerSecUSec=t 500000",
                "AllowedCPUs=ay [y 26]",
                "AllowedMemoryNodes=ay [y 1]",
                "MemoryHigh=t 20971520",
                "MemoryLow=t 524288",
                "MemoryMax=t infinity",
                "MemoryMin=t 131072",
                "MemorySwapMax=t 1073741824",
                "TasksMax=t 1",
            ]
        );
        // Values that only the kernel can check have no property.
        for (file, value) in [
            ("cpu.max", "a b"),
            ("cpu.max", ""),
            ("memory.max", "1X"),
            ("memory.max", "K"),
            ("pids.max", ""),
        ] {
            assert_eq!(
                on_v2(&unified_limits(&[(file, value)]), &mut || 252),
                [],
                "{file}={value}"
            );
        }
        let open = unified_limits(&[("cpu.max", "max")]);
        assert_eq!(
            lines(&on_v2(&open, &mut || 252)),
            [
                "CPUQuotaPeriodUSec=t 100000",
                "CPUQuotaPerSecUSec=t infinity"
            ]
        );
    }

    #[test]
    fn the_quota_is_rounded_up_to_percents() {
        // (quota, period, microseconds per second, quota for the file)
        let table = [
            (5000, 10_000, 500_000, 5000),
            (4001, 10_000, 410_000, 4100),
            (1, 100_000, 10_000, 1000),
            (100_000, 0, 1_000_000, 100_000),
            (33_333, 100_000, 340_000, 34_000),
            (3000, 8000, 380_000, 3040),
            (i64::MAX, 1, INFINITY, i64::MAX),
        ];
        for (given, period, per_second, written) in table {
            let mut limits = Limits::default();
            (limits.cpu.quota, limits.cpu.period) = (Some(given), Some(period));
            let properties = on_v2(&limits, &mut || 252);
            let last = properties.last().unwrap();
            assert_eq!(
                last,
                &Property::number("CPUQuotaPerSecUSec", per_second),
                "{given} {period}"
            );
            assert_eq!(
                rounded(&limits).cpu.quota,
                Some(written),
                "{given} {period}"
            );
        }
        for quota in [None, Some(0), Some(-1)] {
            let mut limits = Limits::default();
            limits.cpu.quota = quota;
            assert_eq!(rounded(&limits), limits);
        }
    }

    #[test]
    fn lists_of_processors_as_bits() {
        let table: [(&str, Option<&[u8]>); 12] = [
            ("0", Some(&[1])),
            ("0-3,7", Some(&[0x8f])),
            (" 1 , 2,", Some(&[6])),
            ("8", Some(&[0, 1])),
            ("5-8", Some(&[0xe0, 1])),
            ("0,16", Some(&[1, 0, 1])),
            ("", None),
            (",", None),
            ("3-1", None),
            ("x", None),
            ("0-7:2/4", None),
            ("4294967295", None),
        ];
        for (list, expected) in table {
            assert_eq!(bits(list).as_deref(), expected, "{list:?}");
        }
    }

    const PROC_DEVICES: &str = "\
Character devices:
  1 mem
136 pts
195 nvidia-frontend

Block devices:
  1 ramdisk
259 blkext
";

    fn device_lines(list: &[&str], is_v2: bool, version: u32) -> (Vec<String>, usize) {
        let (properties, ignored) = devices(&rules(list), is_v2, version, &|| PROC_DEVICES.into());
        (lines(&properties), ignored.len())
    }

    #[test]
    fn device_rules() {
        let reset = "DeviceAllow=a(ss) []";
        let (strict, auto) = ("DevicePolicy=s strict", "DevicePolicy=s auto");
        let open = vec![reset, auto];
        // (rules, v2, properties, ignored)
        let table: [(&[&str], bool, Vec<&str>, usize); 9] = [
            (&[], true, vec![reset, strict, reset], 0),
            (&["allow a"], true, open.clone(), 0),
            (&["allow a"], false, open.clone(), 0),
            (
                &["allow c 1:3 rw", "allow c 136:* rwm", "allow b *:* m"],
                false,
                vec![
                    reset,
                    strict,
                    "DeviceAllow=a(ss) [(s /dev/char/1:3, s rw), (s char-136, s rwm), (s block-*, s m)]",
                ],
                0,
            ),
            // Only the device program can express this.
            (&["allow a", "deny c 1:3 w"], true, open.clone(), 0),
            (
                &["allow a", "deny c 1:3 w"],
                false,
                vec![reset, strict, reset],
                1,
            ),
            (&["allow c *:3 r", "allow c 1:5 r"], true, open, 0),
            (
                &["allow c *:3 r", "allow c 1:5 r"],
                false,
                vec![reset, strict, "DeviceAllow=a(ss) [(s /dev/char/1:5, s r)]"],
                1,
            ),
            // systemd allows more than the rules, but not less.
            (
                &["allow c 1:* r", "deny c 1:3 r", "allow c 1:5 w"],
                true,
                vec![
                    reset,
                    strict,
                    "DeviceAllow=a(ss) [(s char-1, s r), (s /dev/char/1:5, s w)]",
                ],
                0,
            ),
        ];
        for (list, is_v2, properties, ignored) in table {
            let properties = properties.into_iter().map(str::to_owned).collect();
            assert_eq!(
                device_lines(list, is_v2, 252),
                (properties, ignored),
                "{list:?} {is_v2}"
            );
        }
    }

    #[test]
    fn old_versions_take_the_names_of_drivers() {
        let list = ["allow c 195:* rw", "allow b 1:* r", "allow c 7:* r"];
        let (lines, ignored) = device_lines(&list, false, 239);
        assert_eq!(
            lines[2],
            "DeviceAllow=a(ss) [(s char-nvidia-frontend, s rw), (s block-ramdisk, s r)]"
        );
        assert_eq!(ignored, 1);
    }

    #[test]
    fn negative_amounts_are_refused() {
        let mut limits = Limits::default();
        limits.memory.reservation = Some(-2);
        assert_eq!(
            check(&limits).unwrap_err().to_string(),
            "memory.reservation: invalid memory value: -2"
        );
        limits.memory.reservation = Some(-1);
        check(&limits).unwrap();
    }
}
