//! Sends events to containerd, in their order and one at a time. While containerd does not run, they wait.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;

use crate::address;
use crate::messages::events;
use crate::messages::google::Any;
use crate::messages::ttrpc::{Envelope, ForwardRequest, Request};
use crate::poll::{Interest, Poll, Token};
use crate::wire::{self, Frame, Inbox};

/// The deadline for containerd's answer to one event.
const ANSWER: Duration = Duration::from_secs(5);
/// An event is dropped after this number of refusals.
const REFUSALS: u32 = 5;
/// The number of failures after which the pauses between attempts stay the same.
const SLOWEST: u32 = 5;
/// The number and the bytes of waiting events above which containerd gets no new process. So the number of processes limits what comes
/// after that: each ends once, and no end is lost.
const FEW: usize = 1024;
const BYTES: usize = 64 << 20;
/// The number of waiting events from which kills for lack of memory are dropped: a container can cause any number of them, and they must
/// not refuse new processes.
const NO_MORE_OOM: usize = FEW / 2;
/// The number of waiting events from which those are dropped that a client can cause any number of.
const NO_MORE_REPEATED: usize = 2 * FEW;

/// An event, with its topic and its type.
pub trait Event: prost::Message {
    const TOPIC: &'static str;
    const TYPE: &'static str;
}

macro_rules! events {
    ($($event:ident $topic:literal $name:literal;)*) => { $(
        impl Event for events::$event {
            const TOPIC: &'static str = concat!("/tasks/", $topic);
            const TYPE: &'static str = concat!("containerd.events.", $name);
        }
    )* };
}

events! {
    TaskCreate "create" "TaskCreate";
    TaskStart "start" "TaskStart";
    TaskOom "oom" "TaskOOM";
    TaskExit "exit" "TaskExit";
    TaskDelete "delete" "TaskDelete";
    TaskExecAdded "exec-added" "TaskExecAdded";
    TaskExecStarted "exec-started" "TaskExecStarted";
    TaskPaused "paused" "TaskPaused";
    TaskResumed "resumed" "TaskResumed";
    TaskCheckpointed "checkpointed" "TaskCheckpointed";
}

/// The number of waiting events from which an event of that topic is dropped.
fn most(topic: &str) -> usize {
    match topic {
        events::TaskOom::TOPIC => NO_MORE_OOM,
        events::TaskPaused::TOPIC | events::TaskResumed::TOPIC | events::TaskCheckpointed::TOPIC => NO_MORE_REPEATED,
        _ => usize::MAX,
    }
}

/// The queue of events for containerd.
pub struct Publisher {
    address: String,
    namespace: String,
    token: Token,
    queue: VecDeque<Vec<u8>>,
    connection: Option<(UnixStream, Inbox)>,
    stream: u32,
    /// The first event of the queue was sent on this connection, or a part of it. It is not sent again on the same connection: a
    /// late answer still counts, and a second copy would be a second event.
    sent: bool,
    /// The rest of the first event: it is larger than the socket's buffer, or containerd reads slowly.
    rest: Vec<u8>,
    /// The time of the next attempt after a failure.
    again: Option<Instant>,
    failures: u32,
    /// The number of times that containerd has refused the first event.
    refusals: u32,
}

impl Publisher {
    /// A queue for containerd's ttrpc socket.
    pub fn new(address: &str, namespace: &str, token: Token) -> Publisher {
        let address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
        Publisher {
            address,
            namespace: namespace.to_owned(),
            token,
            queue: VecDeque::new(),
            connection: None,
            stream: 0,
            sent: false,
            rest: Vec::new(),
            again: None,
            failures: 0,
            refusals: 0,
        }
    }

    /// Adds an event at the end of the queue.
    pub fn publish<E: Event>(&mut self, poll: &Poll, event: &E) {
        if self.address.is_empty() || self.queue.len() >= most(E::TOPIC) {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(SystemTime::now().into()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any::of(E::TYPE, event)),
        };
        let request = ForwardRequest { envelope: Some(envelope) }.encode_to_vec();
        self.queue.push_back(request);
        self.go_on(poll);
    }

