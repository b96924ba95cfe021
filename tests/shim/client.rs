//! A client of the task service over ttrpc. It has its own framing, because a mistake of the
//! shim's framing would not show if both ends shared it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message;
use teu_shim::proto::task::*;
use teu_shim::proto::ttrpc::{KeyValue, Request, Response, Status};

use super::engine::NAMESPACE;
use crate::harness::patience;

/// The types of frames. A reply is recognised by its stream.
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// The time limit for a reply, including `Wait` for a program's end.
const LIMIT: Duration = Duration::from_secs(60);

/// A request, with its method and the type of its reply.
pub(crate) trait Call: Message {
    const METHOD: &'static str;
    type Reply: Message + Default;
}

macro_rules! calls {
    ($($method:literal: $request:ty => $reply:ty;)+) => {
        $(impl Call for $request {
            const METHOD: &'static str = $method;
            type Reply = $reply;
        })+
    };
}

calls! {
    "State": StateRequest => StateResponse;
    "Create": CreateTaskRequest => CreateTaskResponse;
    "Start": StartRequest => StartResponse;
    "Delete": DeleteRequest => DeleteResponse;
    "Pids": PidsRequest => PidsResponse;
    "Pause": PauseRequest => ();
    "Resume": ResumeRequest => ();
    "Checkpoint": CheckpointTaskRequest => ();
    "Kill": KillRequest => ();
    "Exec": ExecProcessRequest => ();
    "ResizePty": ResizePtyRequest => ();
    "CloseIO": CloseIORequest => ();
    "Update": UpdateTaskRequest => ();
    "Wait": WaitRequest => WaitResponse;
    "Stats": StatsRequest => StatsResponse;
    "Connect": ConnectRequest => ConnectResponse;
    "Shutdown": ShutdownRequest => ();
}

/// A call that was sent.
pub(crate) struct Sent<C> {
    stream: u32,
    call: PhantomData<C>,
}

/// A connection to a shim.
pub(crate) struct Client {
    socket: UnixStream,
    service: String,
    last: u32,
    /// Replies that arrived before they were asked for.
    early: HashMap<u32, Response>,
}

impl Client {
    /// Connects to the address of a shim, for this version of the service.
    #[track_caller]
    pub(crate) fn connect(address: &str, version: i32) -> Client {
        Client::try_connect(address, version)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects to a shim that may have ended.
    pub(crate) fn try_connect(address: &str, version: i32) -> io::Result<Client> {
        let path = address
            .strip_prefix("unix://")
            .expect("the address of a unix socket");
        let client = Client {
            socket: UnixStream::connect(path)?,
            service: format!("containerd.task.v{version}.Task"),
            last: 0,
            early: HashMap::new(),
        };
        client.limit(patience(LIMIT));
        Ok(client)
    }

    /// Sets the time limit for a reply.
    pub(crate) fn limit(&self, limit: Duration) {
        self.socket
            .set_read_timeout(Some(limit))
            .expect("set the time to wait");
    }

    /// Makes a call and waits for its reply.
    #[track_caller]
    pub(crate) fn call<C: Call>(&mut self, request: &C) -> Result<C::Reply, Status> {
        let sent = self.send(request);
        self.receive(sent)
    }

    /// Sends a call without waiting.
    #[track_caller]
    pub(crate) fn send<C: Call>(&mut self, request: &C) -> Sent<C> {
        let service = self.service.clone();
        let stream = self.send_to(&service, C::METHOD, request.encode_to_vec());
        Sent {
            stream,
            call: PhantomData,
        }
    }

    /// Waits for the reply to a call.
    #[track_caller]
    pub(crate) fn receive<C: Call>(&mut self, sent: Sent<C>) -> Result<C::Reply, Status> {
        result::<C>(self.response(sent.stream))
    }

    /// Makes a call at a shim that may end.
    pub(crate) fn try_call<C: Call>(
        &mut self,
        request: &C,
    ) -> io::Result<Result<C::Reply, Status>> {
        let service = self.service.clone();
        let stream = self.try_send(&service, C::METHOD, request.encode_to_vec())?;
        Ok(result::<C>(self.try_response(stream)?))
    }

    /// Makes a call that may fail, at a shim that may end. Returns whether the connection is
    /// still open.
    pub(crate) fn is_open_after<C: Call>(&mut self, request: &C) -> bool {
        self.try_call(request).is_ok()
    }

    /// Calls a method that may not exist.
    #[track_caller]
    pub(crate) fn call_unknown(&mut self, service: Option<&str>, method: &str) -> Response {
        let service = service.unwrap_or(&self.service).to_owned();
        let stream = self.send_to(&service, method, Vec::new());
        self.response(stream)
    }

    #[track_caller]
    fn send_to(&mut self, service: &str, method: &str, payload: Vec<u8>) -> u32 {
        self.try_send(service, method, payload)
            .expect("send a call")
    }

    fn try_send(&mut self, service: &str, method: &str, payload: Vec<u8>) -> io::Result<u32> {
        let stream = if self.last == 0 { 1 } else { self.last + 2 };
        self.last = stream;
        let namespace = KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: NAMESPACE.to_owned(),
        };
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 0,
            metadata: vec![namespace],
        };
        let frame = frame(stream, REQUEST, &request.encode_to_vec());
        self.socket.write_all(&frame)?;
        Ok(stream)
    }

    #[track_caller]
    fn response(&mut self, stream: u32) -> Response {
        self.try_response(stream).expect("read a reply")
    }

    fn try_response(&mut self, stream: u32) -> io::Result<Response> {
        loop {
            if let Some(response) = self.early.remove(&stream) {
                return Ok(response);
            }
            let frame = Frame::read(&mut self.socket)?;
            assert_eq!(frame.kind, RESPONSE, "the type of a frame that replies");
            let response = Response::decode(frame.payload.as_slice()).expect("decode a response");
            self.early.insert(frame.stream, response);
        }
    }
}

fn result<C: Call>(response: Response) -> Result<C::Reply, Status> {
    match response.status {
        Some(status) if status.code != 0 => Err(status),
        _ => Ok(C::Reply::decode(response.payload.as_slice()).expect("decode a reply")),
    }
}

/// A message of ttrpc.
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Reads the next frame.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut header = [0; 10];
        from.read_exact(&mut header)?;
        let number =
            |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let length = usize::try_from(number(0)).expect("a length");
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Ok(Frame {
            stream: number(4),
            kind: header[8],
            payload,
        })
    }
}

/// Encodes a frame.
pub(crate) fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short message");
    let header = [length.to_be_bytes(), stream.to_be_bytes()].concat();
    [header.as_slice(), &[kind, 0], payload].concat()
}
