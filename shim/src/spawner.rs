//! The spawner: a process beside the server that forks a child for each job. The
//! server itself is confined, and what it may not do its children could not do either.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::wait::WaitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal,
};
use teu_namespaces::{Child, NamespacePlan, spawn};

use crate::job::{Answer, JobId, Request, Work};
use crate::packets::{Packets, Received};
use crate::poll::{EventFlags, Poll, Token};
use crate::{PROCESS_NAME, Runtime, idle, mounts, sys};

/// In the bundle: the spawner's pid, for a `delete` after the server's end.
const FILE: &str = "spawner.pid";
/// How long that waits at most; containerd waits five seconds for it.
const LONGEST: Timespec = Timespec {
    tv_sec: 3,
    tv_nsec: 0,
};

/// Its first message.
const READY: () = ();

/// Above the descriptors that a job is given; the socket to the server is there.
const HIGH: u16 = 32;
const SOCKET: Token = 0;
const FAILED: u8 = 1;

/// The server's side of it. Dropped, it ends, and all jobs with it.
#[derive(Debug)]
pub struct Spawner {
    packets: Packets,
    process: Child,
    last: JobId,
}

impl Spawner {
    /// Forks it.
    ///
    /// # Errors
    /// There is no process or socket for it.
    pub fn start(runtime: &dyn Runtime) -> Result<Spawner> {
        let ends = Packets::pair()?;
        let spawner = |packets, _| {
            let serve = || {
                let mut jobs = Jobs::new(packets, runtime)?;
                jobs.packets.send(&READY, Vec::new())?;
                jobs.serve()
            };
            match serve() {
                Ok(()) => 0,
                Err(err) => {
                    log::error!("spawner: {}", teu_errno::chain(&err));
                    1
                }
            }
        };
        let (mut process, packets) = spawn(&NamespacePlan::default(), None, ends, spawner)?;
        // Until then it has copies of what is the server's, whom it may outlive.
        let mut ready = [PollFd::from_borrowed_fd(packets.fd(), PollFlags::IN)];
        retry_on_intr(|| poll(&mut ready, None)).context("wait for the spawner")?;
        match packets.receive()? {
            Received::Message(READY, _) => {}
            _ => bail!("the spawner has not begun"),
        }
        // It ends with the socket; the server could not kill it.
        process.keep();
        Ok(Spawner {
            packets,
            process,
            last: 0,
        })
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Writes down in a bundle whose jobs work on it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_in(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        fs::write(&path, self.pid().to_string()).with_context(|| format!("write {path:?}"))
    }

    /// Readable when there are answers, or the spawner is gone.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.packets.fd()
    }

    /// Whether [`Spawner::flush`] is to be called once there is room.
    pub fn has_unsent(&self) -> bool {
        self.packets.has_unsent()
    }

    /// Sends what had no room before.
    ///
    /// # Errors
    /// The spawner is gone.
    pub fn flush(&mut self) -> Result<()> {
        self.packets.flush()
    }

    /// Starts a job with these descriptors as 0, 1, 2 and so on.
    ///
    /// # Errors
    /// The spawner is gone, or the work too long to tell.
    pub fn job(&mut self, work: Work, fds: Vec<OwnedFd>) -> Result<JobId> {
        self.last += 1;
        self.packets.send(&Request::Start(self.last, work), fds)?;
        Ok(self.last)
    }

    /// Sends a job a signal, if it has not ended.
    ///
    /// # Errors
    /// The spawner is gone.
    pub fn signal(&mut self, job: JobId, signal: i32) -> Result<()> {
        self.packets.send(&Request::Signal(job, signal), Vec::new())
    }

    /// The next answer, if there is one.
    ///
    /// # Errors
    /// The spawner is gone.
    pub fn answer(&self) -> Result<Option<Answer>> {
        match self.packets.receive()? {
            Received::Message(answer, _) => Ok(Some(answer)),
            Received::Nothing => Ok(None),
            Received::End => Err(anyhow!("the spawner has ended")),
        }
    }
}

/// Waits until the spawner of a server that is gone has ended, and with it all jobs
/// that could still make something in this bundle. It is about to.
pub(crate) fn wait_for_end(bundle: &Path) {
    let pid = fs::read_to_string(bundle.join(FILE)).ok();
    let pid = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    let Some(pid) = pid else {
        return;
    };
    let Ok(spawner) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Another process may have the pid by now.
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    if name.is_ok_and(|name| name.trim_end().as_bytes() == PROCESS_NAME.to_bytes()) {
        let mut ends = [PollFd::new(&spawner, PollFlags::IN)];
        // In vain or not, what is left is removed next.
        poll(&mut ends, Some(&LONGEST)).ok();
    }
}

/// In the spawner.
struct Jobs<'a> {
    packets: Packets,
    poll: Poll,
    runtime: &'a dyn Runtime,
    running: BTreeMap<JobId, Child>,
    pid: Pid,
}

