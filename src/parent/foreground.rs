//! Stays in front of a container: passes signals on, relays the terminal, reaps
//! children, and reports how the container ended.
//!
//! One thread and one poll(2) do this. Signals arrive through a descriptor
//! (signalfd(2)) and are blocked before the container's first process exists, so that
//! no signal can be lost between a check and a wait. Not for copying: see
//! `terminal_relay.rs`.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, set_child_subreaper};

use super::notify::NotifySocket;
use super::terminal_relay::{Ready, Relay};
use crate::signals::Signals;
use crate::{errno, poll, sys};

/// Makes this process reap the container's orphans (PR_SET_CHILD_SUBREAPER). Only warns
/// of a failure.
pub(crate) fn become_subreaper() {
    if let Err(err) = set_child_subreaper(Some(rustix::process::getpid())) {
        log::warn!("unable to become the subreaper: {}", errno::text(err));
    }
}

/// The container's first process, as its parent knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Init<'a> {
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
}

/// Waits until `init` has ended. Returns the exit status for this process: init's own,
/// or 128 plus the number of the signal that ended init.
///
/// Meanwhile passes each signal of this process on to init, except SIGCHLD, SIGURG and
/// SIGWINCH (which resizes the terminal), reaps all children that end, and copies between
/// terminals (`relay`). Passes the container's messages on to the service manager (`notify`),
/// and tells the manager that this process is the service's main process.
///
/// # Errors
/// The kernel refuses a call that does not usually fail.
pub(crate) fn wait(
    init: Init<'_>,
    mut relay: Option<Relay>,
    signals: &Signals,
    notify: Option<&NotifySocket>,
) -> Result<u8> {
    let mut notify = notify;
    let mut status = None;
    loop {
        let waited = wait_for_event(signals, relay.as_ref(), notify)?;
        if waited.signal {
            while let Some(signal) = signals.next()? {
                match signal {
                    libc::SIGCHLD => status = status.or(reap(init.pid)?),
                    libc::SIGURG => {}
                    libc::SIGWINCH => relay.iter().for_each(Relay::resize),
                    // After init's end, a signal ends the relay of the remaining
                    // output.
                    _ if status.is_some() => relay = None,
                    signal => pass_on(signal, init)?,
                }
            }
        }
        if let Some(socket) = notify.filter(|_| waited.notify)
            && socket.pass_on(rustix::process::getpid().as_raw_pid())?
        {
            notify = None;
        }
        if let Some(relay) = &mut relay {
            relay.copy(waited.relay)?;
        }
        if let Some(status) = status
            && relay.as_ref().is_none_or(Relay::is_drained)
        {
            return Ok(status);
        }
    }
}

/// The descriptors that are ready.
#[derive(Debug, Default)]
struct Events {
    signal: bool,
    notify: bool,
    relay: Ready,
}

fn wait_for_event(
    signals: &Signals,
    relay: Option<&Relay>,
    notify: Option<&NotifySocket>,
) -> Result<Events> {
    let mut waited = Events::default();
    let mut wanted = vec![(&mut waited.signal, signals.as_fd(), PollFlags::IN)];
    if let Some(socket) = notify {
        wanted.push((&mut waited.notify, socket.as_fd(), PollFlags::IN));
    }
    if let Some(relay) = relay {
        wanted.extend(relay.wanted(&mut waited.relay));
    }
    let mut events: Vec<PollFd<'_>> = wanted
        .iter()
        .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
        .collect();
    poll::wait(&mut events).context("wait for the container")?;
    let ready: Vec<bool> = events
        .iter()
        .map(|event| !event.revents().is_empty())
        .collect();
    drop(events);
    for ((flag, ..), ready) in wanted.into_iter().zip(ready) {
        *flag = ready;
    }
    Ok(waited)
}

/// Reaps all children that have ended. Returns init's exit status if init is among
/// them.
fn reap(init: i32) -> Result<Option<u8>> {
    let mut found = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == init => {
                found = Some(exit_status(status));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(found),
            Err(err) => return Err(err).context("wait for children"),
        }
    }
}

