//! Where in each hierarchy the container's cgroup is (linux.cgroupsPath).

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::hierarchy::Hierarchy;

/// The decided place of a container's cgroup, the same text for every
/// hierarchy (runtime-spec, config-linux.md, "Cgroups Path").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath {
    inner: PathBuf,
    absolute: bool,
    explicit: bool,
}

impl CgroupPath {
    /// From `linux.cgroupsPath`; none or an empty one means the container's id
    /// as a relative path. `..` never leads out: it is resolved as if the path
    /// began at a root, as runc does.
    ///
    /// Errors: a path that comes out as the root of the hierarchy, which can
    /// belong to no container.
    pub fn new(cgroups_path: Option<&Path>, container_id: &str) -> Result<CgroupPath> {
        let given = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        let path = given.unwrap_or(Path::new(container_id));
        let inner = clean(path);
        if inner.as_os_str().is_empty() {
            let reason = "is the root of the hierarchy, which no container can have";
            return Err(Error::Path {
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

    /// Whether the spec gave a path; only without one may a rootless user's
    /// lack of permission be passed over.
    pub fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// The directory in a cgroup v1 hierarchy, or in the v2 part of a hybrid
    /// one: relative paths begin at our own cgroup.
    pub(crate) fn below_own(&self, hierarchy: &Hierarchy) -> PathBuf {
        let start = if self.absolute {
            Path::new("")
        } else {
            &hierarchy.own
        };
        hierarchy.mountpoint.join(start).join(&self.inner)
    }

    /// The directory in the v2 hierarchy.
    pub(crate) fn on_v2(&self, hierarchy: &Hierarchy, is_hybrid: bool) -> PathBuf {
        if is_hybrid {
            self.below_own(hierarchy)
        } else {
            self.beside_own(hierarchy)
        }
    }

    /// The directory in a pure cgroup v2 hierarchy: relative paths begin at the
    /// parent of our own cgroup, which has processes in it (at least us) and so
    /// cannot pass controllers on (kernel, cgroup-v2.rst, "No Internal Process
    /// Constraint").
    pub(crate) fn beside_own(&self, hierarchy: &Hierarchy) -> PathBuf {
        let parent = hierarchy.own.parent().unwrap_or(Path::new(""));
        let start = if self.absolute { Path::new("") } else { parent };
        hierarchy.mountpoint.join(start).join(&self.inner)
    }
}

/// `path` below an imaginary root, without `.`, `..` and doubled slashes.
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
    fn places() {
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
                error.to_string().starts_with("linux.cgroupsPath: "),
                "{error}"
            );
        }
    }
}
