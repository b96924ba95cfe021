//! The writes for the controller cpu that v1 and v2 have alike.

use crate::directory::{Missing, Write};

/// Returns the write of `cpu.idle`. The file exists since kernel 5.15; without it no cgroup
/// is idle.
pub(crate) fn idle(idle: i64) -> Write {
    let missing = if idle == 0 {
        Missing::Skip
    } else {
        Missing::Fail
    };
    Write::new("cpu.idle", "cpu.idle", idle).if_missing(missing)
}

/// Returns the write of the burst to `file`, which exists since kernel 5.14.
pub(crate) fn burst(file: &str, burst: u64) -> Write {
    let missing = if burst == 0 {
        Missing::Skip
    } else {
        Missing::Report
    };
    Write::new("cpu.burst", file, burst).if_missing(missing)
}
