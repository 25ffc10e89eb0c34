//! The state of the serving process: its containers, its connections, and what it waits for.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use prost::Message;

use crate::container::{Container, Process};
use crate::events::{Event, Publisher};
use crate::failure::{Answer, Code, failure, of_runtime};
use crate::jobs::Jobs;
use crate::logger::Logger;
use crate::messages::task::CreateTaskRequest;
use crate::poll::{Interest, Poll, Token};
use crate::pump::{Next, Pump, ROOM};
use crate::reply::Reply;
use crate::room::{Room, Share};
use crate::wire::{self, Inbox};
use libcontainer::Stop;

pub const LISTENER: Token = 0;
pub const SIGNALS: Token = 1;
pub const JOBS: Token = 2;
pub const PUBLISHER: Token = 3;
const FIRST: Token = 16;
/// The time that the last events have when we end.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// The bytes of answers that a peer does not read, above which the shim reads and performs none of its requests.
pub const UNREAD_ANSWERS: usize = 4 << 20;

/// The time that a logger has to end after its input has ended.
const LOGGER: Duration = Duration::from_secs(12);
/// The first and the longest pause between two looks whether the last bytes of a stream are read.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(250);

/// A client.
pub struct Connection {
    pub socket: UnixStream,
    pub inbox: Inbox,
    /// The bytes that wait until it reads.
    pub outbox: Vec<u8>,
    /// Requests in its inbox wait until it reads.
    pub is_halted: bool,
}

/// The process of a pidfd.
#[derive(Clone, Debug)]
pub struct Whose {
    pub container: String,
    /// None for the init.
    pub exec: Option<String>,
}

/// A deletion that waits for the last output.
pub struct Deletion {
    pub whose: Whose,
    pub reply: Reply,
    pub deadline: Instant,
}

/// A container that is being created.
pub struct Creation {
    /// It ends the creation.
    pub stop: Stop,
    /// Deletions that came meanwhile.
    pub deletions: Vec<Reply>,
}

/// The identity of this shim.
#[derive(Clone, Debug)]
pub struct Identity {
    pub namespace: String,
    pub ttrpc_address: String,
}

/// The whole state of the shim.
pub struct Shim {
    pub identity: Identity,
    pub poll: Poll,
    pub jobs: Jobs<Shim>,
    pub publisher: Publisher,
    pub containers: BTreeMap<String, Container>,
    /// The memory of requests that wait.
    pub room: Room,
    /// Requests that came before our program was protected. None from then on.
    pub early: Option<Vec<(Reply, CreateTaskRequest, Share)>>,
    /// The containers that are being created, by their ids.
    pub creating: BTreeMap<String, Creation>,
    pub processes: BTreeMap<Token, Whose>,
    pub pumps: BTreeMap<Token, Pump>,
    /// Streams that have ended and whose reader comes late: the time to look again, and the pause before it.
    pub unread: BTreeMap<Token, (Instant, Duration)>,
    pub watches: BTreeMap<Token, (String, crate::runtime::OomWatch)>,
    pub deletions: Vec<Deletion>,
    /// Loggers whose output has ended, and the time at which they are killed.
    pub loggers: Vec<(Logger, Instant)>,
    /// The latest time of our end. None while we serve.
    pub ending: Option<Instant>,
    /// The time at which we give back the memory that the last job has touched. None if we have.
    pub rest: Option<Instant>,
    /// The time at which we end, because nobody else ends us.
    pub alone: Option<Instant>,
    /// None when we end.
    pub listener: Option<UnixListener>,
    pub signals: SignalFd,
    pub connections: BTreeMap<Token, Connection>,
}

