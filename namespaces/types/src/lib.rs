//! The namespaces of a process to be started, as plain data: for each [`Kind`] whether the
//! process stays in its parent's namespace, gets a new one, or joins one at a path.
//!
//! The crate makes no system call. The crate `teu-namespaces` starts the process.
//!
//! # Example
//!
//! ```
//! use teu_namespaces_types::{Kind, Namespace, NamespacePlan};
//!
//! let mut plan = NamespacePlan::default();
//! plan.set(Kind::Uts, Namespace::New);
//! assert!(plan.is_new(Kind::Uts) && !plan.is_private(Kind::Network));
//! ```

#![warn(missing_docs, clippy::missing_errors_doc)]

mod kind;

use std::path::{Path, PathBuf};

pub use kind::Kind;

/// The plan for one kind of namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Stay in the caller's namespace.
    #[default]
    Inherited,
    /// Make a new namespace.
    New,
    /// Join the namespace at this path (such as `/proc/PID/ns/net`).
    Joined(PathBuf),
}

/// One line of an id map (user_namespaces(7)). It maps `size` consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id inside the user namespace.
    pub container: u32,
    /// The first id outside.
    pub host: u32,
    /// The number of ids.
    pub size: u32,
}

impl IdMap {
    /// Returns the outside id of an inside id, if the line maps the id.
    fn host_id(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container)?;
        match offset < self.size {
            true => self.host.checked_add(offset),
            false => None,
        }
    }
}

/// The id maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// The map of user ids.
    pub uid: Vec<IdMap>,
    /// The map of group ids.
    pub gid: Vec<IdMap>,
    /// Whether to write "deny" to `setgroups` before `gid_map`. The kernel demands this of
    /// unprivileged users, and lets them map only one group.
    pub deny_setgroups: bool,
}

impl IdMaps {
    /// Returns the outside id of an inside user id, or `None` if the id is not
    /// mapped.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        self.uid.iter().find_map(|line| line.host_id(uid))
    }

    /// Returns the outside id of an inside group id, or `None` if the id is not
    /// mapped.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        self.gid.iter().find_map(|line| line.host_id(gid))
    }
}

/// The offset of one clock in a new time namespace (time_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOffset {
    /// The clock: `monotonic` or `boottime`.
    pub clock: String,
    /// The seconds of the offset.
    pub secs: i64,
    /// The nanoseconds of the offset, which are added to the seconds.
    pub nanosecs: u32,
}

/// The namespaces of a process to be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    namespaces: [Namespace; Kind::ALL.len()],
    /// The maps of the user namespace. They are written to a new namespace. For a joined
    /// one they are for the caller's information.
    pub id_maps: IdMaps,
    /// The offsets of a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// Put the child into its network namespace before its start returns. Otherwise
    /// the child makes or joins the namespace while its parent continues, because a
    /// new network namespace takes most of the time of a start.
    pub network_at_once: bool,
}

impl NamespacePlan {
    /// Returns the plan for `kind`.
    pub fn get(&self, kind: Kind) -> &Namespace {
        &self.namespaces[kind.index()]
    }

    /// Sets the plan for `kind`.
    pub fn set(&mut self, kind: Kind, namespace: Namespace) {
        self.namespaces[kind.index()] = namespace;
    }

    /// Returns whether the process gets a new namespace of this kind.
    pub fn is_new(&self, kind: Kind) -> bool {
        *self.get(kind) == Namespace::New
    }

    /// Returns whether the process leaves the caller's namespace of this kind.
    pub fn is_private(&self, kind: Kind) -> bool {
        *self.get(kind) != Namespace::Inherited
    }

    /// Returns the path of the namespace to join, if the process joins one of this
    /// kind.
    pub fn joined(&self, kind: Kind) -> Option<&Path> {
        match self.get(kind) {
            Namespace::Joined(path) => Some(path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_mapped_by_the_line_that_holds_it() {
        let line = |container, host, size| IdMap {
            container,
            host,
            size,
        };
        let maps = IdMaps {
            uid: vec![line(0, 1000, 1), line(5, 2000, 10)],
            gid: vec![line(0, u32::MAX, 2)],
            deny_setgroups: false,
        };
        let uids = [0, 1, 4, 5, 14, 15].map(|uid| maps.host_uid(uid));
        assert_eq!(uids, [Some(1000), None, None, Some(2000), Some(2009), None]);
        // The greatest id has no successor.
        assert_eq!([0, 1].map(|gid| maps.host_gid(gid)), [Some(u32::MAX), None]);
    }
}
