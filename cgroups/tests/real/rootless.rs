//! Tests a user without permission to make cgroups. Needs root, to become that user.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::Pid;
use teu_cgroups::*;

use crate::harness::*;

#[test]
fn without_permission() {
    if !has(&[]) {
        return;
    }
    // Run a copy, because other users may not have access to the build directory.
    let copy = std::env::temp_dir().join(unique("rootless"));
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.args(["--exact", "rootless::inside", "--ignored", "--nocapture"]);
    let output = command
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output()
        .unwrap();
    std::fs::remove_file(&copy).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    assert!(text.contains("1 passed"));
}

#[test]
#[ignore = "the unprivileged side of without_permission"]
fn inside() {
    let path = CgroupPath::new(None, &unique("none")).unwrap();
    let limits = Limits {
        pids: Some(5),
        ..Default::default()
    };
    let mut plan = CgroupPlan {
        driver: Driver::Filesystem,
        path,
        limits: limits.clone(),
        rootless: true,
    };
    let mut cgroup = prepare(&plan).unwrap();
    cgroup.enter(Pid::this(), Entered::default()).unwrap();
    assert_eq!(cgroup.saved_paths(), SavedPaths::default());
    assert_eq!(cgroup.apply(&Limits::default()).unwrap(), []);
    assert_eq!(
        teu_errno::line(&cgroup.apply(&limits).unwrap_err()),
        "pids.limit: cannot set pids limit: \
         container could not join or create cgroup"
    );
    assert_eq!(cgroup.processes().unwrap(), Vec::<i32>::new());
    cgroup.remove().unwrap();

    let explicit = format!("/{}", unique("explicit"));
    plan.path = CgroupPath::new(Some(Path::new(&explicit)), "id").unwrap();
    let words = teu_errno::line(&prepare(&plan).unwrap_err());
    assert!(words.starts_with("make cgroup \"/sys/fs/cgroup"), "{words}");
    assert!(words.ends_with(": permission denied"), "{words}");
}