impl<'a> Jobs<'a> {
    fn new(packets: Packets, runtime: &'a dyn Runtime) -> Result<Jobs<'a>> {
        let packets = packets.moved_above(HIGH.into())?;
        // The server's socket above all: who connects must not find this process there
        // when the server has ended.
        sys::close_low(HIGH.into());
        let poll = Poll::new().context("epoll_create")?;
        poll.add(packets.fd(), SOCKET, EventFlags::IN)
            .context("epoll_ctl")?;
        Ok(Jobs {
            packets,
            poll,
            runtime,
            running: BTreeMap::new(),
            pid: getpid(),
        })
    }

    /// Until the server is gone: then no job goes on.
    fn serve(&mut self) -> Result<()> {
        idle::drop_pages();
        loop {
            for (token, _) in self.poll.wait(None).context("epoll_wait")? {
                match token {
                    SOCKET => loop {
                        self.packets.flush()?;
                        match self.packets.receive()? {
                            Received::Message(request, fds) => self.take(request, fds)?,
                            Received::Nothing => break,
                            Received::End => return Ok(()),
                        }
                    },
                    job => self.end(job)?,
                }
            }
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, self.packets.has_unsent());
            self.poll
                .change(self.packets.fd(), SOCKET, flags)
                .context("epoll_ctl")?;
        }
    }

    fn take(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<()> {
        match request {
            Request::Start(id, work) => {
                let ends = ((), (work, fds));
                let spawned = spawn(&NamespacePlan::default(), None, ends, |(work, fds), _| {
                    i32::from(self.run(id, work, fds))
                });
                let spawned = spawned.map_err(anyhow::Error::from);
                let watched = spawned.and_then(|(child, ())| {
                    self.poll.add(child.pidfd(), id, EventFlags::IN)?;
                    Ok(child)
                });
                match watched {
                    Ok(child) => {
                        self.running.insert(id, child);
                    }
                    Err(err) => {
                        let why = format!("start a job: {}", teu_errno::chain(&err));
                        self.packets.send(&Answer::Failed(id, why), Vec::new())?;
                        self.packets.send(&Answer::Ended(id, FAILED), Vec::new())?;
                    }
                }
                Ok(())
            }
            Request::Signal(id, signal) => {
                // Not reaped yet, so the pid is still its own.
                let child = self.running.get(&id);
                let pid = child.and_then(|child| Pid::from_raw(child.pid().as_raw()));
                if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                    // It may have ended.
                    kill_process(pid, signal).ok();
                }
                Ok(())
            }
        }
    }

    fn end(&mut self, id: JobId) -> Result<()> {
        let Some(child) = self.running.get(&id) else {
            return Ok(());
        };
        let status = match child.ended()? {
            None => return Ok(()),
            Some(WaitStatus::Exited(_, status)) => u8::try_from(status).unwrap_or(FAILED),
            Some(WaitStatus::Signaled(_, signal, _)) => {
                u8::try_from(128 + signal as i32).unwrap_or(FAILED)
            }
            Some(_) => FAILED,
        };
        if let Some(mut child) = self.running.remove(&id) {
            // Its pid may be another's by now.
            child.keep();
        }
        self.packets.send(&Answer::Ended(id, status), Vec::new())
    }

    /// In the job: the status to end with.
    fn run(&mut self, id: JobId, work: Work, fds: Vec<OwnedFd>) -> u8 {
        // Whoever waits for a job is gone with the spawner.
        let bound = set_parent_process_death_signal(Some(Signal::KILL)).context("prctl");
        if getppid() != Some(self.pid) {
            // It has ended before that.
            return FAILED;
        }
        let placed = bound.and_then(|()| place(fds));
        let done = placed.and_then(|()| self.work(work));
        done.unwrap_or_else(|err| {
            let why = Answer::Failed(id, teu_errno::chain(&err));
            // Whoever would be told is gone.
            self.packets.send(&why, Vec::new()).ok();
            FAILED
        })
    }

    fn work(&self, work: Work) -> Result<u8> {
        match work {
            Work::Runtime {
                program,
                args,
                rootfs,
            } => {
                if let Some(rootfs) = rootfs {
                    mounts::mount_all(&rootfs.mounts, &rootfs.directory)?;
                }
                match program {
                    None => Ok(self.runtime.run(args.into_iter().map(Into::into).collect())),
                    Some(program) => {
                        let error = Command::new(&program).args(args).exec();
                        Err(anyhow!("exec: {program:?}: {}", not_found(&error)))
                    }
                }
            }
            Work::Unmount(directory) => mounts::unmount_recursive(&directory).map(|()| 0),
            Work::Program { path, args, env } => {
                let mut command = Command::new(&path);
                let env = env.iter().filter_map(|entry| entry.split_once('='));
                command.args(args).env_clear().envs(env);
                Err(command.exec()).with_context(|| format!("execute {path:?}"))
            }
        }
    }
}

/// In Go's words, which callers match.
fn not_found(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        _ => teu_errno::text(error),
    }
}

/// Makes these descriptors 0, 1, 2 and so on, and closes what else is low.
fn place(fds: Vec<OwnedFd>) -> Result<()> {
    let high = fds
        .iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, HIGH.into()))
        .collect::<Result<Vec<_>, _>>()
        .context("dup")?;
    drop(fds);
    sys::close_low(HIGH.into());
    for (number, fd) in (0..).zip(&high) {
        match number {
            0 => rustix::stdio::dup2_stdin(fd).context("dup2")?,
            1 => rustix::stdio::dup2_stdout(fd).context("dup2")?,
            2 => rustix::stdio::dup2_stderr(fd).context("dup2")?,
            _ => {
                let placed = fcntl_dupfd_cloexec(fd, number).context("dup")?;
                ensure!(
                    placed.as_raw_fd() == number,
                    "descriptor {number} is not free"
                );
                fcntl_setfd(&placed, FdFlags::empty()).context("keep a descriptor")?;
                // For the program.
                std::mem::forget(placed);
            }
        }
    }
    Ok(())
}
