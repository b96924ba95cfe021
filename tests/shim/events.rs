//! Receives a shim's events, and checks their order.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message;
use teu_shim::proto::Any;
use teu_shim::proto::events::Event as _;
use teu_shim::proto::events::*;
use teu_shim::proto::ttrpc::{Request, Response};

use super::client::{Frame, frame};
use crate::harness::wait_until;

/// The type of frames with replies.
const RESPONSE: u8 = 2;

/// An event of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) container: String,
    /// The exec's id; for init, the container's id or nothing.
    pub(crate) process: String,
    pub(crate) pid: u32,
    pub(crate) status: u32,
    /// The whole message as text.
    pub(crate) text: String,
    envelope: Envelope,
}

impl Event {
    /// Makes an event from a message, without a shim.
    pub(crate) fn of<M: teu_shim::proto::events::Event>(message: &M) -> Event {
        Event::new(Envelope {
            topic: M::TOPIC.to_owned(),
            event: Some(Any::new(message)),
            ..Envelope::default()
        })
    }

    fn new(envelope: Envelope) -> Event {
        let any = envelope.event.clone().expect("an event in the envelope");
        let mut event = Event {
            topic: envelope.topic.clone(),
            container: String::new(),
            process: String::new(),
            pid: 0,
            status: 0,
            text: String::new(),
            envelope,
        };
        match event.topic.as_str() {
            TaskCreate::TOPIC => {
                let it: TaskCreate = event.decode(&any);
                (event.container, event.pid) = (it.container_id, it.pid);
            }
            TaskStart::TOPIC => {
                let it: TaskStart = event.decode(&any);
                (event.container, event.pid) = (it.container_id, it.pid);
            }
            TaskDelete::TOPIC => {
                let it: TaskDelete = event.decode(&any);
                (event.container, event.process, event.pid) = (it.container_id, it.id, it.pid);
                event.status = it.exit_status;
            }
            TaskExit::TOPIC => {
                let it: TaskExit = event.decode(&any);
                (event.container, event.process, event.pid) = (it.container_id, it.id, it.pid);
                event.status = it.exit_status;
            }
            TaskOOM::TOPIC => event.container = event.decode::<TaskOOM>(&any).container_id,
            TaskExecAdded::TOPIC => {
                let it: TaskExecAdded = event.decode(&any);
                (event.container, event.process) = (it.container_id, it.exec_id);
            }
            TaskExecStarted::TOPIC => {
                let it: TaskExecStarted = event.decode(&any);
                (event.container, event.process, event.pid) = (it.container_id, it.exec_id, it.pid);
            }
            TaskPaused::TOPIC => event.container = event.decode::<TaskPaused>(&any).container_id,
            TaskResumed::TOPIC => event.container = event.decode::<TaskResumed>(&any).container_id,
            other => panic!("an event of the topic {other}"),
        }
        event
    }

    fn decode<M: teu_shim::proto::events::Event + std::fmt::Debug>(&mut self, any: &Any) -> M {
        assert_eq!(
            any.type_url,
            M::NAME,
            "the type of an event of {}",
            M::TOPIC
        );
        let message = M::decode(any.value.as_slice()).expect("decode an event");
        self.text = format!("{message:?}");
        message
    }
}

/// The state of the receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Listening,
    /// Reads nothing, like a stopped process. The kernel buffers what is sent.
    Stalled,
    /// Has closed the socket, like a process that has ended.
    Closed,
    Over,
}

struct Receiving {
    heard: Vec<Event>,
    mode: Mode,
}

/// A socket that receives events, like containerd's at `TTRPC_ADDRESS`.
pub(crate) struct Events {
    pub(crate) path: PathBuf,
    shared: Arc<Mutex<Receiving>>,
}

impl Events {
    pub(crate) fn new(path: PathBuf) -> Events {
        let shared = Arc::new(Mutex::new(Receiving {
            heard: Vec::new(),
            mode: Mode::Closed,
        }));
        let events = Events {
            path: path.clone(),
            shared: shared.clone(),
        };
        std::thread::spawn(move || {
            Receiver {
                path,
                shared,
                open: None,
            }
            .work()
        });
        events.open();
        events
    }

    /// The events so far.
    pub(crate) fn heard(&self) -> Vec<Event> {
        lock(&self.shared).heard.clone()
    }

    /// Stops reading.
    pub(crate) fn stall(&self) {
        lock(&self.shared).mode = Mode::Stalled;
    }

    /// Reads again.
    pub(crate) fn go_on(&self) {
        lock(&self.shared).mode = Mode::Listening;
    }

    /// Closes the socket and all connections.
    pub(crate) fn close(&self) {
        lock(&self.shared).mode = Mode::Closed;
        wait_until("the socket for events is gone", || !self.path.exists());
    }

    /// Listens again.
    #[track_caller]
    pub(crate) fn open(&self) {
        lock(&self.shared).mode = Mode::Listening;
        wait_until("the socket for events is there", || self.path.exists());
    }

    /// Waits for an event of this topic about a process: the id of an exec, or the container's
    /// id for init.
    #[track_caller]
    pub(crate) fn wait_for(&self, topic: &str, process: &str) -> Event {
        let mut found = None;
        wait_until(&format!("there is an event {topic} of {process}"), || {
            let heard = self.heard();
            found = heard.into_iter().find(|event| {
                event.topic == topic && (event.process == process || event.container == process)
            });
            found.is_some()
        });
        found.expect("just found")
    }

