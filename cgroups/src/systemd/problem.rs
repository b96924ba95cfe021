//! Why a call to systemd did not work, and where it went.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

pub(super) const SERVICE: &str = "org.freedesktop.systemd1";

/// What the names of errors begin with that are not the manager's alone.
const BUS_ERROR: &str = "org.freedesktop.DBus.Error.";

/// How long an answer or a job may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The manager, or the bus, said no.
    Refused {
        name: String,
        text: String,
    },
    /// The other side closed the connection; it may be back soon.
    Closed,
    /// No answer in time.
    TimedOut,
    /// A message beyond the limit.
    TooLong,
    /// Bytes that are no message, or a value that none can have, in zbus's words.
    Malformed(String),
    /// We are nobody who may talk here.
    Unauthorized,
    /// Where the connection went, and what the kernel said.
    Connect {
        to: Address,
        cause: Errno,
    },
    /// Nothing tells where a user's manager is.
    NoAddress,
    System(Errno),
}

impl Problem {
    /// Whether it is the error of that name, without "org.freedesktop.systemd1.".
    pub(crate) fn is(&self, short_name: &str) -> bool {
        matches!(self, Problem::Refused { name, .. }
            if name.strip_prefix(SERVICE).and_then(|rest| rest.strip_prefix('.')) == Some(short_name))
    }

    /// Whether the manager has heard the question and said no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Problem::Refused { .. }) && !self.is_loss()
    }

    /// Whether nobody has said no: the manager went away, as it does when it
    /// executes itself again, and may or may not have heard the question. Then
    /// the kernel says so, or the bus in its own name ("Message Bus Messages").
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Problem::Closed => true,
            // There is a socket, and nobody listens at it for the moment.
            Problem::Connect { cause, .. } => *cause == Errno::ECONNREFUSED,
            Problem::Refused { name, .. } => match name.strip_prefix(BUS_ERROR) {
                Some(
                    "NoReply" | "Disconnected" | "ServiceUnknown" | "NameHasNoOwner" | "Timeout"
                    | "TimedOut",
                ) => true,
                // The bus starts who is not there, and systemd is not its to start.
                Some(other) => other.starts_with("Spawn."),
                None => false,
            },
            _ => false,
        }
    }
}

impl From<zbus::Error> for Problem {
    fn from(error: zbus::Error) -> Problem {
        Problem::Malformed(error.to_string())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Refused { name, text } => write!(formatter, "systemd said {name}: {text:?}"),
            Problem::Closed => formatter.write_str("systemd closed the connection"),
            Problem::TimedOut => {
                write!(
                    formatter,
                    "systemd did not answer in {} s",
                    PATIENCE.as_secs()
                )
            }
            Problem::TooLong => formatter.write_str("the message is too long for D-Bus"),
            Problem::Malformed(cause) => write!(formatter, "a malformed message: {cause}"),
            Problem::Unauthorized => formatter.write_str("the bus refused to authenticate us"),
            Problem::Connect { to, cause } => {
                write!(formatter, "connect to {to}: {}", words(*cause))
            }
            Problem::NoAddress => formatter.write_str(
                "neither $DBUS_SESSION_BUS_ADDRESS nor $XDG_RUNTIME_DIR leads to the user's \
                 systemd (hint: log in, and install dbus-user-session)",
            ),
            Problem::System(cause) => formatter.write_str(&words(*cause)),
        }
    }
}

fn words(cause: Errno) -> String {
    teu_errno::text(&cause.into())
}

/// Where a manager can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Its own socket.
    Direct(PathBuf),
    /// The bus that it is on.
    Bus(PathBuf),
    /// The same, by a name without a file (unix(7), "abstract").
    AbstractBus(Vec<u8>),
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Direct(path) | Address::Bus(path) => write!(formatter, "{path:?}"),
            Address::AbstractBus(name) => {
                write!(
                    formatter,
                    "{:?}",
                    format!("@{}", String::from_utf8_lossy(name))
                )
            }
        }
    }
}
