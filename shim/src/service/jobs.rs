//! Jobs: gives the spawner the work that calls need, and acts on the end of each job.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{Service, already_finished, deleted, failed};
use crate::caller::Caller;
use crate::command::flag;
use crate::io::{ChildEnds, Readiness, Streams};
use crate::job::{self, JobId, Work};
use crate::poll::{EventFlags, Token};
use crate::proto::events::{
    Event, TaskCreate, TaskDelete, TaskExecStarted, TaskIO, TaskPaused, TaskResumed, TaskStart,
};
use crate::proto::options::runc::CheckpointOptions;
use crate::proto::task::{CreateTaskRequest, CreateTaskResponse, DeleteResponse, StartResponse};
use crate::sys;
use crate::task::{Freeze, Logger, Process, Removal, Stage, Task};
use crate::ttrpc::Status;

/// How long a delete waits for output to arrive; containerd's.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a logger may take until it is ready, which containerd's own shim waits for without end.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long a logger has after it was asked to end; containerd's.
const LOGGER_LIMIT: Duration = Duration::from_secs(12);
/// The file with the process of an exec: the first descriptor after its streams.
const SPEC: &str = "/proc/self/fd/3";
/// The token of a logger's readiness, after those of the streams.
pub(super) const LOGGER: Token = 4;

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

/// A job that waits for a logger to be ready.
#[derive(Debug)]
pub(super) struct Deferred {
    readiness: Readiness,
    /// The time at which the job fails.
    pub(super) give_up_at: Instant,
    work: Work,
    fds: Vec<OwnedFd>,
    then: Then,
}

impl Job {
    /// Whether a process may come of it that ends before its pid is known.
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