    /// Asserts that all events are in order, and that each started process has ended.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let faults = faults(&self.heard());
        assert!(
            faults.is_empty(),
            "{} faults: {}",
            faults.len(),
            faults.join("; ")
        );
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        lock(&self.shared).mode = Mode::Over;
    }
}

fn lock(shared: &Mutex<Receiving>) -> MutexGuard<'_, Receiving> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that receives for [`Events`].
struct Receiver {
    path: PathBuf,
    shared: Arc<Mutex<Receiving>>,
    open: Option<(UnixListener, Vec<UnixStream>)>,
}

impl Receiver {
    fn work(mut self) {
        loop {
            let mode = lock(&self.shared).mode;
            match mode {
                Mode::Over => return,
                Mode::Closed => {
                    self.open = None;
                    remove(&self.path);
                }
                Mode::Listening => {
                    self.receive();
                    continue;
                }
                Mode::Stalled => {}
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Receives for some milliseconds, from the oldest connection first: events that a shim
    /// sends again on another connection come after those sent before.
    fn receive(&mut self) {
        let (listener, connections) = self.open.get_or_insert_with(|| {
            (
                UnixListener::bind(&self.path).expect("bind the socket for events"),
                Vec::new(),
            )
        });
        let streams = connections.iter().map(std::os::fd::AsFd::as_fd);
        let all = streams.chain([std::os::fd::AsFd::as_fd(listener)]);
        let mut ready: Vec<PollFd> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut ready, PollTimeout::from(20_u8)).expect("wait for events");
        let ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready.last() == Some(&true) {
            connections.push(listener.accept().expect("accept a connection").0);
        }
        if let Some(first) = ready[..ready.len() - 1].iter().position(|ready| *ready)
            && !take(&mut connections[first], &self.shared)
        {
            connections.remove(first);
        }
    }
}

/// Receives an event and answers. Returns false when the connection has ended.
fn take(connection: &mut UnixStream, shared: &Mutex<Receiving>) -> bool {
    let Ok(request) = Frame::read(connection) else {
        return false;
    };
    let call = Request::decode(request.payload.as_slice()).expect("decode a call");
    assert_eq!(
        (call.service.as_str(), call.method.as_str()),
        (SERVICE, FORWARD)
    );
    let forward = ForwardRequest::decode(call.payload.as_slice()).expect("decode an event's call");
    let event = Event::new(forward.envelope.expect("an envelope"));
    let mut shared = lock(shared);
    // Not again, if the shim repeats it because the first answer came late.
    if !shared.heard.contains(&event) {
        shared.heard.push(event);
    }
    drop(shared);
    let answer = frame(
        request.stream,
        RESPONSE,
        &Response::default().encode_to_vec(),
    );
    // The shim may have given the connection up.
    connection.write_all(&answer).is_ok()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        panic!("remove {}: {error}", path.display());
    }
}

/// The stage of a process.
#[derive(Default)]
struct Life {
    is_started: bool,
    exits: usize,
}

impl Life {
    /// Whether the exit event is missing.
    fn is_endless(&self) -> bool {
        self.is_started && self.exits == 0
    }
}

/// The mistakes in a list of events. The order is create, start, exit, delete for init, and
/// exec-added, exec-started, exit for execs. Init's exit comes last, also after an OOM event,
/// and no exit may be missing.
pub(crate) fn faults(events: &[Event]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut lives: HashMap<(&str, &str), Life> = HashMap::new();
    let (mut created, mut ended, mut deleted) = (HashSet::new(), HashSet::new(), HashSet::new());
    for event in events {
        let container = event.container.as_str();
        let of_init = event.process.is_empty() || event.process == container;
        let process = if of_init { "" } else { event.process.as_str() };
        let mut wrong = |what: &str| faults.push(format!("{what}: {}", event.text));
        match event.topic.as_str() {
            TaskCreate::TOPIC => {
                let is_new = created.insert(container) || deleted.remove(container);
                if !is_new {
                    wrong("created twice");
                }
                ended.remove(container);
                lives.retain(|(of, _), life| *of != container || life.is_endless());
                continue;
            }
            _ if !created.contains(container) => wrong("before the container's create"),
            _ if deleted.contains(container) => wrong("after the container's delete"),
            _ => {}
        }
        let life = lives.entry((container, process)).or_default();
        match event.topic.as_str() {
            TaskStart::TOPIC | TaskExecStarted::TOPIC => {
                if life.exits > 0 || life.is_started {
                    wrong("started after its exit or start");
                }
                if ended.contains(container) {
                    wrong("started after init's exit");
                }
                life.is_started = true;
            }
            TaskExecAdded::TOPIC => *life = Life::default(),
            TaskExit::TOPIC => {
                life.exits += 1;
                if life.exits > 1 {
                    wrong("ended twice");
                }
                if !of_init && !life.is_started {
                    wrong("ended before its start");
                }
                if ended.contains(container) {
                    wrong("ended after init");
                }
                if of_init {
                    ended.insert(container);
                }
            }
            TaskOOM::TOPIC if ended.contains(container) => wrong("OOM after init's exit"),
            TaskDelete::TOPIC => {
                if !ended.contains(container) {
                    wrong("deleted before its exit");
                }
                deleted.insert(container);
            }
            _ => {}
        }
    }
    let endless = lives.iter().filter(|(_, life)| life.is_endless());
    faults
        .extend(endless.map(|((container, process), _)| format!("no exit: {container} {process}")));
    faults
}
