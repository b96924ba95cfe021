//! Decides the path of a container's cgroup in each hierarchy, from the runtime
//! specification's `linux.cgroupsPath`. Nothing is made here.

use std::path::{Component, Path, PathBuf};

use crate::error::PlanError;
use crate::hierarchy::Hierarchy;

/// The path of a container's cgroup, which applies to every hierarchy (runtime-spec,
/// config-linux.md, "Cgroups Path").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath {
    inner: PathBuf,
    absolute: bool,
    explicit: bool,
}

impl CgroupPath {
    /// Makes the path from `linux.cgroupsPath`. If it is absent or empty, the container's
    /// id is taken as a relative path. As in runc, `..` is resolved as if the path began
    /// at the root directory, so it does not lead out of the hierarchy.
    ///
    /// # Errors
    /// Returns an error if the result is the root of the hierarchy.
    ///
    /// ```
    /// use std::path::Path;
    /// use teu_cgroups_types::CgroupPath;
    ///
    /// assert!(CgroupPath::new(Some(Path::new("/pods/a")), "id")?.is_explicit());
    /// assert!(CgroupPath::new(Some(Path::new("/pods/..")), "id").is_err());
    /// # Ok::<(), teu_cgroups_types::PlanError>(())
    /// ```
    pub fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<CgroupPath, PlanError> {
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let path = given.unwrap_or(Path::new(container_id));
        let inner = clean(path);
        if inner.as_os_str().is_empty() {
            let reason = "is the root of the hierarchy, which no container can have";
            return Err(PlanError::Path {
                path: path.to_owned(),
                reason,
            });
        }
        Ok(CgroupPath {
            inner,
            absolute: path.is_absolute(),
            explicit: given.is_some(),
        })
    }

    /// Returns whether the specification gave a path. If it did, a rootless user's lack of
    /// permission is an error; otherwise the hierarchy is left out.
    pub fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// Returns the directory in a cgroup v1 hierarchy, or in the v2 hierarchy of a hybrid
    /// host. A relative path begins at this process's own cgroup.
    pub fn below_own(&self, hierarchy: &Hierarchy) -> PathBuf {
        let start = if self.absolute {
            Path::new("")
        } else {
            &hierarchy.own
        };
        hierarchy.mountpoint.join(start).join(&self.inner)
    }

    /// Returns the directory in the v2 hierarchy.
    pub fn on_v2(&self, hierarchy: &Hierarchy, is_hybrid: bool) -> PathBuf {
        if is_hybrid {
            self.below_own(hierarchy)
        } else {
            self.beside_own(hierarchy)
        }
    }

    /// Returns the directory on a host with cgroup v2 only. A relative path begins at the
    /// parent of this process's own cgroup. The own cgroup has processes in it, so it
    /// cannot enable controllers for cgroups below it (kernel, cgroup-v2.rst, "No Internal
    /// Process Constraint").
    pub fn beside_own(&self, hierarchy: &Hierarchy) -> PathBuf {
        let parent = hierarchy.own.parent().unwrap_or(Path::new(""));
        let start = if self.absolute { Path::new("") } else { parent };
        hierarchy.mountpoint.join(start).join(&self.inner)
    }
}

/// Returns `path` relative to the root directory, without `.`, `..` and doubled slashes.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(own: &str) -> Hierarchy {
        Hierarchy {
            controllers: Vec::new(),
            mountpoint: "/cg".into(),
            own: own.into(),
            flags: Vec::new(),
        }
    }

    #[test]
    fn directories_on_v1_and_v2() {
        // (cgroupsPath, own cgroup, on v1, on v2)
        let table = [
            ("", "", "/cg/id", "/cg/id"),
            ("", "a/b", "/cg/a/b/id", "/cg/a/id"),
            ("x/y", "a", "/cg/a/x/y", "/cg/x/y"),
            ("/x/y", "a/b", "/cg/x/y", "/cg/x/y"),
            ("../../x", "a/b", "/cg/a/b/x", "/cg/a/x"),
            ("/x/../../y//.", "a/b", "/cg/y", "/cg/y"),
        ];
        for (given, own, v1, v2) in table {
            let path = CgroupPath::new(Some(Path::new(given)), "id").unwrap();
            assert_eq!(
                path.below_own(&hierarchy(own)),
                Path::new(v1),
                "{given:?} {own:?}"
            );
            assert_eq!(
                path.beside_own(&hierarchy(own)),
                Path::new(v2),
                "{given:?} {own:?}"
            );
            assert_eq!(path.is_explicit(), !given.is_empty());
        }
    }

    #[test]
    fn the_root_is_refused() {
        for given in ["/", "..", "/a/.."] {
            let error = CgroupPath::new(Some(Path::new(given)), "id").unwrap_err();
            assert!(
                error.to_string().contains("is the root of the hierarchy"),
                "{error}"
            );
        }
    }
}
