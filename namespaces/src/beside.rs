//! Starts a process in the namespaces of a running one, its neighbour.
//!
//! The neighbour is identified by its pidfd, because its pid may be reused. One
//! setns(2) on the pidfd (Linux 5.8) joins all of its namespaces or none of them.
//!
//! The new process must enter the pid namespace last. From then on, processes there
//! see it, and a process with CAP_SYS_PTRACE can take over its privileges and its
//! descriptors. By then it must have nothing that does not belong to the container. A
//! process is in its pid namespace from its clone on, so a middle process prepares
//! and the process itself is cloned after that:
//!
//! ```text
//! parent: clone3                    middle: joins the namespaces, and the pid
//!                                   namespace for its child; prepares: drops
//!                                   privileges, closes the parent's descriptors
//! parent: lets the child start      middle: clones with CLONE_PARENT, exits
//! parent: has a new child           child: is in the pid namespace
//! ```
//!
//! [`spawn_inside`] leaves the pid namespace out, and needs no middle process. The
//! module does not exec.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::Kind;
use crate::clone::{
    Child, clone, clone_into, receive, send, set_dumpable, set_root_ids, socketpair, tell_error,
    told_error,
};
use crate::clone_flags::flag;
use crate::error::{Error, Result};
use crate::sys::{self, Cloned, Parent};

/// A running process, in whose namespaces another process is to be started.
#[derive(Debug)]
pub struct Neighbour {
    pid: Pid,
    pidfd: OwnedFd,
    /// The kinds of namespaces in which the neighbour and the caller differ.
    others: CloneFlags,
}

impl Neighbour {
    /// Finds the namespaces in which process `pid` and the caller differ. `pidfd` is a
    /// descriptor of the process.
    ///
    /// # Errors
    /// Returns an error if the process has exited, or if the caller is not permitted
    /// to read its namespaces.
    pub fn new(pid: Pid, pidfd: OwnedFd) -> Result<Neighbour> {
        let own = open_namespaces("self")?;
        let theirs = open_namespaces(&pid.to_string())?;
        let mut others = CloneFlags::empty();
        for kind in Kind::ALL {
            let name = kind.proc_name();
            let own = match identity(&own, kind) {
                // The kernel does not have this kind: all processes share a namespace.
                Err(Errno::ENOENT) => continue,
                own => own.map_err(|err| Error::new(format!("own {name} namespace"), err))?,
            };
            let theirs = identity(&theirs, kind)
                .map_err(|err| Error::new(format!("{name} namespace of process {pid}"), err))?;
            if own != theirs {
                others |= flag(kind);
            }
        }
        let neighbour = Neighbour { pid, pidfd, others };
        neighbour.check_running()?;
        Ok(neighbour)
    }

    /// Checks that the neighbour has not exited. Call this after reading files below
    /// /proc/PID: if the neighbour is still running, its pid was not reused, so the files
    /// were the neighbour's.
    ///
    /// # Errors
    /// Returns an error if the neighbour has exited.
    pub fn check_running(&self) -> Result<()> {
        let mut exited = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let cause = match poll(&mut exited, PollTimeout::ZERO) {
            Ok(0) => return Ok(()),
            Ok(_) => Errno::ESRCH,
            Err(err) => err,
        };
        Err(Error::new(format!("look at process {}", self.pid), cause))
    }

    /// Returns the neighbour's pid in the caller's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns whether the neighbour's namespace of this kind differs from the
    /// caller's.
    pub fn has_own(&self, kind: Kind) -> bool {
        self.others.contains(flag(kind))
    }

    /// Joins the neighbour's namespaces and becomes root of its user namespace. The
    /// pid namespace takes effect for the next child.
    fn join(&self) -> Result<()> {
        if !self.others.is_empty() {
            setns(&self.pidfd, self.others).map_err(|err| {
                Error::new(format!("join the namespaces of process {}", self.pid), err)
            })?;
        }
        if self.has_own(Kind::User) {
            set_root_ids()?;
        }
        Ok(())
    }
}

/// Opens the directory of a process's namespaces. `process` is a pid or "self".
fn open_namespaces(process: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let path = format!("/proc/{process}/ns");
    openat(AT_FDCWD, path.as_str(), flags, Mode::empty())
        .map_err(|err| Error::new(format!("open {path:?}"), err))
}

/// Returns the device and inode of a namespace, which no other namespace has.
fn identity(namespaces: &OwnedFd, kind: Kind) -> nix::Result<(u64, u64)> {
    let found = fstatat(namespaces, kind.proc_name(), AtFlags::empty())?;
    Ok((found.st_dev, found.st_ino))
}

/// A process that is prepared, but not yet started, in the namespaces of another
/// process. Dropping this value kills it.
#[derive(Debug)]
pub struct Pending {
    middle: Child,
    socket: UnixStream,
}

impl Pending {
    /// Returns the middle process. The child inherits its cgroups, limits and CPU
    /// affinity.
    pub fn middle(&self) -> &Child {
        &self.middle
    }

    /// Lets the child start, and waits for it. If the middle process failed to
    /// prepare, or was killed, the inner `Err` is its wait status.
    ///
    /// # Errors
    /// Returns an error if the middle process could not clone the child, or cannot be talked to.
    pub fn start(mut self) -> Result<std::result::Result<Child, WaitStatus>> {
        // If the middle process has exited, its wait status tells why. After another error it
        // would wait for ever; dropping `self` kills it.
        let has_exited = |err: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&err.kind())
        };
        let mut message = [0; 5];
        // One byte, as `receive` reads.
        let sent = self.socket.write_all(b"g");
        let told = match sent.and_then(|()| self.socket.read_exact(&mut message)) {
            Err(err) if !has_exited(&err) => {
                return Err(Error::new("talk to the middle process", err));
            }
            told => told,
        };
        let status = self.middle.wait()?;
        // The middle process is reaped, so its pid may be reused: do not kill it.
        self.middle.keep();
        if told.is_err() {
            return Ok(Err(status));
        }
        let [word, number @ ..] = message;
        if word != b'p' {
            return Err(told_error(&mut self.socket));
        }
        let child = Child::adopt(Pid::from_raw(i32::from_ne_bytes(number)))?;
        Ok(Ok(child))
    }
}

