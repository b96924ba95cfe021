//! Sets the CPUs that a process may use (sched_setaffinity(2)). The parent does this,
//! because the container's user may lack the privilege. Not for the cpuset of a cgroup.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use teu_plan::id_list::IdList;

use crate::{errno, sys};

/// One bit for each CPU, more than any kernel supports (`NR_CPUS` is at most 8192).
const ALL_CPUS: [u64; 128] = [u64::MAX; 128];

/// Lets `pid` use all CPUs that its cgroup allows, whatever the caller's own affinity
/// is. Must come after `pid` entered the cgroup. Only warns of a failure.
pub(crate) fn reset(pid: i32) {
    if let Err(err) = sys::sched_setaffinity(pid, &ALL_CPUS) {
        log::warn!("unable to reset affinity: {}", errno::text(err));
    }
}

/// Lets `pid` use the CPUs of the list only.
pub(crate) fn set(pid: i32, cpus: &IdList) -> Result<()> {
    sys::sched_setaffinity(pid, cpus.words())
        .with_context(|| format!("set CPU affinity of process {pid}"))
}

/// A changed affinity of this process, for its next child to inherit. Dropping it
/// restores the affinity from before.
#[derive(Debug)]
pub(crate) struct Borrowed {
    before: CpuSet,
}

impl Borrowed {
    /// Lets this process use the CPUs of the list only.
    ///
    /// # Errors
    /// The kernel refuses the change.
    pub(crate) fn new(cpus: &IdList) -> Result<Borrowed> {
        let before = sched_getaffinity(None).context("read CPU affinity")?;
        set(0, cpus)?;
        Ok(Borrowed { before })
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Err(err) = sched_setaffinity(None, &self.before) {
            log::warn!("restore CPU affinity: {}", errno::text(err));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_narrow_affinity_is_widened_again() {
        testing::in_child(|| {
            let all = sched_getaffinity(None).expect("affinity");
            let mut one = CpuSet::new();
            one.set(0);
            sched_setaffinity(None, &one).expect("narrow");
            reset(0);
            assert_eq!(sched_getaffinity(None).expect("affinity"), all);
            let first = IdList::parse("0").expect("list");
            let borrowed = Borrowed::new(&first).expect("borrow");
            assert_eq!(sched_getaffinity(None).expect("affinity"), one);
            drop(borrowed);
            assert_eq!(sched_getaffinity(None).expect("affinity"), all);
            set(0, &first).expect("set");
            assert_eq!(sched_getaffinity(None).expect("affinity"), one);
        });
    }
}
