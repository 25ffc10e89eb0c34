//! The serving process: one loop that waits for requests of containerd, for ends of processes, and for bytes to move.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::container::Container;
use crate::events::{Event, Publisher};
use crate::failure::Answer;
use crate::jobs::Jobs;
use crate::logger::Logger;
use crate::poll::{Interest, Poll, Token};
use crate::pump::{Next, Pump, ROOM};
use crate::wire::{self, Frame, Inbox};

const LISTENER: Token = 0;
const SIGNALS: Token = 1;
const JOBS: Token = 2;
const PUBLISHER: Token = 3;
const FIRST: Token = 16;
/// The time that the last events have when we end.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// The time after a job in which the next one is likely.
const REST: Duration = Duration::from_secs(1);

/// The pause of the loop after accept(2) has failed.
const NO_DESCRIPTOR: Duration = Duration::from_millis(20);

/// The caller, and the stream for the answer.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    connection: Token,
    stream: u32,
}

struct Connection {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Vec<u8>,
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
    pub jobs: Jobs,
    pub publisher: Publisher,
    pub containers: BTreeMap<String, Container>,
    /// Requests that came before our program was protected. None from then on.
    pub early: Option<Vec<(Reply, crate::messages::task::CreateTaskRequest)>>,
    /// Ids of containers that are being created.
    pub creating: BTreeSet<String>,
    pub processes: BTreeMap<Token, Whose>,
    pub pumps: BTreeMap<Token, Pump>,
    pub watches: BTreeMap<Token, (String, crate::runtime::OomWatch)>,
    pub deletions: Vec<Deletion>,
    /// Loggers whose output has ended, and the time at which they are killed.
    pub loggers: Vec<(Logger, Instant)>,
    /// The latest time of our end. None while we serve.
    pub ending: Option<Instant>,
    /// The time at which we give back the memory that the last job has touched. None if we have.
    rest: Option<Instant>,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<Token, Connection>,
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
            early: Some(Vec::new()),
            creating: BTreeSet::new(),
            processes: BTreeMap::new(),
            pumps: BTreeMap::new(),
            watches: BTreeMap::new(),
            deletions: Vec::new(),
            loggers: Vec::new(),
            ending: None,
            rest: None,
            listener,
            signals,
            connections: BTreeMap::new(),
        })
    }

    /// Serves until containerd sends Shutdown.
    pub fn serve(&mut self) {
        while !self.has_ended() {
            let time = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            for token in self.poll.wait(time) {
                self.ready(token);
            }
            self.publisher.go_on(&self.poll);
            self.go_on_deleting();
            self.kill_loggers();
            self.rest();
        }
    }

    /// Gives back the pages of our program that the last jobs have used. A node has a shim for each pod, and most of them only
    /// wait; the next request maps again what it uses, 16 pages by each fault.
    fn rest(&mut self) {
        if self.rest.is_some_and(|time| time <= Instant::now()) {
            self.rest = None;
            libcontainer::give_back_program_pages();
        }
    }

    /// Closes the mount that our program was mapped from. The kernel then waits for all CPUs, up to 30 ms on a busy
    /// host. containerd's first requests come meanwhile, but no container is made before.
    pub fn finish_protection(&mut self, protection: libcontainer::Protection) {
        self.jobs.begin(move || {
            drop(protection);
            Box::new(|shim| {
                for (reply, asked) in shim.early.take().unwrap_or_default() {
                    if let Err(status) = shim.create(reply, asked) {
                        shim.answer(reply, Err(status));
                    }
                }
            })
        });
    }

    fn has_ended(&self) -> bool {
        let Some(deadline) = self.ending else { return false };
        let sent = self.publisher.is_empty() && self.connections.values().all(|peer| peer.outbox.is_empty());
        (sent && !self.jobs.any()) || deadline <= Instant::now()
    }

    /// Ends when all events are sent.
    pub fn end(&mut self) {
        self.ending.get_or_insert(Instant::now() + LAST_EVENTS);
    }

    fn deadline(&self) -> Option<Instant> {
        let deletions = self.deletions.iter().map(|deletion| deletion.deadline);
        let loggers = self.loggers.iter().map(|(_, deadline)| *deadline);
        deletions.chain(loggers).chain(self.publisher.deadline()).chain(self.ending).chain(self.rest).min()
    }

    fn ready(&mut self, token: Token) {
        match token {
            LISTENER => self.accept(),
            SIGNALS => self.take_signals(),
            JOBS => {
                for done in self.jobs.ended() {
                    done(self);
                }
                self.rest = Some(Instant::now() + REST);
                // a job may have left an orphan
                self.reap();
            }
            PUBLISHER => self.publisher.ready(&self.poll),
            token if self.pumps.contains_key(&token) => self.run_pump(token),
            token if self.processes.contains_key(&token) => self.has_exited(token),
            token if self.watches.contains_key(&token) => self.look_for_oom(token),
            token => self.take_from(token),
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if [libc_signal(Signal::SIGTERM), libc_signal(Signal::SIGINT)].contains(&signal.ssi_signo) {
                self.end();
            }
        }
        self.reap();
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // no descriptor is free: the peer waits, and the listener stays readable
                Err(_) => return std::thread::sleep(NO_DESCRIPTOR),
            };
            let token = self.poll.token();
            if socket.set_nonblocking(true).is_ok() && self.poll.add(&socket, token, Interest::Read).is_ok() {
                let peer = Connection { socket, inbox: Inbox::default(), outbox: Vec::new() };
                self.connections.insert(token, peer);
            }
        }
    }

    /// Reads the requests of a peer, performs them, and sends the answers that wait.
    fn take_from(&mut self, token: Token) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        let mut buffer = [0; 8192];
        let mut ended = false;
        loop {
            match peer.socket.read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(count) => {
                    peer.inbox.take(&buffer[..count]);
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => ended |= error.kind() != std::io::ErrorKind::WouldBlock,
            }
            break;
        }
        // a process that enters a container has a copy of this stack (`start::TUNABLES`)
        std::hint::black_box(&mut buffer).fill(0);
        while let Some(frame) = self.connections.get_mut(&token).and_then(|peer| peer.inbox.next()) {
            match frame {
                Frame::Request(stream, request) => self.call(Reply { connection: token, stream }, &request),
                Frame::Bad(stream, status) => self.answer(Reply { connection: token, stream }, Err(status)),
                Frame::Response(..) => {}
            }
        }
        if ended {
            self.drop_connection(token);
        } else {
            self.send(token);
        }
    }

    fn drop_connection(&mut self, token: Token) {
        if let Some(peer) = self.connections.remove(&token) {
            self.poll.remove(&peer.socket);
        }
    }

    /// Sends an answer. A caller that has closed its connection gets none.
    pub fn answer(&mut self, reply: Reply, answer: Answer<Vec<u8>>) {
        if let Some(peer) = self.connections.get_mut(&reply.connection) {
            peer.outbox.extend(wire::response(reply.stream, answer));
            self.send(reply.connection);
        }
    }

    fn send(&mut self, token: Token) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        let waited = !peer.outbox.is_empty();
        while !peer.outbox.is_empty() {
            match peer.socket.write(&peer.outbox) {
                Ok(count) => drop(peer.outbox.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return self.poll.change(&peer.socket, token, Interest::Both);
                }
                Err(_) => return self.drop_connection(token),
            }
        }
        if waited {
            peer.outbox = Vec::new();
            self.poll.change(&peer.socket, token, Interest::Read);
        }
    }

    /// Sends an event to containerd.
    pub fn publish<E: Event>(&mut self, event: &E) {
        self.publisher.publish(&self.poll, event);
    }

    /// Begins to move the bytes of a stream.
    pub fn begin_pump(&mut self, pump: Pump) -> Token {
        let token = self.poll.token();
        let waits = self.poll.add(pump.side(Next::Read).0, token, Interest::Read);
        self.pumps.insert(token, pump);
        if waits.is_err() {
            // it is not a pipe, and always ready (epoll_ctl(2), EPERM)
            self.run_pump(token);
            self.end_pump(token);
        }
        token
    }

    /// Moves the bytes that can be moved now.
    pub fn run_pump(&mut self, token: Token) {
        let Some(pump) = self.pumps.get_mut(&token) else { return };
        let before = pump.waits();
        let next = pump.step(&mut [0; ROOM]);
        if next == before {
            return;
        }
        if next == Next::End {
            return self.end_pump(token);
        }
        // it now waits at its other side
        let (side, _) = pump.side(before);
        self.poll.remove(side);
        let (side, interest) = pump.side(next);
        if self.poll.add(side, token, interest).is_err() {
            self.end_pump(token);
        }
    }

    /// Ends a stream, even if it contains bytes.
    pub fn end_pump(&mut self, token: Token) {
        if let Some(pump) = self.pumps.remove(&token) {
            for next in [Next::Read, Next::Write] {
                self.poll.remove(pump.side(next).0);
            }
        }
    }

    /// Waits for the end of a process.
    pub fn watch_process(&mut self, pidfd: &OwnedFd, whose: Whose) -> Token {
        let token = self.poll.token();
        // if epoll has no room for it, SIGCHLD reports its end (`reap`)
        let _ = self.poll.add(pidfd.as_fd(), token, Interest::Read);
        self.processes.insert(token, whose);
        token
    }
}

fn libc_signal(signal: Signal) -> u32 {
    (signal as i32).cast_unsigned()
}