/// Starts a process in the namespaces of `neighbour`. `cgroup` is the directory of a
/// v2 cgroup; the process starts in it if the kernel allows that
/// ([`Child::is_in_cgroup`]).
///
/// A middle process runs `prepare`, which gets the result of joining the namespaces.
/// `prepare` closes all descriptors that the container must not have, but not the one
/// that it is passed. If it returns an error, the middle process exits with that
/// status. After [`Pending::start`], the process itself is cloned, runs `child` and
/// exits with the status that `child` returns.
///
/// Until its execve, the process is not dumpable: other processes in its namespaces
/// cannot ptrace it without privileges (CVE-2016-9962).
///
/// `ends` are as those of [`spawn`](crate::spawn).
///
/// The caller must be single-threaded.
///
/// # Errors
/// Returns an error if the middle process cannot be cloned.
pub fn spawn_beside<P, C, T>(
    neighbour: &Neighbour,
    cgroup: Option<BorrowedFd<'_>>,
    ends: (P, C),
    prepare: impl FnOnce(C, Result<()>, BorrowedFd<'_>) -> std::result::Result<T, i32>,
    child: impl FnOnce(T) -> i32,
) -> Result<(Pending, P)> {
    let (callers, childs) = ends;
    let (host, socket) = socketpair()?;
    let (cloned, in_cgroup) = clone_into(CloneFlags::empty(), cgroup, Parent::Caller)?;
    if let Cloned::Parent(pid, pidfd) = cloned {
        let middle = Child::new(pid, pidfd, in_cgroup);
        let pending = Pending {
            middle,
            socket: host,
        };
        return Ok((pending, callers));
    }
    drop((host, callers));
    let joined = set_dumpable(false).and_then(|()| neighbour.join());
    let prepared = prepare(childs, joined, socket.as_fd());
    let status = match prepared {
        Ok(prepared) => start_child(socket, || child(prepared)),
        Err(status) => status,
    };
    sys::exit_now(status)
}

/// Starts a process in all namespaces of `neighbour` except its pid namespace, so that
/// processes there do not see it. `child` gets the result of joining the namespaces;
/// the process exits with the status that `child` returns.
///
/// `ends` are as those of [`spawn`](crate::spawn).
///
/// The caller must be single-threaded.
///
/// # Errors
/// Returns an error if the process cannot be cloned.
pub fn spawn_inside<P, C>(
    neighbour: &Neighbour,
    ends: (P, C),
    child: impl FnOnce(C, Result<()>) -> i32,
) -> Result<(Child, P)> {
    let (callers, childs) = ends;
    match clone(CloneFlags::empty(), Parent::Caller)? {
        Cloned::Parent(pid, pidfd) => Ok((Child::new(pid, pidfd, false), callers)),
        Cloned::Child => {
            drop(callers);
            let joined = set_dumpable(false).and_then(|()| neighbour.join());
            sys::exit_now(child(childs, joined))
        }
    }
}

/// In the middle process: waits for the parent, clones the child, and sends the
/// child's pid to the parent. Returns the exit status.
fn start_child(mut socket: UnixStream, child: impl FnOnce() -> i32) -> i32 {
    let cloned =
        receive(&mut socket).and_then(|_| clone(CloneFlags::empty(), Parent::CallersParent));
    match cloned {
        Ok(Cloned::Child) => {
            drop(socket);
            child()
        }
        Ok(Cloned::Parent(pid, _)) => i32::from(send(&mut socket, b'p', pid.as_raw()).is_err()),
        Err(error) => tell_error(&mut socket, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pidfd(pid: Pid) -> OwnedFd {
        sys::pidfd_open(pid).expect("pidfd")
    }

    #[test]
    fn a_parent_shares_every_namespace() {
        let parent = nix::unistd::getppid();
        let neighbour = Neighbour::new(parent, pidfd(parent)).expect("look");
        assert!(neighbour.others.is_empty());
        assert_eq!(neighbour.pid(), parent);
    }

    #[test]
    fn namespaces_of_a_later_process_with_the_pid_are_refused() {
        let mut exited = std::process::Command::new("true").spawn().expect("spawn");
        let exited_pid = Pid::from_raw(exited.id().try_into().expect("a pid"));
        let exited_pidfd = pidfd(exited_pid);
        exited.wait().expect("wait");
        let later = nix::unistd::getppid();
        let error = Neighbour::new(later, exited_pidfd).expect_err("another process");
        assert_eq!(error.errno(), Some(libc::ESRCH));
    }

    #[test]
    fn middle_process_that_cannot_be_told_is_killed() {
        let (mut socket, _middles) = UnixStream::pair().expect("socketpair");
        socket.set_nonblocking(true).expect("set O_NONBLOCK");
        while socket.write(&[0; 4096]).is_ok() {}
        let sleeping = std::process::Command::new("sleep").arg("1000").spawn();
        let pid = Pid::from_raw(sleeping.expect("spawn").id().try_into().expect("a pid"));
        let pending = Pending {
            middle: Child::new(pid, pidfd(pid), false),
            socket,
        };
        let error = pending.start().expect_err("started");
        assert_eq!(error.errno(), Some(libc::EAGAIN));
        assert_eq!(nix::sys::signal::kill(pid, None), Err(Errno::ESRCH));
    }
}
