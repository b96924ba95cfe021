//! Describes the host's hierarchies for a mount of type "cgroup" in the container. The
//! caller makes the mount.

use std::path::{Path, PathBuf};

use crate::hierarchy::{Directories, Hierarchies, Hierarchy};

/// The host's hierarchies, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// There is at least one v1 hierarchy: mount a tmpfs with a directory for each of
    /// these.
    V1(Vec<HierarchyView>),
    /// There is only cgroup v2.
    V2 {
        /// The container's cgroup on the host, or this process's own if a rootless user
        /// could not make one.
        directory: PathBuf,
        /// The mountpoint on the host.
        mountpoint: PathBuf,
        /// The mount options of the hierarchy. In the initial cgroup namespace, another
        /// mount without them would remove them for the whole machine.
        flags: Vec<String>,
    },
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchyView {
    /// The mount options that select the hierarchy, such as "cpu,cpuacct" or
    /// "name=systemd".
    pub options: String,
    /// The last part of the host's mountpoint, such as "cpu,cpuacct" or "systemd".
    pub name: String,
    /// The container's cgroup on the host, or this process's own if a rootless user could
    /// not make one.
    pub directory: PathBuf,
    /// The symbolic links to `name` that the container needs: one for each controller of a
    /// hierarchy with several.
    pub links: Vec<String>,
}

impl Layout {
    /// Describes the hierarchies. `directories` are those of the container's cgroup, if it
    /// has one of its own.
    pub(crate) fn new(hierarchies: &Hierarchies, directories: Directories) -> Layout {
        match (&hierarchies.v2, hierarchies.v1.is_empty()) {
            (Some(hierarchy), true) => Layout::V2 {
                directory: directories.v2.unwrap_or_else(|| own(hierarchy)),
                mountpoint: hierarchy.mountpoint.clone(),
                flags: hierarchy.flags.clone(),
            },
            _ => {
                let made = directories.v1.into_iter().map(Some);
                let made = made.chain(std::iter::repeat(None));
                let views = hierarchies.v1.iter().zip(made);
                Layout::V1(
                    views
                        .map(|(hierarchy, made)| view(hierarchy, made))
                        .collect(),
                )
            }
        }
    }
}

/// Returns the directory of this process's own cgroup.
fn own(hierarchy: &Hierarchy) -> PathBuf {
    hierarchy.mountpoint.join(&hierarchy.own)
}

fn view(hierarchy: &Hierarchy, made: Option<PathBuf>) -> HierarchyView {
    let Hierarchy {
        controllers,
        mountpoint,
        ..
    } = hierarchy;
    let name = mountpoint.file_name().unwrap_or(Path::new("").as_os_str());
    let name = name.to_string_lossy().into_owned();
    let links = match controllers.len() {
        ..2 => Vec::new(),
        _ => controllers
            .iter()
            .filter(|controller| **controller != name)
            .cloned()
            .collect(),
    };
    HierarchyView {
        options: controllers.join(","),
        name,
        directory: made.unwrap_or_else(|| own(hierarchy)),
        links,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(controllers: &[&str], mountpoint: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            mountpoint: mountpoint.into(),
            own: "user".into(),
            flags: Vec::new(),
        }
    }

    #[test]
    fn v1_with_a_shared_hierarchy() {
        let hierarchies = Hierarchies {
            v1: vec![
                hierarchy(&["cpu", "cpuacct"], "/cg/cpu,cpuacct"),
                hierarchy(&["name=systemd"], "/cg/systemd"),
            ],
            v2: Some(hierarchy(&[], "/cg/unified")),
        };
        let views = |shared: &str, named: &str| {
            Layout::V1(vec![
                HierarchyView {
                    options: "cpu,cpuacct".into(),
                    name: "cpu,cpuacct".into(),
                    directory: shared.into(),
                    links: vec!["cpu".into(), "cpuacct".into()],
                },
                HierarchyView {
                    options: "name=systemd".into(),
                    name: "systemd".into(),
                    directory: named.into(),
                    links: Vec::new(),
                },
            ])
        };
        let made = Directories {
            v1: vec!["/cg/cpu,cpuacct/c".into(), "/cg/systemd/c".into()],
            v2: Some("/cg/unified/c".into()),
        };
        assert_eq!(
            Layout::new(&hierarchies, made),
            views("/cg/cpu,cpuacct/c", "/cg/systemd/c")
        );
        // The container has no cgroup of its own.
        assert_eq!(
            Layout::new(&hierarchies, Directories::default()),
            views("/cg/cpu,cpuacct/user", "/cg/systemd/user")
        );
    }

    #[test]
    fn v2() {
        let hierarchies = Hierarchies {
            v1: Vec::new(),
            v2: Some(hierarchy(&[], "/cg")),
        };
        let directory = PathBuf::from("/cg/c");
        let made = Directories {
            v1: Vec::new(),
            v2: Some(directory.clone()),
        };
        assert_eq!(
            Layout::new(&hierarchies, made),
            Layout::V2 {
                directory,
                mountpoint: "/cg".into(),
                flags: Vec::new(),
            }
        );
    }
}
