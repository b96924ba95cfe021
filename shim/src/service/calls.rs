//! The calls of the task service, one function each: checks the request against the task's
//! state, then answers at once or starts the job after which the answer follows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::jobs::Then;
use super::processes::memory_file;
use super::{Answer, LAST_EVENTS, Service, already_finished, done, ended, failed, reply, time_of};
use crate::caller::Caller;
use crate::command::{Command, flag};
use crate::config::Config;
use crate::io::Stdio;
use crate::metrics;
use crate::options::Options;
use crate::proto::Any;
use crate::proto::events::TaskExecAdded;
use crate::proto::options::ProcessDetails;
use crate::proto::options::runc::CheckpointOptions;
use crate::proto::task::*;
use crate::proto::types::{ProcessInfo, Status as TaskStatus};
use crate::sys;
use crate::task::{Freeze, Process, Removal, Stage, Task};
use crate::ttrpc::Status;

/// The time for which a deletion waits for output to arrive; containerd's shim has the same.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

impl Service {
    pub(super) fn create(&mut self, caller: Caller, request: CreateTaskRequest) -> Answer {
        let id = &request.id;
        if id.starts_with('-') {
            // The runtime would read it as an option. It checks all other names itself.
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
                "" => criu_work_path(bundle),
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
        self.end_at = None;
        let begun = self.begin_creation(caller, &request);
        if begun.is_err() {
            self.forget(&request.id);
        }
        begun.map(|()| None)
    }

    pub(super) fn start(&mut self, caller: Caller, request: &StartRequest) -> Answer {
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

    pub(super) fn exec(&mut self, request: ExecProcessRequest) -> Answer {
        let exec = &request.exec_id;
        let task = self.task(&request.id)?;
        // The name becomes a part of the pid file's name.
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

    pub(super) fn delete(&mut self, caller: Caller, request: &DeleteRequest) -> Answer {
        let task = self.task(&request.id)?;
        let freeze = task.freeze;
        let process = task.process(&request.exec_id)?;
        if matches!(process.stage, Stage::Starting | Stage::Running) {
            let word = process.word(freeze);
            return Err(Status::unknown(format!("cannot delete a {word} process")));
        }
        process.deletion.push(caller);
        if process.deletion.len() > 1 {
            // All calls are answered when the deletion is done.
            return Ok(None);
        }
        if let Some(streams) = &mut process.streams {
            streams.give_up_at(Instant::now() + DRAIN_LIMIT);
        }
        self.continue_deletion(&request.id, &request.exec_id);
        Ok(None)
    }

    pub(super) fn state(&mut self, request: &StateRequest) -> Answer {
        let task = self.task(&request.id)?;
        let bundle = task.bundle.to_string_lossy().into_owned();
        let freeze = task.freeze;
        let process = task.process(&request.exec_id)?;
        let is_exec = !request.exec_id.is_empty();
        let status = match (process.stage, freeze) {
            (Stage::Stopped, _) => TaskStatus::Stopped,
            // As in Go's shim, an exec that does not run has its container's state.
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
            // Go's shim sends no exec id either: the exec's name is the id.
            exec_id: String::new(),
        })
    }

    pub(super) fn pids(&mut self, request: &PidsRequest) -> Answer {
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

    pub(super) fn pause(&mut self, caller: Caller, request: &PauseRequest) -> Answer {
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

    pub(super) fn resume(&mut self, caller: Caller, request: &ResumeRequest) -> Answer {
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

    pub(super) fn checkpoint(&mut self, caller: Caller, request: &CheckpointTaskRequest) -> Answer {
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
        let flags = checkpoint_flags(&request.path, &task.bundle, &options);
        let work = task.command.work("checkpoint", flags);
        self.run(&request.id, work, Then::Done(caller, "checkpoint"));
        Ok(None)
    }

    pub(super) fn kill(&mut self, caller: Caller, request: &KillRequest) -> Answer {
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
        // The pid is still the process's, because it has not been reaped.
        match sys::kill(process.pid, request.signal) {
            Ok(()) => done(),
            Err(rustix::io::Errno::SRCH) => Err(already_finished()),
            Err(err) => Err(failed(err.into())),
        }
    }

    pub(super) fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        // Without a terminal, resizing has no effect. Only for a stopped exec it is an error.
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

    pub(super) fn close_io(&mut self, request: &CloseIORequest) -> Answer {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        if request.stdin
            && let Some(streams) = &mut process.streams
        {
            streams.close_stdin();
        }
        done()
    }

    pub(super) fn update(&mut self, caller: Caller, request: &UpdateTaskRequest) -> Answer {
        let task = self.task(&request.id)?;
        if task.init.has_ended() {
            return Err(Status::unknown("cannot update a stopped container"));
        }
        let work = task.command.work("update", ["--resources=-".to_owned()]);
        let resources = request.resources.as_ref();
        let resources = resources.map_or(&b"{}"[..], |resources| &resources.value);
        let stdin = memory_file(resources);
        self.run_with(&request.id, work, stdin, Then::Done(caller, "update"));
        Ok(None)
    }

    pub(super) fn wait(&mut self, caller: Caller, request: &WaitRequest) -> Answer {
        let process = self.task(&request.id)?.process(&request.exec_id)?;
        if process.stage == Stage::Stopped || process.has_failed {
            return reply(&ended(process.exit));
        }
        process.waiting.push(caller);
        Ok(None)
    }

    pub(super) fn stats(&mut self, request: &StatsRequest) -> Answer {
        let task = self.task(&request.id)?;
        let Some(cgroup) = &task.cgroup else {
            return Err(Status::not_found("cgroup does not exist"));
        };
        reply(&StatsResponse {
            stats: Some(metrics::of(cgroup)),
        })
    }

    pub(super) fn connect(&mut self, request: &ConnectRequest) -> Answer {
        let task = self.tasks.get(&request.id);
        reply(&ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.map_or(0, |task| task.init.pid),
            version: String::new(),
        })
    }

    pub(super) fn shut_down(&mut self, _: &ShutdownRequest) -> Answer {
        if self.tasks.is_empty() {
            self.end_at.get_or_insert(Instant::now() + LAST_EVENTS);
        }
        done()
    }
}

/// The process of an exec, with `terminal` set as in the call.
fn with_terminal(spec: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let spec = serde_json::from_slice(spec).context("read the process")?;
    let mut spec: serde_json::Map<String, serde_json::Value> = spec;
    spec.insert("terminal".to_owned(), terminal.into());
    Ok(serde_json::to_vec(&spec)?)
}

/// The default for the directory of CRIU's files.
fn criu_work_path(bundle: &Path) -> PathBuf {
    bundle.join("work").join("criu-work")
}

/// The flags for `checkpoint`.
fn checkpoint_flags(image: &str, bundle: &Path, options: &CheckpointOptions) -> Vec<String> {
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
