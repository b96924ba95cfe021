//! Lets a process move itself into its cgroups of v1, because that is faster than being
//! moved by another process.
//!
//! While the kernel moves a process, no process may fork. If no process was moved for some
//! milliseconds, the kernel first waits for an RCU grace period, which takes 10 ms or more.
//! A single-threaded process that moves itself does not wait (Linux 5.5). The parent opens
//! the files with [`Cgroup::entrance`], and the child calls [`Entrance::enter`].
//!
//! On cgroup v2, clone(2) puts the child into its cgroup instead: see
//! [`Cgroup::clone_target`].

use std::fs::File;
use std::io::{self, Write};

use crate::Cgroup;
use crate::unit_cgroup::UnitOfCgroup;

/// The open files of a cgroup's v1 directories, for a process that moves itself.
#[derive(Debug)]
pub struct Entrance {
    /// The file "tasks" of each directory.
    tasks: Vec<File>,
}

/// The hierarchies that a process has entered before [`Cgroup::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entered {
    /// The process entered the v1 hierarchies through an [`Entrance`].
    pub v1: bool,
    /// The process was cloned into [`Cgroup::clone_target`].
    pub v2: bool,
}

impl Cgroup {
    /// Opens the v1 directories for a process that moves itself. Returns `None` if the process
    /// cannot do so: there are no v1 directories, systemd makes them later, the process of a
    /// rootless user may have to stay outside some of them, or a directory cannot be opened.
    /// [`Cgroup::enter`] moves it then, and reports why a directory cannot be opened.
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
    /// Moves this process, which must be single-threaded, into the cgroups. It may be in
    /// other namespaces than the process that opened the files. After an error, it may be in
    /// some of the cgroups.
    ///
    /// # Errors
    /// Returns an error if a cgroup was removed or refuses the process.
    pub fn enter(&self) -> io::Result<()> {
        self.tasks
            .iter()
            .try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}
