//! A criu process that serves one command, and the conversation with it: starts criu,
//! asks its version and features, sends the request, and passes notifications on. Not
//! for the form of messages: see `rpc.rs`.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use prost::Message;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use teu_namespaces::{Child, NamespacePlan};

use super::rpc::{Features, Kind, Notification, Request, Response};
use crate::init::{FAILED, execute};
use crate::{errno, fd_socket, sys};

/// The size of the largest accepted message. CRIU's messages are smaller than a page.
const LONGEST_MESSAGE: usize = 10 * 4096;

/// The first version that can report its version.
const OLDEST: u32 = 30_000;

/// The message that carries a descriptor.
const OPENED: &[u8] = b"opened";

/// The exit status of a child that did not become criu.
const NOT_EXECUTED: i32 = 1;

/// A running `criu swrk`. Dropping it closes the socket and waits for criu, so that
/// criu undoes its work. Killing criu would prevent that.
#[derive(Debug)]
pub(crate) struct Criu {
    child: Child,
    socket: Option<OwnedFd>,
    version: u32,
}

/// The settings for starting criu.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// Whether criu inherits this process's standard streams. Otherwise it gets
    /// /dev/null.
    pub(crate) our_streams: bool,
    /// The descriptors that criu gets, from [`FIRST_DESCRIPTOR`] on.
    pub(crate) descriptors: Vec<BorrowedFd<'a>>,
    /// The namespaces in which criu runs.
    pub(crate) namespaces: NamespacePlan,
}

/// The first descriptor that criu can be given. Its standard streams and its socket
/// come before.
pub(crate) const FIRST_DESCRIPTOR: i32 = 4;

/// Finds the program in $PATH.
///
/// # Errors
/// The program is not found, in the words of Go's `exec.LookPath`.
pub(crate) fn find() -> Result<CString> {
    let search_path = std::env::var("PATH").ok();
    execute::find(c"criu", search_path.as_deref()).context("CRIU version check failed")
}

impl Criu {
    /// Starts `program`, after calling `prepare` in the child, and asks for its
    /// version. Also returns the descriptors that `prepare` opened. The caller must be
    /// single-threaded.
    ///
    /// # Errors
    /// `prepare` fails, the program is not criu, or its version is too old.
    pub(crate) fn start(
        program: CString,
        start: &Start<'_>,
        prepare: impl FnOnce() -> Result<Vec<OwnedFd>>,
    ) -> Result<(Criu, Vec<OwnedFd>)> {
        let (ours, its) = sockets()?;
        let (started, starting) = sockets()?;
        let ends = ((ours, started), (its, starting));
        let child = |(its, starting): (OwnedFd, OwnedFd), entered: teu_namespaces::Result<()>| {
            let entered = entered.map_err(anyhow::Error::from);
            let become_it = || become_criu(&program, start, its.as_fd());
            let prepared = entered.and_then(|()| prepare());
            let given = prepared.and_then(|opened| {
                let mut opened = opened.iter();
                opened.try_for_each(|fd| fd_socket::send(&starting, OPENED, fd))
            });
            let Err(err) = given.and_then(|()| become_it());
            // If sending fails, the parent is gone, and nobody is left to tell.
            let words = errno::chain(&err);
            send(&starting, words.as_bytes(), SendFlags::NOSIGNAL).ok();
            NOT_EXECUTED
        };
        let (child, (ours, started)) = teu_namespaces::spawn(&start.namespaces, None, ends, child)?;
        let mut criu = Criu {
            child,
            socket: Some(ours),
            version: 0,
        };
        let mut opened = Vec::new();
        // Receive until the child executes criu, which closes the child's end.
        while let Some((words, descriptor)) = receive(&started).context("wait for criu to start")? {
            match descriptor {
                Some(descriptor) => opened.push(descriptor),
                None => bail!("{}", String::from_utf8_lossy(&words)),
            }
        }
        criu.version = criu.ask_version().context("CRIU version check failed")?;
        log::debug!("Using CRIU {}", criu.version);
        criu.require_version(OLDEST)?;
        Ok((criu, opened))
    }

