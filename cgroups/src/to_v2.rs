//! Converts the specification's numbers, which are those of cgroup v1, to the numbers of
//! cgroup v2, such as shares to a weight. This file has only conversions that v1 or systemd
//! uses, too. Conversions for v2 alone are beside its files, such as the weight of block I/O
//! in `v2/io.rs`.

use crate::error::{Error, Result};

/// The kernel's bounds of `cpu.shares` (kernel/sched/sched.h, `MIN_SHARES` and
/// `MAX_SHARES`).
pub(crate) const SMALLEST_SHARES: u64 = 2;
pub(crate) const LARGEST_SHARES: u64 = 262_144;

/// Converts `cpu.shares` (2 to 262144) to `cpu.weight` (1 to 10000). The curve goes
/// through (2, 1), (1024, 100) and (262144, 10000), so that the kernel's default shares
/// become its default weight. 0 means not set and stays 0. The formula is that of runc
/// since 1.3.2, and the results have to be the same.
pub(crate) fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=SMALLEST_SHARES => 1,
        LARGEST_SHARES.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "less than 2^18, so exact")]
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

/// Returns the value of `memory.swap.max`, or `None` if it is not set. The specification's
/// swap limit is memory plus swap; v2 counts swap alone.
pub(crate) fn swap_only(limit: i64, memory_and_swap: i64) -> Result<Option<String>> {
    const FIELD: &str = "memory.swap";
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
            "memory.limit",
            format!("invalid memory value: {limit}"),
        )),
        (limit, swap) if swap < limit => Err(Error::refused(
            FIELD,
            "memory+swap limit should be >= memory limit",
        )),
        (limit, swap) => Ok(Some((swap - limit).to_string())),
    }
}

/// Returns the value of `pids.max` on both cgroup versions. A negative number removes the
/// limit. 0 means 1, as in runc, because the kernel would not allow any process.
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
    fn memory_and_swap_to_swap() {
        let text = |limit, swap| match swap_only(limit, swap) {
            Ok(Some(text)) => text,
            Ok(None) => "unset".into(),
            Err(error) => error.to_string(),
        };
        let field = "memory.swap";
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
            (-2, 500, "memory.limit: invalid memory value: -2".into()),
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
