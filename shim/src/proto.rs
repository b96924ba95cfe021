//! The messages of containerd's API that a shim sends and receives, and the messages of
//! protobuf in them. Field numbers are those of the `.proto` files in containerd's `api/`.
//!
//! Messages of cgroup statistics are in `metrics`.

pub mod bootstrap;
pub mod events;
pub mod options;
pub mod task;
pub mod ttrpc;
pub mod types;

use std::time::{SystemTime, UNIX_EPOCH};

use prost::{DecodeError, Message};

/// A message that can be packed into an [`Any`], with its name.
pub trait Named: Message + Default {
    /// The full name of the message.
    const NAME: &'static str;
}

/// Implements [`Named`] for messages of one protobuf package.
macro_rules! named {
    ($package:literal: $($message:ident),+) => {
        $(impl $crate::proto::Named for $message {
            const NAME: &'static str = concat!($package, ".", stringify!($message));
        })+
    };
}
pub(crate) use named;

/// `google.protobuf.Any`: a message of a type that its sender chose, or JSON.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// The name of the message; may be the last part of a URL.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// Packs a message under its bare name, as containerd does.
    pub fn new<M: Named>(message: &M) -> Any {
        Any {
            type_url: M::NAME.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    /// Decodes the message if it has the type `M`.
    pub fn decode_as<M: Named>(&self) -> Option<Result<M, DecodeError>> {
        (self.name() == M::NAME).then(|| M::decode(self.value.as_slice()))
    }

    /// The name of the message, without the URL around it.
    pub fn name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds since the second began.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// Go's zero time, which stands for "no time".
    pub const NEVER: Timestamp = Timestamp {
        seconds: -62_135_596_800,
        nanos: 0,
    };

    /// The current time.
    pub fn now() -> Timestamp {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for Timestamp {
    /// Converts a time. A time before 1970 becomes 1970.
    fn from(time: SystemTime) -> Timestamp {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos().cast_signed(),
        }
    }
}

/// `google.protobuf.Empty`.
pub type Empty = ();

#[cfg(test)]
mod tests {
    use super::options::{ProcessDetails, runc};
    use super::*;
    use std::time::Duration;

    #[test]
    fn any_is_told_by_its_name() {
        let any = Any::new(&ProcessDetails {
            exec_id: "e".to_owned(),
        });
        assert_eq!(any.type_url, "containerd.runc.v1.ProcessDetails");
        assert_eq!(any.value, b"\x0a\x01e");
        assert_eq!(any.decode_as::<runc::Options>(), None);

        let type_url = format!("type.googleapis.com/{}", any.type_url);
        let addressed = Any { type_url, ..any };
        let details = addressed.decode_as::<ProcessDetails>().unwrap().unwrap();
        assert_eq!(details.exec_id, "e");
    }

    #[test]
    fn timestamp_counts_from_1970() {
        let time = UNIX_EPOCH + Duration::new(3, 999_999_999);
        assert_eq!(
            Timestamp::from(time),
            Timestamp {
                seconds: 3,
                nanos: 999_999_999
            }
        );
        assert_eq!(
            Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)),
            Timestamp {
                seconds: 0,
                nanos: 0
            }
        );
    }
}