    /// The pid of criu.
    pub(crate) fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// The version as a number: 40201 is 4.2.1.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    fn ask_version(&mut self) -> Result<u32> {
        self.send(&Request::question(Kind::Version))?;
        let (response, _) = self.receive()?;
        check(&response, Kind::Version)?;
        Ok(response.version.number())
    }

    /// Checks that the version is `least` or newer.
    ///
    /// # Errors
    /// The version is too old. The text is runc's.
    pub(crate) fn require_version(&self, least: u32) -> Result<()> {
        if self.version < least {
            bail!("CRIU version {} must be {least} or higher", self.version);
        }
        Ok(())
    }

    /// Checks that all `wanted` features work with this criu on this kernel.
    ///
    /// # Errors
    /// A feature is missing. The text is runc's.
    pub(crate) fn require_features(&mut self, wanted: Features) -> Result<()> {
        let there = self
            .ask_features(wanted)
            .context("CRIU feature check failed")?;
        let mut missing = Vec::new();
        if wanted.memory_tracking && !there.memory_tracking {
            missing.push("MemTrack");
        }
        if wanted.lazy_pages && !there.lazy_pages {
            missing.push("LazyPages");
        }
        if !missing.is_empty() {
            bail!("criu is missing features: [{}]", missing.join(" "));
        }
        Ok(())
    }

    fn ask_features(&mut self, wanted: Features) -> Result<Features> {
        self.send(&Request {
            features: Some(wanted),
            ..Request::question(Kind::FeatureCheck)
        })?;
        let (response, _) = self.receive()?;
        check(&response, Kind::FeatureCheck)?;
        Ok(response.features)
    }

    /// Sends the request and waits for its result. Meanwhile calls `notified` with each
    /// notification and the descriptor that came with it. If `notified` fails, criu is
    /// told so and undoes its work.
    ///
    /// # Errors
    /// `notified` fails, criu reports a failure, or criu ends without an answer.
    pub(crate) fn carry_out(
        mut self,
        request: &Request,
        mut notified: impl FnMut(&Notification, Option<OwnedFd>) -> Result<()>,
    ) -> Result<()> {
        let kind = request.kind();
        log::debug!("Using CRIU in {} mode", kind.name());
        if let Some(options) = &request.options {
            log::debug!("CRIU options: {options:?}");
        }
        self.send(request)?;
        let mut ours = Ok(());
        loop {
            let (response, descriptor) = match self.receive() {
                Ok(message) => message,
                // criu gave up because it was told of the failure.
                Err(_) if ours.is_err() => return ours,
                Err(err) => return Err(err),
            };
            if response.kind() != Some(Kind::Notify) {
                ours?;
                check(&response, kind)?;
                return self.wait_for_end(kind);
            }
            check(&response, Kind::Notify)?;
            log::debug!("notify: {}", response.notification.script);
            let outcome = notified(&response.notification, descriptor);
            let success = outcome.is_ok();
            if ours.is_ok() {
                ours = outcome;
            }
            self.send(&Request::notified(success))?;
        }
    }

    /// Waits for criu, which ends by itself after its answer.
    fn wait_for_end(&mut self, kind: Kind) -> Result<()> {
        self.socket = None;
        let status = self.child.wait()?;
        // The process is reaped: its pid may belong to another process now.
        self.child.keep();
        match status {
            WaitStatus::Exited(_, 0) => Ok(()),
            // After a pre-dump criu waits for the next request of a series, which does
            // not come.
            _ if kind == Kind::PreDump => Ok(()),
            WaitStatus::Exited(_, status) => bail!("criu failed: exit status {status}"),
            WaitStatus::Signaled(_, signal, _) => bail!("criu failed: {signal}"),
            status => bail!("criu failed: {status:?}"),
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        let socket = self.socket.as_ref().context("criu is not there any more")?;
        match send(socket, &request.encode_to_vec(), SendFlags::NOSIGNAL) {
            // criu has ended, and the missing answer will report that.
            Ok(_) | Err(Errno::PIPE) => Ok(()),
            Err(err) => Err(err).with_context(|| format!("send {} to criu", request.kind().name())),
        }
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let socket = self.socket.as_ref().context("criu is not there any more")?;
        let message = receive(socket).context("receive from criu")?;
        let (bytes, descriptor) = message.context("criu ended without an answer")?;
        let response = Response::decode(&bytes[..]).context("receive from criu")?;
        Ok((response, descriptor))
    }
}

fn sockets() -> Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).context("socketpair")
}

/// Receives a message, with the descriptor that came with it; `None` if the other end
/// is closed.
fn receive(socket: &OwnedFd) -> Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST_MESSAGE];
    let (length, descriptor) = fd_socket::receive_into(socket, &mut bytes, RecvFlags::empty())?;
    if length == LONGEST_MESSAGE {
        bail!("a message that is too long");
    }
    bytes.truncate(length);
    Ok((length > 0).then_some((bytes, descriptor)))
}

impl Drop for Criu {
    fn drop(&mut self) {
        if self.socket.take().is_some() && self.child.wait().is_ok() {
            self.child.keep();
        }
    }
}

/// Checks that `response` reports the success of a request of that kind.
fn check(response: &Response, kind: Kind) -> Result<()> {
    let Some(said) = response.kind() else {
        bail!("unable to parse the response of criu");
    };
    if !response.success {
        // Omit CRIU's own text: it is the first error, which is seldom the important
        // one.
        bail!(
            "criu failed: type {} errno {}",
            said.name(),
            response.error_number
        );
    }
    if said != kind {
        bail!("criu answered {} to {}", said.name(), kind.name());
    }
    Ok(())
}

/// Called in the child: executes the program. Returns only if that fails.
fn become_criu(
    program: &CString,
    start: &Start<'_>,
    socket: BorrowedFd<'_>,
) -> Result<std::convert::Infallible> {
    if !start.our_streams {
        let null = openat(
            CWD,
            "/dev/null",
            OFlags::RDWR | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("open \"/dev/null\"")?;
        dup2_stdin(&null).context("dup")?;
        dup2_stdout(&null).context("dup")?;
        dup2_stderr(&null).context("dup")?;
    }
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| pair(&name, &value))
        .collect();
    sys::restore_signals(sys::ALL_SIGNALS).context("restore signals")?;
    let mut descriptors = vec![socket];
    descriptors.extend(&start.descriptors);
    let preserved = u32::try_from(descriptors.len()).context("too many descriptors")?;
    sys::leave_only(&descriptors).context("arrange the descriptors of criu")?;
    let args = [c"criu".into(), c"swrk".into(), c"3".into()];
    let Err(err) = execute::exec(program, &args, &environment, preserved, &[], None);
    execute::fail(None, &err);
    // Run no destructors, because the descriptors that they would close are closed.
    teu_namespaces::exit_now(FAILED)
}

fn pair(name: &OsStr, value: &OsStr) -> Option<CString> {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
}
