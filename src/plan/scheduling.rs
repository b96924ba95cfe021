//! When the process runs: CPU and I/O scheduling, CPU affinity.

use anyhow::{Context, Result, bail};

use super::id_list::IdList;
use crate::spec;

/// Scheduling of the process, decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SchedulingPlan {
    pub(crate) scheduler: Option<Scheduler>,
    /// The priority for ioprio_set(2): class and level in one number.
    pub(crate) io_priority: Option<u16>,
    /// CPUs for `exec`: before and after the process enters the cgroup.
    pub(crate) affinity: Option<Affinity>,
    /// The container has its own CPUs, which the kernel may find at odds with
    /// the scheduler (deadline scheduling needs all of a root domain).
    pub(crate) has_cpuset: bool,
}

/// What sched_setattr(2) is called with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scheduler {
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    /// Nanoseconds, as are the next two.
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// `process.execCPUAffinity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) initial: Option<IdList>,
    pub(crate) last: Option<IdList>,
}

/// Policies by name, with their numbers in `linux/sched.h`.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Classes by name, with their numbers in `linux/ioprio.h`.
const IO_CLASSES: [(&str, u16); 3] = [
    ("IOPRIO_CLASS_RT", 1),
    ("IOPRIO_CLASS_BE", 2),
    ("IOPRIO_CLASS_IDLE", 3),
];

/// The class is in the bits above the level (`IOPRIO_CLASS_SHIFT`).
const IO_CLASS_SHIFT: u32 = 13;

impl SchedulingPlan {
    /// Decides about the scheduling of `process`, whose container has CPUs of
    /// its own (`has_cpuset`) or not.
    ///
    /// # Errors
    /// An unknown word, or values that do not belong to the policy.
    pub(crate) fn new(process: &spec::Process, has_cpuset: bool) -> Result<SchedulingPlan> {
        Ok(SchedulingPlan {
            scheduler: process.scheduler.as_ref().map(Scheduler::new).transpose()?,
            io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
            affinity: process
                .exec_cpu_affinity
                .as_ref()
                .map(Affinity::new)
                .transpose()?,
            has_cpuset,
        })
    }
}

impl Scheduler {
    fn new(scheduler: &spec::Scheduler) -> Result<Scheduler> {
        let policy = scheduler.policy.as_str();
        if policy.is_empty() {
            bail!("scheduler policy is required");
        }
        let Some(number) = number(&POLICIES, policy) else {
            bail!("invalid scheduler policy: {policy}");
        };
        let nice = scheduler.nice;
        if matches!(policy, "SCHED_OTHER" | "SCHED_BATCH") && !(-20..=19).contains(&nice) {
            bail!("invalid scheduler.nice: {nice} when scheduler.policy is {policy}");
        }
        if scheduler.priority != 0 && !matches!(policy, "SCHED_FIFO" | "SCHED_RR") {
            bail!("scheduler.priority can only be specified for SchedFIFO or SchedRR policy");
        }
        let times = [scheduler.runtime, scheduler.deadline, scheduler.period];
        if policy != "SCHED_DEADLINE" && times != [0; 3] {
            bail!(
                "scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
            );
        }
        let mut flags = 0;
        for flag in &scheduler.flags {
            match FLAGS.iter().find(|(name, _)| name == flag) {
                Some((_, bit)) => flags |= bit,
                None => bail!("invalid scheduler flag: {flag}"),
            }
        }
        let priority = u32::try_from(scheduler.priority)
            .with_context(|| format!("scheduler.priority {}", scheduler.priority))?;
        let [runtime, deadline, period] = times;
        Ok(Scheduler {
            policy: number,
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
    fn new(affinity: &spec::CpuAffinity) -> Result<Affinity> {
        let list = |text: &str, field: &str| match text {
            "" => Ok(None),
            text => IdList::parse(text)
                .map(Some)
                .with_context(|| format!("process.execCPUAffinity.{field} {text:?}")),
        };
        Ok(Affinity {
            initial: list(&affinity.initial, "initial")?,
            last: list(&affinity.last, "final")?,
        })
    }
}

fn io_priority(priority: &spec::IoPriority) -> Result<u16> {
    let level = match u16::try_from(priority.priority) {
        Ok(level) if level <= 7 => level,
        _ => bail!("invalid ioPriority.Priority: {}", priority.priority),
    };
    let Some((_, class)) = IO_CLASSES.iter().find(|(name, _)| *name == priority.class) else {
        bail!("invalid ioPriority.Class: {:?}", priority.class);
    };
    Ok(class << IO_CLASS_SHIFT | level)
}

fn number(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(json: &str) -> Result<Scheduler> {
        Scheduler::new(&serde_json::from_str(json).expect("json"))
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
            ("{}", "scheduler policy is required"),
            (r#"{"policy":"X"}"#, "invalid scheduler policy: X"),
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
                r#"{"policy":"SCHED_FIFO","flags":["X"]}"#,
                "invalid scheduler flag: X",
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
        let priority = |class: &str, priority| {
            io_priority(&spec::IoPriority {
                class: class.into(),
                priority,
            })
            .map_err(|err| err.to_string())
        };
        assert_eq!(priority("IOPRIO_CLASS_BE", 7), Ok(2 << 13 | 7));
        assert_eq!(
            priority("IOPRIO_CLASS_BE", 8),
            Err("invalid ioPriority.Priority: 8".into())
        );
        assert_eq!(
            priority("IOPRIO_CLASS_BE", -1),
            Err("invalid ioPriority.Priority: -1".into())
        );
        assert_eq!(
            priority("X", 0),
            Err(r#"invalid ioPriority.Class: "X""#.into())
        );
    }

    #[test]
    fn affinities() {
        let affinity = Affinity::new(&spec::CpuAffinity {
            initial: "0-1".into(),
            last: String::new(),
        });
        let affinity = affinity.expect("affinity");
        assert_eq!(affinity.initial.expect("initial").words(), [3]);
        assert_eq!(affinity.last, None);
        let wrong = spec::CpuAffinity {
            initial: String::new(),
            last: "x".into(),
        };
        let error = Affinity::new(&wrong).expect_err("refused");
        assert_eq!(error.to_string(), r#"process.execCPUAffinity.final "x""#);
    }
}
