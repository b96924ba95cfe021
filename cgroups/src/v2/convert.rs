//! Converts the specification's numbers to the words of files that only cgroup v2 has.
//! Conversions that systemd or v1 needs as well are in the crate's `to_v2.rs`.

/// Converts the specification's block I/O weight (10 to 1000) to `io.weight` (1 to 10000).
/// 0 means not set and stays 0.
pub(crate) fn io_weight_from_block_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        _ => 1 + u64::from(weight.saturating_sub(10)) * 9_999 / 990,
    }
}

/// Returns a number of bytes as v2 spells it. -1 is "max"; 0 means not set and gives
/// `None`.
pub(crate) fn maximum(number: i64) -> Option<String> {
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
    fn block_weight_to_io_weight() {
        for (block, io) in [(0, 0), (10, 1), (500, 4950), (750, 7475), (1000, 10_000)] {
            assert_eq!(io_weight_from_block_weight(block), io, "{block}");
        }
    }
}
