//! Linux namespaces: make new ones, join existing ones, map ids, set time
//! offsets, and start a process in them.
//!
//! Not for: what the process then does, mounts, cgroups, container bundles.

mod beside;
mod clone;
mod error;
pub mod id_maps;
pub mod idmap_mount;
mod join;
mod kind;
mod sys;
mod time;

use std::path::{Path, PathBuf};

pub use beside::{Neighbour, Pending, spawn_beside, spawn_inside};
pub use clone::{Child, spawn};
pub use error::{Error, Result};
pub use kind::Kind;

/// What to do about one kind of namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Stay in the caller's.
    #[default]
    Inherited,
    /// Make a new one.
    New,
    /// Join the one at this path (such as `/proc/PID/ns/net`).
    Joined(PathBuf),
}

/// One line of an id map: `size` ids from `container` on are the ids from
/// `host` on outside (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

impl IdMap {
    /// What an id of the container is outside, if it is of this line.
    fn host_id(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container)?;
        match offset < self.size {
            true => self.host.checked_add(offset),
            false => None,
        }
    }
}

/// The maps of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    pub uid: Vec<IdMap>,
    pub gid: Vec<IdMap>,
    /// Write "deny" to `setgroups` first, as an unprivileged writer of a
    /// single gid must.
    pub deny_setgroups: bool,
}

impl IdMaps {
    /// What a user id of the container is outside; `None` if it is not mapped.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        self.uid.iter().find_map(|line| line.host_id(uid))
    }

    /// The same for a group id.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        self.gid.iter().find_map(|line| line.host_id(gid))
    }
}

/// Offset of one clock of a new time namespace (time_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    pub secs: i64,
    pub nanosecs: u32,
}

/// Everything about the namespaces of a process to be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePlan {
    namespaces: [Namespace; Kind::ALL.len()],
    /// Maps of the user namespace: to be written when it is new; the known
    /// ones of a joined namespace.
    pub id_maps: IdMaps,
    /// Offsets for a new time namespace.
    pub time_offsets: Vec<TimeOffset>,
    /// The child has to be in its network namespace when [`spawn`] returns. Else
    /// it makes or joins that by itself, while its parent goes on: to make one
    /// takes the kernel most of the time of a start.
    pub network_at_once: bool,
}

impl NamespacePlan {
    /// What is planned for `kind`.
    pub fn get(&self, kind: Kind) -> &Namespace {
        &self.namespaces[kind.index()]
    }

    /// Plans `namespace` for `kind`.
    pub fn set(&mut self, kind: Kind, namespace: Namespace) {
        self.namespaces[kind.index()] = namespace;
    }

    /// Whether the process gets a new namespace of this kind.
    pub fn is_new(&self, kind: Kind) -> bool {
        *self.get(kind) == Namespace::New
    }

    /// Whether the process leaves the caller's namespace of this kind.
    pub fn is_private(&self, kind: Kind) -> bool {
        *self.get(kind) != Namespace::Inherited
    }

    /// The path to join for `kind`, if that is the plan.
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
    fn an_id_outside_is_that_of_its_line() {
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
        // Beyond the last id there is none.
        assert_eq!([0, 1].map(|gid| maps.host_gid(gid)), [Some(u32::MAX), None]);
    }
}
