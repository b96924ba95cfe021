//! Turns the limit of processes into a write for the controller pids, on v1 and v2.

use crate::directory::{Steps, Write};
use crate::to_v2::pids_maximum;

pub(crate) fn steps(limit: Option<i64>) -> Steps {
    let mut steps = Steps::default();
    if let Some(limit) = limit {
        steps.write(Write::new("pids.limit", "pids.max", pids_maximum(limit)));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (limit, value) in [(-1, "max"), (0, "1"), (64, "64")] {
            assert_eq!(steps(Some(limit)).lines(), [format!("pids.max={value}")]);
        }
        assert_eq!(steps(None), Steps::default());
    }
}
