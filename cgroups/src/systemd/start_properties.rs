//! The properties with which the unit of a container is started.

use teu_cgroups_types::{Limits, Property, Unit};

/// Returns the properties with which a unit is started, without those of the limits.
/// `version` is systemd's.
pub(crate) fn start_properties(
    unit: &Unit,
    pid: i32,
    limits: &Limits,
    is_v2: bool,
    version: &mut dyn FnMut() -> u32,
) -> Vec<Property> {
    let mut all = vec![Property::new("Description", unit.description().to_owned())];
    if unit.is_slice() {
        all.push(Property::new("Wants", vec![unit.slice().to_owned()]));
    } else {
        all.push(Property::new("Slice", unit.slice().to_owned()));
        all.push(Property::new("Delegate", true));
        all.push(Property::new("PIDs", vec![pid.unsigned_abs()]));
    }
    let block_io = match is_v2 {
        true => "IOAccounting",
        false => "BlockIOAccounting",
    };
    for name in [
        "MemoryAccounting",
        "CPUAccounting",
        block_io,
        "TasksAccounting",
    ] {
        all.push(Property::new(name, true));
    }
    all.push(Property::new("DefaultDependencies", false));
    all.extend(unit.properties().iter().cloned());
    // Set at the start, because a running scope cannot change it.
    let group = limits.unified.get("memory.oom.group").filter(|_| is_v2);
    let policy = match group.map(|text| text.trim()) {
        Some("0") => Some("continue"),
        Some("1") => Some("kill"),
        _ => None,
    };
    if let Some(policy) = policy.filter(|_| !unit.is_slice() && version() >= 253) {
        all.push(Property::new("OOMPolicy", policy));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::limit_properties::tests::line;
    use teu_cgroups_types::Manager;

    #[test]
    fn what_a_unit_starts_with() {
        let unit = |path: &str| Unit::new(path, "box", "a", Manager::System).unwrap();
        let mut own = unit("a.slice:p:n");
        own.annotate("org.systemd.property.KillMode", "'mixed'")
            .unwrap();
        let mut limits = Limits::default();
        let lines = |unit: &Unit, limits: &Limits, is_v2| {
            let all = start_properties(unit, 7, limits, is_v2, &mut || 253);
            all.iter().map(line).collect::<Vec<_>>()
        };
        let mut expected = vec![
            "Description=s box container n",
            "Slice=s a.slice",
            "Delegate=b true",
            "PIDs=au [u 7]",
            "MemoryAccounting=b true",
            "CPUAccounting=b true",
            "IOAccounting=b true",
            "TasksAccounting=b true",
            "DefaultDependencies=b false",
            "KillMode=s mixed",
        ];
        assert_eq!(lines(&own, &limits, true), expected);
        limits.unified.insert("memory.oom.group".into(), "1".into());
        expected.push("OOMPolicy=s kill");
        assert_eq!(lines(&own, &limits, true), expected);
        let slice = unit("a.slice::a-b.slice");
        let lines = lines(&slice, &limits, false);
        assert_eq!(lines[1], "Wants=as [s a.slice]");
        assert!(lines.contains(&"BlockIOAccounting=b true".to_owned()));
        assert!(
            !lines
                .iter()
                .any(|line| line.starts_with("PIDs") || line.starts_with("OOM"))
        );
    }
}
