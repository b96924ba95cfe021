//! The task service: handles calls about containers and their processes, and reports
//! events.
//!
//! A call that needs the runtime is answered when its job has ended. Other calls are served
//! meanwhile, also for the same container, because the runtime locks its state.
//!
//! Below: `calls` has a function for each call, `processes` starts the jobs that make
//! processes, `jobs` handles the ends of jobs, `ends` those of processes; `streams`,
//! `loggers` and `oom` keep what belongs to a process or a task.

mod calls;
mod ends;
mod jobs;
mod loggers;
mod oom;
mod processes;
mod streams;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;

use crate::caller::Caller;
use crate::job::JobId;
use crate::poll::{Poll, Token};
use crate::proto::Timestamp;
use crate::proto::task::{DeleteResponse, WaitResponse};
use crate::publisher::Publisher;
use crate::spawner::Spawner;
use crate::task::{Exit, Logger, Process, Stage, Task};
use crate::ttrpc::{self, Request, Status};
use jobs::Job;
use loggers::Deferred;

/// The names of the service. Both have the same messages.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The time limit for sending waiting events after the server was told to end; containerd's
/// shim has the same.
pub(crate) const LAST_EVENTS: Duration = Duration::from_secs(5);

/// The answer to a call: a message, or nothing if the answer follows later.
type Answer = Result<Option<Vec<u8>>, Status>;

/// The first token of streams. Lower tokens belong to `server.rs`. Each process has
/// [`TOKENS_OF_A_PROCESS`] of them.
pub(crate) const FIRST_STREAM: Token = 1 << 40;
/// The number of tokens of a process; a power of two.
const TOKENS_OF_A_PROCESS: Token = 8;

/// All tasks of the server.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) poll: Poll,
    pub(crate) spawner: Spawner,
    pub(crate) events: Publisher,
    namespace: String,
    /// The directory for the sockets of terminals.
    sockets: PathBuf,
    tasks: BTreeMap<String, Task>,
    jobs: BTreeMap<JobId, Job>,
    /// The task and exec that the streams belong to, by the first token of the streams.
    streams: BTreeMap<Token, (String, String)>,
    next_token: Token,
    /// Jobs that wait for a logger, by the first token of its streams.
    deferred: BTreeMap<Token, Deferred>,
    stopping_loggers: Vec<Logger>,
    /// Ends of processes that no task knows yet, because the job that makes the process is
    /// still running.
    unclaimed: Vec<(u32, Exit)>,
    answers: Vec<(Caller, Result<Vec<u8>, Status>)>,
    /// The latest time at which the server ends. Set when a client calls Shutdown and there is
    /// no task; cleared when a task is created.
    pub(crate) end_at: Option<Instant>,
}

impl Service {
    pub(crate) fn new(
        poll: Poll,
        spawner: Spawner,
        events: Publisher,
        namespace: &str,
        sockets: &Path,
    ) -> Service {
        Service {
            poll,
            spawner,
            events,
            namespace: namespace.to_owned(),
            sockets: sockets.to_owned(),
            tasks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_token: FIRST_STREAM,
            deferred: BTreeMap::new(),
            stopping_loggers: Vec::new(),
            unclaimed: Vec::new(),
            answers: Vec::new(),
            end_at: None,
        }
    }

    /// Takes the answers that are to be sent.
    pub(crate) fn answers(&mut self) -> Vec<(Caller, Result<Vec<u8>, Status>)> {
        std::mem::take(&mut self.answers)
    }

    fn answer(&mut self, caller: Caller, answer: Result<Vec<u8>, Status>) {
        self.answers.push((caller, answer));
    }

    /// Handles a call. Its answer may follow later.
    pub(crate) fn call(&mut self, caller: Caller, request: &Request) {
        match self.dispatch(caller, request) {
            Ok(Some(answer)) => self.answer(caller, Ok(answer)),
            Ok(None) => {}
            Err(status) => self.answer(caller, Err(status)),
        }
    }

    fn dispatch(&mut self, caller: Caller, request: &Request) -> Answer {
        if !SERVICES.contains(&request.service.as_str()) {
            let service = &request.service;
            return Err(Status::unimplemented(format!("service {service}")));
        }
        let payload = request.payload.as_slice();
        match request.method.as_str() {
            "State" => self.state(&ttrpc::decode(payload)?),
            "Create" => self.create(caller, ttrpc::decode(payload)?),
            "Start" => self.start(caller, &ttrpc::decode(payload)?),
            "Delete" => self.delete(caller, &ttrpc::decode(payload)?),
            "Pids" => self.pids(&ttrpc::decode(payload)?),
            "Pause" => self.pause(caller, &ttrpc::decode(payload)?),
            "Resume" => self.resume(caller, &ttrpc::decode(payload)?),
            "Checkpoint" => self.checkpoint(caller, &ttrpc::decode(payload)?),
            "Kill" => self.kill(caller, &ttrpc::decode(payload)?),
            "Exec" => self.exec(ttrpc::decode(payload)?),
            "ResizePty" => self.resize(&ttrpc::decode(payload)?),
            "CloseIO" => self.close_io(&ttrpc::decode(payload)?),
            "Update" => self.update(caller, &ttrpc::decode(payload)?),
            "Wait" => self.wait(caller, &ttrpc::decode(payload)?),
            "Stats" => self.stats(&ttrpc::decode(payload)?),
            "Connect" => self.connect(&ttrpc::decode(payload)?),
            "Shutdown" => self.shut_down(&ttrpc::decode(payload)?),
            other => Err(Status::unimplemented(format!("method {other}"))),
        }
    }