    /// Whether containerd takes events so slowly that it must wait for new processes.
    pub fn is_full(&self) -> bool {
        self.queue.len() >= FEW || self.queue.iter().map(Vec::len).sum::<usize>() > BYTES
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The time at which `go_on` must be called, if no event comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Sends the next event, if it is time.
    pub fn go_on(&mut self, poll: &Poll) {
        if self.sent || self.again.is_some_and(|again| again > Instant::now()) {
            return;
        }
        self.again = None;
        let Some(first) = self.queue.front() else { return };
        let payload = first.clone();
        let request = Request {
            service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
            method: "Forward".to_owned(),
            payload,
            timeout_nano: ANSWER.as_nanos().try_into().unwrap_or_default(),
        };
        if !self.connect(poll) {
            return self.failed(poll);
        }
        // a client's stream ids are odd
        self.stream = self.stream.wrapping_add(if self.stream == 0 { 1 } else { 2 });
        self.sent = true;
        self.rest = wire::request(self.stream, &request);
        self.write_on(poll, Interest::Read);
    }

    /// Sends the rest of the first event, as far as containerd reads it. `before` is what the loop waits for now.
    fn write_on(&mut self, poll: &Poll, before: Interest) {
        let Some((socket, _)) = &mut self.connection else { return };
        while !self.rest.is_empty() {
            match socket.write(&self.rest) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return poll.change(&*socket, self.token, Interest::Both);
                }
                Err(_) => return self.failed(poll),
            }
        }
        self.rest = Vec::new();
        if before == Interest::Both {
            poll.change(&*socket, self.token, Interest::Read);
        }
    }

    fn connect(&mut self, poll: &Poll) -> bool {
        if self.connection.is_none() {
            let Ok(socket) = address::connect(Path::new(&self.address)) else { return false };
            if poll.add(&socket, self.token, Interest::Read).is_err() {
                return false;
            }
            self.stream = 0;
            self.connection = Some((socket, Inbox::default()));
        }
        self.connection.is_some()
    }

    /// Reads containerd's answer, or sends it more.
    pub fn ready(&mut self, poll: &Poll) {
        if !self.rest.is_empty() {
            self.write_on(poll, Interest::Both);
        }
        let Some((socket, inbox)) = &mut self.connection else { return };
        let mut buffer = [0; 4096];
        let ended = match socket.read(&mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                inbox.take(&buffer[..count]);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        let mut answers = Vec::new();
        while let Some(frame) = inbox.next() {
            answers.extend(matches!(frame, Frame::Response(stream, _) if stream == self.stream).then_some(frame));
        }
        for frame in answers {
            let Frame::Response(_, response) = frame else { continue };
            let taken = response.status.is_none_or(|status| status.code == 0);
            self.refusals = if taken { 0 } else { self.refusals + 1 };
            if taken || self.refusals == REFUSALS {
                self.queue.pop_front();
                (self.sent, self.failures, self.refusals) = (false, 0, 0);
            } else {
                self.put_off();
            }
        }
        if ended {
            if self.sent {
                self.failed(poll);
            } else {
                self.disconnect(poll);
            }
        }
        self.go_on(poll);
    }

    fn disconnect(&mut self, poll: &Poll) {
        if let Some((socket, _)) = self.connection.take() {
            poll.remove(&socket);
        }
    }

    fn failed(&mut self, poll: &Poll) {
        self.disconnect(poll);
        self.put_off();
    }

    /// The first event is sent again later.
    fn put_off(&mut self) {
        self.sent = false;
        self.rest = Vec::new();
        self.failures = (self.failures + 1).min(SLOWEST);
        let pause = Duration::from_millis(200) * self.failures * self.failures;
        self.again = (!self.queue.is_empty()).then(|| Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers requests as containerd does, and returns their topics.
    fn serve(listener: &UnixListener, count: usize) -> Vec<String> {
        let (mut socket, _) = listener.accept().expect("accept");
        let (mut inbox, mut topics) = (Inbox::default(), Vec::new());
        while topics.len() < count {
            let mut buffer = [0; 4096];
            let length = socket.read(&mut buffer).expect("read");
            assert_ne!(length, 0, "it has gone");
            inbox.take(&buffer[..length]);
            while let Some(Frame::Request(stream, request)) = inbox.next() {
                let forward = ForwardRequest::decode(&*request.payload).expect("a ForwardRequest");
                topics.push(forward.envelope.expect("an envelope").topic);
                socket.write_all(&wire::response(stream, Ok(Vec::new()))).expect("write");
            }
        }
        topics
    }

    fn publisher(directory: &std::path::Path) -> (Publisher, Poll) {
        let address = format!("unix://{}", directory.join("t").display());
        (Publisher::new(&address, "n", 1), Poll::new(9).expect("epoll"))
    }

    /// Runs the queue until `done`.
    fn run(publisher: &mut Publisher, poll: &Poll, done: impl Fn(&Publisher) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !done(publisher) && Instant::now() < end {
            let rest = end.saturating_duration_since(Instant::now());
            let time = publisher.deadline().map_or(rest, |at| at.saturating_duration_since(Instant::now()).min(rest));
            if poll.wait(Some(time)).contains(&1) {
                publisher.ready(poll);
            }
            publisher.go_on(poll);
        }
        assert!(done(publisher), "it did not get on");
    }

    #[test]
    fn an_event_is_sent_again_to_another_containerd_and_not_to_one_that_is_slow() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        let listener = UnixListener::bind(directory.path().join("t")).expect("bind");
        publisher.publish(&poll, &events::TaskCreate::default());
        publisher.publish(&poll, &events::TaskStart::default());
        let (mut slow, _) = listener.accept().expect("accept");
        assert_ne!(slow.read(&mut [0; 4096]).expect("read"), 0);
        assert_eq!(publisher.deadline(), None, "the answer may take its time");
        // killed before it answered
        drop(slow);
        let server = std::thread::spawn(move || serve(&listener, 2));
        run(&mut publisher, &poll, Publisher::is_empty);
        assert_eq!(server.join().expect("the server"), ["/tasks/create", "/tasks/start"]);
    }

    #[test]
    fn an_event_that_containerd_keeps_refusing_does_not_stop_the_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        publisher.publish(&poll, &events::TaskCreate::default());
        publisher.publish(&poll, &events::TaskStart::default());
        // failures of the connection do not count
        publisher.failures = SLOWEST;
        let refuse = |publisher: &mut Publisher| {
            let connection = UnixStream::pair().expect("a pair");
            let status = crate::failure::failure(crate::failure::Code::Unknown, "no");
            let mut theirs = connection.1;
            theirs.write_all(&wire::response(publisher.stream, Err(status))).expect("write");
            (publisher.connection, publisher.sent) = (Some((connection.0, Inbox::default())), true);
            publisher.again = None;
            publisher.ready(&poll);
            publisher.queue.len()
        };
        let left: Vec<_> = (0..REFUSALS).map(|_| refuse(&mut publisher)).collect();
        assert_eq!(left, [2, 2, 2, 2, 1]);
    }

    #[test]
    fn an_event_that_is_larger_than_the_buffer_of_the_socket_comes_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        let listener = UnixListener::bind(directory.path().join("t")).expect("bind");
        let checkpoint = "x".repeat(3 << 20);
        publisher.publish(&poll, &events::TaskCreate { checkpoint, ..events::TaskCreate::default() });
        publisher.publish(&poll, &events::TaskStart::default());
        let server = std::thread::spawn(move || serve(&listener, 2));
        run(&mut publisher, &poll, Publisher::is_empty);
        assert_eq!(server.join().expect("the server"), ["/tasks/create", "/tasks/start"]);
        assert_eq!(publisher.rest.capacity(), 0, "an idle shim keeps it");
    }

    #[test]
    fn a_containerd_that_is_stopped_and_full_is_tried_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let (publisher, poll) = publisher(directory.path());
        let listener = UnixListener::bind(directory.path().join("t")).expect("bind");
        rustix::net::listen(&listener, 0).expect("listen");
        let other = UnixStream::connect(directory.path().join("t")).expect("connect");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut publisher, poll) = (publisher, poll);
            publisher.publish(&poll, &events::TaskCreate::default());
            drop(sender.send((publisher, poll)));
        });
        let (mut publisher, poll) =
            receiver.recv_timeout(Duration::from_secs(20)).expect("connect waits for a containerd that is stopped");
        assert!(publisher.deadline().is_some(), "it is tried again");
        // it continues
        drop(listener.accept().expect("accept"));
        drop(other);
        let server = std::thread::spawn(move || serve(&listener, 1));
        run(&mut publisher, &poll, Publisher::is_empty);
        assert_eq!(server.join().expect("the server"), ["/tasks/create"]);
    }

    #[test]
    fn events_that_wait_leave_room_for_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        let checkpoint = "x".repeat(4 << 20);
        while !publisher.is_full() {
            let checkpoint = checkpoint.clone();
            publisher.publish(&poll, &events::TaskCreate { checkpoint, ..events::TaskCreate::default() });
        }
        assert_eq!(publisher.queue.len(), BYTES / checkpoint.len());
        publisher.queue.clear();
        while !publisher.is_full() {
            publisher.publish(&poll, &events::TaskExecAdded::default());
        }
        assert_eq!(publisher.queue.len(), FEW);
    }

    #[test]
    fn no_end_is_lost_whatever_waits_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        for _ in 0..2 {
            publisher.publish(&poll, &events::TaskExit::default());
            (0..4 * FEW).for_each(|_| publisher.publish(&poll, &events::TaskOom::default()));
        }
        assert_eq!(publisher.queue.len(), NO_MORE_OOM + 1);
        (0..4 * FEW).for_each(|_| publisher.publish(&poll, &events::TaskPaused::default()));
        assert_eq!(publisher.queue.len(), NO_MORE_REPEATED);
        (2..4 * FEW).for_each(|_| publisher.publish(&poll, &events::TaskExit::default()));
        let topics = publisher.queue.iter().map(|request| {
            let forward = ForwardRequest::decode(&**request).expect("a ForwardRequest");
            forward.envelope.expect("an envelope").topic
        });
        assert_eq!(topics.filter(|topic| topic == "/tasks/exit").count(), 4 * FEW);
    }

    #[test]
    fn events_wait_for_containerd_and_come_in_their_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut publisher, poll) = publisher(directory.path());
        publisher.publish(&poll, &events::TaskCreate::default());
        publisher.publish(&poll, &events::TaskStart::default());
        assert!(publisher.deadline().is_some(), "it is tried again");
        let listener = UnixListener::bind(directory.path().join("t")).expect("bind");
        let server = std::thread::spawn(move || serve(&listener, 3));
        publisher.publish(&poll, &events::TaskExit::default());
        run(&mut publisher, &poll, Publisher::is_empty);
        assert_eq!(server.join().expect("the server"), ["/tasks/create", "/tasks/start", "/tasks/exit"]);
    }
}
