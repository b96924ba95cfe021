//! What every test stands on.
//!
//! Each test runs in a process of its own, started by `runner`: it may crash,
//! hang or leak without touching the others, it is the parent of whatever its
//! containers leave behind (as a shim would be), and it has mounts and a network
//! of its own. When it is done, the host is compared with what it was before.
//!
//! A test is a function without arguments; its first line says what it needs:
//!
//! ```ignore
//! fn hostname_is_set() {
//!     needs(&[Root]);
//!     let seen = Bundle::new().set("/hostname", "box").run().ok().probe();
//!     assert_eq!(seen["hostname"], "box");
//! }
//! ```
//!
//! Not here: anything that knows how the runtime works inside. The harness
//! talks to the binary and asks the container and the kernel what happened.

#![allow(dead_code, reason = "a harness offers more than its present tests use")]

mod bundle;
mod cgroup;
mod container;
mod invocation;
mod layout;
mod needs;
pub(crate) mod process;
mod runner;
mod skips;
mod snapshot;
mod sys;
mod terminal;

pub(crate) use bundle::Bundle;
pub(crate) use cgroup::CgroupFiles;
pub(crate) use container::Container;
pub(crate) use invocation::{Invocation, Output, Running, runtime, teu};
pub(crate) use layout::{Elsewhere, HandedDown, Mounted, V2Alone};
pub(crate) use needs::{Need::*, criu_path, domain_limit, needs};
pub(crate) use process::{is_alive, wait_until};
pub(crate) use runner::{Test, main};
pub(crate) use snapshot::{HostSnapshot, marker};
pub(crate) use sys::{
    answer_notification, receive_notification, run_first, while_call_is_answered,
};
pub(crate) use terminal::{FdSocket, Terminal};

/// For commands without flags.
pub(crate) const NO_FLAGS: [&str; 0] = [];

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The directory of the running test: its bundles, its state root and
/// whatever else it wants to keep there. Removed by the runner.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(std::env::var_os("TEU_TEST_SCRATCH").expect("set by the runner for every test"))
}

/// The `--root` of every runtime call of the running test.
pub(crate) fn state_root() -> PathBuf {
    scratch().join("state")
}

/// How long to wait for what takes no longer than `limit` on a common machine:
/// longer by $TEU_TEST_SLOWNESS, which an emulated machine has measured, and with more
/// [`rounds`].
pub(crate) fn patience(limit: Duration) -> Duration {
    let limit = limit * rounds(100).div_ceil(100).max(1);
    let slowness = std::env::var("TEU_TEST_SLOWNESS").map(|slowness| slowness.parse());
    match slowness {
        Ok(slowness) => limit.mul_f64(slowness.expect("$TEU_TEST_SLOWNESS is a number")),
        Err(_) => limit,
    }
}

/// How often a test repeats what it repeats `full` times on a common machine:
/// $TEU_TEST_ROUNDS is the part in percent. Less than 100 saves time where a test
/// also runs on another machine, more than 100 finds rarer races.
pub(crate) fn rounds(full: u32) -> u32 {
    let percent = std::env::var("TEU_TEST_ROUNDS").map(|percent| percent.parse::<u32>());
    match percent {
        Ok(percent) => (full * percent.expect("$TEU_TEST_ROUNDS is a number") / 100).max(1),
        Err(_) => full,
    }
}

/// Tells a thread beside the test to end, also when the test has failed: the
/// scope of both waits for it.
pub(crate) struct SetAtTheEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Lists the tests of a file: `tests![this, that];`. A function missing from
/// the list is dead code, which the lints refuse.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        /// The tests of this file.
        pub(crate) const TESTS: &[crate::harness::Test] = &[$(crate::harness::Test {
            path: concat!(module_path!(), "::", stringify!($name)),
            run: $name,
        }),*];
    };
}
pub(crate) use tests;
