//! Shared by the tests: names and plans of cgroups, processes to put into them, and checks of
//! what the machine has.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use teu_cgroups::*;

pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;

pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("teu-cgroups-test-{}-{number}-{name}", std::process::id())
}

pub(crate) fn plan(path: &str, limits: Limits) -> CgroupPlan {
    CgroupPlan {
        driver: Driver::Filesystem,
        path: CgroupPath::new(Some(Path::new(&format!("/{path}"))), "id").unwrap(),
        limits,
        rootless: false,
    }
}

pub(crate) fn prepare(plan: &CgroupPlan) -> Result<Cgroup> {
    Cgroup::prepare(plan, &teu_cgroups::locate().unwrap(), None)
}

/// Returns whether the machine has these controllers of cgroup v1, and a v2 hierarchy for "".
/// Prints a skip if it does not.
pub(crate) fn has(controllers: &[&str]) -> bool {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let on_v1 = |name: &str| {
        cgroup.lines().any(|line| {
            let field = line.split(':').nth(1).unwrap_or_default();
            field.split(',').any(|one| one == name) && !line.starts_with("0:")
        })
    };
    let missing = controllers.iter().find(|name| match **name {
        "" => unified().is_none(),
        name => !on_v1(name),
    });
    is_root() && missing.is_none_or(|name| skip(&format!("needs a hierarchy of {name:?}")))
}

/// Returns whether the machine has cgroup v2 only, with these controllers. Prints a skip if it
/// does not.
pub(crate) fn has_v2_only(controllers: &[&str]) -> bool {
    let present = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let Ok(present) = present else {
        return skip("needs a host with cgroup v2 only");
    };
    let missing = controllers
        .iter()
        .find(|name| !present.split_whitespace().any(|one| one == **name));
    is_root() && missing.is_none_or(|name| skip(&format!("needs the controller {name:?}")))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root() || skip("needs root")
}

/// Prints a skip in the form that `integration/test` counts.
fn skip(why: &str) -> bool {
    eprintln!("[skipped] {why}");
    false
}

pub(crate) fn unified() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    places
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.join("cgroup.controllers").exists())
}

/// A process to put into cgroups. Dropping it kills the process.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
    }

    /// Starts a shell that waits, and that allocates eight megabytes on request.
    pub(crate) fn waiting_in_shell() -> Sleeper {
        let script = "read go; x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo; read end";
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Sleeper(shell.spawn().unwrap())
    }

    pub(crate) fn let_shell_allocate(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.number())
    }

    pub(crate) fn number(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    pub(crate) fn ends(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if self.0.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(crate) fn file(cgroup: &Cgroup, controller: &str, name: &str) -> String {
    let saved = cgroup.saved_paths();
    let path = saved.get(controller).unwrap().join(name);
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

/// A cgroup of the v2 hierarchy alone, on any host.
pub(crate) struct Unified {
    pub(crate) path: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl Unified {
    pub(crate) fn new(name: &str) -> Unified {
        let path = unified().unwrap().join(unique(name));
        let saved = serde_json::json!({ "unit": null, "": path.to_str().unwrap() });
        // Parse before making the directory, so that a panic leaves nothing behind.
        let saved: SavedPaths = serde_json::from_value(saved).unwrap();
        std::fs::create_dir(&path).unwrap();
        Unified {
            path,
            cgroup: Cgroup::open(&saved),
        }
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        self.cgroup.remove().unwrap();
    }
}

/// Restores the controllers that the v2 root enables. Tests that change them run one at a
/// time.
pub(crate) struct EnabledControllers {
    before: String,
    control: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl EnabledControllers {
    pub(crate) fn restore_at_end() -> EnabledControllers {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let control = unified().unwrap().join("cgroup.subtree_control");
        EnabledControllers {
            before: std::fs::read_to_string(&control).unwrap(),
            control,
            _turn: turn,
        }
    }
}

impl Drop for EnabledControllers {
    fn drop(&mut self) {
        let now = std::fs::read_to_string(&self.control).unwrap();
        for name in now.split_whitespace() {
            if !self.before.split_whitespace().any(|one| one == name) {
                std::fs::write(&self.control, format!("-{name}")).unwrap();
            }
        }
    }
}
