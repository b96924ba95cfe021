//! Decides about the scheduling of the process: CPU and I/O scheduling, and CPU affinity.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{
    self as spec, ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag,
    LinuxSchedulerPolicy,
};

use super::id_list::IdList;
use crate::prelude::*;

/// The scheduling of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchedulingPlan {
    pub scheduler: Option<Scheduler>,
    /// The priority for ioprio_set(2): class and level in one number.
    pub io_priority: Option<u16>,
    /// The CPUs for `exec`, before and after the process enters the cgroup.
    pub affinity: Option<Affinity>,
    /// Whether the container has a cpuset of its own. The kernel may refuse a scheduler
    /// with it (deadline scheduling needs all CPUs of a root domain).
    pub has_cpuset: bool,
}

/// The arguments of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// The runtime in nanoseconds, as are the deadline and the period.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The CPUs of `process.execCPUAffinity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    pub initial: Option<IdList>,
    pub last: Option<IdList>,
}

/// Returns the policy's number in `linux/sched.h`.
fn number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

/// Returns the flag's bit in `linux/sched.h`.
fn bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The number of bits below the I/O class, which are for the level (`IOPRIO_CLASS_SHIFT`).
const IO_CLASS_SHIFT: u32 = 13;

impl SchedulingPlan {
    /// Decides about the scheduling of `process`. `has_cpuset` says whether its container
    /// has a cpuset of its own.
    ///
    /// # Errors
    /// Returns an error if a word is unknown or a value is not possible for the policy.
    pub fn new(process: &spec::Process, has_cpuset: bool) -> Result<SchedulingPlan> {
        Ok(SchedulingPlan {
            scheduler: process
                .scheduler()
                .as_ref()
                .map(Scheduler::new)
                .transpose()?,
            io_priority: process
                .io_priority()
                .as_ref()
                .map(io_priority)
                .transpose()?,
            affinity: process
                .exec_cpu_affinity()
                .as_ref()
                .map(Affinity::new)
                .transpose()?,
            has_cpuset,
        })
    }
}

impl Scheduler {
    fn new(scheduler: &spec::Scheduler) -> Result<Scheduler> {
        use LinuxSchedulerPolicy::{SchedBatch, SchedDeadline, SchedFifo, SchedOther, SchedRr};
        let policy = *scheduler.policy();
        let nice = scheduler.nice().unwrap_or(0);
        if matches!(policy, SchedOther | SchedBatch) && !(-20..=19).contains(&nice) {
            bail!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}");
        }
        let priority = scheduler.priority().unwrap_or(0);
        if priority != 0 && !matches!(policy, SchedFifo | SchedRr) {
            bail!("scheduler.priority can only be specified for SchedFIFO or SchedRR policy");
        }
        let times = [
            scheduler.runtime(),
            scheduler.deadline(),
            scheduler.period(),
        ];
        let times = times.map(|time| time.unwrap_or(0));
        if policy != SchedDeadline && times != [0; 3] {
            bail!(
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
            );
        }
        let flags = scheduler.flags().iter().flatten();
        let flags = flags.fold(0, |flags, flag| flags | bit(*flag));
        let priority =
            u32::try_from(priority).with_context(|| format!("scheduler.priority {priority}"))?;
        let [runtime, deadline, period] = times;
        Ok(Scheduler {
            policy: number(policy),
            flags,
            nice,
            priority,
            runtime,
            deadline,
            period,
        })
    }
}

impl Affinity {
    fn new(affinity: &ExecCPUAffinity) -> Result<Affinity> {
        let list = |text: &Option<String>, field: &str| {
            let list = text.as_deref().map(|text| {
                IdList::parse(text)
                    .with_context(|| format!("process.execCPUAffinity.{field} {text:?}"))
            });
            list.transpose()
        };
        Ok(Affinity {
            initial: list(affinity.initial(), "initial")?,
            last: list(affinity.cpu_affinity_final(), "final")?,
        })
    }
}

fn io_priority(priority: &LinuxIOPriority) -> Result<u16> {
    let level = match u16::try_from(priority.priority()) {
        Ok(level) if level <= 7 => level,
        _ => bail!("invalid ioPriority.Priority: {}", priority.priority()),
    };
    // The class has this number in `linux/ioprio.h`.
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    Ok(class << IO_CLASS_SHIFT | level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(json: &str) -> Result<Scheduler> {
        Scheduler::new(&crate::testing::read(json))
    }

    #[test]
    fn schedulers() {
        for (json, expected) in [
            (
                r#"{"policy":"SCHED_BATCH","nice":19}"#,
                Scheduler {
                    policy: 3,
                    nice: 19,
                    ..Default::default()
                },
            ),
            (
                r#"{"policy":"SCHED_RR","priority":9,"flags":["SCHED_FLAG_RESET_ON_FORK"]}"#,
                Scheduler {
                    policy: 2,
                    priority: 9,
                    flags: 1,
                    ..Default::default()
                },
            ),
            (
                r#"{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3}"#,
                Scheduler {
                    policy: 6,
                    runtime: 1,
                    deadline: 2,
                    period: 3,
                    ..Default::default()
                },
            ),
        ] {
            assert_eq!(scheduler(json).expect(json), expected);
        }
    }

    #[test]
    fn schedulers_that_cannot_be() {
        for (json, words) in [
            (
                r#"{"policy":"SCHED_OTHER","nice":20}"#,
                "invalid scheduler.nice: 20 when scheduler.policy is SCHED_OTHER",
            ),
            (
                r#"{"policy":"SCHED_OTHER","priority":1}"#,
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            ),
            (
                r#"{"policy":"SCHED_FIFO","period":1}"#,
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
            ),
            (
                r#"{"policy":"SCHED_FIFO","priority":-1}"#,
                "scheduler.priority -1",
            ),
        ] {
            assert_eq!(scheduler(json).expect_err(json).to_string(), words);
        }
    }

    #[test]
    fn io_priorities() {
        let priority = |priority: i64| {
            let json = format!(r#"{{"class":"IOPRIO_CLASS_IDLE","priority":{priority}}}"#);
            io_priority(&crate::testing::read(&json)).map_err(|err| err.to_string())
        };
        assert_eq!(priority(7), Ok(3 << 13 | 7));
        assert_eq!(priority(8), Err("invalid ioPriority.Priority: 8".into()));
        assert_eq!(priority(-1), Err("invalid ioPriority.Priority: -1".into()));
    }

    #[test]
    fn affinities() {
        let affinity = Affinity::new(&crate::testing::read(r#"{"initial":"0-1","final":""}"#));
        let affinity = affinity.expect("affinity");
        assert_eq!(affinity.initial.expect("initial").words(), [3]);
        assert_eq!(affinity.last, None);
        let affinity = Affinity::new(&crate::testing::read(r#"{"final":"9999999-3"}"#));
        let words = crate::testing::words(&affinity.expect_err("refused"));
        assert!(
            words.starts_with(r#"process.execCPUAffinity.final "9999999-3": "#),
            "{words}"
        );
    }
}
