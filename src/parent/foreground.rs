//! Stays in front of a container: passes signals on, relays the terminal, reaps
//! what ends, and says how it ended.
//!
//! One thread and one poll(2) do it. Signals arrive through a descriptor
//! (signalfd(2)), so there is no moment between a look and a wait in which one
//! could get lost; for that they are blocked before the container's first
//! process exists.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write};
use rustix::process::{WaitOptions, WaitStatus, set_child_subreaper};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::errno;
use crate::parent::notify::NotifySocket;
use crate::sys;

/// How much is read at once, and written: a pipe that can be written to takes
/// this many bytes without waiting (pipe(7), `PIPE_BUF`).
const CHUNK: usize = 4096;

/// The signals of this process, as a descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    blocked: SigSet,
}

impl Signals {
    /// Blocks every signal that may be passed on and opens the descriptor.
    /// Before anything is made that such a signal would leave behind, and before
    /// the container's first process is made, or its end could be missed. The
    /// process made inherits the mask: see `sys::restore_signals`.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn block() -> Result<Signals> {
        let mut signals = SigSet::all();
        for signal in [
            // Faults of our own: blocked, they would kill without a trace.
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGSYS,
            Signal::SIGABRT,
            // Of our own too: it comes with an EPIPE.
            Signal::SIGPIPE,
        ] {
            signals.remove(signal);
        }
        // Where it is ignored, children leave no status to wait for.
        sys::default_action(libc::SIGCHLD).context("restore the action of SIGCHLD")?;
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&signals, flags).context("signalfd")?;
        Ok(Signals {
            descriptor,
            blocked: signals,
        })
    }

    /// Lets signals do again what they do, those that have arrived among them.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn unblock(&self) -> Result<()> {
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&self.blocked), None).context("unblock signals")
    }

    /// The next signal that has arrived, by number.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn next(&self) -> Result<Option<i32>> {
        match self.descriptor.read_signal().context("read signals")? {
            Some(signal) => Ok(Some(
                i32::try_from(signal.ssi_signo).context("signal number")?,
            )),
            None => Ok(None),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Makes this process the one that reaps the container's orphans. Not being
/// that one is worth no more than a warning.
pub(crate) fn become_subreaper() {
    if let Err(err) = set_child_subreaper(Some(rustix::process::getpid())) {
        log::warn!("unable to become the subreaper: {}", errno::text(err));
    }
}

/// The container's first process, as its parent sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Init<'a> {
    pub(crate) pid: i32,
    pub(crate) pidfd: BorrowedFd<'a>,
}

/// Waits until `init` has ended and says with which exit status this process
/// should end: init's own, or 128 and the number of the signal that ended it.
///
/// Meanwhile every signal to this process is passed on to init, but for
/// SIGCHLD, SIGURG and SIGWINCH (which resizes the terminal); all children that
/// end are reaped; `relay` copies between terminals; and what the container
/// tells the service manager (`notify`) is passed on, this process being the
/// one to watch.
///
/// # Errors
/// The kernel refused something that it does not refuse.
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
                    // Whoever still reads our output has had enough of it.
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
            relay.copy(&waited)?;
        }
        if let Some(status) = status
            && relay.as_ref().is_none_or(Relay::is_drained)
        {
            return Ok(status);
        }
    }
}

/// What there is to do.
#[derive(Debug, Default)]
struct Events {
    signal: bool,
    notify: bool,
    stdin: bool,
    stdout: bool,
    master: bool,
}

fn wait_for_event(
    signals: &Signals,
    relay: Option<&Relay>,
    notify: Option<&NotifySocket>,
) -> Result<Events> {
    let mut waited = Events::default();
    let mut wanted = vec![(
        &mut waited.signal,
        signals.descriptor.as_fd(),
        PollFlags::IN,
    )];
    if let Some(socket) = notify {
        wanted.push((&mut waited.notify, socket.as_fd(), PollFlags::IN));
    }
    if let Some(relay) = relay {
        if relay.input_is_open && relay.to_container.is_empty() {
            wanted.push((&mut waited.stdin, stdin(), PollFlags::IN));
        }
        if !relay.to_caller.is_empty() {
            wanted.push((&mut waited.stdout, stdout(), PollFlags::OUT));
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, relay.to_caller.is_empty());
        flags.set(PollFlags::OUT, !relay.to_container.is_empty());
        if relay.output_is_open && !flags.is_empty() {
            wanted.push((&mut waited.master, relay.master.as_fd(), flags));
        }
    }
    let mut events: Vec<PollFd<'_>> = wanted
        .iter()
        .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
        .collect();
    match poll(&mut events, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Events::default()),
        Err(err) => return Err(err).context("wait for the container"),
    }
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