impl Shim {
    /// A shim that serves `listener`, without a container. Signals are blocked from here on.
    ///
    /// # Errors
    /// Those of the descriptors that it needs.
    pub fn new(identity: Identity, listener: UnixListener) -> std::io::Result<Shim> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            set.add(signal);
        }
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let poll = Poll::new(FIRST)?;
        let jobs = Jobs::new()?;
        listener.set_nonblocking(true)?;
        poll.add(&listener, LISTENER, Interest::Read)?;
        poll.add(&signals, SIGNALS, Interest::Read)?;
        poll.add(jobs.wake(), JOBS, Interest::Read)?;
        let publisher = Publisher::new(&identity.ttrpc_address, &identity.namespace, PUBLISHER);
        Ok(Shim {
            identity,
            poll,
            jobs,
            publisher,
            containers: BTreeMap::new(),
            room: Room::default(),
            early: Some(Vec::new()),
            creating: BTreeMap::new(),
            processes: BTreeMap::new(),
            pumps: BTreeMap::new(),
            unread: BTreeMap::new(),
            watches: BTreeMap::new(),
            deletions: Vec::new(),
            loggers: Vec::new(),
            ending: None,
            rest: None,
            alone: None,
            listener: Some(listener),
            signals,
            connections: BTreeMap::new(),
        })
    }

    /// Ends when all events are sent.
    pub fn end(&mut self) {
        self.ending.get_or_insert(Instant::now() + LAST_EVENTS);
        // `start` must find nobody here, and make another shim: we make no container any more
        if let Some(listener) = self.listener.take() {
            self.poll.remove(listener);
        }
    }

    /// Forgets a client that has left.
    pub fn drop_connection(&mut self, token: Token) {
        if let Some(peer) = self.connections.remove(&token) {
            self.poll.remove(&peer.socket);
        }
        for container in self.containers.values_mut() {
            for process in std::iter::once(&mut container.init).chain(container.execs.values_mut()) {
                process.waiting.retain(|reply| reply.connection != token);
            }
        }
    }

    /// Sends an answer. A caller that has closed its connection gets none.
    pub fn answer(&mut self, reply: Reply, answer: Answer<Vec<u8>>) {
        if let Some(peer) = self.connections.get_mut(&reply.connection) {
            peer.outbox.extend(wire::response(reply.stream, answer));
            self.send(reply.connection);
        }
    }

    /// Sends the answers that wait, as far as the client reads them.
    pub fn send(&mut self, token: Token) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        let waited = !peer.outbox.is_empty();
        while !peer.outbox.is_empty() {
            match peer.socket.write(&peer.outbox) {
                Ok(count) => drop(peer.outbox.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let full = peer.outbox.len() > UNREAD_ANSWERS;
                    let interest = if full { Interest::Write } else { Interest::Both };
                    return self.poll.change(&peer.socket, token, interest);
                }
                Err(_) => return self.drop_connection(token),
            }
        }
        if waited {
            peer.outbox = Vec::new();
            self.poll.change(&peer.socket, token, Interest::Read);
        }
    }

    /// The container with this id.
    ///
    /// # Errors
    /// It does not exist.
    pub fn container(&mut self, id: &str) -> Answer<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| failure(Code::NotFound, "container not created"))
    }

    /// The process that `whose` names, if it exists.
    pub fn process_of(&mut self, whose: &Whose) -> Option<&mut Process> {
        let container = self.containers.get_mut(&whose.container)?;
        container.process(whose.exec.as_deref().unwrap_or_default()).ok()
    }

    /// Runs the work in a job, and answers with its result.
    pub fn do_and_answer<M: Message>(
        &mut self,
        reply: Reply,
        what: &'static str,
        work: impl FnOnce() -> libcontainer::Result<M> + Send + 'static,
    ) {
        self.jobs.begin(move || {
            let answer = work().map(|message| message.encode_to_vec()).map_err(|error| of_runtime(what, &error));
            Box::new(move |shim| shim.answer(reply, answer))
        });
    }

    /// Sends an event to containerd.
    pub fn publish<E: Event>(&mut self, event: &E) {
        self.publisher.publish(&self.poll, event);
    }

    /// Begins to move the bytes of a stream.
    pub fn begin_pump(&mut self, mut pump: Pump) -> Token {
        let token = self.poll.token();
        let waits = self.poll.add(pump.side(Next::Read).0, token, Interest::Read);
        if waits == Err(nix::errno::Errno::EPERM) {
            // it is a file, and always ready (epoll_ctl(2))
            pump.reads_a_file();
        }
        let (side, interest) = pump.side(Next::Read);
        let waits = waits.or_else(|_| self.poll.add(side, token, interest));
        self.pumps.insert(token, pump);
        if waits.is_err() {
            // both are files, or epoll has no room
            self.run_pump(token);
            self.end_pump(token);
        }
        token
    }

    /// Moves the bytes that can be moved now.
    pub fn run_pump(&mut self, token: Token) {
        let Some(pump) = self.pumps.get_mut(&token) else { return };
        let before = pump.waits();
        let mut buffer = [0; ROOM];
        let next = pump.step(&mut buffer);
        // a process that enters a container has a copy of this stack (`bootstrap::TUNABLES`)
        std::hint::black_box(&mut buffer).fill(0);
        if next == before {
            if next == Next::Reader {
                pump.await_reader();
            }
            return;
        }
        if next == Next::End {
            return self.end_pump(token);
        }
        // it now waits at its other side, or at none
        let (side, _) = pump.side(before);
        self.poll.remove(side);
        if next == Next::Reader {
            pump.await_reader();
            self.unread.insert(token, (Instant::now(), FIRST_LOOK));
            return;
        }
        let (side, interest) = pump.side(next);
        if self.poll.add(side, token, interest).is_err() {
            self.end_pump(token);
        }
    }

    /// Ends the streams whose late reader is here now.
    pub fn look_for_readers(&mut self) {
        let now = Instant::now();
        let due: Vec<Token> =
            self.unread.iter().filter(|(_, (time, _))| *time <= now).map(|(token, _)| *token).collect();
        for token in due {
            if let Some((time, pause)) = self.unread.get_mut(&token) {
                (*time, *pause) = (now + *pause, (*pause * 2).min(LAST_LOOK));
            }
            self.run_pump(token);
        }
    }

    /// Ends a stream, even if it contains bytes.
    pub fn end_pump(&mut self, token: Token) {
        self.unread.remove(&token);
        if let Some(pump) = self.pumps.remove(&token) {
            for next in [Next::Read, Next::Write] {
                self.poll.remove(pump.side(next).0);
            }
        }
    }

    /// Waits for the end of a process.
    pub fn watch_process(&mut self, process: &libcontainer::Process, whose: Whose) -> Token {
        let token = self.poll.token();
        // if epoll has no room for it, SIGCHLD reports its end (`reap`)
        let _ = self.poll.add(process, token, Interest::Read);
        self.processes.insert(token, whose);
        token
    }

    /// Asks a logger to end, whose process is gone.
    pub fn end_logger(&mut self, logger: Option<Logger>) {
        if let Some(logger) = logger {
            logger.signal(rustix::process::Signal::TERM);
            self.loggers.push((logger, Instant::now() + LOGGER));
        }
    }

    /// Kills the loggers that have not ended in time.
    pub fn kill_loggers(&mut self) {
        let now = Instant::now();
        self.loggers.retain(|(logger, deadline)| {
            if *deadline <= now {
                logger.signal(rustix::process::Signal::KILL);
            }
            *deadline > now
        });
    }
}
