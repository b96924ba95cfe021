//! The messages in ttrpc's frames (its `request.proto`).

/// A call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Request {
    /// The full name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The name of the method in it.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The encoded message of the method.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// The caller's timeout in nanoseconds; 0 means no timeout.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Further information of the caller, such as its namespace.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// A piece of a request's metadata.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Response {
    /// The error. If it is absent or has the code 0, the call succeeded.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The encoded message of the method.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// The error of a call (`google.rpc.Status`, without its details).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// The code, for programs.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// The message, for people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// The codes of gRPC that this crate uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// An error of any other kind.
    Unknown = 2,
    /// The request is invalid.
    InvalidArgument = 3,
    /// The call took too long.
    DeadlineExceeded = 4,
    /// The requested object does not exist.
    NotFound = 5,
    /// The object to create already exists.
    AlreadyExists = 6,
    /// The message is too long.
    ResourceExhausted = 8,
    /// The request is not possible in the current state.
    FailedPrecondition = 9,
    /// The service or method does not exist.
    Unimplemented = 12,
    /// A message cannot be decoded.
    Internal = 13,
    /// The service cannot serve the call now.
    Unavailable = 14,
}
