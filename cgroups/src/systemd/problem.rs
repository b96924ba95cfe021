//! The reasons why a call to systemd fails, and the addresses of managers. `connection`
//! makes the calls.

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

pub(super) const SERVICE: &str = "org.freedesktop.systemd1";

/// The prefix of error names that D-Bus defines, as opposed to the manager.
const BUS_ERROR: &str = "org.freedesktop.DBus.Error.";

/// The time limit for an answer or a job.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The reason why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The manager or the bus answered with an error.
    Refused {
        name: String,
        text: String,
    },
    /// The other side closed the connection. It may accept another one soon.
    Closed,
    /// There was no answer in time.
    TimedOut,
    /// A message was larger than the limit.
    TooLong,
    /// Bytes were not a message, or a value cannot be part of one. The text is zbus's.
    Malformed(String),
    /// The other side refused the authentication.
    Unauthorized,
    /// The kernel refused the connection to an address.
    Connect {
        to: Address,
        cause: Errno,
    },
    /// The environment does not tell the address of a user's manager.
    NoAddress,
    System(Errno),
}

impl Problem {
    /// Returns whether the error has this name, without "org.freedesktop.systemd1.".
    pub(crate) fn is(&self, short_name: &str) -> bool {
        matches!(self, Problem::Refused { name, .. }
            if name.strip_prefix(SERVICE).and_then(|rest| rest.strip_prefix('.')) == Some(short_name))
    }

    /// Returns whether the manager received the call and refused it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Problem::Refused { .. }) && !self.is_loss()
    }

    /// Returns whether the manager went away before it answered, as it does when it
    /// re-executes itself. It may or may not have received the call. The kernel reports
    /// that, or the bus with an error of its own ("Message Bus Messages").
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Problem::Closed => true,
            // The socket exists, but no process listens on it at the moment.
            Problem::Connect { cause, .. } => *cause == Errno::ECONNREFUSED,
            Problem::Refused { name, .. } => match name.strip_prefix(BUS_ERROR) {
                Some(
                    "NoReply" | "Disconnected" | "ServiceUnknown" | "NameHasNoOwner" | "Timeout"
                    | "TimedOut",
                ) => true,
                // The bus tries to start a missing service, and cannot start systemd.
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

/// An address at which a manager can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// The manager's own socket.
    Direct(PathBuf),
    /// The socket of the bus.
    Bus(PathBuf),
    /// The abstract socket of the bus (unix(7), "abstract").
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
