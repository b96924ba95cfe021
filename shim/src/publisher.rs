//! Sends events to containerd: in order, each again and again until containerd has taken
//! it.
//!
//! If containerd is not running or does not answer, events wait. containerd handles the
//! calls of a connection in parallel, so an event is sent only when the event before it
//! has been answered. If an answer is lost, the event is sent twice; engines tolerate that.

mod connection;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use prost::Message;

use crate::poll::{EventFlags, Poll, Token};
use crate::proto::events::{Envelope, Event, ForwardRequest};
use crate::proto::{Any, Timestamp};
use crate::ttrpc::Status;
use connection::Connection;

/// The maximum number of waiting events. Beyond it the oldest are dropped.
const MAX_EVENTS: usize = 16 << 10;
/// The maximum length of all waiting events; a single event of this length fits in a frame.
const MAX_BYTES: usize = 3 << 20;

/// The time after which an unanswered event is sent again, to a containerd that runs but has
/// lost the call. If containerd ends, the socket reports it. If containerd is stopped
/// (SIGSTOP), it answers when it continues.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The pauses after the first failure and, at most, after later ones.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// The number of refusals after which an event is dropped.
const MAX_REFUSALS: u32 = 5;

/// Sends events to one containerd.
#[derive(Debug)]
pub struct Publisher {
    address: PathBuf,
    namespace: String,
    token: Token,
    /// The waiting events. The first may have been sent already.
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    connection: Option<Connection>,
    /// Failures since the last success.
    failures: u32,
    /// The end of the pause after a failure.
    pause_until: Option<Instant>,
    /// How often containerd has refused the first event in the queue.
    refusals: u32,
}

#[derive(Debug)]
struct Queued {
    topic: &'static str,
    /// An encoded [`ForwardRequest`].
    request: Vec<u8>,
}

impl Publisher {
    /// Makes a publisher for the socket at `address`, which connects when there is an event.
    /// With an empty address, events are dropped.
    pub fn new(address: &str, namespace: &str, token: Token) -> Publisher {
        Publisher {
            address: address.strip_prefix("unix://").unwrap_or(address).into(),
            namespace: namespace.to_owned(),
            token,
            queue: VecDeque::new(),
            queued_bytes: 0,
            connection: None,
            failures: 0,
            pause_until: None,
            refusals: 0,
        }
    }

