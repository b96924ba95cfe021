//! What is in ttrpc's frames (its `request.proto`).

/// A call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Request {
    /// The full name of the service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The name of the method in it.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits; 0 is without an end.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// What else the caller says, such as its namespace.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// A piece of a request's metadata.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What it says.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Response {
    /// None, or the code 0: the call did what it was to do.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// Why a call failed (`google.rpc.Status`, without its details).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// For programs.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// Those of gRPC's codes that are said here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// It did what it was to do.
    Ok = 0,
    /// Something else.
    Unknown = 2,
    /// What is asked for makes no sense.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// There is such a thing.
    AlreadyExists = 6,
    /// There is too much of it.
    ResourceExhausted = 8,
    /// Not as things are.
    FailedPrecondition = 9,
    /// There is no such method.
    Unimplemented = 12,
    /// What is said cannot be read.
    Internal = 13,
    /// Not at the moment.
    Unavailable = 14,
}
