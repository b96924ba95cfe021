//! A connection to systemd's manager: finds its socket, authenticates, calls methods and
//! waits for jobs. Which methods are called is decided in the module above.
//!
//! The manager listens on a socket of its own and has a name on the bus. The socket is
//! tried first, as systemctl(1) does as root: it avoids the bus daemon, needs neither
//! `Hello` nor a subscription, and exists even when the bus does not run. If the socket is
//! missing or refuses the connection, the bus is used.
//!
//! zbus has connections too; docs/architecture.md says why they are not used.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, GetSockOpt, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::Serialize;
use teu_cgroups_types::Manager;
use zbus::{DynamicType, ObjectPath};

use crate::systemd::message::{self, BEGINNING, ERROR, Message, Method, RETURN, SIGNAL};
use crate::systemd::problem::{Address, PATIENCE, Problem, SERVICE};

const OBJECT: &str = "/org/freedesktop/systemd1";

const BUS: &str = "org.freedesktop.DBus";

/// The interface of the manager (org.freedesktop.systemd1(5)).
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The time limit for connecting: on a busy machine the socket's backlog may be full for a
/// while.
const CONNECT_SECONDS: i64 = 15;

/// Returns the addresses to try, in order. An address in the environment was set on
/// purpose, so it is the only one.
pub(crate) fn addresses(
    manager: Manager,
    variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Vec<Address> {
    let given = variable(match manager {
        Manager::System => "DBUS_SYSTEM_BUS_ADDRESS",
        Manager::User => "DBUS_SESSION_BUS_ADDRESS",
    });
    let runtime_directory = variable("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        return parse(
            &given.into_vec(),
            runtime_directory.as_deref().map(Path::new),
        );
    }
    let (directory, bus) = match (manager, runtime_directory) {
        (Manager::System, _) => (PathBuf::from("/run"), "dbus/system_bus_socket"),
        (Manager::User, Some(directory)) => (PathBuf::from(directory), "bus"),
        (Manager::User, None) => return Vec::new(),
    };
    vec![
        Address::Direct(directory.join("systemd/private")),
        Address::Bus(directory.join(bus)),
    ]
}

/// Returns the Unix sockets among D-Bus addresses ("Server Addresses"), such as
/// `unix:path=/run/user/1000/bus,guid=...;unix:abstract=...`.
fn parse(text: &[u8], runtime_directory: Option<&Path>) -> Vec<Address> {
    let path = |bytes: Vec<u8>| PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let unix = |address: &[u8]| {
        let pairs = address.strip_prefix(b"unix:")?;
        pairs.split(|&byte| byte == b',').find_map(|pair| {
            let equals = pair.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (&pair[..equals], unescape(&pair[equals + 1..]));
            match key {
                b"path" => Some(Address::Bus(path(value))),
                b"abstract" => Some(Address::AbstractBus(value)),
                b"runtime" => Some(Address::Bus(runtime_directory?.join("bus"))),
                _ => None,
            }
        })
    };
    text.split(|&byte| byte == b';').filter_map(unix).collect()
}

/// Decodes bytes that are escaped, such as `%2f`.
fn unescape(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| first == b'%');
        let escaped = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// The end of a job, which the manager's signal reports.
#[derive(Debug)]
struct FinishedJob {
    sender: String,
    path: String,
    result: String,
}

/// An authenticated connection.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: UnixStream,
    serial: u32,
    /// Bytes that were read, but not decoded.
    received: Vec<u8>,
    finished: Vec<FinishedJob>,
}

