//! Starts the jobs that make a process: `create`, `start`, `restore` and `exec`. If the
//! process has a logger, the job follows it: see `loggers.rs`.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};

use super::jobs::Then;
use super::{Service, failed};
use crate::caller::Caller;
use crate::command::{exec_name, flag};
use crate::io::{ChildEnds, Streams};
use crate::job::Work;
use crate::proto::events::{TaskCreate, TaskIO};
use crate::proto::task::{CreateTaskRequest, CreateTaskResponse};
use crate::task::{Process, Stage};
use crate::ttrpc::Status;

/// The file with the process of an exec: the first descriptor after its streams.
const SPEC: &str = "/proc/self/fd/3";

impl Service {
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
        self.begin_logger(id, exec, logger, work, fds, then)
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
            // The container has no process until its start, which restores it.
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
        let pid_file = task.command.pid_file(&exec_name(exec));
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
}

fn console_socket(process: &Process) -> Option<&Path> {
    process.streams.as_ref().and_then(Streams::console_socket)
}

/// Makes a file in memory, positioned at its beginning.
pub(super) fn memory_file(content: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create("json", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut file = File::from(file);
    file.write_all(content).context("write to memory")?;
    file.rewind().context("rewind a file in memory")?;
    Ok(file.into())
}