/// The exit status as a shell reports it: the status, or 128 plus the signal.
fn exit_status(status: WaitStatus) -> u8 {
    let number = match status.terminating_signal() {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(0),
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn pass_on(signal: i32, init: Init<'_>) -> Result<()> {
    match sys::pidfd_send_signal(init.pidfd, signal) {
        // Init has ended, and SIGCHLD will report that in a moment.
        Err(err) if Errno::from_io_error(&err) == Some(Errno::SRCH) => Ok(()),
        result => result.with_context(|| format!("pass signal {signal} on to the container")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parent::terminal::Terminal;
    use crate::testing;
    use rustix::fs::OFlags;
    use rustix::io::{fcntl_dupfd_cloexec, read, write};
    use rustix::pipe::PipeFlags;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::stdio::{stderr, stdin, stdout};
    use rustix::termios::{LocalModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
    use std::ffi::CString;
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    /// Starts a shell with the given streams. Returns its pid and its pidfd.
    #[expect(clippy::zombie_processes, reason = "the tests wait for its pid")]
    fn shell(script: &str, streams: [BorrowedFd<'_>; 3]) -> (i32, OwnedFd) {
        let [stdin, stdout, stderr] =
            streams.map(|stream| stream.try_clone_to_owned().expect("dup"));
        let script = CString::new(script).expect("script");
        let args = vec![c"sh".into(), c"-c".into(), script];
        let child = sys::command(c"/bin/sh", args, vec![c"PATH=/usr/bin:/bin".into()])
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("spawn");
        let number = i32::try_from(child.id()).expect("pid");
        let pidfd =
            pidfd_open(Pid::from_raw(number).expect("pid"), PidfdFlags::empty()).expect("pidfd");
        (number, pidfd)
    }

    fn status_of(script: &str) -> u8 {
        let signals = Signals::block().expect("block");
        let null = std::fs::File::open("/dev/null").expect("null");
        let (pid, pidfd) = shell(script, [null.as_fd(), stdout(), stderr()]);
        let init = Init {
            pid,
            pidfd: pidfd.as_fd(),
        };
        wait(init, None, &signals, None).expect("wait")
    }

    #[test]
    fn exit_statuses() {
        testing::in_child(|| {
            for (script, status) in [
                ("exit 0", 0),
                ("exit 42", 42),
                ("exit 255", 255),
                ("kill -9 $$", 137),
                ("kill -15 $$", 143),
            ] {
                assert_eq!(status_of(script), status, "{script:?}");
            }
        });
    }

    #[test]
    fn an_end_before_the_wait_is_not_missed() {
        testing::in_child(|| {
            let signals = Signals::block().expect("block");
            let (pid, pidfd) = shell("exit 3", [stdin(), stdout(), stderr()]);
            let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
            poll::wait(&mut ended).expect("poll");
            let init = Init {
                pid,
                pidfd: pidfd.as_fd(),
            };
            assert_eq!(wait(init, None, &signals, None).expect("wait"), 3);
        });
    }

    #[test]
    fn an_ignored_sigchld_of_the_caller_does_no_harm() {
        testing::in_child(|| {
            // The ignored signal is inherited over execve(2), as from `trap '' CHLD` in
            // a shell.
            sys::ignore_for_test(libc::SIGCHLD);
            assert_eq!(status_of("exit 5"), 5);
        });
    }

    #[test]
    fn signals_are_passed_on_real_time_ones_too() {
        testing::in_child(|| {
            for (script, status) in [
                (
                    "trap 'exit 9' TERM; kill -TERM $PPID; while :; do sleep 0.02; done",
                    9,
                ),
                (
                    "trap 'exit 8' 42; kill -42 $PPID; while :; do sleep 0.02; done",
                    8,
                ),
                (
                    "trap 'exit 7' URG; kill -URG $PPID; kill -HUP $PPID; while :; do sleep 0.02; done",
                    129,
                ),
                (
                    "trap 'exit 6' WINCH; kill -WINCH $PPID; kill -INT $PPID; while :; do sleep 0.02; done",
                    130,
                ),
            ] {
                assert_eq!(status_of(script), status, "{script:?}");
            }
        });
    }

    #[test]
    fn orphans_are_reaped() {
        testing::in_child(|| {
            become_subreaper();
            // The orphan ends first, then init.
            assert_eq!(status_of("(sh -c 'exit 1' &) ; sleep 0.2; exit 4"), 4);
            let left = rustix::process::wait(WaitOptions::NOHANG);
            assert!(matches!(left, Err(Errno::CHILD)), "{left:?}");
        });
    }

    /// Puts a terminal on standard input and output. Returns its master.
    fn callers_terminal() -> OwnedFd {
        let size = nix::pty::Winsize {
            ws_row: 31,
            ws_col: 97,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(&size, None).expect("pty");
        rustix::stdio::dup2_stdin(&pty.slave).expect("dup2");
        rustix::stdio::dup2_stdout(&pty.slave).expect("dup2");
        pty.master
    }

    fn container_terminal() -> (OwnedFd, OwnedFd) {
        let pty = nix::pty::openpty(None, None).expect("pty");
        let master = fcntl_dupfd_cloexec(&pty.master, 3).expect("dup");
        (master, pty.slave)
    }

    fn wait_with_terminal(script: &str) -> u8 {
        let signals = Signals::block().expect("block");
        let terminal = Terminal::open().expect("terminal");
        let (master, slave) = container_terminal();
        let (pid, pidfd) = shell(script, [slave.as_fd(), slave.as_fd(), slave.as_fd()]);
        drop(slave);
        let relay = Relay::new(terminal, master).expect("relay");
        let init = Init {
            pid,
            pidfd: pidfd.as_fd(),
        };
        wait(init, Some(relay), &signals, None).expect("wait")
    }

    /// Returns the output that has arrived at the master so far.
    fn available(master: &OwnedFd) -> String {
        rustix::fs::fcntl_setfl(master, OFlags::RDWR | OFlags::NONBLOCK).expect("nonblock");
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = read(master, &mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn a_terminal_is_relayed_both_ways() {
        testing::in_child(|| {
            let person = callers_terminal();
            let before = tcgetattr(stdin()).expect("settings");
            write(&person, b"hello\n").expect("write");
            let status = wait_with_terminal("read line; echo got $line; stty size; exit 7");
            assert_eq!(status, 7);
            let seen = available(&person);
            // Each line ends in one carriage return, which the caller's terminal adds.
            assert!(seen.ends_with("got hello\r\n31 97\r\n"), "{seen:?}");
            let after = tcgetattr(stdin()).expect("settings");
            assert_eq!(after.local_modes, before.local_modes);
            assert!(
                after
                    .local_modes
                    .contains(LocalModes::ICANON | LocalModes::ECHO)
            );
        });
    }

    #[test]
    fn a_new_size_reaches_the_container() {
        testing::in_child(|| {
            let person = callers_terminal();
            let size = Winsize {
                ws_row: 5,
                ws_col: 6,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let script =
                "trap 'stty size <&1; exit 0' WINCH; echo >&0; while :; do sleep 0.02; done";
            // A terminal that is resized sends SIGWINCH to its session, but this
            // terminal has none, so send the signal by hand.
            let signals = Signals::block().expect("block");
            let terminal = Terminal::open().expect("terminal");
            let (master, slave) = container_terminal();
            let (trap_is_set, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("pipe");
            let (number, pidfd) = shell(script, [tell.as_fd(), slave.as_fd(), slave.as_fd()]);
            let relay = Relay::new(terminal, master).expect("relay");
            tcsetwinsize(&person, size).expect("resize");
            relay.resize();
            assert_eq!(tcgetwinsize(&slave).expect("size"), size);
            assert_eq!(read(&trap_is_set, &mut [0]).expect("read"), 1);
            sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGWINCH).expect("signal");
            drop(slave);
            let init = Init {
                pid: number,
                pidfd: pidfd.as_fd(),
            };
            assert_eq!(wait(init, Some(relay), &signals, None).expect("wait"), 0);
            assert!(available(&person).contains("5 6\r\n"));
        });
    }

    #[test]
    fn all_output_arrives_however_much_it_is() {
        let output = testing::output_of_child(|| {
            let _person = callers_terminal();
            let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("pipe");
            let counter = shell(
                "sleep 0.2; wc -c >&2",
                [read_end.as_fd(), stderr(), stderr()],
            );
            drop(read_end);
            rustix::stdio::dup2_stdout(&write_end).expect("dup2");
            drop(write_end);
            wait_with_terminal("head -c 300000 /dev/zero | tr '\\0' x");
            rustix::stdio::dup2_stdout(stdin()).expect("dup2");
            let mut ended = [PollFd::new(&counter.1, PollFlags::IN)];
            poll::wait(&mut ended).expect("poll");
        });
        assert_eq!(output.trim(), "300000");
    }

    #[test]
    fn a_reader_that_went_away_does_not_stop_the_container() {
        testing::in_child(|| {
            let _person = callers_terminal();
            let (read_end, write_end) = rustix::pipe::pipe().expect("pipe");
            drop(read_end);
            rustix::stdio::dup2_stdout(&write_end).expect("dup2");
            drop(write_end);
            let start = Instant::now();
            let status = wait_with_terminal("head -c 300000 /dev/zero; exit 6");
            assert_eq!(status, 6);
            assert!(start.elapsed() < Duration::from_secs(5));
        });
    }
}
