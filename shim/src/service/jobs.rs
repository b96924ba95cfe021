//! The jobs of tasks: gives each to the spawner, and reacts to its end by events, answers,
//! and further jobs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, Result};
use prost::Message;

use super::{Service, already_finished, deleted};
use crate::caller::Caller;
use crate::command::exec_name;
use crate::io::Streams;
use crate::job::{self, JobId, Work};
use crate::proto::events::{
    Event, TaskCreate, TaskDelete, TaskExecStarted, TaskPaused, TaskResumed, TaskStart,
};
use crate::proto::task::{CreateTaskResponse, DeleteResponse, StartResponse};
use crate::sys;
use crate::task::{Freeze, Removal, Stage, Task};
use crate::ttrpc::Status;

/// A job that the spawner runs.
#[derive(Debug)]
pub(super) struct Job {
    /// The id of the task.
    pub(super) id: String,
    pub(super) then: Then,
    /// The error that the job reported.
    why: Option<String>,
}

/// The reaction to the end of a job.
#[derive(Debug)]
pub(super) enum Then {
    Created(Caller, Box<TaskCreate>),
    Started(Caller),
    Restored(Caller),
    ExecStarted(Caller, String),
    Deleted,
    Unmounted,
    /// The remains of a container whose creation failed are removed.
    Undone(Caller, Status),
    /// The mounts of a container whose creation failed are removed.
    Forgotten(Caller, Status),
    Paused(Caller),
    Resumed(Caller),
    Killed(Caller),
    /// Another command of the runtime's.
    Done(Caller, &'static str),
    OthersKilled,
    Logged,
}

impl Job {
    /// Whether the job makes a process, which may end before its pid is known.
    pub(super) fn makes_a_process(&self) -> bool {
        matches!(
            self.then,
            Then::Created(..) | Then::Restored(_) | Then::ExecStarted(..)
        )
    }
}

impl Service {
    pub(super) fn tell(&mut self, event: &impl Event) {
        self.events.publish(&self.poll, event);
    }

    /// Starts a job for a task. `then` is the reaction to its end.
    pub(super) fn run(&mut self, id: &str, work: Work, then: Then) {
        self.run_with(id, work, null(), then);
    }

    /// Runs a job as [`Service::run`] does, with `stdin` as its standard input.
    pub(super) fn run_with(&mut self, id: &str, work: Work, stdin: Result<OwnedFd>, then: Then) {
        let fds = [stdin, null(), null()].into_iter().collect::<Result<_>>();
        let begun = fds.and_then(|fds| self.spawner.job(work, fds));
        self.await_end(id, begun, then);
    }

    /// Notes a job that was given to the spawner. If the spawner did not take the job,
    /// handles that as a failure of the job.
    pub(super) fn await_end(&mut self, id: &str, begun: Result<JobId>, then: Then) {
        let mut job = Job {
            id: id.to_owned(),
            then,
            why: None,
        };
        match begun {
            Ok(number) => {
                self.jobs.insert(number, job);
            }
            Err(err) => {
                job.why = Some(teu_errno::chain(&err));
                self.follow(job, 1);
            }
        }
    }

    /// Deletes a process if a call asked for that and its output has arrived.
    pub(super) fn continue_deletion(&mut self, id: &str, exec: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let Ok(process) = task.process(exec) else {
            return;
        };
        let is_drained = process.streams.as_ref().is_none_or(Streams::is_drained);
        // A container that was not started will have no end to wait for.
        let may_go = is_drained || process.stage != Stage::Stopped;
        if process.deletion.is_empty() || !may_go {
            return;
        }
        if exec.is_empty() {
            if task.removal == Removal::No {
                task.removal = Removal::Going;
                let work = task.command.work("delete", []);
                self.run(id, work, Then::Deleted);
            }
        } else if let Some(mut process) = task.execs.remove(exec) {
            self.forget_streams(id, exec);
            self.answer_waiting(&mut process);
        }
    }

    /// Handles an answer of the spawner.
    pub(crate) fn job_answer(&mut self, answer: job::Answer) {
        match answer {
            job::Answer::Failed(number, why) => {
                if let Some(job) = self.jobs.get_mut(&number) {
                    job.why = Some(why);
                }
            }
            job::Answer::Ended(number, status) => {
                if let Some(job) = self.jobs.remove(&number) {
                    self.stopping_loggers.retain(|logger| logger.job != number);
                    self.follow(job, status);
                }
                if !self.jobs.values().any(Job::makes_a_process) {
                    self.unclaimed = Vec::new();
                }
            }
        }
    }

