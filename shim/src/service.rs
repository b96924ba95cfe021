//! The task service: what callers ask of containers and their processes, and what is
//! told of them.
//!
//! A call that takes the runtime is answered when its job has ended. Until then others
//! are served, also for the same container: the runtime has a lock of its own.

mod jobs;
mod oom;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use prost::Message;
use rustix::fs::{Gid, Uid};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::caller::Caller;
use crate::command::Command;
use crate::config::Config;
use crate::io::{self, Stdio, Streams};
use crate::job::JobId;
use crate::metrics;
use crate::options::Options;
use crate::poll::{Poll, Token};
use crate::proto::events::{TaskExecAdded, TaskExit};
use crate::proto::options::ProcessDetails;
use crate::proto::options::runc::CheckpointOptions;
use crate::proto::task::*;
use crate::proto::types::{ProcessInfo, Status as TaskStatus};
use crate::proto::{Any, Timestamp};
use crate::publisher::Publisher;
use crate::spawner::Spawner;
use crate::sys;
use crate::task::{Exit, Freeze, Logger, Process, Removal, Stage, Task};
use crate::ttrpc::{self, Request, Status};
use jobs::{Deferred, Job, Then};

/// Both have the same messages.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The answer to a call: a message, or nothing yet.
type Answer = Result<Option<Vec<u8>>, Status>;

/// Tokens below are the server's own; each process has some of those above.
pub(crate) const FIRST_STREAM: Token = 1 << 40;
/// A power of two.
const TOKENS_OF_A_PROCESS: Token = 8;

