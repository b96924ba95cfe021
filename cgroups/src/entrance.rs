//! The way into cgroup v1 for a process that moves itself.
//!
//! To move a process, the kernel keeps all from forking meanwhile. After some
//! milliseconds without moves it first waits until every processor has heard of that
//! (an RCU grace period), which takes 10 ms and more. A process of one thread that
//! moves itself needs none of this (Linux 5.5). On cgroup v2 there is no such way, but
//! clone(2) puts a child into its cgroup, see [`Cgroup::clone_target`].

use std::fs::File;
use std::io::{self, Write};

use crate::Cgroup;
use crate::unit::UnitOfCgroup;

/// The v1 directories of a cgroup, open to a process that is to move there.
#[derive(Debug)]
pub struct Entrance {
    /// The file "tasks" of each.
    tasks: Vec<File>,
}

/// Where a process is before [`Cgroup::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entered {
    /// It went through an [`Entrance`].
    pub v1: bool,
    /// It began its life in [`Cgroup::clone_target`].
    pub v2: bool,
}

impl Cgroup {
    /// The way into its v1 hierarchies. `None` where there are none, where a process
    /// may have to be left out of one, where systemd is going to make them, and where
    /// they cannot be opened: [`Cgroup::enter`] says why.
    pub fn entrance(&self) -> Option<Entrance> {
        let is_to_be_started = self
            .unit
            .as_ref()
            .is_some_and(UnitOfCgroup::is_to_be_started);
        if self.v1.is_empty() || self.lenient || is_to_be_started {
            return None;
        }
        let members = self.v1.iter();
        let tasks = members.map(|member| member.directory.open_for_writing("tasks"));
        let tasks = tasks.collect::<io::Result<_>>().ok()?;
        Some(Entrance { tasks })
    }
}

impl Entrance {
    /// Moves this process, which has one thread. It may be in any namespaces by now.
    /// After an error it may be in some of the hierarchies.
    ///
    /// Errors: a directory is gone, or does not take it.
    pub fn enter(&self) -> io::Result<()> {
        self.tasks
            .iter()
            .try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}
