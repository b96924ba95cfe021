//! Turns limits of block I/O into writes for the v1 controller blkio.

use teu_cgroups_types::{BlockIoLimits, DeviceRate};

use crate::directory::{Steps, Write};

pub(crate) fn steps(block_io: &BlockIoLimits) -> Steps {
    let mut steps = Steps::default();
    // Before kernel 5.0, the CFQ scheduler had the weights; since then, BFQ has them.
    let weight = |field: &str, file: &str, value: &str| {
        let older = Write::new(field, &format!("blkio.{file}"), value);
        older.or(Write::new(field, &format!("blkio.bfq.{file}"), value))
    };
    if let Some(number) = block_io.weight.filter(|&number| number != 0) {
        steps.write(weight("blockIO.weight", "weight", &number.to_string()));
    }
    if let Some(number) = block_io.leaf_weight.filter(|&number| number != 0) {
        steps.write(Write::new(
            "blockIO.leafWeight",
            "blkio.leaf_weight",
            number,
        ));
    }
    for device in &block_io.weight_device {
        let value = |number| format!("{}:{} {number}", device.major, device.minor);
        let field = "blockIO.weightDevice";
        if let Some(number) = device.weight.filter(|&number| number != 0) {
            steps.write(weight(field, "weight_device", &value(number)));
        }
        if let Some(number) = device.leaf_weight.filter(|&number| number != 0) {
            steps.write(Write::new(field, "blkio.leaf_weight_device", value(number)));
        }
    }
    let mut throttle = |field: &str, file: &str, rates: &[DeviceRate]| {
        for DeviceRate { major, minor, rate } in rates {
            let file = format!("blkio.throttle.{file}_device");
            steps.write(Write::new(field, &file, format!("{major}:{minor} {rate}")));
        }
    };
    throttle(
        "blockIO.throttleReadBpsDevice",
        "read_bps",
        &block_io.throttle_read_bps,
    );
    throttle(
        "blockIO.throttleWriteBpsDevice",
        "write_bps",
        &block_io.throttle_write_bps,
    );
    throttle(
        "blockIO.throttleReadIOPSDevice",
        "read_iops",
        &block_io.throttle_read_iops,
    );
    throttle(
        "blockIO.throttleWriteIOPSDevice",
        "write_iops",
        &block_io.throttle_write_iops,
    );
    steps
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
                weight: Some(300),
                leaf_weight: Some(0),
            }],
            throttle_read_bps: vec![rate],
            throttle_write_iops: vec![rate],
            ..Default::default()
        };
        assert_eq!(
            steps(&limits).lines(),
            [
                "blkio.weight=500",
                "blkio.leaf_weight=20",
                "blkio.weight_device=8:16 300",
                "blkio.throttle.read_bps_device=8:0 1000",
                "blkio.throttle.write_iops_device=8:0 1000",
            ]
        );
    }

    #[test]
    fn weight_falls_back_to_bfq() {
        let limits = BlockIoLimits {
            weight: Some(500),
            ..Default::default()
        };
        let steps = steps(&limits).steps;
        let [
            Step::Write(Write {
                missing: Missing::Instead(other),
                ..
            }),
        ] = steps.as_slice()
        else {
            panic!("{steps:?}");
        };
        assert_eq!(
            (other.file.as_str(), other.value.as_str()),
            ("blkio.bfq.weight", "500")
        );
    }
}
