//! Signals to all processes of a cgroup, and the wait for their end.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Cgroup;
use crate::error::{Error, Result};
use crate::{directory, sys};

impl Cgroup {
    /// Sends `signal` to every process. No process can escape by forking: SIGKILL is sent with
    /// `cgroup.kill` (kernel 5.14), and otherwise the cgroup is frozen meanwhile.
    ///
    /// A frozen cgroup stays frozen, except for SIGKILL, which takes effect.
    ///
    /// # Errors
    /// Returns an error if the cgroup cannot be frozen, or if the signal cannot be sent.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.kill_at_once()? {
            return Ok(());
        }
        if !self.directories().any(|directory| directory.path.exists()) {
            return Ok(());
        }
        if !self.has_freezer() {
            return self.kill_until_no_new(signal);
        }
        let was_frozen = match self.is_frozen() {
            // The creation was interrupted, so no process was in the cgroup.
            Err(error) if error.is_gone() => {
                return self.kill_until_no_new(signal);
            }
            frozen => frozen?,
        };
        if !was_frozen {
            self.freeze()?;
        }
        let sent = self.processes().and_then(|pids| send(&pids, signal));
        if signal == libc::SIGKILL {
            self.thaw_tree()?;
        } else if !was_frozen {
            self.thaw()?;
        }
        sent
    }

    /// Kills all processes with `cgroup.kill`. Returns false if the kernel does not support it.
    fn kill_at_once(&self) -> Result<bool> {
        let Some(directory) = &self.v2 else {
            return Ok(false);
        };
        match directory.write("cgroup.kill", "1") {
            // On v1, SIGKILL takes effect when a process is thawed.
            Ok(()) if self.v1_directory("freezer").is_some() => self.thaw_tree().map(|()| true),
            Ok(()) => Ok(true),
            // The kernel is older, or the cgroup is threaded or was removed.
            Err(error) if directory::is_gone(&error) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(cause) => Err(Error::system(
                "write",
                &directory.path.join("cgroup.kill"),
                cause,
            )),
        }
    }

    /// Without a freezer: sends the signal until all processes have got it.
    fn kill_until_no_new(&self, signal: i32) -> Result<()> {
        let mut seen = Vec::new();
        loop {
            let mut pids = self.processes()?;
            pids.retain(|pid| !seen.contains(pid));
            if pids.is_empty() {
                return Ok(());
            }
            send(&pids, signal)?;
            seen.extend(pids);
        }
    }

    /// Waits until all processes in the cgroup and below it have exited. Returns false if they
    /// have not within `patience`.
    ///
    /// # Errors
    /// Returns an error if a file of a cgroup cannot be read.
    pub fn wait_until_empty(&self, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(true);
            }
            for pid in pids {
                wait_for_end(pid, deadline);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            // The first thread of a process has exited and others run, or the process has exited
            // and has not left the cgroup yet.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn wait_for_end(pid: i32, deadline: Instant) {
    // The process has exited, or it is a thread, which has no pidfd.
    let Ok(process) = sys::pidfd_open(pid) else {
        return;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    // Ignore the result, because the caller checks which processes are left.
    match poll(
        &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
        timeout,
    ) {
        Ok(_) | Err(_) => {}
    }
}

fn send(pids: &[i32], signal: i32) -> Result<()> {
    for &pid in pids {
        match sys::kill(pid, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(cause) => {
                let path = PathBuf::from(format!("/proc/{pid}"));
                return Err(Error::system("send a signal to process", &path, cause));
            }
        }
    }
    Ok(())
}
