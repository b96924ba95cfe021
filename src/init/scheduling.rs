//! Sets CPU and I/O scheduling. Process ids are of the caller's namespace, 0
//! being the caller, so that the parent may do it for a process without the
//! privilege.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::errno;
use crate::plan::id_list::IdList;
use crate::plan::scheduling::SchedulingPlan;
use crate::sys;

/// More than any kernel is built for (`NR_CPUS` is at most 8192).
const ALL_CPUS: [u64; 128] = [u64::MAX; 128];

/// Sets the I/O priority of `pid`.
pub(crate) fn set_io_priority(pid: i32, plan: &SchedulingPlan) -> Result<()> {
    match plan.io_priority {
        Some(priority) => sys::ioprio_set(pid, priority).context("set I/O priority"),
        None => Ok(()),
    }
}

/// Sets the scheduler of `pid`.
pub(crate) fn set_scheduler(pid: i32, plan: &SchedulingPlan) -> Result<()> {
    let Some(scheduler) = plan.scheduler else {
        return Ok(());
    };
    let attr = sys::SchedAttr {
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..Default::default()
    };
    match sys::sched_setattr(pid, attr) {
        Err(err) if Errno::from_io_error(&err) == Some(Errno::PERM) && plan.has_cpuset => {
            bail!("process scheduler can't be used together with AllowedCPUs")
        }
        result => result.context("error setting scheduler"),
    }
}

/// Lets `pid` use every CPU its cgroup allows, whatever the caller's own
/// affinity is. After it entered the cgroup. A failure is a warning only.
pub(crate) fn reset_affinity(pid: i32) {
    if let Err(err) = sys::sched_setaffinity(pid, &ALL_CPUS) {
        log::warn!("unable to reset affinity: {}", errno::text(err));
    }
}

/// Lets `pid` use the CPUs of the list only.
pub(crate) fn set_affinity(pid: i32, cpus: &IdList) -> Result<()> {
    sys::sched_setaffinity(pid, cpus.words()).context("set CPU affinity")
}

/// Does `start` with no other CPUs than those of the list, and goes back.
pub(crate) fn with_affinity<T>(cpus: &IdList, start: impl FnOnce() -> T) -> Result<T> {
    let before = sched_getaffinity(None).context("read CPU affinity")?;
    set_affinity(0, cpus)?;
    let started = start();
    sched_setaffinity(None, &before).context("restore CPU affinity")?;
    Ok(started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scheduling::Scheduler;
    use crate::testing;
    use rustix::thread::CpuSet;

    #[test]
    fn the_kernel_shows_scheduler_and_io_priority() {
        testing::in_child(|| {
            let plan = SchedulingPlan {
                scheduler: Some(Scheduler {
                    policy: 3,
                    nice: 7,
                    ..Default::default()
                }),
                io_priority: Some(2 << 13 | 6),
                ..Default::default()
            };
            set_scheduler(0, &plan).expect("scheduler");
            set_io_priority(0, &plan).expect("priority");
            let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
            let fields: Vec<&str> = stat
                .rsplit_once(") ")
                .expect("name")
                .1
                .split_whitespace()
                .collect();
            // proc_pid_stat(5): nice is field 19, policy 41, counted from 1;
            // two are cut off.
            assert_eq!((fields[16], fields[38]), ("7", "3"));
            let shown = std::process::Command::new("ionice")
                .args(["-p", &std::process::id().to_string()])
                .output();
            if let Ok(shown) = shown {
                assert_eq!(
                    String::from_utf8_lossy(&shown.stdout).trim(),
                    "best-effort: prio 6"
                );
            }
        });
    }

    #[test]
    fn a_narrow_affinity_is_widened_again() {
        testing::in_child(|| {
            let all = sched_getaffinity(None).expect("affinity");
            let mut one = CpuSet::new();
            one.set(0);
            sched_setaffinity(None, &one).expect("narrow");
            reset_affinity(0);
            assert_eq!(sched_getaffinity(None).expect("affinity"), all);
            let first = IdList::parse("0").expect("list");
            let seen = with_affinity(&first, || sched_getaffinity(None)).expect("with");
            assert_eq!(seen.expect("affinity"), one);
            assert_eq!(sched_getaffinity(None).expect("affinity"), all);
            set_affinity(0, &first).expect("set");
            assert_eq!(sched_getaffinity(None).expect("affinity"), one);
        });
    }

    #[test]
    fn a_refused_scheduler_has_runcs_words() {
        testing::in_child(|| {
            let plan = SchedulingPlan {
                scheduler: Some(Scheduler {
                    policy: 6,
                    runtime: 3,
                    deadline: 2,
                    ..Default::default()
                }),
                ..Default::default()
            };
            let error = set_scheduler(0, &plan).expect_err("refused");
            assert_eq!(
                testing::words(&error),
                "error setting scheduler: invalid argument"
            );
        });
    }
}
