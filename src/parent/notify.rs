//! The socket by which a service tells its manager that it is ready (NOTIFY_SOCKET,
//! sd_notify(3)), passed on to the container.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    recv, send, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{errno, fd_socket, poll};

/// The longest message that is looked at.
const LONGEST_MESSAGE: usize = 4096;

/// How long the service manager may take to confirm.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);

/// The directory in a container's state directory that is mounted at the container's
/// `/run/notify`, and the name of the socket in it.
pub(crate) const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";

/// The path of the socket in the container, the value of its NOTIFY_SOCKET.
pub(crate) const CONTAINER_SOCKET: &str = "/run/notify/notify.sock";

/// The path at which the directory is mounted in the container, with the options
/// `bind,nosuid,noexec,nodev,ro`.
pub(crate) const CONTAINER_DIRECTORY: &str = "/run/notify";

/// Returns whether the caller is a service whose manager waits for a notification.
pub(crate) fn is_wanted() -> bool {
    service_managers_socket().is_some()
}

fn service_managers_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
}

/// Makes the directory to mount in the container, and returns it.
///
/// # Errors
/// The directory cannot be made.
pub(crate) fn make_directory(state_dir: &Path) -> Result<PathBuf> {
    let directory = state_dir.join(DIRECTORY);
    DirBuilder::new()
        .mode(0o755)
        .create(&directory)
        .with_context(|| format!("make the directory {directory:?}"))?;
    Ok(directory)
}

/// The socket to which the container writes, and that of the service manager.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    container: OwnedFd,
    manager: OwnedFd,
}

impl NotifySocket {
    /// Makes the socket in the container's state directory if the caller has a
    /// NOTIFY_SOCKET. Must come before the start of the program, which may write to the
    /// socket at once.
    ///
    /// # Errors
    /// The socket cannot be made, or that of the service manager cannot be reached.
    pub(crate) fn bind(state_dir: &Path) -> Result<Option<NotifySocket>> {
        match service_managers_socket() {
            Some(address) => NotifySocket::between(state_dir, &address).map(Some),
            None => Ok(None),
        }
    }

    fn between(state_dir: &Path, address: &OsString) -> Result<NotifySocket> {
        let directory = state_dir.join(DIRECTORY);
        let container = datagram_socket()?;
        bind_below(&container, &directory)
            .with_context(|| format!("bind the notify socket in {directory:?}"))?;
        // Any user of the container may write to the socket.
        fs::set_permissions(directory.join(SOCKET), fs::Permissions::from_mode(0o777))
            .with_context(|| format!("change the mode of the notify socket in {directory:?}"))?;
        let manager = datagram_socket()?;
        connect(&manager, &unix_address(address)?)
            .with_context(|| format!("connect to NOTIFY_SOCKET {address:?}"))?;
        Ok(NotifySocket { container, manager })
    }

