//! Other layouts of control groups than this machine's, in the mount namespace
//! of the running test. Dropped, each takes back what it did.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::scratch;

const USUAL_PLACE: &str = "/sys/fs/cgroup";

/// A mount for the length of a test.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A new mount of this type, on a directory that is made if missing.
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

    /// The same directory, or file, in another place; a file needs one there.
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

/// Takes back what a test makes the root of a v2 hierarchy hand down; such a
/// test needs `Alone`.
#[derive(Debug)]
pub(crate) struct HandedDown {
    control: PathBuf,
    before: String,
}

impl HandedDown {
    /// From here on, at the root that is mounted there.
    pub(crate) fn by(root: &str) -> HandedDown {
        let control = Path::new(root).join("cgroup.subtree_control");
        let before = fs::read_to_string(&control).expect("read what is handed down");
        HandedDown { control, before }
    }
}

impl Drop for HandedDown {
    fn drop(&mut self) {
        let now = fs::read_to_string(&self.control).expect("read what is handed down");
        for name in now.split_whitespace() {
            if !self.before.split_whitespace().any(|one| one == name) {
                fs::write(&self.control, format!("-{name}")).expect("take a controller back");
            }
        }
    }
}

/// cgroup v2 alone in the usual place; nothing changes where it is that. The
/// runtime hands down all controllers of such a host, so needs `Alone`.
#[derive(Debug)]
pub(crate) struct V2Alone {
    // Dropped in this order.
    _handed_down: HandedDown,
    _mounted: Option<Mounted>,
}

impl V2Alone {
    pub(crate) fn new() -> V2Alone {
        let is_so = V2Alone::path("cgroup.controllers").exists();
        // A new mount would change the options of the one that is there: they
        // are the hierarchy's.
        let unified = Path::new("/sys/fs/cgroup/unified");
        let mounted = (!is_so).then(|| match unified.join("cgroup.procs").exists() {
            true => Mounted::bind(unified, USUAL_PLACE),
            false => Mounted::new("cgroup2", USUAL_PLACE, ""),
        });
        V2Alone {
            _handed_down: HandedDown::by(USUAL_PLACE),
            _mounted: mounted,
        }
    }

    /// A file or cgroup of the hierarchy.
    pub(crate) fn path(path: &str) -> PathBuf {
        Path::new(USUAL_PLACE).join(path)
    }
}

/// All v1 hierarchies somewhere else, and nothing where they usually are.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    // Dropped in this order.
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
            // The links for controllers mounted together need none.
            if is_v1 && !entry.path().is_symlink() {
                // Not the names one would guess a controller from.
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
