//! The loop of the serving process: it waits for requests of containerd, for ends of processes, and for bytes to move.

use std::io::Read;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::thread::{Timespec, nanosleep};

use crate::poll::{Interest, Token};
use crate::reply::Reply;
use crate::shim::{Connection, JOBS, LISTENER, PUBLISHER, SIGNALS, Shim, UNREAD_ANSWERS};
use crate::wire::{self, Frame, Inbox};

/// The time after a job in which the next one is likely.
const REST: Duration = Duration::from_secs(1);

/// The time after which a shim without a container ends, if no client comes, or calls more than State, Stats, Pids and Connect.
/// containerd calls Create as soon as `start` has answered, and Shutdown as soon as Delete has.
const ALONE: Duration = Duration::from_secs(20);

/// The number of reads from one connection before others have their turn.
const READS: usize = 8;

/// The maximum memory of all connections together, for requests that have not come whole and for answers that nobody reads. One
/// connection alone takes less, unless many jobs answer it at once: a request and two answers of the largest kind, in vectors that are
/// half empty.
const OF_CONNECTIONS: usize = 8 * wire::LIMIT;

/// The pause of the loop after accept(2) has failed.
const NO_DESCRIPTOR: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

impl Shim {
    /// Serves until containerd sends Shutdown.
    pub fn serve(&mut self) {
        while !self.has_ended() {
            let time = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            for token in self.poll.wait(time) {
                self.ready(token);
            }
            self.go_on_with_halted();
            self.publisher.go_on(&self.poll);
            self.look_for_readers();
            self.tell_late_ends();
            self.go_on_deleting();
            self.close_largest();
            self.kill_loggers();
            self.rest();
            self.look_for_company();
        }
    }

    /// Ends a shim that nobody ends: `start` was killed before it had answered, or containerd failed to write its own files after that.
    /// Or containerd was killed before Create, or between Delete and Shutdown: 1.6 then connects again, and keeps the bundle until we end.
    fn look_for_company(&mut self) {
        let idle = self.publisher.is_empty() && !self.jobs.any() && self.ending.is_none();
        let alone = idle && self.containers.is_empty();
        self.alone = alone.then(|| self.alone.unwrap_or_else(|| Instant::now() + ALONE));
        if self.alone.is_some_and(|time| time <= Instant::now()) {
            self.alone = None;
            self.end();
        }
    }

    /// Gives back the pages of our program that the last jobs have used. A node has a shim for each pod, and most of them only
    /// wait; the next request maps again what it uses, 16 pages by each fault.
    fn rest(&mut self) {
        if self.rest.is_some_and(|time| time <= Instant::now()) {
            self.rest = None;
            libcontainer::give_back_program_pages();
            // a job's thread may have ended after its result was taken: its children are ours since then
            self.reap();
        }
    }

    /// Closes the mount that our program was mapped from. The kernel then waits for all CPUs, up to 30 ms on a busy
    /// host. containerd's first requests come meanwhile, but no container is made before.
    pub fn finish_protection(&mut self, protection: libcontainer::Protection) {
        self.jobs.begin(move || {
            drop(protection);
            Box::new(|shim| {
                for (reply, asked, share) in shim.early.take().unwrap_or_default() {
                    // `create` takes it again
                    drop(share);
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

    fn deadline(&self) -> Option<Instant> {
        let deletions = self.deletions.iter().map(|deletion| deletion.deadline);
        let loggers = self.loggers.iter().map(|(_, deadline)| *deadline);
        let unread = self.unread.values().map(|(time, _)| *time);
        // requests of a peer that reads again wait here, and no descriptor reports them
        let halted = self.connections.values().any(|peer| peer.is_halted && peer.outbox.len() <= UNREAD_ANSWERS);
        deletions
            .chain(halted.then(Instant::now))
            .chain(loggers)
            .chain(self.containers.values().filter_map(|container| container.patience))
            .chain(unread)
            .chain(self.publisher.deadline())
            .chain(self.ending)
            .chain(self.rest)
            .chain(self.alone)
            .min()
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
            token if self.processes.contains_key(&token) => self.is_readable(token),
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
        while let Some(listener) = &self.listener {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // no descriptor is free: the peer waits, and the listener stays readable
                Err(_) => {
                    let _ = nanosleep(&NO_DESCRIPTOR);
                    return;
                }
            };
            self.alone = None;
            let token = self.poll.token();
            if socket.set_nonblocking(true).is_ok() && self.poll.add(&socket, token, Interest::Read).is_ok() {
                let peer = Connection { socket, inbox: Inbox::default(), outbox: Vec::new(), is_halted: false };
                self.connections.insert(token, peer);
            }
        }
    }

    /// Reads the requests of a peer, performs them, and sends the answers that wait.
    fn take_from(&mut self, token: Token) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        let mut buffer = [0; 8192];
        let mut ended = false;
        let turns = if peer.outbox.len() > UNREAD_ANSWERS { 0 } else { READS };
        for _ in 0..turns {
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
        // a process that enters a container has a copy of this stack (`bootstrap::TUNABLES`)
        std::hint::black_box(&mut buffer).fill(0);
        self.send(token);
        while let Some(frame) = self.next_frame(token) {
            match frame {
                Frame::Request(stream, request) => self.call(Reply { connection: token, stream }, &request),
                Frame::Bad(stream, status) => self.answer(Reply { connection: token, stream }, Err(status)),
                Frame::Response(..) => {}
            }
        }
        if ended {
            self.drop_connection(token);
        }
    }

    /// The next request of a peer, if it reads its answers. An answer can be much larger than its request.
    fn next_frame(&mut self, token: Token) -> Option<Frame> {
        let peer = self.connections.get_mut(&token)?;
        peer.is_halted = peer.outbox.len() > UNREAD_ANSWERS;
        if peer.is_halted { None } else { peer.inbox.next() }
    }

    /// Closes the connections that take the most memory, until the others have room. A usual one takes none between its requests.
    fn close_largest(&mut self) {
        let memory = |peer: &Connection| peer.inbox.memory() + peer.outbox.capacity();
        let mut taken: usize = self.connections.values().map(memory).sum();
        while taken > OF_CONNECTIONS
            && let Some((token, most)) =
                self.connections.iter().map(|(token, peer)| (*token, memory(peer))).max_by_key(|(_, memory)| *memory)
        {
            self.drop_connection(token);
            taken -= most;
        }
    }

    /// Performs the requests of peers that have read their answers.
    fn go_on_with_halted(&mut self) {
        let has_read = |peer: &Connection| peer.is_halted && peer.outbox.len() <= UNREAD_ANSWERS;
        let halted = self.connections.iter().filter(|(_, peer)| has_read(peer)).map(|(token, _)| *token);
        for token in halted.collect::<Vec<_>>() {
            self.take_from(token);
        }
    }
}

fn libc_signal(signal: Signal) -> u32 {
    (signal as i32).cast_unsigned()
}
