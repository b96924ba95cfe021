//! The conversation between the parent and the container's init during a creation, over
//! one SOCK_SEQPACKET pair.
//!
//! ```text
//! parent                                init
//!  |        (fork by clone3)           |
//!  | <----------------------- InCgroup | only if it has an entrance of its own
//!  | attach to cgroup                  | mounts, devices
//!  | EnteredCgroup ------------------> | (waits only where it needs it)
//!  | apply limits                      |
//!  | <---------------- OpenMountSource | a source only the parent may open
//!  | Tree(fd) -----------------------> |
//!  | <--------------------- MakeDevice | a node only the parent may make
//!  | Tree(fd), or NoDevices ---------> |
//!  | <----------------------- RunHooks | only if there are such hooks
//!  | prestart, createRuntime hooks     |
//!  | HooksDone ----------------------> | pivot_root … seccomp, capabilities
//!  | <----------------- SeccompListener| only if its filter has one
//!  | <-------------------------- Ready |
//!  | save state, pid file              |
//!  | Execute, or WaitForStart ---------> | execve, or waits at the exec fifo
//! ```
//!
//! Init may send `Failed` at any time, as its last message. Reading from a closed end
//! is an error, so init ends if its parent was killed.
//!
//! Not for deciding what happens: see `commands/create.rs` and `init/mod.rs`.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use crate::{errno, fd_socket};

/// The parent has ended, or gives this process up. It has a reason of its own, which it tells.
#[derive(Debug)]
pub(crate) struct ParentIsGone;

impl fmt::Display for ParentIsGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parent is gone")
    }
}

impl std::error::Error for ParentIsGone {}

/// The tag of [`ToParent::Failed`].
pub(crate) const FAILED: u8 = b'F';

/// The length of the longest message. Longer error texts are cut.
const LONGEST_MESSAGE: usize = 4 * 1024;

/// A message of init to the parent.
#[derive(Debug)]
pub(crate) enum ToParent {
    /// Whether init has moved itself through the entrance of its cgroup.
    InCgroup(bool),
    /// Asks to open the source of this mount of the plan in init's mount namespace.
    OpenMountSource(usize),
    /// Asks to make this device of the plan.
    MakeDevice(usize),
    /// Asks to run the prestart and createRuntime hooks, because the mounts are made.
    RunHooks,
    /// The number of the descriptor, in the process, of the filter's listener.
    SeccompListener(i32),
    /// Everything is done except executing the program.
    Ready,
    /// Init has failed. Has the whole chain of errors, outermost first.
    Failed(String),
}

/// The outcome of init's preparations.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ready,
    /// Init has failed. Has the whole chain of errors, outermost first.
    Failed(String),
    /// Init has ended without a message.
    Silent,
}

/// A message of the parent to init.
#[derive(Debug)]
pub(crate) enum ToInit {
    /// Init is in the container's cgroup.
    EnteredCgroup,
    /// The detached mount that init asked for.
    Tree(OwnedFd),
    /// The requested mount or node cannot be opened or made. Has the reason.
    NoTree(String),
    /// No device can be made on this machine. Has the reason.
    NoDevices(String),
    /// The hooks have run.
    HooksDone,
    /// Execute the program (`run`).
    Execute,
    /// Execute the program once another command starts it (`create`, `start`).
    WaitForStart,
}

impl ToInit {
    /// Returns the answer to a request, or the reason why there is none.
    pub(crate) fn answer(answer: Result<ToInit>) -> ToInit {
        answer.unwrap_or_else(|err| ToInit::NoTree(errno::chain(&err)))
    }
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentEnd(OwnedFd);

/// Init's end.
#[derive(Debug)]
pub(crate) struct InitEnd {
    socket: OwnedFd,
    entered_cgroup: bool,
}

impl AsFd for InitEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes the two ends.
pub(crate) fn pair() -> Result<(ParentEnd, InitEnd)> {
    let (parent, init) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("socketpair")?;
    Ok((
        ParentEnd(parent),
        InitEnd {
            socket: init,
            entered_cgroup: false,
        },
    ))
}

impl ParentEnd {
    /// Receives the next message; `None` if init has ended.
    pub(crate) fn receive(&self) -> Result<Option<ToParent>> {
        let Some((tag, body, _)) = receive(self.0.as_fd())? else {
            return Ok(None);
        };
        Ok(Some(match tag {
            b'O' => {
                let index = text(body)
                    .parse()
                    .context("message from init: mount index")?;
                ToParent::OpenMountSource(index)
            }
            b'I' => ToParent::InCgroup(body == b"1"),
            b'V' => {
                let index = text(body).parse();
                ToParent::MakeDevice(index.context("message from init: device index")?)
            }
            b'H' => ToParent::RunHooks,
            b'L' => {
                let number = text(body).parse();
                ToParent::SeccompListener(number.context("message from init: descriptor")?)
            }
            b'R' => ToParent::Ready,
            FAILED => ToParent::Failed(text(body)),
            other => bail!("message from init: unknown tag {other}"),
        }))
    }

