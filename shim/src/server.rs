//! The server of a group of containers: one thread that waits for calls, for the streams
//! of processes, for jobs, and for processes that end.
//!
//! It owns the listener, the connections and the signals. The meaning of the calls is in
//! `service.rs`.

mod connection;
mod signals;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::sockopt::socket_peercred;

use crate::Runtime;
use crate::caller::Caller;
use crate::confinement;
use crate::drop_pages::drop_pages;
use crate::invocation::Invocation;
use crate::log_fifo;
use crate::poll::{EventFlags, Poll, Token};
use crate::publisher::Publisher;
use crate::service::{FIRST_STREAM, LAST_EVENTS, Service};
use crate::socket::Socket;
use crate::spawner::Spawner;
use crate::ttrpc::Status;
use connection::Connection;
use signals::Signals;

/// The number of the listener's descriptor, above those of the first connections.
const LISTENER_FD: i32 = 255;

const LISTENER: Token = 0;
const SIGNALS: Token = 1;
const SPAWNER: Token = 2;
const EVENTS: Token = 3;
/// The token of the first connection; later connections follow.
const FIRST_CONNECTION: Token = 16;

/// The pause before the next accept(2) when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

struct Server {
    listener: UnixListener,
    signals: Signals,
    service: Service,
    connections: BTreeMap<Token, Connection>,
    next_connection: Token,
    /// The end of the pause in accepting connections.
    accept_at: Option<Instant>,
    /// The time at which the server ends at the latest, after a signal to end.
    end_at: Option<Instant>,
}

/// Serves until the server is no longer needed.
///
/// # Errors
/// The server cannot start, or its spawner has ended.
pub(crate) fn serve(
    invocation: &Invocation,
    listener: UnixListener,
    runtime: &dyn Runtime,
) -> Result<()> {
    // The server was started in a bundle, which is removed with its container.
    rustix::process::chdir("/").context("chdir to \"/\"")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("become the reaper of containers")?;
    let socket = Socket::of(&listener);
    // The spawner must not inherit the log or blocked signals, so it starts before both.
    let spawner = Spawner::start(runtime)?;
    log_fifo::open(&invocation.bundle, invocation.debug);
    allow_more_files()?;
    // When a process ends, the kernel closes its descriptors from the highest number to the
    // lowest. So give the listening socket a high number: it must be closed before any
    // connection. Otherwise `delete`, which a client runs when it has lost its connection,
    // could connect, take the server for alive, and leave the socket.
    let mut listener = listener;
    match fcntl_dupfd_cloexec(&listener, LISTENER_FD) {
        // The limit of open files is that low, and so is the number of connections.
        Err(Errno::INVAL) => {}
        copy => listener = copy.context("copy the socket's descriptor")?.into(),
    }
    let sockets = socket.as_ref().and_then(Socket::directory);
    let sockets = sockets.unwrap_or(Path::new("/run"));
    let events = Publisher::new(&invocation.events_address, &invocation.namespace, EVENTS);
    let poll = Poll::new().context("epoll_create")?;
    let service = Service::new(poll, spawner, events, &invocation.namespace, sockets);
    listener.set_nonblocking(true).context("set O_NONBLOCK")?;
    let mut server = Server {
        listener,
        signals: Signals::new()?,
        service,
        connections: BTreeMap::new(),
        next_connection: FIRST_CONNECTION,
        accept_at: None,
        end_at: None,
    };
    confinement::enter()?;
    drop_pages();
    let served = server.begin().and_then(|()| server.serve());
    if let Some(socket) = socket {
        socket.remove()?;
    }
    served
}

/// Raises the limit of open files for connections and streams. The spawner and the
/// containers keep the lower limit.
fn allow_more_files() -> Result<()> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    limit
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .context("raise the limit of open files")
}

impl Server {
    fn begin(&self) -> Result<()> {
        let poll = &self.service.poll;
        poll.add(&self.listener, LISTENER, EventFlags::IN)
            .and_then(|()| poll.add(&self.signals, SIGNALS, EventFlags::IN))
            .and_then(|()| poll.add(self.service.spawner.fd(), SPAWNER, EventFlags::IN))
            .context("epoll_ctl")
    }

    fn serve(&mut self) -> Result<()> {
        while !self.may_end() {
            let deadlines = self.service.deadline().into_iter();
            let deadlines = deadlines.chain(self.accept_at).chain(self.end_at);
            let timeout = deadlines.min();
            let timeout = timeout.map(|time| time.saturating_duration_since(Instant::now()));
            let ready = self.service.poll.wait(timeout).context("epoll_wait")?;
            for (token, flags) in ready {
                self.ready(token, flags)?;
            }
            let now = Instant::now();
            self.service.tick(now);
            if self.accept_at.is_some_and(|time| time <= now) {
                self.accept_at = None;
                self.expect_callers(EventFlags::IN)?;
            }
            self.answer();
            self.expect_spawner()?;
        }
        Ok(())
    }

