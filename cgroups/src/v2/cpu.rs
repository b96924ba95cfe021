//! Turns limits of processor time into writes for the v2 controller cpu.

use teu_cgroups_types::CpuLimits;

use super::ONLY_V1;
use crate::both;
use crate::directory::{Steps, Write};
use crate::to_v2::weight_from_shares;

/// The kernel's default period (cgroup-v2.rst, "cpu.max"), in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

pub(crate) fn steps(cpu: &CpuLimits) -> Steps {
    let mut steps = Steps::default();
    if let Some(idle) = cpu.idle {
        steps.write(both::cpu::idle(idle));
    }
    match cpu.shares.map(weight_from_shares) {
        None | Some(0) => {}
        // The kernel refuses a weight for an idle cgroup.
        Some(_) if cpu.idle == Some(1) => {
            steps.ignore(
                "cpu.shares",
                "unable to apply both it and cpu.idle, which fixes the weight",
            );
        }
        Some(weight) => steps.write(Write::new("cpu.shares", "cpu.weight", weight)),
    }
    let mut bandwidth = Vec::new();
    if let Some(burst) = cpu.burst {
        bandwidth.push(both::cpu::burst("cpu.max.burst", burst));
    }
    bandwidth.extend(maximum(cpu));
    steps.in_any_order(bandwidth);
    if cpu.realtime_runtime.is_some_and(|runtime| runtime != 0) {
        steps.ignore("cpu.realtimeRuntime", ONLY_V1);
    }
    if cpu.realtime_period.is_some_and(|period| period != 0) {
        steps.ignore("cpu.realtimePeriod", ONLY_V1);
    }
    steps
}

fn maximum(cpu: &CpuLimits) -> Option<Write> {
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    let field = match (quota, period) {
        (None, None) => return None,
        (None, Some(_)) => "cpu.period",
        (Some(_), _) => "cpu.quota",
    };
    let quota = quota
        .filter(|&quota| quota > 0)
        .map_or("max".into(), |quota| quota.to_string());
    Some(Write::new(
        field,
        "cpu.max",
        format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let table: [(CpuLimits, &[&str]); 6] = [
            (
                CpuLimits {
                    shares: Some(1024),
                    ..Default::default()
                },
                &["cpu.weight=100"],
            ),
            (
                CpuLimits {
                    shares: Some(0),
                    period: Some(0),
                    ..Default::default()
                },
                &[],
            ),
            (
                CpuLimits {
                    quota: Some(5000),
                    ..Default::default()
                },
                &["cpu.max=5000 100000"],
            ),
            (
                CpuLimits {
                    quota: Some(-1),
                    period: Some(1000),
                    ..Default::default()
                },
                &["cpu.max=max 1000"],
            ),
            (
                CpuLimits {
                    period: Some(1000),
                    burst: Some(500),
                    ..Default::default()
                },
                &["cpu.max.burst=500", "cpu.max=max 1000"],
            ),
            (
                CpuLimits {
                    idle: Some(0),
                    shares: Some(2),
                    ..Default::default()
                },
                &["cpu.idle=0", "cpu.weight=1"],
            ),
        ];
        for (limits, lines) in table {
            assert_eq!(steps(&limits).lines(), lines, "{limits:?}");
        }
    }

    #[test]
    fn limits_that_v2_does_not_have_are_reported() {
        let limits = CpuLimits {
            shares: Some(512),
            idle: Some(1),
            realtime_runtime: Some(1),
            realtime_period: Some(1),
            ..Default::default()
        };
        let steps = steps(&limits);
        assert_eq!(steps.lines(), ["cpu.idle=1"]);
        let fields: Vec<&str> = steps
            .ignored
            .iter()
            .map(|ignored| &*ignored.field)
            .collect();
        assert_eq!(
            fields,
            ["cpu.shares", "cpu.realtimeRuntime", "cpu.realtimePeriod",]
        );
    }
}
