//! Ends of processes: assigns each to its task, and reports it in the right order: after the
//! start, and init's end after all others.

use std::time::Instant;

use prost::Message;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::jobs::{Job, Then};
use super::{Service, ended, time_of};
use crate::proto::events::TaskExit;
use crate::task::{Exit, Freeze, Removal, Stage};

impl Service {
    /// Handles the end of a child of this process.
    pub(crate) fn ended(&mut self, pid: u32, exit: Exit) {
        let owner = self.tasks.iter_mut().find_map(|(id, task)| {
            let mut processes = task.processes();
            let process =
                processes.find(|(_, process)| process.pid == pid && process.exit.is_none());
            process.map(|(_, process)| {
                process.exit = Some(exit);
                id.clone()
            })
        });
        match owner {
            Some(id) => self.settle(&id),
            None if self.jobs.values().any(Job::makes_a_process) => {
                self.unclaimed.push((pid, exit));
            }
            // A container's process that was reparented to the server.
            None => {}
        }
    }

    /// Sets the pid of a process that a job has made, and its end if it has ended already.
    pub(super) fn claim(&mut self, id: &str, exec: &str, pid: u32) {
        let exit = self.unclaimed.iter().position(|(ended, _)| *ended == pid);
        let exit = exit.map(|place| self.unclaimed.swap_remove(place).1);
        // The kernel may have used the pid again: if a child with this pid is alive, the noted
        // end was that of an earlier process.
        let exit = exit.filter(|_| !is_child(pid));
        if let Ok(process) = self.any_task(id).and_then(|task| task.process(exec)) {
            process.pid = pid;
            process.exit = exit;
        }
    }

    /// Does everything for a task that had to wait for a process or a job to end. Reports an
    /// end only after the start, and init's end after all others.
    pub(super) fn settle(&mut self, id: &str) {
        self.tell_ends_of_execs(id);
        self.settle_init(id);
        self.finish_deletion(id);
    }

    fn tell_ends_of_execs(&mut self, id: &str) {
        let execs = self.tasks.get(id).into_iter().flat_map(|task| &task.execs);
        let ended = execs.filter(|(_, exec)| exec.stage == Stage::Running && exec.exit.is_some());
        let names: Vec<String> = ended.map(|(name, _)| name.clone()).collect();
        for exec in names {
            self.tell_end(id, &exec);
        }
    }

    fn settle_init(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let may_be_told_of = matches!(task.init.stage, Stage::Created | Stage::Running);
        if task.init.exit.is_none() || !may_be_told_of {
            return;
        }
        if !task.has_own_pids && !task.ends_others {
            task.ends_others = true;
            let work = task.command.kill(Some("--all"), "KILL");
            return self.run(id, work, Then::OthersKilled);
        }
        let others_live = task.has_live_execs();
        self.give_up_loggers(id);
        if !others_live && !self.is_killing_others(id) {
            self.tell_end(id, "");
        }
    }

    /// Forgets a deleted task once its end is reported and no job needs it.
    fn finish_deletion(&mut self, id: &str) {
        let mut jobs = self.jobs.values();
        let has_jobs = jobs.any(|job| job.id == id && !matches!(job.then, Then::Logged));
        let is_over = self.tasks.get(id).is_some_and(|task| {
            let has_end = task.init.pid == 0 || task.init.stage == Stage::Stopped;
            task.removal == Removal::Done && has_end
        });
        if is_over && !has_jobs {
            self.deleted(id);
        }
    }

    fn is_killing_others(&self, id: &str) -> bool {
        let mut jobs = self.jobs.values();
        jobs.any(|job| job.id == id && matches!(job.then, Then::OthersKilled))
    }

    pub(super) fn tell_end(&mut self, id: &str, exec: &str) {
        let poll = &self.poll;
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let Ok(process) = task.process(exec) else {
            return;
        };
        process.stage = Stage::Stopped;
        let waiting = std::mem::take(&mut process.waiting);
        let (pid, exit) = (process.pid, process.exit);
        if let Some(streams) = &mut process.streams {
            streams.process_ended(poll);
        }
        if exec.is_empty() {
            task.freeze = Freeze::No;
            self.tell_oom(id, Instant::now());
            if let Some(task) = self.tasks.get_mut(id) {
                task.oom = None;
            }
        }
        self.tell(&TaskExit {
            container_id: id.to_owned(),
            id: if exec.is_empty() { id } else { exec }.to_owned(),
            pid,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: time_of(exit),
        });
        let answer = ended(exit).encode_to_vec();
        for caller in waiting {
            self.answer(caller, Ok(answer.clone()));
        }
    }
}

/// Whether a process is a child that has not been reaped.
fn is_child(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid.is_some_and(|pid| waitid(WaitId::Pid(pid), flags).is_ok())
}
