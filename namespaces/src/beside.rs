//! Starting a process in the namespaces of a running one: one clone3, no exec.
//!
//! The process is known by its pidfd, so that no other can take its place, and
//! joined by one setns(2) (Linux 5.8), which takes all of its namespaces or
//! none.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use crate::clone::{
    Child, HostNamespaces, clone, clone_into, say, serve_middle, set_dumpable, set_root_ids,
    socketpair, tell_error,
};
use crate::error::{Error, Result};
use crate::sys::{self, Cloned, Parent};
use crate::{Kind, NamespacePlan, join};

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

    /// Joins `flags` of its namespaces. A pid namespace is for the next child.
    fn join(&self, flags: CloneFlags) -> Result<()> {
        if flags.is_empty() {
            return Ok(());
        }
        setns(&self.pidfd, flags)
            .map_err(|err| Error::new(format!("join the namespaces of process {}", self.pid), err))
    }

    /// Joins all but those in `except`, and becomes root of its user namespace.
    fn join_all(&self, except: CloneFlags) -> Result<()> {
        self.join(self.others - except)?;
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

/// Starts a process in the namespaces of `neighbour`, and in the v2 cgroup
/// whose directory `cgroup` is if the kernel lets it ([`Child::is_in_cgroup`]).
/// It runs `child` and ends with the status that returns; `child` is told
/// whether all namespaces could be joined.
///
/// From before it can be seen in the namespaces until its execve, others there
/// cannot look into it (CVE-2016-9962).
///
/// The caller must be single-threaded.
///
/// # Errors
/// The neighbour has ended, or the caller may not join it.
pub fn spawn_beside(
    neighbour: &Neighbour,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<Child> {
    let pid_flag = Kind::Pid.flag();
    let mut host = HostNamespaces::default();
    if neighbour.has_own(Kind::Pid) {
        if !join::may_come_back(Kind::Pid)? {
            return spawn_through_middle(neighbour, cgroup, child);
        }
        let own = join::own(Kind::Pid)?;
        match setns(&neighbour.pidfd, pid_flag) {
            Ok(()) => host.will_return_to(own),
            // Its user namespace must be entered first, which the caller does
            // not come back from: another process has to.
            Err(Errno::EPERM) if neighbour.has_own(Kind::User) => {
                return spawn_through_middle(neighbour, cgroup, child);
            }
            Err(err) => {
                let doing = format!("join the pid namespace of process {}", neighbour.pid);
                return Err(Error::new(doing, err));
            }
        }
    }
    host.hide()?;
    let cloned = clone_into(CloneFlags::empty(), cgroup, Parent::Caller);
    if let Ok((Cloned::Child, _)) = cloned {
        sys::exit_now(child(neighbour.join_all(pid_flag)))
    }
    host.restore()?;
    started(cloned?)
}

fn started((cloned, in_cgroup): (Cloned, bool)) -> Result<Child> {
    match cloned {
        Cloned::Parent(pid, pidfd) => Ok(Child::new(pid, pidfd, in_cgroup)),
        Cloned::Child => Err(Error::message("clone3 returned twice as the child")),
    }
}

fn spawn_through_middle(
    neighbour: &Neighbour,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<Child> {
    let (mut host, mut middle) = socketpair()?;
    let cloned = clone_into(CloneFlags::empty(), cgroup, Parent::Caller)?;
    if let (Cloned::Child, _) = cloned {
        drop(host);
        let entered = set_dumpable(false).and_then(|()| neighbour.join_all(CloneFlags::empty()));
        let cloned = entered.and_then(|()| clone(CloneFlags::empty(), Parent::CallersParent));
        sys::exit_now(match cloned {
            Ok(Cloned::Child) => {
                drop(middle);
                child(Ok(()))
            }
            Ok(Cloned::Parent(pid, _)) => i32::from(say(&mut middle, b'p', pid.as_raw()).is_err()),
            Err(error) => tell_error(&mut middle, &error),
        })
    }
    let mut process = started(cloned)?;
    drop(middle);
    let pid = serve_middle(&NamespacePlan::default(), process.pid(), &mut host)?;
    process.wait()?;
    // Reaped: its pid may be another's by now.
    process.keep();
    let pidfd = sys::pidfd_open(pid).map_err(|err| Error::new(format!("pidfd_open {pid}"), err))?;
    Ok(Child::new(pid, pidfd, process.is_in_cgroup()))
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
