//! ttrpc: calls over a socket. Each call is a frame, and its answer is another frame. Both
//! the server's and the client's side are here, without the socket: they take and return
//! bytes.
//!
//! Calls are unary. Streaming calls are refused, because no service of a shim has them.

use std::fmt;

use prost::Message;

pub use crate::proto::ttrpc::{Code, KeyValue, Request, Response, Status};

/// The maximum length of a frame's payload.
const MAX_PAYLOAD: usize = 4 << 20;

const HEADER: usize = 10;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 3;

/// The receiving side of a server's connection.
#[derive(Debug, Default)]
pub struct Calls {
    frames: Frames,
    last_stream: u32,
}

impl Calls {
    /// Adds bytes that were read from the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.frames.feed(bytes);
    }

    /// Returns the next complete call with the stream to answer on. If the frame is not a
    /// valid call, returns the error to answer with.
    pub fn next_call(&mut self) -> Option<(u32, Result<Request, Status>)> {
        loop {
            let frame = self.frames.next_frame()?;
            if matches!(frame.kind, REQUEST | DATA) || frame.payload.is_err() {
                return Some((frame.stream, self.accept(frame)));
            }
            // The protocol requires to ignore other kinds: later versions may define them.
        }
    }

    fn accept(&mut self, frame: Frame) -> Result<Request, Status> {
        let payload = frame.payload?;
        if frame.stream.is_multiple_of(2) {
            return Err(Status::invalid_argument(
                "StreamID must be odd for client initiated streams",
            ));
        }
        if frame.kind == DATA {
            return Err(Status::invalid_argument("StreamID is no longer active"));
        }
        if frame.stream <= self.last_stream {
            return Err(Status::invalid_argument(
                "StreamID cannot be re-used and must increment",
            ));
        }
        self.last_stream = frame.stream;
        Request::decode(payload.as_slice())
            .map_err(|err| Status::invalid_argument(format!("unmarshal request error: {err}")))
    }
}

/// The receiving side of a client's connection.
#[derive(Debug, Default)]
pub struct Answers {
    frames: Frames,
}

impl Answers {
    /// Adds bytes that were read from the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.frames.feed(bytes);
    }

    /// Returns the next complete answer and the stream of its call.
    pub fn next_answer(&mut self) -> Option<(u32, Result<Vec<u8>, Status>)> {
        loop {
            let frame = self.frames.next_frame()?;
            if frame.kind == RESPONSE {
                return Some((
                    frame.stream,
                    frame.payload.and_then(|payload| outcome(&payload)),
                ));
            }
        }
    }
}

/// Splits a response into the result of the call and its error.
fn outcome(payload: &[u8]) -> Result<Vec<u8>, Status> {
    let response: Response = decode(payload)?;
    match response.status {
        Some(status) if status.code != Code::Ok as i32 => Err(status),
        _ => Ok(response.payload),
    }
}

/// Builds the frame of a call. `stream` must be odd, and higher than that of the call before.
///
/// # Errors
/// The call is too long for a frame.
pub fn request(stream: u32, request: &Request) -> Result<Vec<u8>, Status> {
    match request.encoded_len() {
        length if length > MAX_PAYLOAD => Err(too_long(length)),
        _ => Ok(frame(stream, REQUEST, request)),
    }
}

