//! Reports `TaskOOM` to containerd when a cgroup's count of OOM kills has grown. Reads
//! the count when the kernel signals a change, at the deadline of an [`OomWatch`] (on v1, the
//! signal may come before the kill), and when init ends.

use std::time::Instant;

use anyhow::{Context, Result};
use nix::unistd::Pid;
use teu_cgroups::{Cgroup, OomWatch};

use super::Service;
use crate::poll::{EventFlags, Token};
use crate::proto::events::TaskOOM;
use crate::task::Task;

/// The token of the kernel's OOM notification, after those of init's streams.
pub(super) const OOM: Token = 5;

impl Service {
    /// Begins to watch the cgroup of a container that has been made, for statistics and
    /// OOM kills. Must come before the container's start, because processes may be killed
    /// at any time after it.
    pub(super) fn watch(&mut self, id: &str) {
        if let Err(err) = self.try_to_watch(id) {
            log::error!(
                "watch the control group of {id}: {}",
                teu_errno::chain(&err)
            );
        }
    }

    fn try_to_watch(&mut self, id: &str) -> Result<()> {
        let token = self.first_token(id, "");
        let task = self.tasks.get_mut(id).context("the task is gone")?;
        let pid = Pid::from_raw(i32::try_from(task.init.pid)?);
        let cgroup = task.cgroup.insert(Cgroup::of_process(pid)?);
        let watch = cgroup.watch_oom()?;
        if let (Some(watch), Some(token)) = (&watch, token) {
            self.poll.add(watch, token + OOM, EventFlags::IN)?;
        }
        task.oom = watch;
        Ok(())
    }

    /// Sends `TaskOOM` if the kernel has OOM-killed processes of the container since the last
    /// call.
    pub(super) fn tell_oom(&mut self, id: &str, now: Instant) {
        let watch = self.tasks.get_mut(id).and_then(|task| task.oom.as_mut());
        if watch.is_some_and(|watch| watch.new_kills(now) > 0) {
            let container_id = id.to_owned();
            self.tell(&TaskOOM { container_id });
        }
    }

    /// Reads the counts of the containers whose watch asked for it by now.
    pub(super) fn tell_due_ooms(&mut self, now: Instant) {
        let is_due = |task: &Task| {
            let deadline = task.oom.as_ref().and_then(OomWatch::deadline);
            deadline.is_some_and(|time| time <= now)
        };
        let due = self.tasks.iter().filter(|(_, task)| is_due(task));
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            self.tell_oom(&id, now);
        }
    }
}
