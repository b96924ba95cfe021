//! Turns limits of processor time into writes for the v1 controller cpu: shares, bandwidth,
//! idle and real-time budgets.

use teu_cgroups_types::CpuLimits;

use crate::both;
use crate::directory::{Steps, Write};
use crate::error::{Error, Result};
use crate::to_v2::{LARGEST_SHARES, SMALLEST_SHARES};

pub(crate) fn steps(cpu: &CpuLimits) -> Result<Steps> {
    let mut steps = Steps::default();
    let shares = shares(cpu)?;
    let idle = cpu.idle.map(both::cpu::idle);
    // An idle cgroup refuses shares: write idle=0 before the shares, and idle=1 after
    // them.
    if cpu.idle == Some(1) {
        shares
            .into_iter()
            .chain(idle)
            .for_each(|write| steps.write(write));
    } else {
        idle.into_iter()
            .chain(shares)
            .for_each(|write| steps.write(write));
    }
    let mut bandwidth = Vec::new();
    if let Some(period) = cpu.period.filter(|&period| period != 0) {
        bandwidth.push(Write::new("cpu.period", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        bandwidth.push(Write::new("cpu.quota", "cpu.cfs_quota_us", quota));
    }
    if let Some(burst) = cpu.burst {
        bandwidth.push(both::cpu::burst("cpu.cfs_burst_us", burst));
    }
    steps.in_any_order(bandwidth);
    steps.steps.extend(realtime_steps(cpu).steps);
    Ok(steps)
}

/// Returns the writes of real-time budgets. They are also made before the first process
/// joins, because a real-time process needs a budget to join (kernel,
/// sched-rt-group.rst).
pub(crate) fn realtime_steps(cpu: &CpuLimits) -> Steps {
    let mut steps = Steps::default();
    let mut writes = Vec::new();
    if let Some(period) = cpu.realtime_period.filter(|&period| period != 0) {
        writes.push(Write::new("cpu.realtimePeriod", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
        writes.push(Write::new(
            "cpu.realtimeRuntime",
            "cpu.rt_runtime_us",
            runtime,
        ));
    }
    steps.in_any_order(writes);
    steps
}

/// Returns the write of the shares. Refuses shares out of bounds, because the kernel would
/// silently change them.
fn shares(cpu: &CpuLimits) -> Result<Option<Write>> {
    let field = "cpu.shares";
    match cpu.shares {
        None | Some(0) => Ok(None),
        Some(..SMALLEST_SHARES) => Err(Error::refused(
            field,
            format!("the minimum allowed cpu-shares is {SMALLEST_SHARES}"),
        )),
        Some(shares) if shares > LARGEST_SHARES => Err(Error::refused(
            field,
            format!("the maximum allowed cpu-shares is {LARGEST_SHARES}"),
        )),
        Some(shares) => Ok(Some(Write::new("cpu.shares", "cpu.shares", shares))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let table: [(CpuLimits, &[&str]); 6] = [
            (
                CpuLimits {
                    shares: Some(0),
                    quota: Some(0),
                    ..Default::default()
                },
                &[],
            ),
            (
                CpuLimits {
                    shares: Some(512),
                    ..Default::default()
                },
                &["cpu.shares=512"],
            ),
            (
                CpuLimits {
                    shares: Some(512),
                    idle: Some(0),
                    ..Default::default()
                },
                &["cpu.idle=0", "cpu.shares=512"],
            ),
            (
                CpuLimits {
                    shares: Some(512),
                    idle: Some(1),
                    ..Default::default()
                },
                &["cpu.shares=512", "cpu.idle=1"],
            ),
            (
                CpuLimits {
                    quota: Some(-1),
                    period: Some(50_000),
                    burst: Some(0),
                    ..Default::default()
                },
                &[
                    "cpu.cfs_period_us=50000",
                    "cpu.cfs_quota_us=-1",
                    "cpu.cfs_burst_us=0",
                ],
            ),
            (
                CpuLimits {
                    realtime_runtime: Some(100),
                    realtime_period: Some(2000),
                    ..Default::default()
                },
                &["cpu.rt_period_us=2000", "cpu.rt_runtime_us=100"],
            ),
        ];
        for (limits, lines) in table {
            assert_eq!(steps(&limits).unwrap().lines(), lines, "{limits:?}");
        }
    }

    #[test]
    fn shares_out_of_bounds_are_refused() {
        let words = |shares| {
            let limits = CpuLimits {
                shares: Some(shares),
                ..Default::default()
            };
            steps(&limits).unwrap_err().to_string()
        };
        let field = "cpu.shares";
        assert_eq!(
            words(1),
            format!("{field}: the minimum allowed cpu-shares is 2")
        );
        assert_eq!(
            words(262_145),
            format!("{field}: the maximum allowed cpu-shares is 262144")
        );
    }
}
