//! Waits for the processes of a test, reaps them, and finds those that are left.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::patience;

/// Exit statuses of reaped processes, by pid, until a test asks for them.
static EXITS: Mutex<Option<HashMap<i32, ExitStatus>>> = Mutex::new(None);
static NEW_EXIT: Condvar = Condvar::new();

/// Reaps all children from now on, also those inherited from runtimes that have ended. A
/// container's init is a zombie until it is reaped, and `delete` would wait for that.
pub(super) fn reap_in_background() {
    std::thread::spawn(|| {
        loop {
            // Reap only with the lock held: `spawn` may get the pid as soon as it is free.
            let ended = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(status) => status.pid(),
                Err(_) => None,
            };
            let mut exits = EXITS.lock().unwrap_or_else(PoisonError::into_inner);
            let reaped = match ended {
                Some(pid) => waitpid(pid, Some(WaitPidFlag::WNOHANG)),
                None => Err(Errno::ECHILD),
            };
            let exit = match reaped {
                Ok(WaitStatus::Exited(pid, code)) => {
                    (pid, ExitStatus::from_raw((code & 0xff) << 8))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::from_raw(signal as i32))
                }
                Ok(_) => continue,
                // ECHILD or EINTR.
                Err(_) => {
                    drop(exits);
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            exits
                .get_or_insert_default()
                .insert(exit.0.as_raw(), exit.1);
            NEW_EXIT.notify_all();
        }
    });
}

/// Starts a program. A process that had the new child's pid before may have left its exit status,
/// if nobody waited for it: forgets that.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    // The child's own status cannot come before this lock is released.
    let mut exits = EXITS.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).expect("a pid");
    exits.get_or_insert_default().remove(&pid);
    Ok(child)
}

/// Waits for a child, or for a descendant whose parent has ended.
pub(crate) fn wait(pid: i32) -> ExitStatus {
    let mut exits = EXITS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(status) = exits.get_or_insert_default().remove(&pid) {
            return status;
        }
        exits = NEW_EXIT.wait(exits).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits like [`wait`], for at most `limit`.
pub(super) fn wait_within(pid: i32, limit: Duration) -> Option<ExitStatus> {
    let exits = EXITS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_running = |exits: &mut Option<HashMap<_, _>>| {
        let exits = exits.get_or_insert_default();
        !exits.contains_key(&pid)
    };
    let (mut exits, _) = NEW_EXIT
        .wait_timeout_while(exits, limit, is_running)
        .unwrap_or_else(PoisonError::into_inner);
    exits.get_or_insert_default().remove(&pid)
}

/// Whether the process `pid` exists and has not ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// The state letter and the parent of a process (proc_pid_stat(5)).
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// All living descendants of `ancestor`.
pub(crate) fn descendants(ancestor: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some((pid, (state, parent))) = pid.and_then(|pid| Some((pid, stat(pid)?))) {
            parents.push((pid, parent, state));
        }
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        found.extend(
            parents
                .iter()
                .filter(|child| child.1 == parent)
                .map(|child| child.0),
        );
    }
    let living = |pid: &i32| {
        parents
            .iter()
            .any(|(other, _, state)| other == pid && *state != 'Z')
    };
    found.into_iter().skip(1).filter(living).collect()
}

/// Kills all descendants of `ancestor`, including those that appear meanwhile.
pub(super) fn kill_descendants(ancestor: i32) {
    let deadline = Instant::now() + patience(Duration::from_secs(5));
    loop {
        let left = descendants(ancestor);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in left {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                // ESRCH: the process has ended meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => eprintln!("kill process {pid}: {errno}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command line of a process, for messages.
pub(super) fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

/// Calls `is_so` every few milliseconds until it returns true. Panics after 10 seconds, or
/// later on a slow machine.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = patience(Duration::from_secs(10));
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
