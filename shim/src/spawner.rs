//! The spawner: a process beside the server that forks a child for each job. The server
//! cannot do that itself, because it is confined and its children would be, too.
//!
//! The first half of this file is the server's handle, the second half runs in the spawner
//! and in its jobs.

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

use crate::drop_pages::drop_pages;
use crate::job::{Answer, JobId, Request, Work};
use crate::packets::{Packets, Received};
use crate::poll::{EventFlags, Poll, Token};
use crate::{PROCESS_NAME, Runtime, mounts, sys};

/// The file in the bundle with the spawner's pid, for a `delete` after the server's end.
const FILE: &str = "spawner.pid";
/// The longest time for which `delete` waits for the spawner to end. It is less than the five
/// seconds for which containerd waits for `delete`, so that time is left for the cleanup.
const LONGEST: Timespec = Timespec {
    tv_sec: 3,
    tv_nsec: 0,
};

/// The first message of the spawner.
const READY: () = ();

/// The lowest descriptor of the spawner's own, above those that jobs are given.
const HIGH: u16 = 32;
const SOCKET: Token = 0;
const FAILED: u8 = 1;

/// The server's handle of the spawner. When it is dropped, the spawner and all jobs end.
#[derive(Debug)]
pub struct Spawner {
    packets: Packets,
    process: Child,
    last: JobId,
}

impl Spawner {
    /// Forks the spawner and waits until it is ready.
    ///
    /// # Errors
    /// The process or its socket cannot be made, or the spawner ends at once.
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
        // Until it is ready, the spawner has copies of the server's descriptors, which must
        // not stay open when the server ends.
        let mut ready = [PollFd::from_borrowed_fd(packets.fd(), PollFlags::IN)];
        retry_on_intr(|| poll(&mut ready, None)).context("wait for the spawner")?;
        match packets.receive()? {
            Received::Message(READY, _) => {}
            _ => bail!("the spawner did not start"),
        }
        // The spawner ends when its socket is closed. The confined server may not kill it.
        process.keep();
        Ok(Spawner {
            packets,
            process,
            last: 0,
        })
    }

    /// The spawner's pid.
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Writes the spawner's pid into a bundle on which its jobs work.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_in(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        fs::write(&path, self.pid().to_string()).with_context(|| format!("write {path:?}"))
    }

    /// A descriptor that is readable when there are answers or the spawner has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.packets.fd()
    }

    /// Whether [`Spawner::flush`] must be called when the descriptor becomes writable.
    pub fn has_unsent(&self) -> bool {
        self.packets.has_unsent()
    }

    /// Sends queued messages as far as there is room.
    ///
    /// # Errors
    /// The spawner has ended.
    pub fn flush(&mut self) -> Result<()> {
        self.packets.flush()
    }

    /// Starts a job, with `fds` as its descriptors 0, 1, 2 and so on.
    ///
    /// # Errors
    /// The spawner has ended, or the message is too long.
    pub fn job(&mut self, work: Work, fds: Vec<OwnedFd>) -> Result<JobId> {
        self.last += 1;
        self.packets.send(&Request::Start(self.last, work), fds)?;
        Ok(self.last)
    }

    /// Sends a signal to a job, if it has not ended.
    ///
    /// # Errors
    /// The spawner has ended.
    pub fn signal(&mut self, job: JobId, signal: i32) -> Result<()> {
        self.packets.send(&Request::Signal(job, signal), Vec::new())
    }

    /// Receives the next answer, without blocking.
    ///
    /// # Errors
    /// The spawner has ended.
    pub fn answer(&self) -> Result<Option<Answer>> {
        match self.packets.receive()? {
            Received::Message(answer, _) => Ok(Some(answer)),
            Received::Nothing => Ok(None),
            Received::End => Err(anyhow!("the spawner has ended")),
        }
    }
}

/// Waits until the spawner of a dead server has ended, and with it all jobs that could
/// still change this bundle. The spawner ends soon after its server.
pub(crate) fn wait_for_end(bundle: &Path) {
    let pid = fs::read_to_string(bundle.join(FILE)).ok();
    let pid = pid.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    let Some(pid) = pid else {
        return;
    };
    let Ok(spawner) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Check the name, because another process may have the pid by now.
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    if name.is_ok_and(|name| name.trim_end().as_bytes() == PROCESS_NAME.to_bytes()) {
        let mut ends = [PollFd::new(&spawner, PollFlags::IN)];
        // Whether it ended or not, the caller removes what remains.
        poll(&mut ends, Some(&LONGEST)).ok();
    }
}

/// The spawner's own state.
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
        // Close the server's socket above all: a client must not connect to this process
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

    /// Serves requests until the server has ended. Ending the spawner then ends all jobs.
    fn serve(&mut self) -> Result<()> {
        drop_pages();
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
                // The pid is still the job's, because it has not been reaped.
                let child = self.running.get(&id);
                let pid = child.and_then(|child| Pid::from_raw(child.pid().as_raw()));
                if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                    // ESRCH: the job has ended.
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
            // The child is reaped, so its pid may belong to another process by now.
            child.keep();
        }
        self.packets.send(&Answer::Ended(id, status), Vec::new())
    }

    /// Runs in the job; returns its exit status.
    fn run(&mut self, id: JobId, work: Work, fds: Vec<OwnedFd>) -> u8 {
        // Die with the spawner, because nobody waits for the job then.
        let bound = set_parent_process_death_signal(Some(Signal::KILL)).context("prctl");
        if getppid() != Some(self.pid) {
            // The spawner ended before prctl(2).
            return FAILED;
        }
        let placed = bound.and_then(|()| place(fds));
        let done = placed.and_then(|()| self.work(work));
        done.unwrap_or_else(|err| {
            let why = Answer::Failed(id, teu_errno::chain(&err));
            // Sending fails only if the server has ended.
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

/// The text of an error in Go's words, which callers match.
fn not_found(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        _ => teu_errno::text(error),
    }
}

/// Moves the descriptors to 0, 1, 2 and so on, and closes all others below [`HIGH`].
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
                fcntl_setfd(&placed, FdFlags::empty()).context("clear FD_CLOEXEC")?;
                // The program inherits it.
                std::mem::forget(placed);
            }
        }
    }
    Ok(())
}
