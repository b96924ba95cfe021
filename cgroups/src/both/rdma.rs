//! Turns RDMA limits into writes for the controller rdma, on v1 and v2.

use std::collections::BTreeMap;

use teu_cgroups_types::RdmaLimit;

use crate::directory::{Steps, Write};
use crate::error::{Error, Result};

pub(crate) fn steps(limits: &BTreeMap<String, RdmaLimit>) -> Result<Steps> {
    let mut steps = Steps::default();
    for (device, limit) in limits {
        let field = format!("rdma[{device:?}]");
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(Error::refused(field, "is not a device name"));
        }
        let handles = limit
            .hca_handles
            .map(|number| format!(" hca_handle={number}"));
        let objects = limit
            .hca_objects
            .map(|number| format!(" hca_object={number}"));
        if handles.is_some() || objects.is_some() {
            let parts = [handles, objects].map(Option::unwrap_or_default).concat();
            steps.write(Write::new(&field, "rdma.max", format!("{device}{parts}")));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let limit = |hca_handles, hca_objects| RdmaLimit {
            hca_handles,
            hca_objects,
        };
        let limits = BTreeMap::from([
            ("mlx5_0".into(), limit(Some(3), Some(10_000))),
            ("mlx5_1".into(), limit(None, Some(5))),
            ("mlx5_2".into(), limit(None, None)),
        ]);
        assert_eq!(
            steps(&limits).unwrap().lines(),
            [
                "rdma.max=mlx5_0 hca_handle=3 hca_object=10000",
                "rdma.max=mlx5_1 hca_object=5"
            ]
        );
    }
}
