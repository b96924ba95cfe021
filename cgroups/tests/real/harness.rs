//! What the tests share: cgroup names, processes to put in, what this machine has.

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
    Cgroup::prepare(plan, &Location::find().unwrap())
}

/// Whether this machine can run the test; a skip is printed. Controllers of
/// cgroup v1 by name, "" for a v2 hierarchy.
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
    is_root() && missing.is_none_or(|name| skip(&format!("no hierarchy {name:?}")))
}

/// The same for a host with cgroup v2 only, by controllers of v2.
pub(crate) fn has_v2_only(controllers: &[&str]) -> bool {
    let present = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let Ok(present) = present else {
        return skip("this is no pure v2 host");
    };
    let missing = controllers
        .iter()
        .find(|name| !present.split_whitespace().any(|one| one == **name));
    is_root() && missing.is_none_or(|name| skip(&format!("no controller {name:?}")))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root() || skip("needs root")
}

fn skip(why: &str) -> bool {
    eprintln!("skipped: {why}");
    false
}

pub(crate) fn unified() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    places
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.join("cgroup.controllers").exists())
}

/// A process to put into cgroups; ended when dropped.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
    }

    /// A shell that waits, and takes eight megabytes when told to.
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

/// A v2-only cgroup on a hybrid host, made by hand and opened.
pub(crate) struct Unified {
    pub(crate) path: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl Unified {
    pub(crate) fn new(name: &str) -> Unified {
        let path = unified().unwrap().join(unique(name));
        let saved = serde_json::json!({ "unit": null, "": path.to_str().unwrap() });
        // Before there is anything that would be left behind.
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

/// Puts the controllers that the unified root hands down back as they were.
/// Tests that change them take turns.
pub(crate) struct HandedDown {
    before: String,
    control: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl HandedDown {
    pub(crate) fn restore_at_end() -> HandedDown {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let control = unified().unwrap().join("cgroup.subtree_control");
        HandedDown {
            before: std::fs::read_to_string(&control).unwrap(),
            control,
            _turn: turn,
        }
    }
}

impl Drop for HandedDown {
    fn drop(&mut self) {
        let now = std::fs::read_to_string(&self.control).unwrap();
        for name in now.split_whitespace() {
            if !self.before.split_whitespace().any(|one| one == name) {
                std::fs::write(&self.control, format!("-{name}")).unwrap();
            }
        }
    }
}