    /// Whether the server may end now: it was told to end, by a signal or by Shutdown without a
    /// task (`service/calls.rs`), and all events and answers are sent; or the time limit is over.
    fn may_end(&self) -> bool {
        let mut connections = self.connections.values();
        let end_at = self.end_at.into_iter().chain(self.service.end_at).min();
        let is_late = end_at.is_some_and(|time| time <= Instant::now());
        let all_is_sent =
            self.service.events.is_done() && connections.all(|connection| !connection.has_unsent());
        is_late || (all_is_sent && end_at.is_some())
    }

    fn ready(&mut self, token: Token, flags: EventFlags) -> Result<()> {
        match token {
            LISTENER => self.accept()?,
            SIGNALS => self.take_signals()?,
            SPAWNER => {
                self.service.spawner.flush()?;
                while let Some(answer) = self.service.spawner.answer()? {
                    self.service.job_answer(answer);
                }
            }
            EVENTS => self.service.events.ready(&self.service.poll, flags),
            token if token >= FIRST_STREAM => self.service.stream_ready(token),
            token => self.exchange(token),
        }
        Ok(())
    }

    fn expect_spawner(&self) -> Result<()> {
        let spawner = &self.service.spawner;
        let mut flags = EventFlags::IN;
        flags.set(EventFlags::OUT, spawner.has_unsent());
        self.service
            .poll
            .change(spawner.fd(), SPAWNER, flags)
            .context("epoll_ctl")
    }

    fn expect_callers(&self, flags: EventFlags) -> Result<()> {
        let poll = &self.service.poll;
        let changed = poll.change(&self.listener, LISTENER, flags);
        changed.context("epoll_ctl")
    }

    /// Accepts connections.
    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => {
                    // Most often EMFILE. New connections wait in the backlog during the pause.
                    log::warn!("accept a connection: {}", teu_errno::text(&err));
                    self.accept_at = Some(Instant::now() + PAUSE);
                    return self.expect_callers(EventFlags::empty());
                }
            }
        }
    }

    /// Adds a connection if its peer has the server's user id.
    fn take(&mut self, stream: UnixStream) {
        let own = rustix::process::geteuid();
        if !socket_peercred(&stream).is_ok_and(|peer| peer.uid == own) {
            log::warn!("refuse the connection of another user");
            return;
        }
        let token = self.next_connection;
        self.next_connection += 1;
        let added = stream.set_nonblocking(true).map_err(anyhow::Error::from);
        let poll = &self.service.poll;
        match added.and_then(|()| Ok(poll.add(&stream, token, EventFlags::IN)?)) {
            Ok(()) => {
                self.connections.insert(token, Connection::new(stream));
            }
            Err(err) => log::warn!("take a connection: {}", teu_errno::chain(&err)),
        }
    }

    /// Reads calls, serves them, and sends waiting answers.
    fn exchange(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let is_open = connection.read();
        while let Some((stream, call)) = connection.next_call() {
            let caller = Caller {
                connection: token,
                stream,
            };
            match call {
                // If the server ended now, so would the spawner, and nobody would know of
                // the container that the call makes.
                Ok(_) if self.end_at.is_some() => {
                    let status = Status::unavailable("the shim was told to end");
                    connection.answer(stream, Err(status));
                }
                Ok(request) => self.service.call(caller, &request),
                Err(status) => connection.answer(stream, Err(status)),
            }
        }
        match is_open && connection.write() {
            true => self.expect(token),
            false => self.hang_up(token),
        }
    }

    fn hang_up(&mut self, token: Token) {
        self.connections.remove(&token);
        self.service
            .forget_waiting(|caller| caller.connection == token);
    }

    fn answer(&mut self) {
        for (caller, answer) in self.service.answers() {
            // The client may have disconnected.
            if let Some(connection) = self.connections.get_mut(&caller.connection) {
                connection.answer(caller.stream, answer);
                match connection.write() {
                    true => self.expect(caller.connection),
                    false => self.hang_up(caller.connection),
                }
            }
        }
    }

    fn expect(&self, token: Token) {
        if let Some(connection) = self.connections.get(&token) {
            let poll = &self.service.poll;
            if let Err(err) = poll.change(connection, token, connection.flags()) {
                log::error!("epoll_ctl: {err}");
            }
        }
    }

    fn take_signals(&mut self) -> Result<()> {
        for signal in self.signals.read()? {
            match signal {
                Signal::SIGCHLD => self.reap()?,
                Signal::SIGUSR1 => log::info!("{}", self.service),
                _ => self.end_at = self.end_at.or(Some(Instant::now() + LAST_EVENTS)),
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<()> {
        while let Some((pid, exit)) = signals::reap()? {
            if i32::try_from(pid) == Ok(self.service.spawner.pid()) {
                bail!("the spawner has ended");
            }
            self.service.ended(pid, exit);
        }
        Ok(())
    }
}
