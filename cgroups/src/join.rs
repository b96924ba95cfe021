//! Finds the cgroup for a further process of a container: the container's cgroup, a
//! cgroup below it, or the cgroup into which its init process has moved.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use crate::Cgroup;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::hierarchy;
use crate::saved::SavedPaths;

impl Cgroup {
    /// Opens cgroups below the container's. `below` has a path for each v1 controller; the
    /// path of the empty name applies to all hierarchies.
    ///
    /// # Errors
    /// Returns an error if a path leads out of the container's cgroup, or if the container
    /// has no cgroup of a controller.
    pub fn open_below(saved: &SavedPaths, below: &BTreeMap<String, String>) -> Result<Cgroup> {
        let mut cgroup = Cgroup::open(saved);
        for (controller, sub) in below {
            let mut found = false;
            for member in &mut cgroup.v1 {
                if controller.is_empty() || member.has(controller) {
                    // Begin at the saved path, not at `directory`: controllers that
                    // share a hierarchy are named one by one.
                    let base = member.controllers.first().and_then(|name| saved.get(name));
                    member.directory = descend(base.unwrap_or(&member.directory.path), sub)?;
                    found = true;
                }
            }
            if let Some(directory) = cgroup.v2.as_mut().filter(|_| controller.is_empty()) {
                *directory = descend(&directory.path, sub)?;
                found = true;
            }
            if !found {
                return Err(Error::UnknownController {
                    name: controller.clone(),
                });
            }
        }
        Ok(cgroup)
    }

    /// With `lenient`, [`Cgroup::enter`] leaves out hierarchies that this user may not
    /// join, as for a rootless container.
    #[must_use]
    pub fn or_leave_out(mut self, lenient: bool) -> Cgroup {
        self.lenient = lenient;
        self
    }

    /// Finds the cgroup of a process on a host with cgroup v2 only. Returns `None` on other
    /// hosts. A service manager in a container moves out of the container's cgroup,
    /// because no process may be in a cgroup that enables controllers for cgroups below it
    /// (cgroups(7), "no internal processes").
    ///
    /// # Errors
    /// Returns an error if the process has exited, or if its cgroup cannot be found.
    pub fn v2_of(pid: Pid) -> Result<Option<Cgroup>> {
        let hierarchies = hierarchy::of_process(pid)?;
        let v2 = hierarchies.v2.filter(|_| hierarchies.v1.is_empty());
        let directory = v2.map(|own| Directory::new(own.mountpoint.join(own.own)));
        Ok(directory.map(|directory| Cgroup::of(Vec::new(), Some(directory))))
    }
}

/// Returns the directory `sub` below `base`. Refuses a ".." that leads out of `base`; the
/// check of the text is enough, because a cgroup file system has no symbolic links.
fn descend(base: &Path, sub: &str) -> Result<Directory> {
    let mut names = PathBuf::new();
    for component in Path::new(sub).components() {
        let is_inside = match component {
            Component::Normal(name) => {
                names.push(name);
                true
            }
            Component::ParentDir => names.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => true,
        };
        if !is_inside {
            return Err(Error::OutOfCgroup {
                path: sub.to_owned(),
            });
        }
    }
    // Not `base.join(names)`, which adds a slash if `names` is empty.
    Ok(Directory::new(
        base.components()
            .chain(names.components())
            .collect::<PathBuf>(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedPaths {
        let text = r#"{"unit":null,"":"/u/a","cpu":"/cpu,cpuacct/a","cpuacct":"/cpu,cpuacct/a","pids":"/pids/a"}"#;
        serde_json::from_str(text).expect("json")
    }

    fn below(pairs: &[(&str, &str)]) -> Result<Vec<PathBuf>> {
        let pairs = pairs
            .iter()
            .map(|(name, sub)| ((*name).to_owned(), (*sub).to_owned()));
        let cgroup = Cgroup::open_below(&saved(), &pairs.collect())?;
        Ok(cgroup
            .directories()
            .map(|directory| directory.path.clone())
            .collect())
    }

    #[test]
    fn cgroups_below_in_all_or_some_hierarchies() {
        for (pairs, paths) in [
            (&[][..], ["/cpu,cpuacct/a", "/pids/a", "/u/a"]),
            (&[("", "/")], ["/cpu,cpuacct/a", "/pids/a", "/u/a"]),
            (&[("", "b")], ["/cpu,cpuacct/a/b", "/pids/a/b", "/u/a/b"]),
            (
                &[("", "/b/./c/../d/")],
                ["/cpu,cpuacct/a/b/d", "/pids/a/b/d", "/u/a/b/d"],
            ),
            (
                &[("cpu", "b"), ("cpuacct", "b")],
                ["/cpu,cpuacct/a/b", "/pids/a", "/u/a"],
            ),
            (
                &[("cpuacct", "b"), ("pids", "c")],
                ["/cpu,cpuacct/a/b", "/pids/a/c", "/u/a"],
            ),
        ] {
            assert_eq!(
                below(pairs).expect("below"),
                paths.map(PathBuf::from),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn paths_outside_and_unknown_controllers_are_refused() {
        for (pair, words) in [
            (("", ".."), "bad sub cgroup path: .."),
            (("pids", "a/../../a2"), "bad sub cgroup path: a/../../a2"),
            (
                ("whaaat", "/"),
                "unknown controller whaaat in SubCgroupPaths",
            ),
        ] {
            let error = below(&[pair]).expect_err("refused");
            assert_eq!(error.to_string(), words);
        }
    }
}
