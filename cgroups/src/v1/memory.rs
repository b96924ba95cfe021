//! Turns memory limits into writes for the v1 controller memory.

use teu_cgroups_types::MemoryLimits;

use crate::directory::{Directory, Missing, Steps, Write};
use crate::error::{Error, Result};

const LIMIT: &str = "memory.limit_in_bytes";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";

pub(crate) fn steps(memory: &MemoryLimits) -> Result<Steps> {
    let mut steps = Steps::default();
    let limit = memory.limit.filter(|&limit| limit != 0);
    let swap = memory.swap.filter(|&swap| swap != 0);
    let mut sizes = Vec::new();
    sizes.extend(limit.map(|limit| Write::new("memory.limit", LIMIT, limit)));
    match (limit, swap) {
        // The limit of memory plus swap would still apply if only the memory limit were
        // removed. Without swap accounting, the file does not exist.
        (Some(-1), None) => {
            sizes.push(Write::new("memory.limit", WITH_SWAP, -1).if_missing(Missing::Skip));
        }
        (_, swap) => sizes.extend(swap.map(|swap| Write::new("memory.swap", WITH_SWAP, swap))),
    }
    steps.in_any_order(sizes);
    if let Some(reservation) = memory.reservation.filter(|&reservation| reservation != 0) {
        let file = "memory.soft_limit_in_bytes";
        steps.write(Write::new("memory.reservation", file, reservation));
    }
    if memory.disable_oom_killer {
        steps.write(Write::new(
            "memory.disableOOMKiller",
            "memory.oom_control",
            1,
        ));
    }
    match memory.swappiness {
        // runc takes -1 for the kernel's default.
        None | Some(u64::MAX) => {}
        Some(swappiness @ ..=100) => {
            steps.write(Write::new(
                "memory.swappiness",
                "memory.swappiness",
                swappiness,
            ));
        }
        Some(swappiness) => {
            let reason =
                format!("invalid memory swappiness value: {swappiness} (valid range is 0-100)");
            return Err(Error::refused("memory.swappiness", reason));
        }
    }
    Ok(steps)
}

/// Adds the memory in use to an EBUSY error, which means that more memory is in use than
/// the new limit allows.
pub(crate) fn explain(directory: &Directory, error: Error) -> Error {
    match error {
        Error::Limit {
            field,
            value,
            path,
            cause,
        } if cause.raw_os_error() == Some(libc::EBUSY) && path.ends_with(LIMIT) => {
            let usage = directory.read("memory.usage_in_bytes");
            let peak = directory.read("memory.max_usage_in_bytes");
            match (usage, peak) {
                (Ok(usage), Ok(peak)) => Error::MemoryInUse {
                    field,
                    limit: value,
                    usage,
                    peak,
                },
                _ => Error::Limit {
                    field,
                    value,
                    path,
                    cause,
                },
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let table: [(MemoryLimits, &[&str]); 6] = [
            (
                MemoryLimits {
                    limit: Some(0),
                    swap: Some(0),
                    ..Default::default()
                },
                &[],
            ),
            (
                MemoryLimits {
                    limit: Some(4096),
                    ..Default::default()
                },
                &["memory.limit_in_bytes=4096"],
            ),
            (
                MemoryLimits {
                    limit: Some(-1),
                    ..Default::default()
                },
                &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            ),
            (
                MemoryLimits {
                    limit: Some(-1),
                    swap: Some(8192),
                    ..Default::default()
                },
                &[
                    "memory.limit_in_bytes=-1",
                    "memory.memsw.limit_in_bytes=8192",
                ],
            ),
            (
                MemoryLimits {
                    swap: Some(-1),
                    ..Default::default()
                },
                &["memory.memsw.limit_in_bytes=-1"],
            ),
            (
                MemoryLimits {
                    reservation: Some(4096),
                    swappiness: Some(10),
                    disable_oom_killer: true,
                    ..Default::default()
                },
                &[
                    "memory.soft_limit_in_bytes=4096",
                    "memory.oom_control=1",
                    "memory.swappiness=10",
                ],
            ),
        ];
        for (limits, lines) in table {
            assert_eq!(steps(&limits).unwrap().lines(), lines, "{limits:?}");
        }
    }

    #[test]
    fn swappiness_out_of_range() {
        let limits = MemoryLimits {
            swappiness: Some(101),
            ..Default::default()
        };
        assert_eq!(
            steps(&limits).unwrap_err().to_string(),
            "memory.swappiness: \
             invalid memory swappiness value: 101 (valid range is 0-100)"
        );
    }
}