    fn follow(&mut self, job: Job, status: u8) {
        let Job { id, then, why } = job;
        let failure = (status != 0).then(|| {
            why.or_else(|| self.last_error(&id)).unwrap_or_else(|| {
                format!("the runtime ended with status {status} without an error in its log")
            })
        });
        match then {
            Then::Created(caller, event) => self.created(caller, &id, *event, failure),
            Then::Started(caller) => self.started(caller, &id, failure, "start"),
            Then::Restored(caller) => {
                let failure = failure.or_else(|| self.claim_init(&id));
                self.started(caller, &id, failure, "restore");
            }
            Then::ExecStarted(caller, exec) => self.exec_started(caller, &id, &exec, failure),
            Then::Deleted => match failure {
                Some(why) if !why.contains("does not exist") => self.not_deleted(&id, &why),
                _ => self.unmount(&id, Then::Unmounted),
            },
            Then::Unmounted => {
                if let Some(why) = failure {
                    log::warn!("unmount the root filesystem of {id}: {why}");
                }
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.removal = Removal::Done;
                }
            }
            Then::Undone(caller, status) => {
                if let Some(why) = failure {
                    log::debug!("delete the remains of {id}: {why}");
                }
                self.unmount(&id, Then::Forgotten(caller, status));
            }
            Then::Forgotten(caller, status) => {
                if let Some(why) = failure {
                    log::warn!("unmount the root filesystem of {id}: {why}");
                }
                self.forget(&id);
                self.answer(caller, Err(status));
            }
            Then::Paused(caller) => {
                let freeze = match failure {
                    None => Freeze::Paused,
                    Some(_) => Freeze::No,
                };
                let container_id = id.clone();
                let event = &TaskPaused { container_id };
                self.frozen(caller, &id, freeze, "pause", failure, event);
            }
            Then::Resumed(caller) => {
                let freeze = match failure {
                    None => Freeze::No,
                    Some(_) => Freeze::Paused,
                };
                let container_id = id.clone();
                let event = &TaskResumed { container_id };
                self.frozen(caller, &id, freeze, "resume", failure, event);
            }
            Then::Killed(caller) => {
                let answer = failure.map_or(Ok(Vec::new()), |why| Err(not_killed(why)));
                self.answer(caller, answer);
            }
            Then::Done(caller, verb) => {
                let failure = failure.map(|why| runtime_failed(verb, &why));
                self.answer(caller, failure.map_or(Ok(Vec::new()), Err));
            }
            Then::OthersKilled => {
                if let Some(why) = failure {
                    log::warn!("kill the other processes of {id}: {why}");
                }
            }
            Then::Logged => {}
        }
        self.settle(&id);
    }

    fn last_error(&self, id: &str) -> Option<String> {
        self.tasks.get(id)?.command.last_error()
    }

    fn created(
        &mut self,
        caller: Caller,
        id: &str,
        mut event: TaskCreate,
        failure: Option<String>,
    ) {
        let failure = failure.or_else(|| self.claim_init(id));
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if let Some(why) = failure {
            // The runtime may have failed, or been killed, halfway.
            let work = task.command.work("delete", ["--force".to_owned()]);
            let status = runtime_failed("create", &why);
            return self.run(id, work, Then::Undone(caller, status));
        }
        task.init.stage = Stage::Created;
        event.pid = task.init.pid;
        let answer = CreateTaskResponse { pid: task.init.pid };
        self.tell(&event);
        self.answer(caller, Ok(answer.encode_to_vec()));
    }

    /// Finds the new init and takes its terminal. Returns the reason if that fails.
    fn claim_init(&mut self, id: &str) -> Option<String> {
        let task = self.tasks.get(id)?;
        let pid = match task.command.pid("init") {
            Ok(pid) => pid,
            Err(err) => return Some(teu_errno::chain(&err)),
        };
        self.claim(id, "", pid);
        self.watch(id);
        self.take_terminal(id, "")
    }

    fn take_terminal(&mut self, id: &str, exec: &str) -> Option<String> {
        let poll = &self.poll;
        let task = self.tasks.get_mut(id);
        let process = task.and_then(|task| task.process(exec).ok())?;
        let streams = process.streams.as_mut()?;
        let taken = streams.receive_terminal(poll, Instant::now());
        taken.err().map(|err| teu_errno::chain(&err))
    }

    fn started(&mut self, caller: Caller, id: &str, failure: Option<String>, verb: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if let Some(why) = failure {
            if task.checkpoint.is_empty() {
                task.init.stage = Stage::Created;
            } else {
                task.init.stage = Stage::Added;
                self.end_streams(id, "");
            }
            return self.answer(caller, Err(runtime_failed(verb, &why)));
        }
        task.init.stage = Stage::Running;
        let pid = task.init.pid;
        self.tell(&TaskStart {
            container_id: id.to_owned(),
            pid,
        });
        self.answer(caller, Ok(StartResponse { pid }.encode_to_vec()));
    }

