//! Numbers of cgroup v1, which the spec uses, as numbers of cgroup v2.

use crate::error::{Error, Result};

/// Kernel bounds of `cpu.shares` (kernel/sched/sched.h, `MIN_SHARES` and
/// `MAX_SHARES`).
pub(crate) const SMALLEST_SHARES: u64 = 2;
pub(crate) const LARGEST_SHARES: u64 = 262_144;

/// `cpu.weight` (1 to 10000) for `cpu.shares` (2 to 262144), along a curve
/// through (2, 1), (1024, 100) and (262144, 10000), so that the default of one
/// is the default of the other. 0, "not set", stays 0. The formula is runc's
/// since 1.3.2; results must agree with it exactly.
pub(crate) fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=SMALLEST_SHARES => 1,
        LARGEST_SHARES.. => 10_000,
        _ => {
            // Below 2^18, so exact as a float.
            #[expect(clippy::cast_precision_loss, reason = "less than 2^18")]
            let logarithm = (shares as f64).log2();
            let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000 by the formula's bounds"
            )]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// `io.weight` (1 to 10000) for the spec's block I/O weight (10 to 1000);
/// 0 stays 0.
pub(crate) fn io_weight_from_block_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        _ => 1 + u64::from(weight.saturating_sub(10)) * 9_999 / 990,
    }
}

/// What to write to `memory.swap.max`, where the spec's swap is memory plus
/// swap. `None`: leave it alone.
pub(crate) fn swap_only(limit: i64, memory_and_swap: i64) -> Result<Option<String>> {
    const FIELD: &str = "linux.resources.memory.swap";
    match (limit, memory_and_swap) {
        (-1, 0) | (_, -1) => Ok(Some("max".into())),
        (_, 0) => Ok(None),
        (_, ..-1) => Err(Error::refused(
            FIELD,
            format!("invalid value: {memory_and_swap}"),
        )),
        (-1, swap) => Ok(Some(swap.to_string())),
        (0, _) => Err(Error::refused(
            FIELD,
            "unable to set swap limit without memory limit",
        )),
        (..-1, _) => Err(Error::refused(
            "linux.resources.memory.limit",
            format!("invalid memory value: {limit}"),
        )),
        (limit, swap) if swap < limit => Err(Error::refused(
            FIELD,
            "memory+swap limit should be >= memory limit",
        )),
        (limit, swap) => Ok(Some((swap - limit).to_string())),
    }
}

/// v2's spelling of a byte count: -1 is "max", 0 is not set.
pub(crate) fn maximum(number: i64) -> Option<String> {
    match number {
        0 => None,
        -1 => Some("max".into()),
        _ => Some(number.to_string()),
    }
}

/// `pids.max`, both versions: any negative number lifts the limit, and 0, which
/// the kernel would take as "no process at all", means 1 as in runc.
pub(crate) fn pids_maximum(limit: i64) -> String {
    match limit {
        ..0 => "max".into(),
        0 => "1".into(),
        _ => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_to_weight() {
        let table = [
            (0, 0),
            (1, 1),
            (2, 1),
            (3, 2),
            (100, 17),
            (256, 35),
            (512, 59),
            (1000, 99),
            (1024, 100),
            (2000, 170),
            (2048, 174),
            (4096, 303),
            (10_240, 639),
            (100_000, 4340),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        for (shares, weight) in table {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn block_weight_to_io_weight() {
        for (block, io) in [(0, 0), (10, 1), (500, 4950), (750, 7475), (1000, 10_000)] {
            assert_eq!(io_weight_from_block_weight(block), io, "{block}");
        }
    }

    #[test]
    fn memory_and_swap_to_swap() {
        let text = |limit, swap| match swap_only(limit, swap) {
            Ok(Some(text)) => text,
            Ok(None) => "unset".into(),
            Err(error) => error.to_string(),
        };
        let field = "linux.resources.memory.swap";
        let table = [
            (-1, 0, "max".into()),
            (100, -1, "max".into()),
            (0, 0, "unset".into()),
            (100, 0, "unset".into()),
            (-1, 500, "500".into()),
            (100, 300, "200".into()),
            (100, 100, "0".into()),
            (
                0,
                500,
                format!("{field}: unable to set swap limit without memory limit"),
            ),
            (
                -2,
                500,
                "linux.resources.memory.limit: invalid memory value: -2".into(),
            ),
            (
                100,
                50,
                format!("{field}: memory+swap limit should be >= memory limit"),
            ),
        ];
        for (limit, swap, expected) in table {
            assert_eq!(text(limit, swap), expected, "{limit} {swap}");
        }
    }

    #[test]
    fn pids() {
        for (limit, text) in [(-1, "max"), (-7, "max"), (0, "1"), (1, "1"), (4096, "4096")] {
            assert_eq!(pids_maximum(limit), text);
        }
    }
}
