//! Turns memory limits into writes for the v2 controller memory, and compares new limits
//! with the memory in use.

use teu_cgroups_types::MemoryLimits;

use super::ONLY_V1;
use crate::directory::{Directory, Missing, Steps, Write};
use crate::error::{Error, Result};
use crate::to_v2::swap_only;

pub(crate) fn steps(memory: &MemoryLimits) -> Result<Steps> {
    let mut steps = Steps::default();
    let limit = memory.limit.unwrap_or_default();
    // Write the swap limit first, because the kernel begins to swap when memory.max is
    // lowered.
    if let Some(swap) = swap_only(limit, memory.swap.unwrap_or_default())? {
        let harmless = swap == "max" || swap == "0";
        let missing = if harmless {
            Missing::Skip
        } else {
            Missing::Fail
        };
        steps.write(Write::new("memory.swap", "memory.swap.max", swap).if_missing(missing));
    }
    if let Some(limit) = maximum(limit) {
        steps.write(Write::new("memory.limit", "memory.max", limit));
    }
    if let Some(reservation) = maximum(memory.reservation.unwrap_or_default()) {
        steps.write(Write::new("memory.reservation", "memory.low", reservation));
    }
    if memory
        .swappiness
        .is_some_and(|swappiness| swappiness != u64::MAX)
    {
        steps.ignore("memory.swappiness", ONLY_V1);
    }
    if memory.disable_oom_killer {
        steps.ignore("memory.disableOOMKiller", ONLY_V1);
    }
    Ok(steps)
}

/// With `check_before_update`, refuses a limit below the memory in use. The kernel would
/// kill processes to reach the limit.
pub(crate) fn check_before_update(directory: &Directory, memory: &MemoryLimits) -> Result<()> {
    let limit = memory.limit.unwrap_or_default();
    let swap = memory.swap.unwrap_or_default();
    if !memory.check_before_update || (limit <= 0 && swap <= 0) {
        return Ok(());
    }
    let used = number(&directory.read_or_error("memory.current")?);
    // Without swap accounting, the file does not exist.
    let swapped = directory
        .read("memory.swap.current")
        .map_or(0, |text| number(&text));
    let both = used.saturating_add(swapped);
    // As in runc, this check comes first.
    if swap > 0 && swap <= both {
        let reason = format!("rejecting memory+swap limit {swap} <= usage {both}");
        return Err(Error::refused("memory.swap", reason));
    }
    if limit > 0 && limit <= used {
        let reason = format!("rejecting memory limit {limit} <= usage {used}");
        return Err(Error::refused("memory.limit", reason));
    }
    Ok(())
}

fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

/// Returns a number of bytes as v2 spells it. -1 is "max"; 0 means not set and gives
/// `None`.
fn maximum(number: i64) -> Option<String> {
    match number {
        0 => None,
        -1 => Some("max".into()),
        _ => Some(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let table: [(MemoryLimits, &[&str]); 5] = [
            (
                MemoryLimits {
                    limit: Some(0),
                    ..Default::default()
                },
                &[],
            ),
            (
                MemoryLimits {
                    limit: Some(4096),
                    ..Default::default()
                },
                &["memory.max=4096"],
            ),
            (
                MemoryLimits {
                    limit: Some(-1),
                    ..Default::default()
                },
                &["memory.swap.max=max", "memory.max=max"],
            ),
            (
                MemoryLimits {
                    limit: Some(4096),
                    swap: Some(4096),
                    ..Default::default()
                },
                &["memory.swap.max=0", "memory.max=4096"],
            ),
            (
                MemoryLimits {
                    reservation: Some(1024),
                    ..Default::default()
                },
                &["memory.low=1024"],
            ),
        ];
        for (limits, lines) in table {
            assert_eq!(steps(&limits).unwrap().lines(), lines, "{limits:?}");
        }
    }

    #[test]
    fn limits_that_v2_does_not_have_are_reported() {
        let limits = MemoryLimits {
            swappiness: Some(60),
            disable_oom_killer: true,
            ..Default::default()
        };
        let steps = steps(&limits).unwrap();
        assert_eq!(steps.steps, []);
        assert_eq!(steps.ignored.len(), 2);
    }
}