/// Reaps every child that has ended; init's exit status if it is among them.
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

/// As a shell says it: the status, or 128 and the signal.
fn exit_status(status: WaitStatus) -> u8 {
    let number = match status.terminating_signal() {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(0),
    };
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn pass_on(signal: i32, init: Init<'_>) -> Result<()> {
    match sys::pidfd_send_signal(init.pidfd, signal) {
        // It has ended, which SIGCHLD will tell in a moment.
        Err(err) if Errno::from_io_error(&err) == Some(Errno::SRCH) => Ok(()),
        result => result.with_context(|| format!("pass signal {signal} on to the container")),
    }
}

/// The terminal of the person in front of it. Back to what it was when dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    descriptor: OwnedFd,
    before: Option<Termios>,
}

impl Terminal {
    /// Finds it: one of the standard streams, else the controlling terminal.
    /// Before a container is made that would have none.
    ///
    /// # Errors
    /// There is none, in runc's words:
    /// `open /dev/tty: no such device or address`.
    pub(crate) fn open() -> Result<Terminal> {
        let stream = [stderr(), stdout(), stdin()]
            .into_iter()
            .find(|stream| isatty(stream));
        let descriptor = match stream {
            Some(stream) => fcntl_dupfd_cloexec(stream, 3).context("dup the terminal")?,
            None => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open("/dev/tty", flags, Mode::empty()).map_err(|err| {
                    let cause = errno::text(err);
                    anyhow!(
                        "open /dev/tty: {cause} (the process is to have a terminal and teu has \
                         none: set \"terminal\" to false in config.json, or leave --tty out)"
                    )
                })?
            }
        };
        Ok(Terminal {
            descriptor,
            before: None,
        })
    }

    /// Lets every key through to the container. Lines that go out still get
    /// their carriage return here: the container's side then adds none, and
    /// output that is redirected has none.
    fn make_raw(&mut self) -> Result<()> {
        let before = tcgetattr(&self.descriptor).context("read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(&self.descriptor, OptionalActions::Now, &raw)
            .context("failed to set the terminal from the stdin")?;
        self.before = Some(before);
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(err) = tcsetattr(&self.descriptor, OptionalActions::Now, before)
        {
            // Hung up, most likely: nobody is there to see it.
            log::debug!("restore the terminal: {}", errno::text(err));
        }
    }
}

/// Copies between the container's terminal and standard input and output.
#[derive(Debug)]
pub(crate) struct Relay {
    terminal: Terminal,
    /// The container's terminal, our side of it.
    master: OwnedFd,
    to_container: VecDeque<u8>,
    to_caller: VecDeque<u8>,
    input_is_open: bool,
    /// Whether anybody has the container's side open.
    output_is_open: bool,
    /// Nobody reads our standard output any more: what comes is thrown away,
    /// so that the container does not wait for ever.
    discards: bool,
}

