//! The cgroup hierarchies that a process can see. `teu-cgroups` finds them.

use std::path::PathBuf;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Controller names as in /proc/self/cgroup ("cpu", "name=systemd"). Empty for cgroup
    /// v2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The process's own cgroup, relative to the mountpoint. Empty if the cgroup is not
    /// visible through the mount, as in a container that sees another part of the tree.
    pub own: PathBuf,
    /// The mount options of a v2 hierarchy as a whole, such as `nsdelegate` (cgroups(7),
    /// "Cgroups delegation").
    pub flags: Vec<String>,
}

/// All hierarchies that a container can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Those of cgroup v1.
    pub v1: Vec<Hierarchy>,
    /// That of cgroup v2.
    pub v2: Option<Hierarchy>,
}

/// The directories of a container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories {
    /// Those of cgroup v1, in the order of [`Hierarchies::v1`].
    pub v1: Vec<PathBuf>,
    /// That of cgroup v2.
    pub v2: Option<PathBuf>,
}