    /// Finds a task that callers may see.
    fn task(&mut self, id: &str) -> Result<&mut Task, Status> {
        let task = self.tasks.get_mut(id);
        task.filter(|task| task.init.stage != Stage::Creating)
            .ok_or_else(no_container)
    }

    /// Finds a task, even if it is being created.
    fn any_task(&mut self, id: &str) -> Result<&mut Task, Status> {
        self.tasks.get_mut(id).ok_or_else(no_container)
    }

    /// Removes callers that have disconnected from those that wait for an end.
    pub(crate) fn forget_waiting(&mut self, is_gone: impl Fn(&Caller) -> bool) {
        for task in self.tasks.values_mut() {
            for (_, process) in task.processes() {
                process.waiting.retain(|caller| !is_gone(caller));
            }
        }
    }

    /// The time at which [`Service::tick`] must be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let processes = self.tasks.values().flat_map(|task| {
            let all = std::iter::once(&task.init).chain(task.execs.values());
            all.filter_map(|process| process.streams.as_ref()?.deadline())
        });
        let loggers = self.stopping_loggers.iter();
        let loggers = loggers.filter_map(|logger| logger.kill_at);
        let ooms = self.tasks.values();
        let ooms = ooms.filter_map(|task| task.oom.as_ref()?.deadline());
        let deferred = self.deferred.values().map(|deferred| deferred.give_up_at);
        let all = processes.chain(loggers).chain(ooms).chain(deferred);
        all.chain(self.events.deadline()).chain(self.end_at).min()
    }

    /// Handles everything of which the time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.events.tick(&self.poll, now);
        self.kill_loggers(now);
        self.give_up_late_loggers(now);
        let mut drained = Vec::new();
        for (id, task) in &mut self.tasks {
            for (exec, process) in task.processes() {
                if let Some(streams) = &mut process.streams
                    && streams.deadline().is_some_and(|time| time <= now)
                {
                    streams.tick(&self.poll, now);
                    drained.push((id.clone(), exec.to_owned()));
                }
            }
        }
        for (id, exec) in drained {
            self.continue_deletion(&id, &exec);
        }
        self.tell_due_ooms(now);
    }

    /// Removes a task and answers the calls that wait for it.
    fn forget(&mut self, id: &str) {
        let Some(mut task) = self.tasks.remove(id) else {
            return;
        };
        self.streams.retain(|_, (task, _)| task != id);
        for (_, process) in task.processes() {
            self.answer_waiting(process);
        }
    }

    /// Answers all calls that wait for a process that is removed.
    fn answer_waiting(&mut self, process: &mut Process) {
        self.stop_logger(process.logger.take());
        let end = ended(process.exit).encode_to_vec();
        for caller in process.waiting.drain(..) {
            self.answer(caller, Ok(end.clone()));
        }
        let deletion = deleted(process).encode_to_vec();
        for caller in process.deletion.drain(..) {
            self.answer(caller, Ok(deletion.clone()));
        }
    }
}

/// The state of the service, for people who read the log.
impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tasks, jobs) = (self.tasks.keys(), self.jobs.len());
        let tasks: Vec<&str> = tasks.map(String::as_str).collect();
        write!(f, "tasks {tasks:?}, {jobs} running jobs")
    }
}

/// The answer to `Wait`. For a process that could not be started it has no time.
fn ended(exit: Option<Exit>) -> WaitResponse {
    WaitResponse {
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: time_of(exit),
    }
}

/// The answer to `Delete`.
fn deleted(process: &Process) -> DeleteResponse {
    DeleteResponse {
        pid: process.pid,
        exit_status: process.exit.map_or(0, |exit| exit.status),
        exited_at: time_of(process.exit),
    }
}

fn reply(message: &impl Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

/// An empty answer.
fn done() -> Answer {
    Ok(Some(Vec::new()))
}

fn failed(err: anyhow::Error) -> Status {
    Status::unknown(teu_errno::chain(&err))
}

// The texts of containerd's own shim. Go programs recognise the kind of an error by them.

fn no_container() -> Status {
    Status::not_found("container not created: not found")
}

fn already_finished() -> Status {
    Status::not_found("process already finished: not found")
}

/// The time of an end, as callers get it.
fn time_of(exit: Option<Exit>) -> Option<Timestamp> {
    Some(exit.map_or(Timestamp::NEVER, |exit| exit.at))
}
