//! Reads the files of a process's cgroups, on v1 and on v2.

use std::fs;
use std::path::{Path, PathBuf};

/// The cgroups of a process, by hierarchy.
pub(crate) struct CgroupFiles {
    memberships: String,
}

impl CgroupFiles {
    /// The cgroups of the process with this pid on the host.
    #[track_caller]
    pub(crate) fn of(pid: i32) -> CgroupFiles {
        let memberships = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        CgroupFiles {
            memberships: memberships.expect("read the cgroups of a process"),
        }
    }

    /// Whether the controller is in a v1 hierarchy.
    pub(crate) fn is_v1(&self, controller: &str) -> bool {
        self.inner(controller).is_some()
    }

    /// The cgroup's directory for a controller, by its v1 name. The unified hierarchy serves
    /// controllers that are not in a v1 hierarchy, and the name "".
    #[track_caller]
    pub(crate) fn directory(&self, controller: &str) -> PathBuf {
        match self.inner(controller) {
            Some(path) if !controller.is_empty() => {
                PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}"))
            }
            _ => {
                let path = self.inner("").expect("a membership in cgroup v2");
                let hybrid = Path::new("/sys/fs/cgroup/unified");
                let mount = if hybrid.exists() {
                    hybrid
                } else {
                    Path::new("/sys/fs/cgroup")
                };
                mount.join(path.trim_start_matches('/'))
            }
        }
    }

    /// The cgroup's directory in the unified hierarchy, if that is mounted. The kernel names it
    /// in /proc/PID/cgroup ever since it was mounted once.
    pub(crate) fn unified(&self) -> Option<PathBuf> {
        let is_mounted = super::needs::has_unified_hierarchy();
        is_mounted.then(|| self.directory(""))
    }

    /// The cgroup's directory in a hierarchy whose mount has another name than the controller,
    /// such as "name=systemd".
    #[track_caller]
    pub(crate) fn directory_at(&self, mount: &str, controller: &str) -> PathBuf {
        let path = self.inner(controller).expect("a membership");
        PathBuf::from(format!("/sys/fs/cgroup/{mount}{path}"))
    }

    /// Reads a file of a controller, under its name on v1 or on v2.
    #[track_caller]
    pub(crate) fn read(&self, controller: &str, on_v1: &str, on_v2: &str) -> String {
        let file = if self.is_v1(controller) { on_v1 } else { on_v2 };
        read(&self.directory(controller).join(file))
    }

    /// Makes a cgroup of this name below the container's cgroup, in the controller's hierarchy.
    /// Returns its directory.
    #[track_caller]
    pub(crate) fn make_below(&self, controller: &str, name: &str) -> PathBuf {
        let path = self.directory(controller).join(name);
        fs::create_dir_all(&path).expect("make a cgroup below");
        path
    }

    fn inner(&self, controller: &str) -> Option<&str> {
        self.memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let has = fields.next()?.split(',').any(|name| name == controller);
            has.then(|| fields.next()).flatten()
        })
    }
}

#[track_caller]
fn read(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => panic!("read {}: {error}", path.display()),
    }
}
