//! Fuzzes the readers of other processes' messages: those of containerd, of CRIU and of a
//! container's init.

use std::fmt::Debug;

use prost::Message;
use rustix::net::SendFlags;
use teu_shim::proto::{Any, options, task};
use teu_shim::ttrpc::{self, Answers, Calls, Request, Status};

use crate::criu::rpc;
use crate::pipe::{self, ParentEnd, ToParent};

/// Reads ttrpc calls. Checks that the size of the parts in which the bytes arrive does not
/// matter (the first byte of the input sets it), and that calls, answers and their messages
/// are the same after they are written and read again.
pub fn ttrpc(input: &[u8]) -> Option<()> {
    let (part, bytes) = input.split_first()?;
    messages_of_tasks(bytes);
    let calls = calls(bytes, bytes.len());
    assert_eq!(self::calls(bytes, usize::from(*part)), calls);
    for (stream, call) in &calls {
        let answer = match call {
            Ok(call) => {
                messages_of_tasks(&call.payload);
                let sent = ttrpc::request(*stream, call).expect("as long as it was");
                assert_eq!(
                    self::calls(&sent, sent.len()),
                    [(*stream, Ok(call.clone()))]
                );
                Ok(call.payload.clone())
            }
            Err(status) => Err(status.clone()),
        };
        let mut answers = Answers::default();
        answers.feed(&ttrpc::response(*stream, answer.clone()));
        assert_eq!(answers.next_answer(), Some((*stream, answer)));
    }
    calls.into_iter().find_map(|(_, call)| call.ok()).map(drop)
}

fn calls(bytes: &[u8], part: usize) -> Vec<(u32, Result<Request, Status>)> {
    let mut reader = Calls::default();
    let mut calls = Vec::new();
    for part in bytes.chunks(part.max(1)) {
        reader.feed(part);
        while let Some(call) = reader.next_call() {
            calls.push(call);
        }
    }
    calls
}

/// Reads a message. Checks that it is the same after it is written and read again.
fn same<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
    Some(message)
}

fn messages_of_tasks(bytes: &[u8]) {
    macro_rules! each {
        ($($message:ident)*) => {
            $(same::<task::$message>(bytes);)*
        };
    }
    each! {
        CheckpointTaskRequest CloseIORequest ConnectRequest DeleteRequest ExecProcessRequest
        KillRequest PauseRequest PidsRequest ResizePtyRequest ResumeRequest ShutdownRequest
        StartRequest StateRequest StatsRequest UpdateTaskRequest WaitRequest
    }
    if let Some(create) = same::<task::CreateTaskRequest>(bytes) {
        options_of_the_runtime(create.options.as_ref());
    }
    options_of_the_runtime(same::<Any>(bytes).as_ref());
}

/// Reads options. Checks that they are the same after they are saved as JSON, as in the
/// bundle, and read again.
fn options_of_the_runtime(any: Option<&Any>) {
    // Skip options with the name of a file, because the reader would open the file.
    let other = any.and_then(|any| any.decode_as::<options::runtime::Options>()?.ok());
    if other.is_some_and(|options| !options.config_path.is_empty()) {
        return;
    }
    if let Ok(read) = options::runc::Options::read(any) {
        let saved = serde_json::to_vec(&read).expect("saved");
        let again: options::runc::Options = serde_json::from_slice(&saved).expect("read again");
        assert_eq!(again, read);
    }
}

/// Reads a response of CRIU. Checks that it is the same after it is written and read again.
pub fn criu(input: &[u8]) -> Option<()> {
    same::<rpc::Request>(input);
    let response: rpc::Response = same(input)?;
    let kind = response.kind();
    assert!(kind.is_none_or(|kind| kind as i32 == response.kind));
    // The calculation of the version panics on overflow.
    response.version.number();
    Some(())
}

/// Reads messages of init, each after a byte with its length. Checks that the parent comes
/// to an end, and that it accepts only messages that init can send.
pub fn pipe(input: &[u8]) -> Option<()> {
    let messages = split(input);
    let mut last = None;
    let parent = said(&messages);
    for _ in &messages {
        if let Some(message) = parent.receive().ok().flatten() {
            last = Some(());
            assert_same(message);
        }
    }
    assert!(
        matches!(parent.receive(), Ok(None)),
        "the end of init is seen"
    );
    let mut asked = 0;
    let served = said(&messages).serve(|_| {
        asked += 1;
        Ok(None)
    });
    assert!(asked <= messages.len());
    drop(served);
    if let Some(words) = said(&messages).last_words() {
        assert!(
            messages
                .iter()
                .any(|message| message.first() == Some(&pipe::FAILED)),
            "{words}"
        );
    }
    last
}

/// Splits the input into messages. Empty messages are skipped, because they would mean the
/// end.
fn split(input: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    let mut rest = input;
    while let Some((length, after)) = rest.split_first() {
        let (message, after) = after.split_at(usize::from(*length).min(after.len()));
        if !message.is_empty() {
            messages.push(message);
        }
        rest = after;
    }
    messages
}

/// Returns the parent's end of a pipe through which init sent these messages and ended.
fn said(messages: &[&[u8]]) -> ParentEnd {
    let (parent, init) = pipe::pair().expect("a pair of sockets");
    for message in messages {
        // Stop if the socket is full.
        if rustix::net::send(&init, message, SendFlags::DONTWAIT).is_err() {
            break;
        }
    }
    parent
}

/// Checks that the parent receives a message as init sends it.
fn assert_same(message: ToParent) {
    let said = format!("{message:?}");
    let (parent, init) = pipe::pair().expect("a pair of sockets");
    init.send(&message).expect("sent");
    let received = parent.receive().expect("received").expect("a message");
    assert_eq!(format!("{received:?}"), said);
}