    /// Queues an event and sends it after the events before it.
    pub fn publish<E: Event>(&mut self, poll: &Poll, event: &E) {
        if self.address.as_os_str().is_empty() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(Timestamp::now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any::new(event)),
        };
        let request = ForwardRequest {
            envelope: Some(envelope),
        }
        .encode_to_vec();
        self.queued_bytes += request.len();
        self.queue.push_back(Queued {
            topic: E::TOPIC,
            request,
        });
        self.make_room();
        self.advance(poll, Instant::now());
    }

    /// Whether containerd has taken all events.
    pub fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// Handles events of the connection's descriptor.
    pub fn ready(&mut self, poll: &Poll, flags: EventFlags) {
        let now = Instant::now();
        if let Err(err) = self.exchange(poll, flags, now) {
            self.disconnect(&err, now);
        }
        self.advance(poll, now);
    }

    /// The time at which [`Publisher::tick`] must be called.
    pub fn deadline(&self) -> Option<Instant> {
        match self.connection.as_ref().and_then(Connection::called_at) {
            Some(called_at) => Some(called_at + ANSWER_TIMEOUT),
            None => self.pause_until.filter(|_| !self.is_done()),
        }
    }

    /// Handles timeouts and the ends of pauses.
    pub fn tick(&mut self, poll: &Poll, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            if self.is_first_on_its_way() {
                self.disconnect(&anyhow!("no answer"), now);
            }
            self.advance(poll, now);
        }
    }

    /// Drops the oldest unsent events if too many wait.
    fn make_room(&mut self) {
        let oldest = usize::from(self.is_first_on_its_way());
        while self.queue.len() > MAX_EVENTS || self.queued_bytes > MAX_BYTES {
            let Some(dropped) = self.queue.remove(oldest) else {
                return;
            };
            self.queued_bytes -= dropped.request.len();
            log::warn!(
                "drop an event, because too many wait for containerd: {}",
                dropped.topic
            );
        }
    }

    fn is_first_on_its_way(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.called_at().is_some())
    }

    /// Sends the first event, unless it has been sent or a pause is not over.
    fn advance(&mut self, poll: &Poll, now: Instant) {
        let is_paused = self.pause_until.is_some_and(|until| now < until);
        if is_paused || self.is_first_on_its_way() {
            return;
        }
        let Some(first) = self.queue.front() else {
            // Give the memory back that the queue grew to while containerd was away.
            self.queue.shrink_to_fit();
            return;
        };
        self.pause_until = None;
        let connection = match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::new(&self.address, poll, self.token),
        };
        let called = connection.and_then(|mut connection| {
            connection.call(&first.request, now, poll)?;
            Ok(connection)
        });
        match called {
            Ok(connection) => self.connection = Some(connection),
            Err(err) => self.disconnect(&err, now),
        }
    }

    fn exchange(&mut self, poll: &Poll, flags: EventFlags, now: Instant) -> Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if flags.contains(EventFlags::OUT) {
            connection.flush(poll)?;
        }
        // An answer may have arrived before the connection ended.
        let received = connection.receive();
        if let Some(outcome) = connection.outcome() {
            self.settle(outcome, now);
        }
        received
    }

    /// Handles containerd's answer to the first event.
    fn settle(&mut self, outcome: Result<(), Status>, now: Instant) {
        if let Err(status) = outcome {
            let topic = self.queue.front().map_or("", |first| first.topic);
            self.refusals += 1;
            if self.refusals < MAX_REFUSALS {
                log::warn!("containerd refuses an event: {topic}: {status}");
                self.pause(now);
                return;
            }
            log::warn!("drop an event, because containerd refuses it: {topic}: {status}");
        }
        if let Some(first) = self.queue.pop_front() {
            self.queued_bytes -= first.request.len();
        }
        self.failures = 0;
        self.refusals = 0;
    }

    fn disconnect(&mut self, err: &anyhow::Error, now: Instant) {
        self.connection = None;
        if self.is_done() {
            return;
        }
        if self.failures == 0 {
            log::warn!("events wait for containerd: {}", teu_errno::chain(err));
        }
        self.pause(now);
    }

    fn pause(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8));
        self.pause_until = Some(now + pause.min(LONGEST_PAUSE));
        self.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::events::{FORWARD, SERVICE, TaskCreate, TaskOOM, TaskStart};
    use crate::proto::types::Mount;
    use crate::ttrpc::{self, Calls};
    use std::fs;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A fake containerd and the loop of a shim, on one thread.
    struct Both {
        publisher: Publisher,
        poll: Poll,
        address: PathBuf,
        listener: Option<UnixListener>,
        connection: Option<(UnixStream, Calls)>,
    }

    impl Both {
        fn new(name: &str) -> Both {
            let name = format!("teu-shim-events-{name}-{}", std::process::id());
            let address = std::env::temp_dir().join(name);
            let publisher = Publisher::new(&format!("unix://{}", address.display()), "ns", 7);
            let poll = Poll::new().unwrap();
            Both {
                publisher,
                poll,
                address,
                listener: None,
                connection: None,
            }
        }

        fn serve(&mut self) {
            let listener = UnixListener::bind(&self.address).unwrap();
            listener.set_nonblocking(true).unwrap();
            self.listener = Some(listener);
        }

        fn stop(&mut self) {
            self.connection = None;
            self.listener = None;
            fs::remove_file(&self.address).unwrap();
        }

        fn publish(&mut self, ids: std::ops::Range<u32>) {
            for pid in ids {
                let event = TaskStart {
                    container_id: "c".to_owned(),
                    pid,
                };
                self.publisher.publish(&self.poll, &event);
            }
        }

        /// Runs one turn of the shim's loop.
        fn turn(&mut self) {
            for (token, flags) in self.poll.wait(Some(Duration::from_millis(1))).unwrap() {
                assert_eq!(token, 7);
                self.publisher.ready(&self.poll, flags);
            }
        }

        /// Advances the time to the next deadline.
        fn pass_time(&mut self) {
            let deadline = self.publisher.deadline().unwrap();
            self.publisher.tick(&self.poll, deadline);
        }

        fn accept(&mut self) {
            let (stream, _) = self.listener.as_ref().unwrap().accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            self.connection = Some((stream, Calls::default()));
        }

        /// Receives an event, if one arrives now.
        fn receive(&mut self) -> Option<(u32, Envelope)> {
            let (stream, _) = self.connection.as_mut()?;
            let mut bytes = vec![0; 100 << 10];
            let count = match stream.read(&mut bytes) {
                Err(err) if err.kind() == ErrorKind::WouldBlock => 0,
                count => count.unwrap(),
            };
            let (_, calls) = self.connection.as_mut()?;
            calls.feed(&bytes[..count]);
            let (stream, call) = calls.next_call()?;
            let call = call.unwrap();
            assert_eq!(
                (call.service.as_str(), call.method.as_str()),
                (SERVICE, FORWARD)
            );
            let request: ForwardRequest = ttrpc::decode(&call.payload).unwrap();
            Some((stream, request.envelope.unwrap()))
        }

        fn answer(&mut self, stream: u32, outcome: Result<Vec<u8>, Status>) {
            let (socket, _) = self.connection.as_mut().unwrap();
            socket.write_all(&ttrpc::response(stream, outcome)).unwrap();
            self.turn();
        }

        /// The pid in the event that arrives now.
        fn next(&mut self) -> (u32, u32) {
            let (stream, envelope) = self.receive().unwrap();
            let event: TaskStart = envelope.event.unwrap().decode_as().unwrap().unwrap();
            (stream, event.pid)
        }

        /// Receives events as long as some arrive.
        fn take(&mut self) -> Vec<u32> {
            let mut pids = Vec::new();
            while !self.publisher.is_done() {
                let (stream, pid) = self.next();
                assert!(self.receive().is_none(), "one at a time");
                pids.push(pid);
                self.answer(stream, Ok(Vec::new()));
            }
            pids
        }
    }

    impl Drop for Both {
        fn drop(&mut self) {
            // A test may have removed the socket.
            drop(fs::remove_file(&self.address));
        }
    }

    #[test]
    fn events_come_in_order_and_one_at_a_time() {
        let mut both = Both::new("order");
        both.serve();
        both.publish(0..1000);
        both.accept();
        assert_eq!(both.take(), Vec::from_iter(0..1000));
        assert_eq!(
            (both.publisher.queued_bytes, both.publisher.queue.capacity()),
            (0, 0)
        );
        assert_eq!(both.publisher.deadline(), None);
        let oom = TaskOOM {
            container_id: "c".to_owned(),
        };
        both.publisher.publish(&both.poll, &oom);
        let (_, envelope) = both.receive().unwrap();
        assert_eq!(
            (envelope.topic.as_str(), envelope.namespace.as_str()),
            ("/tasks/oom", "ns")
        );
        assert!(envelope.timestamp.unwrap().seconds > 0);
    }

    #[test]
    fn events_wait_for_a_containerd_that_is_not_there() {
        let mut both = Both::new("absent");
        both.publish(0..3);
        for pause in [200, 400, 800, 1600, 1600] {
            let before = both.publisher.pause_until.unwrap();
            both.pass_time();
            let after = both.publisher.pause_until.unwrap();
            assert_eq!(after - before, Duration::from_millis(pause));
        }
        both.serve();
        both.publish(3..4);
        assert!(
            both.listener.as_ref().unwrap().accept().is_err(),
            "it is not time yet"
        );
        both.pass_time();
        both.accept();
        assert_eq!(both.take(), [0, 1, 2, 3]);
    }

    #[test]
    fn event_without_an_answer_is_sent_again_after_a_restart() {
        let mut both = Both::new("restart");
        both.serve();
        both.publish(0..3);
        both.accept();
        let (stream, pid) = both.next();
        both.answer(stream, Ok(Vec::new()));
        assert_eq!((pid, both.next().1), (0, 1));
        both.stop();
        both.turn();
        both.publish(3..5);
        both.pass_time();
        both.serve();
        both.pass_time();
        both.accept();
        assert_eq!(both.take(), [1, 2, 3, 4]);
    }

    #[test]
    fn answer_before_the_end_counts() {
        let mut both = Both::new("end");
        both.serve();
        both.publish(0..2);
        both.accept();
        let (stream, _) = both.next();
        let (mut socket, _) = both.connection.take().unwrap();
        socket
            .write_all(&ttrpc::response(stream, Ok(Vec::new())))
            .unwrap();
        drop(socket);
        both.turn();
        both.pass_time();
        both.accept();
        assert_eq!(both.take(), [1]);
    }

    #[test]
    fn connection_that_ends_between_events_is_made_again_for_the_next() {
        let mut both = Both::new("idle");
        both.serve();
        both.publish(0..1);
        both.accept();
        assert_eq!(both.take(), [0]);
        both.stop();
        both.turn();
        assert!(both.publisher.connection.is_none());
        assert_eq!(both.publisher.deadline(), None);
        both.serve();
        both.publish(1..2);
        both.accept();
        assert_eq!(both.take(), [1]);
    }

    #[test]
    fn containerd_that_is_stopped_costs_nothing() {
        let mut both = Both::new("stopped");
        both.serve();
        both.publish(0..1);
        both.accept();
        let called = both.publisher.deadline().unwrap() - ANSWER_TIMEOUT;
        both.publisher
            .tick(&both.poll, called + Duration::from_secs(30));
        both.publish(1..3);
        assert_eq!(both.take(), [0, 1, 2]);
    }

    #[test]
    fn call_that_containerd_lost_is_made_again() {
        let mut both = Both::new("lost");
        both.serve();
        both.publish(0..2);
        both.accept();
        assert_eq!(both.next().1, 0);
        both.pass_time();
        both.pass_time();
        both.accept();
        assert_eq!(both.take(), [0, 1]);
    }

    #[test]
    fn event_that_is_refused_is_not_in_the_way_for_ever() {
        let mut both = Both::new("refused");
        both.serve();
        both.publish(0..2);
        both.accept();
        for refusal in 1..=MAX_REFUSALS {
            let (stream, pid) = both.next();
            assert_eq!(pid, 0);
            both.answer(stream, Err(Status::invalid_argument("no")));
            if refusal < MAX_REFUSALS {
                assert!(both.receive().is_none());
                both.pass_time();
            }
        }
        assert_eq!(both.take(), [1]);
    }

    #[test]
    fn long_event_passes_a_socket_that_is_full() {
        let mut both = Both::new("long");
        both.serve();
        let mount = Mount {
            options: vec!["x".repeat(2 << 20)],
            ..Mount::default()
        };
        let create = TaskCreate {
            rootfs: vec![mount],
            ..TaskCreate::default()
        };
        both.publisher.publish(&both.poll, &create);
        both.accept();
        let received = std::iter::from_fn(|| {
            both.turn();
            Some(both.receive())
        });
        let (stream, envelope) = received.flatten().next().unwrap();
        assert_eq!(
            envelope
                .event
                .unwrap()
                .decode_as::<TaskCreate>()
                .unwrap()
                .unwrap(),
            create
        );
        both.answer(stream, Ok(Vec::new()));
        assert!(both.publisher.is_done());
        both.publish(0..1);
        assert_eq!(both.take(), [0]);
    }

    #[test]
    fn oldest_events_make_room_but_not_one_on_its_way() {
        let mut both = Both::new("room");
        both.serve();
        let many = u32::try_from(MAX_EVENTS).unwrap();
        both.publish(0..many + 10);
        both.accept();
        let (stream, pid) = both.next();
        assert_eq!(pid, 0);
        both.answer(stream, Ok(Vec::new()));
        assert_eq!(both.next().1, 11);
        both.stop();
        both.turn();

        let mount = Mount {
            options: vec!["x".repeat(MAX_BYTES - 100)],
            ..Mount::default()
        };
        let create = TaskCreate {
            rootfs: vec![mount],
            ..TaskCreate::default()
        };
        both.publisher.publish(&both.poll, &create);
        assert_eq!(both.publisher.queue.len(), 1);
        assert!(both.publisher.queued_bytes <= MAX_BYTES);
    }

    #[test]
    fn without_an_address_there_are_no_events() {
        let poll = Poll::new().unwrap();
        let mut publisher = Publisher::new("", "ns", 7);
        publisher.publish(
            &poll,
            &TaskOOM {
                container_id: "c".to_owned(),
            },
        );
        assert!(publisher.is_done() && publisher.deadline().is_none());
    }
}
