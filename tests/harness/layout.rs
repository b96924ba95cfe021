//! Gives the running test other cgroup layouts than this machine's, in its own mount
//! namespace. Dropping a layout restores the machine's.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::scratch;

const USUAL_PLACE: &str = "/sys/fs/cgroup";

/// A mount that is unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a filesystem of this type. A missing directory is made.
    pub(crate) fn new(kind: &str, target: impl Into<PathBuf>, data: &str) -> Mounted {
        Mounted::with_flags(kind, target, MsFlags::empty(), data)
    }

    pub(crate) fn with_flags(
        kind: &str,
        target: impl Into<PathBuf>,
        flags: MsFlags,
        data: &str,
    ) -> Mounted {
        Mounted::any(Path::new("none"), target.into(), Some(kind), flags, data)
    }

    /// Bind-mounts a file or directory. A file needs an existing target.
    pub(crate) fn bind(source: &Path, target: impl Into<PathBuf>) -> Mounted {
        Mounted::any(source, target.into(), None, MsFlags::MS_BIND, "")
    }

    fn any(
        source: &Path,
        target: PathBuf,
        kind: Option<&str>,
        flags: MsFlags,
        data: &str,
    ) -> Mounted {
        if !target.exists() {
            fs::create_dir_all(&target).expect("make the mountpoint");
        }
        let mounted = mount(Some(source), &target, kind, flags, Some(data));
        mounted.unwrap_or_else(|error| panic!("mount on {target:?}: {error}"));
        Mounted(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("unmount");
    }
}

/// Remembers the controllers enabled at the root of a v2 hierarchy, and disables the others
/// when dropped. Such a test needs `Alone`.
#[derive(Debug)]
pub(crate) struct EnabledControllers {
    control: PathBuf,
    before: String,
}

impl EnabledControllers {
    /// Notes the enabled controllers of the root mounted at this path.
    pub(crate) fn of(root: &str) -> EnabledControllers {
        let control = Path::new(root).join("cgroup.subtree_control");
        let before = fs::read_to_string(&control).expect("read the enabled controllers");
        EnabledControllers { control, before }
    }
}

impl Drop for EnabledControllers {
    fn drop(&mut self) {
        let now = fs::read_to_string(&self.control).expect("read the enabled controllers");
        for name in now.split_whitespace() {
            if !self.before.split_whitespace().any(|one| one == name) {
                fs::write(&self.control, format!("-{name}")).expect("disable a controller");
            }
        }
    }
}

/// Mounts only cgroup v2 in the usual place, if that is not so already. A test with it needs
/// `Alone`, because the runtime enables all controllers of such a host.
#[derive(Debug)]
pub(crate) struct V2Alone {
    // Fields are dropped in this order.
    _controllers: EnabledControllers,
    _mounted: Option<Mounted>,
}

impl V2Alone {
    pub(crate) fn new() -> V2Alone {
        let is_so = V2Alone::path("cgroup.controllers").exists();
        // Bind-mount an existing hierarchy, because a new mount would change its options.
        let unified = Path::new("/sys/fs/cgroup/unified");
        let mounted = (!is_so).then(|| match unified.join("cgroup.procs").exists() {
            true => Mounted::bind(unified, USUAL_PLACE),
            false => Mounted::new("cgroup2", USUAL_PLACE, ""),
        });
        V2Alone {
            _controllers: EnabledControllers::of(USUAL_PLACE),
            _mounted: mounted,
        }
    }

    /// The path of a file or cgroup in the hierarchy.
    pub(crate) fn path(path: &str) -> PathBuf {
        Path::new(USUAL_PLACE).join(path)
    }
}

/// Moves all v1 hierarchies to another place and leaves the usual place empty.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    // Fields are dropped in this order.
    _nothing: Mounted,
    _moved: Vec<Mounted>,
    pub(crate) place: PathBuf,
}

impl Elsewhere {
    pub(crate) fn new() -> Elsewhere {
        let place = scratch().join("else where");
        let mut moved = Vec::new();
        for entry in fs::read_dir(USUAL_PLACE)
            .expect("list the hierarchies")
            .flatten()
        {
            let is_v1 = entry.path().join("release_agent").exists();
            // Skip the links for controllers that share a mount.
            if is_v1 && !entry.path().is_symlink() {
                // A name from which a controller cannot be guessed.
                let name = format!("h-{}", entry.file_name().to_string_lossy());
                moved.push(Mounted::bind(&entry.path(), place.join(name)));
            }
        }
        Elsewhere {
            _nothing: Mounted::new("tmpfs", USUAL_PLACE, ""),
            _moved: moved,
            place,
        }
    }
}
