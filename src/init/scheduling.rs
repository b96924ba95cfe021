//! Sets the CPU scheduler and the I/O priority of a process; 0 is this process. Not for
//! CPU affinity: see `parent/affinity.rs`.

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use teu_plan::scheduling::SchedulingPlan;

use crate::sys;

/// Sets the I/O priority of `pid` (ioprio_set(2)).
pub(crate) fn set_io_priority(pid: i32, plan: &SchedulingPlan) -> Result<()> {
    match plan.io_priority {
        Some(priority) => sys::ioprio_set(pid, priority).context("set I/O priority"),
        None => Ok(()),
    }
}

/// Sets the scheduler of `pid` (sched_setattr(2)).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use teu_plan::scheduling::Scheduler;

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
            // In proc_pid_stat(5), nice is field 19 and policy field 41, counted from
            // 1. The first two fields are cut off here.
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