/// Builds the frame of an answer. If the answer is too long for a frame, builds the frame
/// of an error that says so.
pub fn response(stream: u32, outcome: Result<Vec<u8>, Status>) -> Vec<u8> {
    let mut response = match outcome {
        Ok(payload) => Response {
            status: None,
            payload,
        },
        Err(status) => Response {
            status: Some(status),
            payload: Vec::new(),
        },
    };
    let length = response.encoded_len();
    if length > MAX_PAYLOAD {
        response = Response {
            status: Some(too_long(length)),
            payload: Vec::new(),
        };
    }
    frame(stream, RESPONSE, &response)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "both callers know it is MAX_PAYLOAD at most"
)]
fn frame(stream: u32, kind: u8, message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend((length as u32).to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([kind, 0]);
    message.encode_raw(&mut frame);
    frame
}

/// Decodes the message in the payload of a call or an answer.
///
/// # Errors
/// The payload is not a message of this type.
pub fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Status> {
    M::decode(payload).map_err(|err| {
        Status::new(
            Code::Internal,
            format!("ttrpc: error unmarshalling payload: {err}"),
        )
    })
}

fn too_long(length: usize) -> Status {
    let message = format!("message length {length} exceed maximum message size of {MAX_PAYLOAD}");
    Status::new(Code::ResourceExhausted, message)
}

impl Status {
    /// An error with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Status {
        Status {
            code: code as i32,
            message: message.into(),
        }
    }

    /// An error of any other kind.
    pub fn unknown(message: impl Into<String>) -> Status {
        Status::new(Code::Unknown, message)
    }

    /// The request is invalid.
    pub fn invalid_argument(message: impl Into<String>) -> Status {
        Status::new(Code::InvalidArgument, message)
    }

    /// The requested object does not exist.
    pub fn not_found(message: impl Into<String>) -> Status {
        Status::new(Code::NotFound, message)
    }

    /// The object to create already exists.
    pub fn already_exists(message: impl Into<String>) -> Status {
        Status::new(Code::AlreadyExists, message)
    }

    /// The request is not possible in the current state.
    pub fn failed_precondition(message: impl Into<String>) -> Status {
        Status::new(Code::FailedPrecondition, message)
    }

    /// The service or method does not exist.
    pub fn unimplemented(message: impl Into<String>) -> Status {
        Status::new(Code::Unimplemented, message)
    }

    /// The service cannot serve the call now.
    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(Code::Unavailable, message)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// Splits the bytes read so far into frames.
#[derive(Debug, Default)]
struct Frames {
    buffer: Vec<u8>,
    /// The index in the buffer at which the next frame begins.
    next: usize,
    /// The number of bytes still to skip of a payload that is too long.
    unwanted: usize,
}

#[derive(Debug)]
struct Frame {
    stream: u32,
    kind: u8,
    /// The payload, or an error if it was too long and has been skipped.
    payload: Result<Vec<u8>, Status>,
}

impl Frames {
    fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.next);
        self.next = 0;
        let unwanted = self.unwanted.min(bytes.len());
        self.unwanted -= unwanted;
        self.buffer.extend_from_slice(&bytes[unwanted..]);
    }

    fn next_frame(&mut self) -> Option<Frame> {
        let frame = self.split_frame();
        if self.next == self.buffer.len() {
            // An idle connection keeps no memory.
            self.buffer = Vec::new();
            self.next = 0;
        }
        frame
    }

    fn split_frame(&mut self) -> Option<Frame> {
        let (header, rest) = self.buffer[self.next..].split_first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let payload = if length <= MAX_PAYLOAD {
            let payload = rest.get(..length)?.to_vec();
            self.next += HEADER + length;
            Ok(payload)
        } else {
            let here = length.min(rest.len());
            self.unwanted = length - here;
            self.next += HEADER + here;
            Err(too_long(length))
        };
        Some(Frame {
            stream,
            kind,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str) -> Request {
        Request {
            service: "s".to_owned(),
            method: method.to_owned(),
            ..Request::default()
        }
    }

    fn header(length: u32, stream: u32, kind: u8) -> Vec<u8> {
        [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat()
    }

    fn code(outcome: Result<Request, Status>) -> i32 {
        outcome.unwrap_err().code
    }

    #[test]
    fn call_is_found_however_the_bytes_come() {
        let bytes = [
            request(1, &call("A")).unwrap(),
            request(3, &call("B")).unwrap(),
        ]
        .concat();
        for chunk in [1, 7, 11, bytes.len()] {
            let mut calls = Calls::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(chunk) {
                calls.feed(part);
                while let Some((stream, call)) = calls.next_call() {
                    seen.push((stream, call.unwrap().method));
                }
            }
            assert_eq!(
                seen,
                [(1, "A".to_owned()), (3, "B".to_owned())],
                "chunks of {chunk}"
            );
            assert_eq!(calls.frames.buffer.capacity(), 0);
        }
    }

    #[test]
    fn wire_is_as_the_protocol_has_it() {
        let bytes = request(0x0102_0305, &call("M")).unwrap();
        assert_eq!(bytes, b"\0\0\0\x06\x01\x02\x03\x05\x01\0\x0a\x01s\x12\x01M");
        let bytes = response(1, Err(Status::not_found("no")));
        assert_eq!(
            bytes,
            b"\0\0\0\x08\0\0\0\x01\x02\0\x0a\x06\x08\x05\x12\x02no"
        );
        assert_eq!(response(1, Ok(Vec::new())), b"\0\0\0\0\0\0\0\x01\x02\0");
    }

    #[test]
    fn call_that_is_too_long_is_answered_and_passed_over() {
        let length = u32::try_from(MAX_PAYLOAD).unwrap() + 1;
        let mut calls = Calls::default();
        calls.feed(&[&header(length, 1, REQUEST)[..], b"abc"].concat());
        let (stream, outcome) = calls.next_call().unwrap();
        let status = outcome.unwrap_err();
        assert_eq!((stream, status.code), (1, Code::ResourceExhausted as i32));
        assert_eq!(
            status.message,
            "message length 4194305 exceed maximum message size of 4194304"
        );
        for part in vec![0; MAX_PAYLOAD + 1 - 3].chunks(60_000) {
            calls.feed(part);
            assert!(calls.next_call().is_none());
        }
        calls.feed(&request(3, &call("A")).unwrap());
        assert_eq!(calls.next_call().unwrap().1.unwrap().method, "A");
    }

    #[test]
    fn longest_call_is_served() {
        let mut longest = call("A");
        let others = longest.encoded_len();
        longest.payload = vec![7; MAX_PAYLOAD - others - 5];
        assert_eq!(longest.encoded_len(), MAX_PAYLOAD);
        let mut calls = Calls::default();
        calls.feed(&request(1, &longest).unwrap());
        assert_eq!(calls.next_call().unwrap().1.unwrap(), longest);

        longest.payload.push(7);
        assert_eq!(
            request(1, &longest).unwrap_err().code,
            Code::ResourceExhausted as i32
        );
    }

    #[test]
    fn answer_that_is_too_long_is_an_error() {
        let mut answers = Answers::default();
        answers.feed(&response(1, Ok(vec![0; MAX_PAYLOAD])));
        let (_, outcome) = answers.next_answer().unwrap();
        assert_eq!(outcome.unwrap_err().code, Code::ResourceExhausted as i32);
    }

    #[test]
    fn streams_are_refused_and_other_kinds_ignored() {
        let mut calls = Calls::default();
        calls.feed(&request(5, &call("A")).unwrap());
        assert_eq!(calls.next_call().unwrap().1.unwrap().method, "A");
        for (frame, on) in [
            (request(5, &call("A")).unwrap(), 5),
            (request(3, &call("A")).unwrap(), 3),
            (request(8, &call("A")).unwrap(), 8),
            (header(0, 5, DATA), 5),
            ([&header(1, 7, REQUEST)[..], b"\xff"].concat(), 7),
        ] {
            calls.feed(&frame);
            let (stream, outcome) = calls.next_call().unwrap();
            assert_eq!((stream, code(outcome)), (on, Code::InvalidArgument as i32));
        }
        calls.feed(&header(0, 9, 77));
        calls.feed(&header(0, 9, RESPONSE));
        assert!(calls.next_call().is_none());
    }

    #[test]
    fn answer_says_what_came_of_the_call() {
        let mut answers = Answers::default();
        answers.feed(&response(1, Ok(b"p".to_vec())));
        answers.feed(&response(3, Err(Status::failed_precondition("no"))));
        assert_eq!(answers.next_answer(), Some((1, Ok(b"p".to_vec()))));
        let refused = Status::failed_precondition("no");
        assert_eq!(answers.next_answer(), Some((3, Err(refused))));
        assert_eq!(answers.next_answer(), None);
    }
}