/// All tasks of the server.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) poll: Poll,
    pub(crate) spawner: Spawner,
    pub(crate) events: Publisher,
    namespace: String,
    /// Where sockets for terminals are made.
    sockets: PathBuf,
    tasks: BTreeMap<String, Task>,
    jobs: BTreeMap<JobId, Job>,
    /// Whose streams have these tokens: task and exec.
    streams: BTreeMap<Token, (String, String)>,
    next_token: Token,
    /// What waits for a logger, by the first token of its streams.
    deferred: BTreeMap<Token, Deferred>,
    stopping_loggers: Vec<Logger>,
    /// Ends of processes that no task knows yet: the job that makes them goes on.
    unclaimed: Vec<(u32, Exit)>,
    answers: Vec<(Caller, Result<Vec<u8>, Status>)>,
    /// Nobody needs the server any more.
    pub(crate) is_over: bool,
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
            is_over: false,
        }
    }

    /// The answers that are due.
    pub(crate) fn answers(&mut self) -> Vec<(Caller, Result<Vec<u8>, Status>)> {
        std::mem::take(&mut self.answers)
    }

    fn answer(&mut self, caller: Caller, answer: Result<Vec<u8>, Status>) {
        self.answers.push((caller, answer));
    }

    /// Serves a call: now, or later.
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

    /// A task that callers may ask of.
    fn task(&mut self, id: &str) -> Result<&mut Task, Status> {
        let task = self.tasks.get_mut(id);
        task.filter(|task| task.init.stage != Stage::Creating)
            .ok_or_else(no_container)
    }

    /// Also one that is being created.
    fn any_task(&mut self, id: &str) -> Result<&mut Task, Status> {
        self.tasks.get_mut(id).ok_or_else(no_container)
    }

    fn create(&mut self, caller: Caller, request: CreateTaskRequest) -> Answer {
        let id = &request.id;
        if id.starts_with('-') {
            // It would be one of the runtime's, which looks at all other names.
            return Err(Status::invalid_argument(format!(
                "identifier {id:?} is an option: invalid argument"
            )));
        }
        if self.tasks.contains_key(id) {
            return Err(Status::already_exists(format!("task {id}: already exists")));
        }
        let bundle = Path::new(&request.bundle);
        let config = Config::read(bundle).map_err(failed)?;
        let mut options = Options::read(request.options.as_ref()).map_err(failed)?;
        options.systemd_cgroup |= config.names_systemd_cgroup();
        options.save(bundle).map_err(failed)?;
        self.spawner.note_in(bundle).map_err(failed)?;
        let owner = match (options.io_uid, options.io_gid) {
            (0, 0) => config.root_user(),
            given => given,
        };
        let stdio = Stdio {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let mut init = Process::new(stdio, Vec::new());
        if request.checkpoint.is_empty() {
            init.stage = Stage::Creating;
        }
        let task = Task {
            bundle: bundle.to_owned(),
            command: Command::new(&options, &self.namespace, bundle, id),
            owner,
            mounts: request.rootfs.clone(),
            removal: Removal::No,
            has_own_pids: config.has_own_pids(),
            checkpoint: request.checkpoint.clone(),
            criu_work_path: match options.criu_work_path.as_str() {
                "" => jobs::criu_work_path(bundle),
                given => given.into(),
            },
            init,
            execs: BTreeMap::new(),
            freeze: Freeze::No,
            cgroup: None,
            oom: None,
            ends_others: false,
        };
        self.tasks.insert(id.clone(), task);
        self.is_over = false;
        let begun = self.begin_creation(caller, &request);
        if begun.is_err() {
            self.forget(&request.id);
        }
        begun.map(|()| None)
    }

    fn start(&mut self, caller: Caller, request: &StartRequest) -> Answer {
        let (id, exec) = (&request.id, &request.exec_id);
        let task = self.task(id)?;
        let (freeze, init_has_ended) = (task.freeze, task.init.has_ended());
        let process = task.process(exec)?;
        if !matches!(process.stage, Stage::Added | Stage::Created) {
            let word = process.word(freeze);
            return Err(Status::unknown(format!("cannot start a {word} process")));
        }
        if !exec.is_empty() && init_has_ended {
            return Err(Status::failed_precondition(format!(
                "container {id} init process is not running: failed precondition"
            )));
        }
        let before = process.stage;
        let begun = match exec.is_empty() {
            true => self.begin_start(caller, id),
            false => self.begin_exec(caller, id, exec),
        };
        if begun.is_err() {
            self.task(id)?.process(exec)?.stage = before;
        }
        begun.map(|()| None)
    }

    fn exec(&mut self, request: ExecProcessRequest) -> Answer {
        let exec = &request.exec_id;
        let task = self.task(&request.id)?;
        // That of its pid file is made of it.
        if exec.is_empty() || exec.contains(['/', '\0']) {
            return Err(Status::invalid_argument(format!(
                "exec id {exec:?} is no name of a file: invalid argument"
            )));
        }
        if task.execs.contains_key(exec) {
            return Err(Status::already_exists(format!("id {exec}: already exists")));
        }
        if let word @ ("paused" | "stopped") = task.init.word(task.freeze) {
            return Err(Status::unknown(format!("cannot exec in a {word} state")));
        }
        let spec = request.spec.map(|spec| spec.value).unwrap_or_default();
        let spec = with_terminal(&spec, request.terminal).map_err(failed)?;
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        task.execs.insert(exec.clone(), Process::new(stdio, spec));
        self.tell(&TaskExecAdded {
            container_id: request.id.clone(),
            exec_id: exec.clone(),
        });
        done()
    }

    fn delete(&mut self, caller: Caller, request: &DeleteRequest) -> Answer {
        let task = self.task(&request.id)?;
        let freeze = task.freeze;
        let process = task.process(&request.exec_id)?;
        if matches!(process.stage, Stage::Starting | Stage::Running) {
            let word = process.word(freeze);
            return Err(Status::unknown(format!("cannot delete a {word} process")));
        }
        process.deletion.push(caller);
        if process.deletion.len() > 1 {
            // All are answered at once.
            return Ok(None);
        }
        if let Some(streams) = &mut process.streams {
            streams.give_up_at(Instant::now() + jobs::DRAIN_LIMIT);
        }
        self.continue_deletion(&request.id, &request.exec_id);
        Ok(None)
    }

    fn state(&mut self, request: &StateRequest) -> Answer {
        let task = self.task(&request.id)?;
        let bundle = task.bundle.to_string_lossy().into_owned();
        let freeze = task.freeze;
        let process = task.process(&request.exec_id)?;
        let is_exec = !request.exec_id.is_empty();
        let status = match (process.stage, freeze) {
            (Stage::Stopped, _) => TaskStatus::Stopped,
            // An exec that does not run yet is what its container is, as in Go's shim.
            (stage, Freeze::Pausing) if is_exec || stage == Stage::Running => TaskStatus::Pausing,
            (stage, Freeze::Paused) if is_exec || stage == Stage::Running => TaskStatus::Paused,
            (Stage::Running, _) => TaskStatus::Running,
            (_, _) => TaskStatus::Created,
        };
        let exit = process.exit.filter(|_| process.stage == Stage::Stopped);
        reply(&StateResponse {
            id: match request.exec_id.as_str() {
                "" => request.id.clone(),
                exec => exec.to_owned(),
            },
            bundle,
            pid: process.pid,
            status: status as i32,
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: time_of(exit),
            // Go's has none either: the name is the id.
            exec_id: String::new(),
        })
    }

    fn pids(&mut self, request: &PidsRequest) -> Answer {
        let task = self.task(&request.id)?;
        let pids = match &task.cgroup {
            Some(cgroup) => cgroup.processes().map_err(|err| failed(err.into()))?,
            None => Vec::new(),
        };
        let of_execs: BTreeMap<u32, &String> = task
            .execs
            .iter()
            .map(|(name, exec)| (exec.pid, name))
            .collect();
        let pids = pids.into_iter().filter_map(|pid| u32::try_from(pid).ok());
        let processes = pids.map(|pid| ProcessInfo {
            pid,
            info: of_execs.get(&pid).map(|name| {
                Any::new(&ProcessDetails {
                    exec_id: (*name).clone(),
                })
            }),
        });
        reply(&PidsResponse {
            processes: processes.collect(),
        })
    }

    fn pause(&mut self, caller: Caller, request: &PauseRequest) -> Answer {
        let task = self.task(&request.id)?;
        match task.init.word(task.freeze) {
            "running" => {}
            "created" => return Err(Status::unknown("cannot pause task in created state")),
            word => return Err(Status::unknown(format!("cannot pause a {word} container"))),
        }
        task.freeze = Freeze::Pausing;
        let work = task.command.work("pause", []);
        self.run(&request.id, work, Then::Paused(caller));
        Ok(None)
    }

    fn resume(&mut self, caller: Caller, request: &ResumeRequest) -> Answer {
        let task = self.task(&request.id)?;
        match task.init.word(task.freeze) {
            "paused" => {}
            "created" => return Err(Status::unknown("cannot resume task in created state")),
            "stopped" => return Err(Status::unknown("cannot resume a stopped container")),
            word => return Err(Status::unknown(format!("cannot resume a {word} process"))),
        }
        let work = task.command.work("resume", []);
        self.run(&request.id, work, Then::Resumed(caller));
        Ok(None)
    }

    fn checkpoint(&mut self, caller: Caller, request: &CheckpointTaskRequest) -> Answer {
        let task = self.task(&request.id)?;
        match task.init.word(task.freeze) {
            "running" | "paused" => {}
            "created" => {
                return Err(Status::unknown("cannot checkpoint a task in created state"));
            }
            word => {
                return Err(Status::unknown(format!(
                    "cannot checkpoint a {word} container"
                )));
            }
        }
        let options = request.options.as_ref();
        let options = match options.map(|any| (any, any.decode_as::<CheckpointOptions>())) {
            None => CheckpointOptions::default(),
            Some((_, Some(options))) => options.map_err(|err| failed(err.into()))?,
            Some((any, None)) => {
                let kind = &any.type_url;
                return Err(Status::unknown(format!("type with url {kind}: not found")));
            }
        };
        let flags = jobs::checkpoint_flags(&request.path, &task.bundle, &options);
        let work = task.command.work("checkpoint", flags);
        self.run(&request.id, work, Then::Done(caller, "checkpoint"));
        Ok(None)
    }

    fn kill(&mut self, caller: Caller, request: &KillRequest) -> Answer {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        let is_init = request.exec_id.is_empty();
        if process.has_ended() && !(is_init && request.all) {
            return Err(already_finished());
        }
        if is_init {
            let all = request.all.then_some("--all");
            let work = task.command.kill(all, &request.signal.to_string());
            self.run(&request.id, work, Then::Killed(caller));
            return Ok(None);
        }
        if process.pid == 0 {
            return Err(Status::failed_precondition(
                "process not created: failed precondition",
            ));
        }
        // Not reaped, so its pid is still its own.
        match sys::kill(process.pid, request.signal) {
            Ok(()) => done(),
            Err(rustix::io::Errno::SRCH) => Err(already_finished()),
            Err(err) => Err(failed(err.into())),
        }
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        // One without a terminal has no size; only of an exec that is a mistake.
        if process.stage == Stage::Stopped && !request.exec_id.is_empty() {
            return Err(Status::unknown("cannot resize a stopped container"));
        }
        let size = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
        if let Some(streams) = &process.streams {
            let resized = streams.resize(size(request.width), size(request.height));
            resized.map_err(|err| Status::unknown(teu_errno::text(&err.into())))?;
        }
        done()
    }

    fn close_io(&mut self, request: &CloseIORequest) -> Answer {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        if request.stdin
            && let Some(streams) = &mut process.streams
        {
            streams.close_stdin();
        }
        done()
    }

    fn update(&mut self, caller: Caller, request: &UpdateTaskRequest) -> Answer {
        let task = self.task(&request.id)?;
        if task.init.has_ended() {
            return Err(Status::unknown("cannot update a stopped container"));
        }
        let work = task.command.work("update", ["--resources=-".to_owned()]);
        let resources = request.resources.as_ref();
        let resources = resources.map_or(&b"{}"[..], |resources| &resources.value);
        let stdin = jobs::memory_file(resources);
        self.run_with(&request.id, work, stdin, Then::Done(caller, "update"));
        Ok(None)
    }

    fn wait(&mut self, caller: Caller, request: &WaitRequest) -> Answer {
        let process = self.task(&request.id)?.process(&request.exec_id)?;
        if process.stage == Stage::Stopped || process.has_failed {
            return reply(&ended(process.exit));
        }
        process.waiting.push(caller);
        Ok(None)
    }

    /// Nobody is left to be told of an end.
    pub(crate) fn forget_waiting(&mut self, is_gone: impl Fn(&Caller) -> bool) {
        for task in self.tasks.values_mut() {
            for (_, process) in task.processes() {
                process.waiting.retain(|caller| !is_gone(caller));
            }
        }
    }

    fn stats(&mut self, request: &StatsRequest) -> Answer {
        let task = self.task(&request.id)?;
        let Some(cgroup) = &task.cgroup else {
            return Err(Status::not_found("cgroup does not exist"));
        };
        reply(&StatsResponse {
            stats: Some(metrics::of(cgroup)),
        })
    }

    fn connect(&mut self, request: &ConnectRequest) -> Answer {
        let task = self.tasks.get(&request.id);
        reply(&ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.map_or(0, |task| task.init.pid),
            version: String::new(),
        })
    }

    fn shut_down(&mut self, _: &ShutdownRequest) -> Answer {
        self.is_over |= self.tasks.is_empty();
        done()
    }

    /// A child of this process has ended.
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
            // An orphan of a container.
            None => {}
        }
    }

    /// Gives a process the pid it turned out to have, and its end if that has come.
    fn claim(&mut self, id: &str, exec: &str, pid: u32) {
        let exit = self.unclaimed.iter().position(|(ended, _)| *ended == pid);
        let exit = exit.map(|place| self.unclaimed.swap_remove(place).1);
        // That of an earlier process, if there is one of this pid.
        let exit = exit.filter(|_| !is_child(pid));
        if let Ok(process) = self.any_task(id).and_then(|task| task.process(exec)) {
            process.pid = pid;
            process.exit = exit;
        }
    }

    /// Does for a task what could not be done before something ended: a process, or a
    /// job. Of ends it tells none before its start, and init's last.
    fn settle(&mut self, id: &str) {
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

    /// Forgets a deleted task once its end is told of and no job needs it.
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

    fn tell_end(&mut self, id: &str, exec: &str) {
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

    /// Copies between the client and the process whose token this is.
    pub(crate) fn stream_ready(&mut self, token: Token) {
        let base = token - token % TOKENS_OF_A_PROCESS;
        let Some((id, exec)) = self.streams.get(&base).cloned() else {
            return;
        };
        match token - base {
            jobs::LOGGER => return self.logger_ready(base, &id),
            oom::OOM => return self.tell_oom(&id, Instant::now()),
            _ => {}
        }
        let poll = &self.poll;
        let process = self
            .tasks
            .get_mut(&id)
            .and_then(|task| task.process(&exec).ok());
        if let Some(streams) = process.and_then(|process| process.streams.as_mut()) {
            streams.ready(poll, token);
        }
        self.continue_deletion(&id, &exec);
    }

    fn open_streams(&mut self, id: &str, exec: &str) -> Result<io::ChildEnds, Status> {
        let token = self.next_token;
        let (poll, namespace, sockets) = (&self.poll, &self.namespace, &self.sockets);
        let task = self.tasks.get_mut(id).ok_or_else(no_container)?;
        let (user, group) = task.owner;
        let process = task.process(exec)?;
        let whose = io::Process {
            namespace,
            id: if exec.is_empty() { id } else { exec },
            owner: (Uid::from_raw(user), Gid::from_raw(group)),
            sockets,
        };
        let opened = Streams::new(poll, token, &process.stdio, &whose, Instant::now());
        let (streams, ends) = opened
            .context("failed to create init process I/O")
            .map_err(failed)?;
        process.streams = Some(streams);
        self.next_token += TOKENS_OF_A_PROCESS;
        self.streams.insert(token, (id.to_owned(), exec.to_owned()));
        Ok(ends)
    }

    /// The token of a process's first stream, the latest it had.
    fn first_token(&self, id: &str, exec: &str) -> Option<Token> {
        let mut tokens = self.streams.iter().rev();
        let found = tokens.find(|(_, (task, name))| task == id && name == exec);
        found.map(|(token, _)| *token)
    }

    /// When there is something to do without an event.
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
        all.chain(self.events.deadline()).min()
    }

    /// Does what it is time for.
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

    /// Nothing is left of the task here.
    fn forget(&mut self, id: &str) {
        let Some(mut task) = self.tasks.remove(id) else {
            return;
        };
        self.streams.retain(|_, (task, _)| task != id);
        for (_, process) in task.processes() {
            self.let_go(process);
        }
    }

    /// Answers all who wait for a process that is no longer known.
    fn let_go(&mut self, process: &mut Process) {
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

    /// Its streams have no tokens any more.
    fn forget_streams(&mut self, id: &str, exec: &str) {
        self.streams
            .retain(|_, (task, name)| task != id || name != exec);
    }
}

/// Whether it has not been reaped.
fn is_child(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    pid.is_some_and(|pid| waitid(WaitId::Pid(pid), flags).is_ok())
}

/// What it is at: for people, in the log.
impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (tasks, jobs) = (self.tasks.keys(), self.jobs.len());
        let tasks: Vec<&str> = tasks.map(String::as_str).collect();
        write!(f, "tasks {tasks:?}, {jobs} jobs of theirs at work")
    }
}

/// The answer of a process's end; of one that could not be started it has no time.
fn ended(exit: Option<Exit>) -> WaitResponse {
    WaitResponse {
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: time_of(exit),
    }
}

/// The answer to its deletion.
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

/// An answer without content.
fn done() -> Answer {
    Ok(Some(Vec::new()))
}

fn failed(err: anyhow::Error) -> Status {
    Status::unknown(teu_errno::chain(&err))
}

// These are containerd's own shim's, with what Go adds to tell one kind by its words.

fn no_container() -> Status {
    Status::not_found("container not created: not found")
}

fn already_finished() -> Status {
    Status::not_found("process already finished: not found")
}

/// What a caller is told of the time of an end.
fn time_of(exit: Option<Exit>) -> Option<Timestamp> {
    Some(exit.map_or(Timestamp::NEVER, |exit| exit.at))
}

/// The process of an exec, with a terminal if the call says so.
fn with_terminal(spec: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let spec = serde_json::from_slice(spec).context("read the process")?;
    let mut spec: serde_json::Map<String, serde_json::Value> = spec;
    spec.insert("terminal".to_owned(), terminal.into());
    Ok(serde_json::to_vec(&spec)?)
}
