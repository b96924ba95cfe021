//! The harness of the tests: builds bundles and containers, calls the runtime, and runs the
//! tests.
//!
//! The runner starts each test in a process of its own. So a test may crash, hang or leak
//! without affecting others; it is the parent of the processes that its containers leave, as a
//! shim would be; and it has its own mounts and network. After the test the host is compared
//! with its state before.
//!
//! A test is a function without arguments. Its first line says what it needs:
//!
//! ```ignore
//! fn hostname_is_set() {
//!     needs(&[Root]);
//!     let seen = Bundle::new().set("/hostname", "box").run().ok().probe();
//!     assert_eq!(seen["hostname"], "box");
//! }
//! ```
//!
//! The harness knows nothing of the runtime's internals. It calls the binary, and asks the
//! container and the kernel for the effects.

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
pub(crate) use layout::{Elsewhere, EnabledControllers, Mounted, V2Alone};
pub(crate) use needs::{Need::*, criu_path, domain_limit, needs};
pub(crate) use process::{is_alive, wait_until};
pub(crate) use runner::{Test, main};
pub(crate) use snapshot::{HostSnapshot, marker};
pub(crate) use sys::{
    answer_notification, receive_notification, run_first, while_call_is_answered,
};
pub(crate) use terminal::{FdSocket, Terminal};

/// The flags of a command without flags.
pub(crate) const NO_FLAGS: [&str; 0] = [];

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The directory of the running test, with its bundles, its state root and other files. The
/// runner removes it.
pub(crate) fn scratch() -> PathBuf {
    PathBuf::from(std::env::var_os("TEU_TEST_SCRATCH").expect("set by the runner for every test"))
}

/// The `--root` of all runtime calls of the running test.
pub(crate) fn state_root() -> PathBuf {
    scratch().join("state")
}

/// A time limit for an operation that takes no longer than `limit` on a common machine. It
/// grows with $TEU_TEST_SLOWNESS, which is measured on emulated machines, and with the number
/// of [`rounds`].
pub(crate) fn patience(limit: Duration) -> Duration {
    let limit = limit * rounds(100).div_ceil(100).max(1);
    let slowness = std::env::var("TEU_TEST_SLOWNESS").map(|slowness| slowness.parse());
    match slowness {
        Ok(slowness) => limit.mul_f64(slowness.expect("$TEU_TEST_SLOWNESS is a number")),
        Err(_) => limit,
    }
}

/// The number of repetitions in a test that repeats something `full` times on a common machine.
/// $TEU_TEST_ROUNDS is a percentage: less than 100 saves time where a test also runs on
/// another machine, more than 100 finds rarer races.
pub(crate) fn rounds(full: u32) -> u32 {
    let percent = std::env::var("TEU_TEST_ROUNDS").map(|percent| percent.parse::<u32>());
    match percent {
        Ok(percent) => (full * percent.expect("$TEU_TEST_ROUNDS is a number") / 100).max(1),
        Err(_) => full,
    }
}

/// Tells a thread of the test to end. It does so even when the test fails, because the test's
/// scope waits for the thread.
pub(crate) struct SetAtTheEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The path of a file in this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Lists the tests of a file: `tests![this, that];`. A function that is missing from the list
/// is dead code, which the lints refuse.
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