impl Bus {
    /// Connects to the first address that accepts the connection.
    ///
    /// # Errors
    /// Returns the error of the last address, or of an address that may accept a connection
    /// later.
    pub(crate) fn connect(addresses: &[Address]) -> Result<Bus, Problem> {
        let mut last = Problem::NoAddress;
        for address in addresses {
            match Bus::connect_to(address) {
                Ok(bus) => return Ok(bus),
                Err(problem) if !last.is_loss() => last = problem,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn connect_to(address: &Address) -> Result<Bus, Problem> {
        let failed = |cause| Problem::Connect {
            to: address.clone(),
            cause,
        };
        let mut bus = Bus {
            socket: open(address).map_err(failed)?,
            serial: 0,
            received: Vec::new(),
            finished: Vec::new(),
        };
        bus.authenticate()?;
        if !matches!(address, Address::Direct(_)) {
            bus.register()?;
        }
        Ok(bus)
    }

    /// Authenticates by the credentials of the socket ("Authentication Protocol",
    /// EXTERNAL). No user id is sent, because in a user namespace the id may differ from
    /// the one that the other side sees. The answer to the first line is DATA or, in old
    /// versions, OK; the answer to the second line is OK.
    ///
    /// All lines are sent at once. No message may follow before the answers, because
    /// systemd does not handle a message that it reads together with BEGIN until another
    /// message comes.
    fn authenticate(&mut self) -> Result<(), Problem> {
        let deadline = Instant::now() + PATIENCE;
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let lines = [self.read_line(deadline)?, self.read_line(deadline)?];
        match lines.iter().any(|line| line.starts_with(b"OK")) {
            true => Ok(()),
            false => Err(Problem::Unauthorized),
        }
    }

    /// Registers with the bus and subscribes to the ends of jobs, and to the manager's
    /// leaving the bus, after which its signals have another sender. The manager sends
    /// signals only if there is a subscriber.
    fn register(&mut self) -> Result<(), Problem> {
        let jobs =
            format!("type='signal',sender='{SERVICE}',interface='{MANAGER}',member='JobRemoved'");
        let leaving = format!(
            "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',\
             arg0='{SERVICE}'"
        );
        let of_bus = |member| Method {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
        };
        // Send all calls before reading the first answer.
        let serials = [
            self.send(of_bus("Hello"), &())?,
            self.send(of_bus("AddMatch"), &jobs)?,
            self.send(of_bus("AddMatch"), &leaving)?,
            self.send(of_manager(MANAGER, "Subscribe"), &())?,
        ];
        let deadline = Instant::now() + PATIENCE;
        for serial in serials {
            self.wait_for_answer(serial, deadline)?;
        }
        Ok(())
    }

    /// Calls a method and waits for the answer.
    pub(crate) fn call(
        &mut self,
        interface: &str,
        member: &str,
        arguments: &(impl Serialize + DynamicType),
    ) -> Result<Message, Problem> {
        let serial = self.send(of_manager(interface, member), arguments)?;
        self.wait_for_answer(serial, Instant::now() + PATIENCE)
    }

    /// Waits for the end of the job that `answer` names, and returns its result, such as
    /// "done" or "failed".
    pub(crate) fn wait_for_job(&mut self, answer: &Message) -> Result<String, Problem> {
        let job: ObjectPath = answer.body()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Compare the sender, because any process on a bus can send signals.
            let is_it = |finished: &FinishedJob| {
                finished.path == job.as_str() && finished.sender == answer.sender
            };
            if let Some(position) = self.finished.iter().position(is_it) {
                return Ok(self.finished.swap_remove(position).result);
            }
            let message = self.receive(deadline)?;
            self.note(message)?;
        }
    }

    fn send(
        &mut self,
        method: Method,
        arguments: &(impl Serialize + DynamicType),
    ) -> Result<u32, Problem> {
        self.serial += 1;
        self.write(&method.call(self.serial, arguments)?)?;
        Ok(self.serial)
    }

    fn wait_for_answer(&mut self, serial: u32, deadline: Instant) -> Result<Message, Problem> {
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                RETURN if message.reply_to == serial => return Ok(message),
                ERROR if message.reply_to == serial => {
                    let text = message.body().unwrap_or_default();
                    let name = message.error_name;
                    return Err(Problem::Refused { name, text });
                }
                _ => self.note(message)?,
            }
        }
    }

