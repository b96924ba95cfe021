//! `teu events`: prints the events and the statistics of a container, one line of JSON
//! each. Not for reading the numbers: see the crate teu-cgroups.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;
use teu_cgroups::{Cgroup, OomWatch, Stats};
use teu_plan::seen::Resctrl;

use super::output::write_unless_closed;
use crate::host::Host;
use crate::parent::intel_rdt::{self, RdtStats};
use crate::state::{ContainerState, StateDir, init_process};
use crate::{json, poll};

/// The arguments of `events`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The time between two lines of statistics.
    pub(crate) interval: Duration,
    /// Whether to print statistics once only.
    pub(crate) stats: bool,
}

/// An event in one line, with runc's names (its types/events.go). The statistics are
/// [`teu_cgroups::Stats`].
#[derive(Debug, Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Debug, Serialize)]
struct Data {
    #[serde(flatten)]
    stats: Stats,
    intel_rdt: RdtStats,
    /// Always null, as in runc, because a runtime does not know which network
    /// interfaces belong to the container.
    network_interfaces: (),
}

/// Prints statistics, once or in intervals, and each kill by the OOM killer, until the
/// container has ended.
///
/// # Errors
/// The container does not exist or does not run, or the interval is 0.
#[inline(never)]
pub(crate) fn events(options: &Options) -> Result<()> {
    if options.interval.is_zero() {
        bail!("duration interval must be greater than 0");
    }
    let (_, state) = StateDir::load(&options.root, &options.id)?;
    let Some(init) = init_process::open(&state)? else {
        bail!("container with id {} is not running", state.id);
    };
    let cgroup = Cgroup::open(&state.cgroup);
    let source = Source {
        resctrl: match &state.resctrl_group {
            Some(_) => Host::new().resctrl()?,
            None => None,
        },
        state,
        cgroup,
    };
    if options.stats {
        return source.print_stats().map(drop);
    }
    let watch = source.cgroup.watch_oom()?;
    source.stream(&init, watch, options.interval)
}

/// The sources of the numbers.
struct Source {
    state: Box<ContainerState>,
    cgroup: Cgroup,
    resctrl: Option<Resctrl>,
}

impl Source {
    /// Prints until the container has ended or standard output has no reader.
    fn stream(
        &self,
        init: &OwnedFd,
        mut watch: Option<OomWatch>,
        interval: Duration,
    ) -> Result<()> {
        let mut next = Instant::now() + interval;
        loop {
            let deadline = watch.as_ref().and_then(OomWatch::deadline);
            let wake = deadline.map_or(next, |deadline| deadline.min(next));
            let ended = wait_for(init, watch.as_ref(), wake)?;
            if let Some(watch) = &mut watch {
                for _ in 0..watch.new_kills(Instant::now()) {
                    if !self.print("oom", None)? {
                        return Ok(());
                    }
                }
            }
            if ended {
                return Ok(());
            }
            if Instant::now() >= next {
                if !self.print_stats()? {
                    return Ok(());
                }
                // After a long delay, such as a suspend, do not make up for missed
                // lines.
                next = (next + interval).max(Instant::now());
            }
        }
    }

    /// Prints statistics. Returns whether standard output has a reader.
    fn print_stats(&self) -> Result<bool> {
        let intel_rdt = match (&self.resctrl, &self.state.resctrl_group) {
            (Some(resctrl), Some(group)) => intel_rdt::stats(resctrl, group, &self.state.id),
            _ => RdtStats::default(),
        };
        let data = Data {
            stats: self.cgroup.stats(),
            intel_rdt,
            network_interfaces: (),
        };
        self.print("stats", Some(data))
    }

    fn print(&self, kind: &'static str, data: Option<Data>) -> Result<bool> {
        let id = &self.state.id;
        let mut line =
            json::compact(&Event { kind, id, data }).context("write an event as JSON")?;
        line.push(b'\n');
        write_unless_closed(&line)
    }
}

/// Waits for an event of memory, for init's end, or until `wake`. Returns whether init
/// has ended.
fn wait_for(init: &OwnedFd, watch: Option<&OomWatch>, wake: Instant) -> Result<bool> {
    let mut fds = vec![PollFd::new(init, PollFlags::IN)];
    if let Some(watch) = watch {
        fds.push(PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN));
    }
    poll::wait_until(&mut fds, Some(wake)).context("wait for an event")?;
    Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty()))
}