    /// Returns whether a process that was given an entrance has gone through it, which is
    /// its first message; also `true` if it has ended, because nobody is left to be moved.
    pub(crate) fn has_entered_cgroup(&self) -> Result<bool> {
        match self.receive()? {
            Some(ToParent::InCgroup(is_in)) => Ok(is_in),
            None => Ok(true),
            Some(other) => bail!("message from init: {other:?} instead of its cgroup"),
        }
    }

    /// Answers init's requests until init is ready or has ended. `answer` may return no
    /// message.
    ///
    /// # Errors
    /// `answer` fails, or a message cannot be read or sent.
    pub(crate) fn serve(
        &self,
        mut answer: impl FnMut(ToParent) -> Result<Option<ToInit>>,
    ) -> Result<Outcome> {
        loop {
            match self.receive()? {
                Some(ToParent::Ready) => return Ok(Outcome::Ready),
                Some(ToParent::Failed(why)) => return Ok(Outcome::Failed(why)),
                Some(asked) => {
                    if let Some(answer) = answer(asked)? {
                        self.send(answer)?;
                    }
                }
                None => return Ok(Outcome::Silent),
            }
        }
    }

    /// Waits until init has executed the program, which closes init's end, as init's
    /// death does. Returns `false` if init reported that it could not execute the
    /// program.
    pub(crate) fn wait_for_exec(&self) -> Result<bool> {
        match self.receive()? {
            None => Ok(true),
            Some(ToParent::Failed(_)) => Ok(false),
            Some(other) => bail!("message from init: {other:?} instead of its end"),
        }
    }

    /// Returns the reason why init failed, if init has ended and reported it. Later
    /// errors of the parent are consequences of it.
    pub(crate) fn last_words(&self) -> Option<String> {
        let flags = RecvFlags::DONTWAIT;
        while let Ok(Some((tag, body, _))) = receive_with(self.0.as_fd(), flags) {
            if tag == FAILED {
                return Some(text(body));
            }
        }
        None
    }

    /// Sends a message to init. Ignores that init has ended, because init reports the
    /// reason itself.
    pub(crate) fn send(&self, message: ToInit) -> Result<()> {
        let socket = self.0.as_fd();
        let sent = match message {
            ToInit::EnteredCgroup => send(socket, b'C', "", None),
            ToInit::Tree(fd) => send(socket, b'M', "", Some(fd.as_fd())),
            ToInit::NoTree(why) => send(socket, b'N', &why, None),
            ToInit::NoDevices(why) => send(socket, b'P', &why, None),
            ToInit::HooksDone => send(socket, b'D', "", None),
            ToInit::Execute => send(socket, b'X', "", None),
            ToInit::WaitForStart => send(socket, b'W', "", None),
        };
        match sent {
            Err(err) if err.downcast_ref() == Some(&Errno::PIPE) => Ok(()),
            sent => sent.context("tell init"),
        }
    }
}

impl InitEnd {
    /// Sends a message to the parent. Uses write(2), because this has to work while the
    /// process's system call filter is loaded and its listener is not yet taken over.
    pub(crate) fn send(&self, message: &ToParent) -> Result<()> {
        let (tag, body) = match message {
            ToParent::OpenMountSource(index) => (b'O', index.to_string()),
            ToParent::InCgroup(is_in) => (b'I', u8::from(*is_in).to_string()),
            ToParent::MakeDevice(index) => (b'V', index.to_string()),
            ToParent::RunHooks => (b'H', String::new()),
            ToParent::SeccompListener(number) => (b'L', number.to_string()),
            ToParent::Ready => (b'R', String::new()),
            ToParent::Failed(why) => (FAILED, why.clone()),
        };
        let mut message = [&[tag], body.as_bytes()].concat();
        message.truncate(LONGEST_MESSAGE);
        loop {
            match rustix::io::write(&self.socket, &message) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(err) => return Err(err).context("tell the parent"),
            }
        }
    }

    /// Offers the parent the listener of this process's system call filter, which is
    /// the descriptor `number` of this process.
    pub(crate) fn offer_listener(&self, number: i32) -> Result<()> {
        self.send(&ToParent::SeccompListener(number))
    }