    /// Stores the end of a job, which may arrive before the answer that names the job.
    ///
    /// # Errors
    /// Returns an error if the manager has left the bus.
    fn note(&mut self, message: Message) -> Result<(), Problem> {
        if message.kind != SIGNAL {
            return Ok(());
        }
        match (message.interface.as_str(), message.member.as_str()) {
            (_, "NameOwnerChanged") if message.sender == BUS => return Err(Problem::Closed),
            (MANAGER, "JobRemoved") => {
                // A signal with other arguments is not the manager's.
                if let Ok((_, path, _, result)) = message.body::<(u32, ObjectPath, &str, &str)>() {
                    self.finished.push(FinishedJob {
                        path: path.to_string(),
                        result: result.to_owned(),
                        sender: message.sender,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match send(self.socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Problem::TimedOut),
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(Problem::Closed),
                Err(cause) => return Err(Problem::System(cause)),
            }
        }
        Ok(())
    }

    /// Reads the next line of the authentication.
    fn read_line(&mut self, deadline: Instant) -> Result<Vec<u8>, Problem> {
        const LONGEST_LINE: usize = 4096;
        loop {
            let end = self.received.windows(2).position(|pair| pair == b"\r\n");
            if let Some(end) = end {
                let line = self.received[..end].to_vec();
                self.received.drain(..end + 2);
                return Ok(line);
            }
            if self.received.len() > LONGEST_LINE {
                return Err(Problem::TooLong);
            }
            self.read_more(deadline)?;
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Problem> {
        self.fill(BEGINNING, deadline)?;
        let length = message::length(&self.received[..BEGINNING])?;
        self.fill(length, deadline)?;
        Message::decode(self.received.drain(..length).collect())
    }

    fn fill(&mut self, length: usize, deadline: Instant) -> Result<(), Problem> {
        while self.received.len() < length {
            self.read_more(deadline)?;
        }
        Ok(())
    }

    fn read_more(&mut self, deadline: Instant) -> Result<(), Problem> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Problem::TimedOut);
        }
        let failed = |error: std::io::Error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNRESET) => Problem::Closed,
            Some(cause) => Problem::System(cause),
            None => Problem::Closed,
        };
        self.socket.set_read_timeout(Some(left)).map_err(failed)?;
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => Err(Problem::Closed),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            // The read timed out: the loop checks the deadline.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn of_manager<'a>(interface: &'a str, member: &'a str) -> Method<'a> {
    Method {
        destination: SERVICE,
        path: OBJECT,
        interface,
        member,
    }
}

/// Returns the pid of the process that listens on an address.
pub(crate) fn listener(address: &Address) -> nix::Result<i32> {
    let socket = open(address)?;
    sockopt::PeerCredentials.get(&socket).map(|peer| peer.pid())
}

/// Connects to an address, and waits if the backlog is full.
fn open(address: &Address) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let patience = TimeVal::new(CONNECT_SECONDS, 0);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    let to = match address {
        Address::Direct(path) | Address::Bus(path) => UnixAddr::new(path)?,
        Address::AbstractBus(name) => UnixAddr::new_abstract(name)?,
    };
    loop {
        match connect(fd.as_raw_fd(), &to) {
            Err(Errno::EINTR) => {}
            result => return result.map(|()| UnixStream::from(fd)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::systemd::message::tests::answer;
    use std::ffi::OsString;
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    /// The answer of a test's manager to a call.
    pub(crate) type Answers = Box<dyn FnMut(&Message, u32, &mut UnixStream) + Send>;

    /// A manager that listens on a socket and serves one connection for each script.
    pub(crate) struct Fake {
        pub(crate) address: Address,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Fake {
        pub(crate) fn path(name: &str) -> PathBuf {
            std::env::temp_dir().join(format!("systemd-{name}-{}", std::process::id()))
        }

        pub(crate) fn new(name: &str, scripts: Vec<Answers>) -> Fake {
            let path = Fake::path(name);
            // Rename over the socket that may exist, so that there is always one.
            let made = Fake::path(&format!("new-{name}"));
            let listener = UnixListener::bind(&made).unwrap();
            std::fs::rename(&made, &path).unwrap();
            let thread = std::thread::spawn(move || {
                for script in scripts {
                    let (socket, _) = listener.accept().unwrap();
                    serve(socket, script);
                }
            });
            Fake {
                address: Address::Direct(path),
                thread: Some(thread),
            }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            if let Address::Direct(path) = &self.address {
                std::fs::remove_file(path).unwrap();
            }
            if let Some(thread) = self.thread.take()
                && !std::thread::panicking()
            {
                thread.join().unwrap();
            }
        }
    }

    fn serve(mut socket: UnixStream, mut script: Answers) {
        // As in systemd, a message that comes together with BEGIN is not handled.
        let mut lines = [0; 1024];
        let length = socket.read(&mut lines).unwrap();
        let expected = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
        assert_eq!(&lines[..length], expected);
        socket
            .write_all(b"DATA\r\nOK 0123456789abcdef\r\n")
            .unwrap();
        let mut beginning = [0; BEGINNING];
        while socket.read_exact(&mut beginning).is_ok() {
            let length = message::length(&beginning).unwrap();
            let mut bytes = beginning.to_vec();
            bytes.resize(length, 0);
            socket.read_exact(&mut bytes[BEGINNING..]).unwrap();
            let serial = u32::from_ne_bytes(beginning[8..12].try_into().unwrap());
            script(&Message::decode(bytes).unwrap(), serial, &mut socket);
        }
    }

    pub(crate) fn reply(to: u32, body: &(impl Serialize + DynamicType)) -> Vec<u8> {
        answer(RETURN, to, ["", "", ""], body)
    }

    pub(crate) fn refusal(to: u32, name: &str) -> Vec<u8> {
        error(to, &format!("{SERVICE}.{name}"))
    }

    pub(crate) fn error(to: u32, name: &str) -> Vec<u8> {
        answer(ERROR, to, ["", "", name], &"no")
    }

    pub(crate) fn job_removed(path: &str, result: &str) -> Vec<u8> {
        let body = (1_u32, job(path), "x.scope", result);
        answer(SIGNAL, 0, [MANAGER, "JobRemoved", ""], &body)
    }

    pub(crate) fn job(path: &str) -> ObjectPath<'_> {
        ObjectPath::try_from(path).unwrap()
    }

    #[test]
    fn addresses_come_from_the_environment_or_the_usual_places() {
        let of = |manager, pairs: &'static [(&str, &str)]| {
            addresses(manager, &move |name: &str| {
                let pair = pairs.iter().find(|pair| pair.0 == name);
                pair.map(|pair| OsString::from(pair.1))
            })
        };
        let direct = |path: &str| Address::Direct(path.into());
        let bus = |path: &str| Address::Bus(path.into());
        assert_eq!(
            of(Manager::System, &[("XDG_RUNTIME_DIR", "/run/user/0")]),
            [
                direct("/run/systemd/private"),
                bus("/run/dbus/system_bus_socket")
            ]
        );
        assert_eq!(
            of(
                Manager::User,
                &[
                    ("XDG_RUNTIME_DIR", "/run/user/7"),
                    ("DBUS_SESSION_BUS_ADDRESS", "")
                ]
            ),
            [
                direct("/run/user/7/systemd/private"),
                bus("/run/user/7/bus")
            ]
        );
        assert_eq!(of(Manager::User, &[]), []);
        assert_eq!(
            of(
                Manager::User,
                &[
                    ("XDG_RUNTIME_DIR", "/run/user/7"),
                    (
                        "DBUS_SESSION_BUS_ADDRESS",
                        "tcp:host=x;unix:guid=1,path=/a%20b;unix:abstract=/tmp/d,guid=2;unix:runtime=yes"
                    )
                ]
            ),
            [
                bus("/a b"),
                Address::AbstractBus(b"/tmp/d".to_vec()),
                bus("/run/user/7/bus")
            ]
        );
    }

    #[test]
    fn the_end_of_a_job_may_come_before_its_name() {
        let script: Answers = Box::new(|call, serial, socket| {
            assert_eq!(call.member, "StopUnit");
            socket.write_all(&job_removed("/job/1", "failed")).unwrap();
            socket.write_all(&job_removed("/job/2", "done")).unwrap();
            // In pieces, as a socket may deliver it.
            let bytes = reply(serial, &job("/job/2"));
            for part in bytes.chunks(7) {
                socket.write_all(part).unwrap();
            }
        });
        let fake = Fake::new("early", vec![script]);
        let mut bus = Bus::connect(std::slice::from_ref(&fake.address)).unwrap();
        let answer = bus.call(MANAGER, "StopUnit", &()).unwrap();
        assert_eq!(bus.wait_for_job(&answer).unwrap(), "done");
        drop(bus);
    }

    #[test]
    fn refusals_and_ends_are_told_apart() {
        let script: Answers = Box::new(|call, serial, socket| match call.member.as_str() {
            "A" => socket.write_all(&refusal(serial, "UnitExists")).unwrap(),
            "B" => socket.write_all(&[0xFF; 64]).unwrap(),
            _ => socket.shutdown(std::net::Shutdown::Both).unwrap(),
        });
        let closing: Answers = Box::new(|_, _, socket| {
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let fake = Fake::new("ends", vec![script, closing]);
        let mut bus = Bus::connect(std::slice::from_ref(&fake.address)).unwrap();
        let problem = bus.call(MANAGER, "A", &()).unwrap_err();
        assert!(problem.is("UnitExists") && !problem.is("NoSuchUnit"));
        assert_eq!(
            problem.to_string(),
            "systemd said org.freedesktop.systemd1.UnitExists: \"no\""
        );
        let problem = bus.call(MANAGER, "B", &()).unwrap_err();
        assert!(matches!(problem, Problem::Malformed(_)), "{problem:?}");
        drop(bus);
        let mut bus = Bus::connect(std::slice::from_ref(&fake.address)).unwrap();
        assert_eq!(bus.call(MANAGER, "C", &()).unwrap_err(), Problem::Closed);
    }

    #[test]
    fn nobody_there_names_the_socket() {
        let nobody = Address::Bus("/nonexistent/bus".into());
        let problem = Bus::connect(&[nobody]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "connect to \"/nonexistent/bus\": no such file or directory"
        );
        assert_eq!(Bus::connect(&[]).unwrap_err(), Problem::NoAddress);
    }
}
