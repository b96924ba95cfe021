//! Turns limits of block I/O into writes for the v2 controller io.

use teu_cgroups_types::{BlockIoLimits, DeviceRate};

use super::ONLY_V1;

use crate::directory::{Steps, Write};

/// The weight of the BFQ scheduler takes the specification's numbers. `io.weight`, of the
/// I/O cost controller, takes other numbers.
const BFQ_WEIGHT: &str = "io.bfq.weight";
const COST_WEIGHT: &str = "io.weight";

pub(crate) fn steps(block_io: &BlockIoLimits) -> Steps {
    let mut steps = Steps::default();
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        let field = "blockIO.weight";
        let cost = Write::new(field, COST_WEIGHT, io_weight_from_block_weight(weight));
        steps.write(Write::new(field, BFQ_WEIGHT, weight).or(cost));
    }
    for device in &block_io.weight_device {
        let Some(weight) = device.weight.filter(|&weight| weight != 0) else {
            continue;
        };
        let field = "blockIO.weightDevice";
        let number = format!("{}:{}", device.major, device.minor);
        let cost = format!("{number} {}", io_weight_from_block_weight(weight));
        let cost = Write::new(field, COST_WEIGHT, cost);
        steps.write(Write::new(field, BFQ_WEIGHT, format!("{number} {weight}")).or(cost));
    }
    let mut throttle = |field: &str, key: &str, rates: &[DeviceRate]| {
        for DeviceRate { major, minor, rate } in rates {
            // In the specification and on v1, 0 removes the limit; v2 refuses 0.
            let rate = if *rate == 0 { "max" } else { &rate.to_string() };
            let value = format!("{major}:{minor} {key}={rate}");
            steps.write(Write::new(field, "io.max", value));
        }
    };
    throttle(
        "blockIO.throttleReadBpsDevice",
        "rbps",
        &block_io.throttle_read_bps,
    );
    throttle(
        "blockIO.throttleWriteBpsDevice",
        "wbps",
        &block_io.throttle_write_bps,
    );
    throttle(
        "blockIO.throttleReadIOPSDevice",
        "riops",
        &block_io.throttle_read_iops,
    );
    throttle(
        "blockIO.throttleWriteIOPSDevice",
        "wiops",
        &block_io.throttle_write_iops,
    );
    let is_set = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
    let devices = &block_io.weight_device;
    if is_set(block_io.leaf_weight) || devices.iter().any(|device| is_set(device.leaf_weight)) {
        steps.ignore("blockIO.leafWeight", ONLY_V1);
    }
    steps
}

/// Converts the specification's block I/O weight (10 to 1000) to `io.weight` (1 to 10000).
/// 0 means not set and stays 0.
fn io_weight_from_block_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        _ => 1 + u64::from(weight.saturating_sub(10)) * 9_999 / 990,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Missing, Step};
    use teu_cgroups_types::DeviceWeight;

    #[test]
    fn table() {
        let rate = DeviceRate {
            major: 8,
            minor: 0,
            rate: 1000,
        };
        let limits = BlockIoLimits {
            weight: Some(500),
            leaf_weight: Some(20),
            weight_device: vec![DeviceWeight {
                major: 8,
                minor: 16,
                weight: Some(1000),
                leaf_weight: None,
            }],
            throttle_read_bps: vec![rate],
            throttle_write_bps: vec![rate],
            throttle_read_iops: vec![rate],
            throttle_write_iops: vec![DeviceRate { rate: 0, ..rate }],
        };
        let steps = steps(&limits);
        assert_eq!(
            steps.lines(),
            [
                "io.bfq.weight=500",
                "io.bfq.weight=8:16 1000",
                "io.max=8:0 rbps=1000",
                "io.max=8:0 wbps=1000",
                "io.max=8:0 riops=1000",
                "io.max=8:0 wiops=max",
            ]
        );
        let Step::Write(Write {
            missing: Missing::Instead(other),
            ..
        }) = &steps.steps[1]
        else {
            panic!("{steps:?}");
        };
        assert_eq!(
            (other.file.as_str(), other.value.as_str()),
            ("io.weight", "8:16 10000")
        );
        assert_eq!(steps.ignored[0].field, "blockIO.leafWeight");
    }

    #[test]
    fn block_weight_to_io_weight() {
        for (block, io) in [(0, 0), (10, 1), (500, 4950), (750, 7475), (1000, 10_000)] {
            assert_eq!(io_weight_from_block_weight(block), io, "{block}");
        }
    }
}