    /// Waits until the container reports that it is ready, or until its first process
    /// `pid` ends. Then tells the service manager that the service is ready and that `pid`
    /// is its main process. Warns if the service manager cannot be told, because the
    /// container runs.
    ///
    /// # Errors
    /// The kernel refused to wait.
    pub(crate) fn wait_until_ready(&self, pid: i32) -> Result<()> {
        let number = Pid::from_raw(pid).context("the container has no pid")?;
        let init = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(init) => init,
            Err(Errno::SRCH) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("open process {pid}")),
        };
        loop {
            let mut events = [
                PollFd::new(&self.container, PollFlags::IN),
                PollFd::new(&init, PollFlags::IN),
            ];
            poll::wait(&mut events).context("wait for the notify socket")?;
            let [message, ended] = events.map(|event| !event.revents().is_empty());
            if message && self.pass_on(pid)? {
                warn_of(self.barrier());
                return Ok(());
            }
            if ended && !message {
                return Ok(());
            }
        }
    }

    /// Takes one message and returns whether it says READY. If so, tells the service
    /// manager that the service is ready and that `main_pid` is its main process. Warns if
    /// the service manager cannot be told.
    ///
    /// # Errors
    /// The message cannot be read.
    pub(crate) fn pass_on(&self, main_pid: i32) -> Result<bool> {
        let mut buffer = [0; LONGEST_MESSAGE];
        let length = match recv(&self.container, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => length.min(LONGEST_MESSAGE),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(err) => return Err(err).context("read the notify socket"),
        };
        let Some(ready) = ready_line(&buffer[..length]) else {
            return Ok(false);
        };
        let main_pid = format!("MAINPID={main_pid}\n");
        let ready = [ready, b"\n"].concat();
        warn_of(
            self.tell(&ready)
                .and_then(|()| self.tell(main_pid.as_bytes())),
        );
        Ok(true)
    }

    fn tell(&self, message: &[u8]) -> Result<()> {
        send(&self.manager, message, SendFlags::NOSIGNAL).context("tell the service manager")?;
        Ok(())
    }

    /// Waits until the service manager has read the messages, because it cannot find out
    /// the sender of a message once this process has ended. The service manager confirms
    /// by closing a descriptor (sd_notify_barrier(3)).
    fn barrier(&self) -> Result<()> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        let message = [IoSlice::new(b"BARRIER=1")];
        fd_socket::send_parts(&self.manager, &message, Some(theirs.as_fd()))
            .context("tell the service manager")?;
        drop(theirs);
        if wait_for_closing(&ours)? {
            return Ok(());
        }
        log::warn!("the service manager did not confirm within 30 s; going on");
        Ok(())
    }
}

/// Warns of an error of the conversation with the service manager, because it is no reason
/// to end a container that runs.
fn warn_of(told: Result<()>) {
    if let Err(err) = told {
        log::warn!("{}", errno::chain(&err));
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

/// Returns whether the other end of the pipe was closed in time.
fn wait_for_closing(pipe: &OwnedFd) -> Result<bool> {
    let deadline = Instant::now() + BARRIER_PATIENCE;
    let mut events = [PollFd::new(pipe, PollFlags::IN)];
    if !poll::wait_until(&mut events, Some(deadline)).context("wait for the service manager")? {
        return Ok(false);
    }
    match read(pipe, &mut [0; 1]).context("read from the service manager")? {
        0 => Ok(true),
        _ => bail!("unexpected answer from the service manager"),
    }
}

/// Returns the line of a message that says READY. Ignores all other lines.
fn ready_line(message: &[u8]) -> Option<&[u8]> {
    message
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"READY="))
}

fn datagram_socket() -> Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("make a notify socket")
}

/// Binds the socket by the directory's descriptor, because the path in an address may
/// have 107 bytes at most, and a state directory may be longer.
fn bind_below(socket: &OwnedFd, directory: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let directory = fs::File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    // A killed `run` or `start` may have left a socket.
    match rustix::fs::unlinkat(&directory, SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(err) => return Err(err.into()),
    }
    bind(socket, &SocketAddrUnix::new(path)?)?;
    Ok(())
}