impl Relay {
    /// Begins: `terminal` becomes raw, and the container's, of which `master`
    /// is our side, gets its size.
    ///
    /// # Errors
    /// The kernel refused to change one of the terminals.
    pub(crate) fn new(mut terminal: Terminal, master: OwnedFd) -> Result<Relay> {
        let mut settings = tcgetattr(&master).context("read the container's terminal settings")?;
        settings.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&master, OptionalActions::Now, &settings)
            .context("change the container's terminal")?;
        // Our own open file; those of the standard streams are shared with
        // other processes and stay as they are.
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)
            .context("change the container's terminal")?;
        terminal.make_raw()?;
        let relay = Relay {
            terminal,
            master,
            to_container: VecDeque::new(),
            to_caller: VecDeque::new(),
            input_is_open: true,
            output_is_open: true,
            discards: false,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's. What is left
    /// out if that fails is only the size.
    fn resize(&self) {
        let size = tcgetwinsize(&self.terminal.descriptor);
        if let Err(err) = size.and_then(|size| tcsetwinsize(&self.master, size)) {
            log::debug!("resize the container's terminal: {}", errno::text(err));
        }
    }

    /// Copies what can be copied without waiting.
    fn copy(&mut self, ready: &Events) -> Result<()> {
        let mut buffer = [0; CHUNK];
        if ready.stdin {
            match read(stdin(), &mut buffer) {
                Ok(0) => self.input_is_open = false,
                Ok(count) => self.to_container.extend(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // In the background of a shell, or closed.
                Err(Errno::IO | Errno::BADF) => self.input_is_open = false,
                Err(err) => return Err(err).context("read standard input"),
            }
        }
        if !self.to_container.is_empty() {
            self.write_to_container()?;
        }
        if ready.stdout {
            self.write_to_caller()?;
        }
        if self.output_is_open && self.to_caller.is_empty() {
            self.read_from_container(&mut buffer)?;
        }
        Ok(())
    }

    fn write_to_container(&mut self) -> Result<()> {
        let (bytes, _) = self.to_container.as_slices();
        match write(&self.master, bytes) {
            Ok(count) => drop(self.to_container.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody has the other side open.
            Err(Errno::IO) => self.to_container.clear(),
            Err(err) => return Err(err).context("write to the container's terminal"),
        }
        Ok(())
    }

    fn write_to_caller(&mut self) -> Result<()> {
        let (bytes, _) = self.to_caller.as_slices();
        match write(stdout(), &bytes[..bytes.len().min(CHUNK)]) {
            Ok(count) => drop(self.to_caller.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Its reader is gone, it is closed, or the terminal hung up.
            Err(Errno::PIPE | Errno::BADF | Errno::IO) => {
                self.discards = true;
                self.to_caller.clear();
            }
            Err(err) => return Err(err).context("write to standard output"),
        }
        Ok(())
    }

    fn read_from_container(&mut self, buffer: &mut [u8]) -> Result<()> {
        match read(&self.master, &mut *buffer) {
            Ok(count) if self.discards => self.output_is_open = count > 0,
            Ok(count) => {
                self.output_is_open = count > 0;
                self.to_caller.extend(&buffer[..count]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody has the other side open, and everything was read.
            Err(Errno::IO) => self.output_is_open = false,
            Err(err) => return Err(err).context("read from the container's terminal"),
        }
        Ok(())
    }

    /// Whether everything the container wrote so far has been passed on.
    fn is_drained(&self) -> bool {
        if !self.to_caller.is_empty() {
            return false;
        }
        if !self.output_is_open {
            return true;
        }
        let mut event = [PollFd::new(&self.master, PollFlags::IN)];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // The kernel moves what a process wrote before it ended over to our
        // side before it answers.
        matches!(poll(&mut event, Some(&now)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rustix::pipe::PipeFlags;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::termios::{LocalModes, Winsize};
    use std::ffi::CString;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    /// A shell with the streams given, and what `wait` says of it.
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
            poll(&mut ended, None).expect("poll");
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
            // `trap '' CHLD` in the shell before: inherited over execve.
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

    /// Puts a terminal on standard input and output and returns its other side.
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

    /// What has been written to the other side so far.
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
            // Each line ends in one carriage return, made by the caller's side.
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
            // A size of its own comes with a signal from the terminal itself,
            // which has no session here: send it by hand.
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
            poll(&mut ended, None).expect("poll");
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

    #[test]
    fn no_terminal_at_all() {
        testing::in_child(|| {
            let null = std::fs::File::open("/dev/null").expect("null");
            rustix::stdio::dup2_stdin(&null).expect("dup2");
            rustix::process::setsid().expect("setsid");
            assert!(stderr().as_raw_fd() == 2 && !isatty(stderr()));
            let error = Terminal::open().expect_err("none");
            let words = testing::words(&error);
            let runcs = "open /dev/tty: no such device or address (";
            assert!(words.starts_with(runcs), "{words}");
        });
    }
}
