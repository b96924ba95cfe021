//! Starting a process in the namespaces of a running one: no exec.
//!
//! The process is known by its pidfd, so that no other can take its place, and
//! joined by one setns(2) (Linux 5.8), which takes all of its namespaces or
//! none.
//!
//! The pid namespace is entered last. From then on processes there see the new
//! one, and one with CAP_SYS_PTRACE can become it or take its descriptors, so
//! by then it must have nothing that is not the container's. A process is in
//! its pid namespace from its clone on; so there are two:
//!
//! ```text
//! host: clone3                      middle: joins all, the pid namespace for
//!                                   its child; prepares: gives up privileges,
//!                                   closes the host's descriptors
//! host: lets the child start        middle: clones with CLONE_PARENT, ends
//! host: has a new child             child: is in the pid namespace
//! ```

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::Kind;
use crate::clone::{
    Child, clone, clone_into, receive, say, set_dumpable, set_root_ids, socketpair, tell_error,
};
use crate::error::{Error, Result};
use crate::sys::{self, Cloned, Parent};

/// A running process whose namespaces another one is to be started in.
#[derive(Debug)]
pub struct Neighbour {
    pid: Pid,
    pidfd: OwnedFd,
    /// The namespaces that are not the caller's.
    others: CloneFlags,
}

impl Neighbour {
    /// Looks at which namespaces the process `pid` has for itself. `pidfd` is
    /// a descriptor for it.
    ///
    /// # Errors
    /// It has ended, or this process may not look.
    pub fn new(pid: Pid, pidfd: OwnedFd) -> Result<Neighbour> {
        let mut others = CloneFlags::empty();
        for kind in Kind::ALL {
            if !is_shared(kind, pid)? {
                others |= kind.flag();
            }
        }
        Ok(Neighbour { pid, pidfd, others })
    }

    /// Its pid in the caller's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether its namespace of this kind is another than the caller's.
    pub fn has_own(&self, kind: Kind) -> bool {
        self.others.contains(kind.flag())
    }

    /// Joins them all, and becomes root of its user namespace. The pid
    /// namespace is for the next child.
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

/// Whether the process is in our own namespace of this kind.
fn is_shared(kind: Kind, pid: Pid) -> Result<bool> {
    let identity = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let name = kind.proc_name();
    let own = match identity(&format!("/proc/self/ns/{name}")) {
        // A kernel without that kind has one for all.
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(true),
        own => own.map_err(|err| Error::new(format!("own {name} namespace"), err))?,
    };
    let theirs = identity(&format!("/proc/{pid}/ns/{name}"))
        .map_err(|err| Error::new(format!("{name} namespace of process {pid}"), err))?;
    Ok(own == theirs)
}

/// A process that is about to start in the namespaces of another one.
/// Dropped, it never does.
#[derive(Debug)]
pub struct Pending {
    middle: Child,
    socket: UnixStream,
}

impl Pending {
    /// The process that prepares it, which hands its cgroups, limits and CPUs
    /// down to it.
    pub fn middle(&self) -> &Child {
        &self.middle
    }

    /// Lets it start once it is prepared. `Err` inside: preparing it failed,
    /// or was ended, with this status.
    ///
    /// # Errors
    /// The clone failed.
    pub fn start(mut self) -> Result<std::result::Result<Child, WaitStatus>> {
        // A middle process that has ended says so by its status.
        say(&mut self.socket, b'g', 0).ok();
        let mut message = [0; 5];
        let told = self.socket.read_exact(&mut message);
        let status = self.middle.wait()?;
        // Reaped: its pid may be another's by now.
        self.middle.keep();
        if told.is_err() {
            return Ok(Err(status));
        }
        let [word, number @ ..] = message;
        if word != b'p' {
            let mut text = String::new();
            return Err(match self.socket.read_to_string(&mut text) {
                Ok(_) => Error::message(text),
                Err(err) => Error::new("hear of the middle process", err),
            });
        }
        let child = Child::adopt(Pid::from_raw(i32::from_ne_bytes(number)))?;
        Ok(Ok(child))
    }
}

/// Starts a process in the namespaces of `neighbour`, and in the v2 cgroup
/// whose directory `cgroup` is if the kernel lets it ([`Child::is_in_cgroup`]).
///
/// A middle process runs `prepare`, which is told whether all namespaces could
/// be joined, and closes what the container must not have; not the descriptor
/// it is given. With an error it ends, with that status. Then, when the caller
/// lets it, the process itself is cloned, runs `child` and ends with the status
/// that returns.
///
/// From before it can be seen in the namespaces until its execve, others there
/// cannot look into it without privileges (CVE-2016-9962).
///
/// The caller must be single-threaded.
///
/// # Errors
/// The kernel refused.
pub fn spawn_beside<P>(
    neighbour: &Neighbour,
    cgroup: Option<BorrowedFd<'_>>,
    prepare: impl FnOnce(Result<()>, BorrowedFd<'_>) -> std::result::Result<P, i32>,
    child: impl FnOnce(P) -> i32,
) -> Result<Pending> {
    let (host, socket) = socketpair()?;
    let (cloned, in_cgroup) = clone_into(CloneFlags::empty(), cgroup, Parent::Caller)?;
    if let Cloned::Parent(pid, pidfd) = cloned {
        let middle = Child::new(pid, pidfd, in_cgroup);
        return Ok(Pending {
            middle,
            socket: host,
        });
    }
    drop(host);
    let joined = set_dumpable(false).and_then(|()| neighbour.join());
    let prepared = prepare(joined, socket.as_fd());
    let status = match prepared {
        Ok(prepared) => start_child(socket, || child(prepared)),
        Err(status) => status,
    };
    sys::exit_now(status)
}

/// Starts a process in all namespaces of `neighbour` but its pid namespace: nobody
/// there sees it. It is told whether they could be joined, and ends with the status
/// that `child` returns.
///
/// The caller must be single-threaded.
///
/// # Errors
/// The kernel refused.
pub fn spawn_inside(neighbour: &Neighbour, child: impl FnOnce(Result<()>) -> i32) -> Result<Child> {
    match clone(CloneFlags::empty(), Parent::Caller)? {
        Cloned::Parent(pid, pidfd) => Ok(Child::new(pid, pidfd, false)),
        Cloned::Child => {
            let joined = set_dumpable(false).and_then(|()| neighbour.join());
            sys::exit_now(child(joined))
        }
    }
}

/// In the middle process: makes the child when the host says so, and tells it
/// which that is. The status to end with.
fn start_child(mut socket: UnixStream, child: impl FnOnce() -> i32) -> i32 {
    let cloned =
        receive(&mut socket).and_then(|_| clone(CloneFlags::empty(), Parent::CallersParent));
    match cloned {
        Ok(Cloned::Child) => {
            drop(socket);
            child()
        }
        Ok(Cloned::Parent(pid, _)) => i32::from(say(&mut socket, b'p', pid.as_raw()).is_err()),
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
}