/// Parses an address. `@name` is a name without a file (unix(7), "abstract").
fn unix_address(address: &OsString) -> Result<SocketAddrUnix> {
    let context = || format!("NOTIFY_SOCKET {address:?}");
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name).with_context(context),
        None => SocketAddrUnix::new(address.as_os_str()).with_context(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, recvmsg};
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;

    /// Makes a service manager's socket, a container's notify socket, and a client of
    /// it.
    fn pair(dir: &Path) -> (OwnedFd, NotifySocket, OwnedFd) {
        let manager = datagram_socket().expect("socket");
        let address = dir.join("manager");
        bind(&manager, &SocketAddrUnix::new(&address).expect("address")).expect("bind");
        make_directory(dir).expect("mkdir");
        let address = OsString::from(address);
        let socket = NotifySocket::between(dir, &address).expect("bind");
        let program = datagram_socket().expect("socket");
        let path = dir.join(DIRECTORY).join(SOCKET);
        connect(&program, &SocketAddrUnix::new(path).expect("address")).expect("connect");
        (manager, socket, program)
    }

    fn say(program: &OwnedFd, message: &str) {
        send(program, message.as_bytes(), SendFlags::empty()).expect("send");
    }

    fn hear(manager: &OwnedFd) -> String {
        let mut buffer = [0; 100];
        let (_, length) = recv(manager, &mut buffer, RecvFlags::DONTWAIT).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn ready_is_found_wherever_it_stands() {
        for (message, line) in [
            ("READY=1", Some("READY=1")),
            ("STATUS=up\nREADY=1\nX=y", Some("READY=1")),
            ("STATUS=NOTREADY=1", None),
            ("", None),
        ] {
            assert_eq!(
                ready_line(message.as_bytes()),
                line.map(str::as_bytes),
                "{message}"
            );
        }
    }

    #[test]
    fn only_readiness_is_passed_on_and_whom_to_watch() {
        let dir = testing::Directory::new("notify");
        let (manager, socket, program) = pair(dir.path());
        say(&program, "STATUS=loading");
        assert!(!socket.pass_on(77).expect("pass on"));
        say(&program, "STATUS=up\nREADY=1");
        assert!(socket.pass_on(77).expect("pass on"));
        assert!(!socket.pass_on(77).expect("nothing more"));
        assert_eq!(hear(&manager), "READY=1\n");
        assert_eq!(hear(&manager), "MAINPID=77\n");
        let mode = fs::metadata(dir.path().join("notify/notify.sock"))
            .expect("stat")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o777);
    }

    #[test]
    fn the_barrier_is_waited_for() {
        let dir = testing::Directory::new("notify-barrier");
        let (manager, socket, program) = pair(dir.path());
        say(&program, "READY=1");
        // Simulate a manager with one thread, which reads all messages some time later.
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut fds = Vec::new();
            std::thread::sleep(Duration::from_millis(100));
            while fds.is_empty() {
                let mut buffer = [0; 100];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut buffer)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let message = recvmsg(&manager, &mut parts, &mut control, flags).expect("recvmsg");
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        fds.extend(rights);
                    }
                }
                seen.push(String::from_utf8_lossy(&buffer[..message.bytes]).into_owned());
            }
            seen
        });
        let own = std::process::id().cast_signed();
        socket.wait_until_ready(own).expect("ready");
        assert_eq!(
            reader.join().expect("reader"),
            [
                "READY=1\n".to_owned(),
                format!("MAINPID={own}\n"),
                "BARRIER=1".into()
            ]
        );
    }

    #[test]
    fn a_service_manager_that_went_away_does_no_harm() {
        let dir = testing::Directory::new("notify-gone");
        let (manager, socket, program) = pair(dir.path());
        say(&program, "READY=1");
        drop(manager);
        let own = std::process::id().cast_signed();
        socket.wait_until_ready(own).expect("a warning only");
    }

    #[test]
    fn a_container_that_ends_is_not_waited_for() {
        let dir = testing::Directory::new("notify-end");
        let (_manager, socket, _program) = pair(dir.path());
        let mut child = std::process::Command::new("sleep")
            .arg("0.1")
            .spawn()
            .expect("sleep");
        socket
            .wait_until_ready(child.id().cast_signed())
            .expect("ended");
        child.wait().expect("wait");
        // Test a manager that is gone altogether.
        socket
            .wait_until_ready(child.id().cast_signed())
            .expect("gone");
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let dir = testing::Directory::new("notify-left");
        let (_manager, socket, _program) = pair(dir.path());
        drop(socket);
        let address = OsString::from(dir.path().join("manager"));
        NotifySocket::between(dir.path(), &address).expect("bind again");
    }
}