    /// Checks that the parent did not end before this process asked for a signal at the
    /// parent's death.
    ///
    /// # Errors
    /// The parent has ended.
    pub(crate) fn check_parent(&self) -> Result<()> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.socket, &mut [0_u8; 1][..], flags) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Err(ParentIsGone.into()),
            // There is a message, or none yet.
            _ => Ok(()),
        }
    }

    /// Waits until this process is in the container's cgroup. Cheap after the first
    /// call.
    pub(crate) fn wait_for_cgroup(&mut self) -> Result<()> {
        while !self.entered_cgroup {
            let message = self.receive_any()?;
            if !self.entered_cgroup {
                bail!("message from the parent: {message:?} before the cgroup was entered");
            }
        }
        Ok(())
    }

    /// Asks the parent to open the source of mount `index` of the plan. Returns the
    /// detached mount, ready to be attached.
    pub(crate) fn open_mount_source(&mut self, index: usize) -> Result<OwnedFd> {
        self.send(&ToParent::OpenMountSource(index))?;
        self.receive_tree()
    }

    /// Asks the parent to make device `index` of the plan. Returns a detached mount of
    /// the node, or an inner error if no device can be made on this machine.
    pub(crate) fn make_device(&mut self, index: usize) -> Result<Result<OwnedFd, String>> {
        self.send(&ToParent::MakeDevice(index))?;
        match self.receive()? {
            ToInit::NoDevices(why) => Ok(Err(why)),
            answer => tree(answer).map(Ok),
        }
    }

    /// Receives the answer to [`InitEnd::open_mount_source`].
    pub(crate) fn receive_tree(&mut self) -> Result<OwnedFd> {
        tree(self.receive()?)
    }

    /// Asks the parent to run its hooks, and waits for them.
    pub(crate) fn run_hooks(&mut self) -> Result<()> {
        self.send(&ToParent::RunHooks)?;
        match self.receive()? {
            ToInit::HooksDone => Ok(()),
            other => bail!("message from the parent: {other:?} instead of the hooks' end"),
        }
    }

    /// Waits until the parent has done its part. Returns whether to execute the program
    /// at once, and not only when another command says so.
    pub(crate) fn wait_for_parent(&mut self) -> Result<bool> {
        let mut tag = [0];
        loop {
            // Do not use recvmsg(2): read(2) is allowed by every profile that lets a
            // program start.
            match (rustix::io::read(&self.socket, &mut tag), tag) {
                (Ok(1..), [b'X']) => return Ok(true),
                (Ok(1..), [b'W']) => return Ok(false),
                (Ok(1..), [b'C']) => self.entered_cgroup = true,
                (Ok(1..), [other]) => bail!("message from the parent: {other} instead of its end"),
                (Ok(0) | Err(Errno::CONNRESET), _) => return Err(ParentIsGone.into()),
                (Err(Errno::INTR), _) => {}
                (Err(err), _) => return Err(err).context("wait for the parent"),
            }
        }
    }

    /// Receives the next message that is not about the cgroup.
    fn receive(&mut self) -> Result<ToInit> {
        loop {
            match self.receive_any()? {
                ToInit::EnteredCgroup => {}
                message => return Ok(message),
            }
        }
    }

    fn receive_any(&mut self) -> Result<ToInit> {
        let Some((tag, body, fd)) = receive(self.socket.as_fd())? else {
            return Err(ParentIsGone.into());
        };
        Ok(match (tag, fd) {
            (b'C', _) => {
                self.entered_cgroup = true;
                ToInit::EnteredCgroup
            }
            (b'M', Some(fd)) => ToInit::Tree(fd),
            (b'N', _) => ToInit::NoTree(text(body)),
            (b'P', _) => ToInit::NoDevices(text(body)),
            (b'D', _) => ToInit::HooksDone,
            (other, _) => bail!("message from the parent: unknown tag {other}"),
        })
    }
}

fn tree(answer: ToInit) -> Result<OwnedFd> {
    match answer {
        ToInit::Tree(tree) => Ok(tree),
        ToInit::NoTree(why) => bail!("{why}"),
        other => bail!("message from the parent: {other:?} instead of a mount"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn send(socket: BorrowedFd<'_>, tag: u8, body: &str, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let body = &body.as_bytes()[..body.len().min(LONGEST_MESSAGE)];
    let parts = [IoSlice::new(std::slice::from_ref(&tag)), IoSlice::new(body)];
    Ok(fd_socket::send_parts(socket, &parts, fd)?)
}

type Received = (u8, Vec<u8>, Option<OwnedFd>);

fn receive(socket: BorrowedFd<'_>) -> Result<Option<Received>> {
    receive_with(socket, RecvFlags::empty())
}

fn receive_with(socket: BorrowedFd<'_>, flags: RecvFlags) -> Result<Option<Received>> {
    let mut buffer = [0; LONGEST_MESSAGE + 1];
    let (length, fd) = fd_socket::receive_into(socket, &mut buffer, flags)?;
    match buffer.get(..length).and_then(<[u8]>::split_first) {
        Some((tag, body)) => Ok(Some((*tag, body.to_vec(), fd))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_crosses_the_pipe_after_the_cgroup_message() {
        let (parent, mut init) = pair().expect("pair");
        let (read, _write) = rustix::pipe::pipe().expect("pipe");
        parent.send(ToInit::EnteredCgroup).expect("send");
        parent.send(ToInit::Tree(read)).expect("send");
        init.open_mount_source(3).expect("source");
        init.wait_for_cgroup().expect("already there");
        assert!(matches!(
            parent.receive(),
            Ok(Some(ToParent::OpenMountSource(3)))
        ));
    }

    #[test]
    fn an_end_that_is_gone_is_no_message() {
        let (parent, mut init) = pair().expect("pair");
        init.send(&ToParent::Failed("no such thing".into()))
            .expect("send");
        let Ok(Some(ToParent::Failed(why))) = parent.receive() else {
            panic!("no error text")
        };
        assert_eq!(why, "no such thing");
        drop(parent);
        assert!(init.wait_for_parent().is_err());
    }
}