    /// Has the spawner run a job for a task. `then` tells what follows its end.
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
    fn await_end(&mut self, id: &str, begun: Result<JobId>, then: Then) {
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

    /// Runs a job that makes a process. If a logger takes the output of the process, starts
    /// the logger now, and the job once the logger is ready.
    fn begin_process(
        &mut self,
        id: &str,
        exec: &str,
        work: Work,
        ends: ChildEnds,
        more: Option<OwnedFd>,
        then: Then,
    ) -> Result<(), Status> {
        let fds = [ends.stdin, ends.stdout, ends.stderr];
        let fds = fds.into_iter().chain(more).collect();
        let Some(logger) = ends.logger else {
            let begun = self.spawner.job(work, fds);
            self.await_end(id, begun, then);
            return Ok(());
        };
        let job = self.spawner.job(logger.work, logger.fds).map_err(failed)?;
        self.await_end(id, Ok(job), Then::Logged);
        let poll = &self.poll;
        let task = self.tasks.get_mut(id);
        let process = task.and_then(|task| task.process(exec).ok());
        if let Some(process) = process {
            process.logger = Some(Logger { job, kill_at: None });
        }
        if let Some(token) = self.first_token(id, exec) {
            poll.add(&logger.readiness, token + LOGGER, EventFlags::IN)
                .map_err(|err| failed(err.into()))?;
            let readiness = logger.readiness;
            self.deferred.insert(
                token,
                Deferred {
                    readiness,
                    give_up_at: Instant::now() + READY_LIMIT,
                    work,
                    fds,
                    then,
                },
            );
        }
        Ok(())
    }

    /// Starts the job that waits for this logger if the logger is ready. Fails the job if the
    /// logger has ended.
    pub(super) fn logger_ready(&mut self, token: Token, id: &str) {
        let Some(deferred) = self.deferred.remove(&token) else {
            return;
        };
        let begun = match deferred.readiness.look() {
            Ok(false) => {
                self.deferred.insert(token, deferred);
                return;
            }
            Ok(true) => {
                // It leaves the loop as it is closed.
                drop(deferred.readiness);
                self.spawner.job(deferred.work, deferred.fds)
            }
            Err(err) => Err(err),
        };
        self.await_end(id, begun, deferred.then);
    }

    /// Fails the jobs of a task that wait for loggers, because init has ended.
    pub(super) fn give_up_loggers(&mut self, id: &str) {
        let streams = self.streams.iter().filter(|(_, (task, _))| task == id);
        let tokens: Vec<Token> = streams.map(|(token, _)| *token).collect();
        for token in tokens {
            self.give_up_logger(token, "the container has ended before it was ready");
        }
    }

    /// Fails the jobs whose loggers are not ready in time.
    pub(super) fn give_up_late_loggers(&mut self, now: Instant) {
        let late = self
            .deferred
            .iter()
            .filter(|(_, deferred)| deferred.give_up_at <= now);
        let tokens: Vec<Token> = late.map(|(token, _)| *token).collect();
        for token in tokens {
            self.give_up_logger(
                token,
                &format!("logging binary did not call ready within {READY_LIMIT:?}"),
            );
        }
    }

    fn give_up_logger(&mut self, token: Token, why: &str) {
        let Some((id, _)) = self.streams.get(&token) else {
            return;
        };
        let id = id.clone();
        if let Some(deferred) = self.deferred.remove(&token) {
            self.await_end(
                &id,
                Err(anyhow!("the logger of {id}: {why}")),
                deferred.then,
            );
        }
    }

    pub(super) fn begin_creation(
        &mut self,
        caller: Caller,
        request: &CreateTaskRequest,
    ) -> Result<(), Status> {
        let id = &request.id;
        let event = TaskCreate {
            container_id: id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(TaskIO {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint.clone(),
            pid: 0,
        };
        if !request.checkpoint.is_empty() {
            // It has no process before its start, which restores it.
            self.tell(&event);
            self.answer(caller, Ok(CreateTaskResponse { pid: 0 }.encode_to_vec()));
            return Ok(());
        }
        let ends = self.open_streams(id, "")?;
        let task = self.any_task(id)?;
        let socket = console_socket(&task.init);
        let rootfs = task.rootfs();
        let work = task.command.making("create", [], socket, rootfs);
        let then = Then::Created(caller, Box::new(event));
        self.begin_process(id, "", work, ends, None, then)
    }

    pub(super) fn begin_start(&mut self, caller: Caller, id: &str) -> Result<(), Status> {
        let task = self.task(id)?;
        task.init.stage = Stage::Starting;
        if task.checkpoint.is_empty() {
            let work = task.command.work("start", []);
            self.run(id, work, Then::Started(caller));
            return Ok(());
        }
        let ends = self.open_streams(id, "")?;
        let task = self.task(id)?;
        let work_path = task.criu_work_path.clone();
        let flags = flag("--image-path", Path::new(&task.checkpoint))
            .into_iter()
            .chain(flag("--work-path", &work_path))
            .chain(["--detach".to_owned(), "--no-subreaper".to_owned()]);
        let socket = console_socket(&task.init);
        let rootfs = task.rootfs();
        let work = task.command.making("restore", flags, socket, rootfs);
        self.begin_process(id, "", work, ends, None, Then::Restored(caller))
    }

    pub(super) fn begin_exec(
        &mut self,
        caller: Caller,
        id: &str,
        exec: &str,
    ) -> Result<(), Status> {
        let ends = self.open_streams(id, exec)?;
        let task = self.task(id)?;
        let pid_file = task.command.pid_file(exec);
        let process = task.process(exec)?;
        process.stage = Stage::Starting;
        process.has_failed = false;
        let spec = memory_file(&process.spec).map_err(failed)?;
        let mut flags = vec![
            "--process".to_owned(),
            SPEC.to_owned(),
            "--detach".to_owned(),
        ];
        flags.extend(flag("--pid-file", &pid_file));
        let socket = console_socket(process);
        flags.extend(
            socket
                .into_iter()
                .flat_map(|path| flag("--console-socket", path)),
        );
        let work = task.command.work("exec", flags);
        let then = Then::ExecStarted(caller, exec.to_owned());
        self.begin_process(id, exec, work, ends, Some(spec), then)
    }

    /// Deletes a process for which that was asked, if its output has arrived.
    pub(super) fn continue_deletion(&mut self, id: &str, exec: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let Ok(process) = task.process(exec) else {
            return;
        };
        let is_drained = process.streams.as_ref().is_none_or(Streams::is_drained);
        // A container that was not started has no end to wait for.
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
            self.let_go(&mut process);
        }
    }

    /// The output it takes has ended.
    pub(super) fn stop_logger(&mut self, logger: Option<Logger>) {
        if let Some(mut logger) = logger {
            self.spawner.signal(logger.job, libc::SIGTERM).ok();
            logger.kill_at = Some(Instant::now() + LOGGER_LIMIT);
            self.stopping_loggers.push(logger);
        }
    }

    /// Takes what the spawner says.
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
                format!("the runtime ended with status {status} and no reason in its log")
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
                    log::debug!("delete what there is of {id}: {why}");
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
            // It may have made some of it before it failed, or was killed.
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

    /// Finds the process that has been made; else says why there is none.
    fn claim_init(&mut self, id: &str) -> Option<String> {
        let task = self.tasks.get(id)?;
        let Some(pid) = task.command.pid("init") else {
            return Some("there is no pid in its pid file".to_owned());
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
        let pid = self.task(id).ok().and_then(|task| task.command.pid(exec));
        let failure = match (failure, pid) {
            (None, Some(pid)) => {
                self.claim(id, exec, pid);
                self.take_terminal(id, exec)
            }
            (None, None) => Some("there is no pid in its pid file".to_owned()),
            (failure, _) => failure,
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

    /// It may be tried again. Whoever waits for it is told that it is over.
    fn exec_failed(&mut self, id: &str, exec: &str) {
        let task = self.tasks.get_mut(id);
        let Some(process) = task.and_then(|task| task.process(exec).ok()) else {
            return;
        };
        // It has come so far that only its terminal was missing.
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

    /// Unmounts the root filesystem, if it was mounted here.
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

    /// It may be tried again.
    fn not_deleted(&mut self, id: &str, why: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        task.removal = Removal::No;
        for caller in std::mem::take(&mut task.init.deletion) {
            self.answer(caller, Err(runtime_failed("delete", why)));
        }
    }

    /// Tells that the container is gone, and forgets the task.
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

    /// Kills loggers that have not ended in time.
    pub(super) fn kill_loggers(&mut self, now: Instant) {
        for logger in &mut self.stopping_loggers {
            if logger.kill_at.is_some_and(|time| time <= now) {
                logger.kill_at = None;
                self.spawner.signal(logger.job, libc::SIGKILL).ok();
            }
        }
    }
}

fn console_socket(process: &Process) -> Option<&Path> {
    process.streams.as_ref().and_then(Streams::console_socket)
}

/// In the words of containerd's own shim.
fn runtime_failed(verb: &str, why: &str) -> Status {
    Status::unknown(format!("OCI runtime {verb} failed: {why}"))
}

/// The runtime's reasons that mean that there is nothing left to kill.
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

/// Where CRIU's own files go if nobody says otherwise.
pub(super) fn criu_work_path(bundle: &Path) -> PathBuf {
    bundle.join("work").join("criu-work")
}

/// What `checkpoint` is told.
pub(super) fn checkpoint_flags(
    image: &str,
    bundle: &Path,
    options: &CheckpointOptions,
) -> Vec<String> {
    let work = match options.work_path.as_str() {
        "" => criu_work_path(bundle),
        given => given.into(),
    };
    let mut flags: Vec<String> = flag("--image-path", Path::new(image)).into();
    flags.extend(flag("--work-path", &work));
    if !options.parent_path.is_empty() {
        flags.extend(flag("--parent-path", Path::new(&options.parent_path)));
    }
    let switches = [
        (!options.exit, "--leave-running"),
        (options.open_tcp, "--tcp-established"),
        (options.external_unix_sockets, "--ext-unix-sk"),
        (options.terminal, "--shell-job"),
        (options.file_locks, "--file-locks"),
    ];
    let on = switches.iter().filter(|(is_on, _)| *is_on);
    flags.extend(on.map(|(_, flag)| (*flag).to_owned()));
    if !options.cgroups_mode.is_empty() {
        flags.extend([
            "--manage-cgroups-mode".to_owned(),
            options.cgroups_mode.clone(),
        ]);
    }
    for namespace in &options.empty_namespaces {
        flags.extend(["--empty-ns".to_owned(), namespace.clone()]);
    }
    flags
}

/// A file in memory, to be read from its beginning.
pub(super) fn memory_file(content: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create("json", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut file = File::from(file);
    file.write_all(content).context("write to memory")?;
    file.rewind().context("rewind a file in memory")?;
    Ok(file.into())
}

fn null() -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    Ok(null.context("open /dev/null")?.into())
}