    fn exec_started(&mut self, caller: Caller, id: &str, exec: &str, failure: Option<String>) {
        let task = match self.task(id) {
            Ok(task) => task,
            Err(status) => return self.answer(caller, Err(status)),
        };
        let pid = match failure {
            Some(why) => Err(why),
            None => {
                let pid = task.command.pid(&exec_name(exec));
                pid.map_err(|err| teu_errno::chain(&err))
            }
        };
        let failure = match pid {
            Ok(pid) => {
                self.claim(id, exec, pid);
                self.take_terminal(id, exec)
            }
            Err(why) => Some(why),
        };
        let Ok(process) = self.task(id).and_then(|task| task.process(exec)) else {
            return;
        };
        if let Some(why) = failure {
            self.exec_failed(id, exec);
            return self.answer(caller, Err(runtime_failed("exec", &why)));
        }
        process.spec = Vec::new();
        process.stage = Stage::Running;
        let pid = process.pid;
        self.tell(&TaskExecStarted {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            pid,
        });
        self.answer(caller, Ok(StartResponse { pid }.encode_to_vec()));
    }

    /// Closes the streams of a process that did not start, and ends its logger. The next
    /// attempt makes new ones.
    fn end_streams(&mut self, id: &str, exec: &str) {
        let task = self.tasks.get_mut(id);
        let Some(process) = task.and_then(|task| task.process(exec).ok()) else {
            return;
        };
        process.streams = None;
        let logger = process.logger.take();
        self.forget_streams(id, exec);
        self.stop_logger(logger);
    }

    /// Resets an exec so that it may be started again, and answers the calls that wait for
    /// its end.
    fn exec_failed(&mut self, id: &str, exec: &str) {
        let task = self.tasks.get_mut(id);
        let Some(process) = task.and_then(|task| task.process(exec).ok()) else {
            return;
        };
        // The process runs if only its terminal was missing.
        if process.pid != 0
            && process.exit.is_none()
            && let Err(err) = sys::kill(process.pid, libc::SIGKILL.cast_unsigned())
        {
            log::warn!("kill {exec} of {id}: {}", teu_errno::text(&err.into()));
        }
        process.pid = 0;
        process.exit = None;
        process.stage = Stage::Added;
        process.has_failed = true;
        let waiting = std::mem::take(&mut process.waiting);
        self.end_streams(id, exec);
        for waiter in waiting {
            self.answer(waiter, Ok(super::ended(None).encode_to_vec()));
        }
    }

    fn frozen(
        &mut self,
        caller: Caller,
        id: &str,
        freeze: Freeze,
        verb: &str,
        failure: Option<String>,
        event: &impl Event,
    ) {
        if let Some(task) = self.tasks.get_mut(id)
            && !task.init.has_ended()
        {
            task.freeze = freeze;
        }
        match failure {
            None => {
                self.tell(event);
                self.answer(caller, Ok(Vec::new()));
            }
            Some(why) => self.answer(caller, Err(runtime_failed(verb, &why))),
        }
    }

    /// Unmounts the root filesystem if the shim mounted it.
    fn unmount(&mut self, id: &str, then: Then) {
        let rootfs = self.tasks.get(id).and_then(Task::rootfs);
        match rootfs {
            Some(rootfs) => self.run(id, Work::Unmount(rootfs.directory), then),
            None => {
                let id = id.to_owned();
                let why = None;
                self.follow(Job { id, then, why }, 0);
            }
        }
    }

    /// Resets a task whose deletion failed, so that it may be tried again.
    fn not_deleted(&mut self, id: &str, why: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        task.removal = Removal::No;
        for caller in std::mem::take(&mut task.init.deletion) {
            self.answer(caller, Err(runtime_failed("delete", why)));
        }
    }

    /// Reports the deletion of a container and forgets its task.
    pub(super) fn deleted(&mut self, id: &str) {
        // Callers that wait for a logger get an answer while the task is known.
        self.give_up_loggers(id);
        let Some(task) = self.tasks.get(id) else {
            return;
        };
        let DeleteResponse {
            pid,
            exit_status,
            exited_at,
        } = deleted(&task.init);
        self.tell(&TaskDelete {
            container_id: id.to_owned(),
            pid,
            exit_status,
            exited_at,
            id: String::new(),
        });
        self.forget(id);
    }
}

/// The error of a runtime's command, in the words of containerd's own shim.
fn runtime_failed(verb: &str, why: &str) -> Status {
    Status::unknown(format!("OCI runtime {verb} failed: {why}"))
}

/// The error of a failed kill. If the runtime's reason means that the process has ended,
/// says so.
fn not_killed(why: String) -> Status {
    let lower = why.to_lowercase();
    let is_over = [
        "process already finished",
        "container not running",
        "no such process",
    ];
    if is_over.iter().any(|words| lower.contains(words)) {
        return already_finished();
    }
    match lower.contains("does not exist") {
        true => Status::not_found("no such container: not found"),
        false => Status::unknown(why),
    }
}

fn null() -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    Ok(null.context("open /dev/null")?.into())
}
