//! Create, Start and Delete: the part that runs in a job, and the part after the job has ended.

use libcontainer::in_words;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use libcontainer::Force;
use libcontainer::Stop;
use prost::Message as _;

use crate::checkpoint;
use crate::container::{Container, Exit, Freezing, Process, Stage};
use crate::exits::{ZERO, wait_answer};
use crate::failure::{Answer, Code, failure, of_runtime, too_many};
use crate::messages::events;
use crate::messages::google::Status;
use crate::messages::runc::Options;
use crate::messages::task::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, StartRequest, StartResponse,
};
use crate::options;
use crate::owner::Owner;
use crate::reply::Reply;
use crate::rootfs;
use crate::runtime::{self, At, Given, Made};
use crate::shim::{Creation, Deletion, Shim, Whose};
use crate::stdio::{self, Names, Streams};

/// The time that a deletion waits for the last output of processes that still run.
const OUTPUT: Duration = Duration::from_secs(2);
/// The time that a logger has to end after its input has ended.
const LOGGER: Duration = Duration::from_secs(12);

/// The maximum number of containers that are created at the same time; most of them wait for a thread.
const CREATIONS: usize = 1024;

/// A process with its streams.
struct Launched {
    made: Made,
    streams: Streams,
}

/// Opens the streams, calls `make`, and connects the terminal of the new process.
fn launch(
    names: &Names,
    owner: &Owner,
    stop: &Stop,
    make: impl FnOnce(Given) -> libcontainer::Result<Made>,
    what: &str,
) -> Answer<Launched> {
    let failed = |text: String| failure(Code::Unknown, format_args!("failed to create init process I/O: {text}"));
    if !names.terminal {
        let mut streams = stdio::open(names, owner, stop).map_err(failed)?;
        let theirs = std::mem::take(&mut streams.theirs);
        let made = stop.over(|| make(Given::Streams(theirs))).map_err(|error| of_runtime(what, &error))?;
        return Ok(Launched { made, streams });
    }
    let made = stop.over(|| make(Given::Terminal)).map_err(|error| of_runtime(what, &error))?;
    let Some(master) = &made.master else { return Ok(Launched { made, streams: Streams::default() }) };
    match stdio::open_terminal(master, names, owner, stop) {
        Ok(streams) => Ok(Launched { made, streams }),
        Err(text) => {
            // no caller learns of this process
            let _ = made.process.kill(9);
            Err(failed(text))
        }
    }
}

/// A container to make.
struct Order {
    at: At,
    bundle: PathBuf,
    rootfs: Option<PathBuf>,
    options: Options,
    owner: Owner,
    names: Names,
    asked: CreateTaskRequest,
}

impl Order {
    fn of(asked: CreateTaskRequest, namespace: &str) -> Answer<Order> {
        let options = options::read(asked.options.as_ref()).map_err(|text| failure(Code::InvalidArgument, text))?;
        let bundle = PathBuf::from(&asked.bundle);
        let at = At { root: runtime::root(&options, namespace), id: asked.id.clone() };
        let rootfs = (!asked.rootfs.is_empty()).then(|| bundle.join("rootfs"));
        let names = Names {
            stdin: asked.stdin.clone(),
            stdout: asked.stdout.clone(),
            stderr: asked.stderr.clone(),
            terminal: asked.terminal,
        };
        let (uid, gid) = (options.io_uid, options.io_gid);
        let owner = Owner { namespace: namespace.to_owned(), id: asked.id.clone(), uid, gid };
        Ok(Order { at, bundle, rootfs, options, owner, names, asked })
    }

    /// Runs in a job: everything that may block.
    fn carry_out(&self, stop: &Stop) -> Answer<Option<Launched>> {
        let failed = |error: std::io::Error| {
            failure(Code::Unknown, format_args!("{}: {error}", self.bundle.display(), error = in_words(&error)))
        };
        if !self.asked.checkpoint.is_empty() && self.at.exists() {
            // only `start` restores it, and then a deletion would delete the container of another shim
            return Err(failure(Code::AlreadyExists, format_args!("container {}", self.at.id)));
        }
        options::keep(&self.bundle, &self.options).map_err(failed)?;
        if let Some(rootfs) = &self.rootfs {
            match std::fs::create_dir(rootfs) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
            rootfs::make(&self.asked.rootfs, rootfs).map_err(|text| failure(Code::Unknown, text))?;
        }
        if !self.asked.checkpoint.is_empty() {
            // `start` restores it
            return Ok(None);
        }
        let exists = Cell::new(false);
        let make = |given| {
            let made = self.at.create(&self.bundle, &self.options, given);
            made.inspect(|_| exists.set(true))
        };
        let launched = launch(&self.names, &self.owner, stop, make, "OCI runtime create failed");
        if launched.is_err() {
            // ORDER: a creation that fails has undone its own work. The id may be that of another shim's container
            if exists.get() {
                // the output of the terminal cannot be opened
                let _ = self.at.delete(Force::Kill);
            }
            if let Some(rootfs) = &self.rootfs {
                drop(rootfs::take_away(rootfs));
            }
        }
        launched.map(Some)
    }
}

impl Shim {
    pub(crate) fn create(&mut self, reply: Reply, asked: CreateTaskRequest) -> Answer<()> {
        if self.ending.is_some() {
            return Err(failure(Code::Unavailable, "the shim ends"));
        }
        if let Some(early) = &mut self.early {
            // ORDER: our program is protected before a container can see it (CVE-2019-5736)
            early.push((reply, asked));
            return Ok(());
        }
        if self.containers.contains_key(&asked.id) || self.creating.contains_key(&asked.id) {
            return Err(failure(Code::AlreadyExists, format_args!("container {}", asked.id)));
        }
        if self.creating.len() >= CREATIONS {
            return Err(too_many());
        }
        let order = Order::of(asked, &self.identity.namespace)?;
        let stop = new_stop()?;
        let id = order.at.id.clone();
        self.creating.insert(id.clone(), Creation { stop: stop.clone(), deletions: Vec::new() });
        // a container that shares its pid namespace can stop its init
        self.jobs.begin_of(&id, move || {
            let launched = order.carry_out(&stop);
            Box::new(move |shim| shim.created(reply, order, launched))
        });
        Ok(())
    }

    fn created(&mut self, reply: Reply, order: Order, launched: Answer<Option<Launched>>) {
        let Order { at, bundle, rootfs, options, names, asked, .. } = order;
        let id = at.id.clone();
        let deletions = self.creating.remove(&id).map(|creation| creation.deletions).unwrap_or_default();
        let launched = match launched {
            Ok(launched) => launched,
            Err(status) => {
                self.answer(reply, Err(status));
                return self.delete_each(deletions, &id);
            }
        };
        let own_pids = launched.as_ref().is_some_and(|launched| launched.made.own_pids);
        let pid = launched.as_ref().map_or(0, |launched| launched.made.process.pid().cast_unsigned());
        let container = Container {
            at,
            bundle,
            options,
            rootfs,
            own_pids,
            images: (!asked.checkpoint.is_empty()).then(|| PathBuf::from(&asked.checkpoint)),
            init: Process::new(names, Vec::new()),
            execs: std::collections::BTreeMap::new(),
            freezing: Freezing::No,
            ended: None,
            deleting: false,
        };
        self.containers.insert(id.clone(), container);
        if let Some(Launched { made, streams }) = launched {
            self.adopt(&Whose { container: id, exec: None }, made, streams, Stage::Created);
        }
        let CreateTaskRequest { id, bundle, rootfs, terminal, stdin, stdout, stderr, checkpoint, .. } = asked;
        let io = Some(events::TaskIo { stdin, stdout, stderr, terminal });
        self.publish(&events::TaskCreate { container_id: id.clone(), bundle, rootfs, io, checkpoint, pid });
        self.answer(reply, Ok(CreateTaskResponse { pid }.encode_to_vec()));
        self.delete_each(deletions, &id);
    }

    /// Performs the deletions that came during the creation.
    fn delete_each(&mut self, deletions: Vec<Reply>, id: &str) {
        for reply in deletions {
            if let Err(status) = self.delete(reply, DeleteRequest { id: id.to_owned(), exec_id: String::new() }) {
                self.answer(reply, Err(status));
            }
        }
    }

    /// Adds a new process: its streams are moved, and its end is watched.
    fn adopt(&mut self, whose: &Whose, made: Made, streams: Streams, stage: Stage) {
        if self.process_of(whose).is_none() {
            // its container was deleted meanwhile, and the process with it
            return;
        }
        let outputs: Vec<_> = streams.outputs.into_iter().map(|pump| self.begin_pump(pump)).collect();
        let input = streams.input.map(|pump| self.begin_pump(pump));
        let token = self.watch_process(&made.process, whose.clone());
        let Some(process) = self.process_of(whose) else { return };
        process.stage = stage;
        process.pid = made.process.pid();
        process.made = Some((made.process, token));
        (process.outputs, process.input) = (outputs, input);
        process.hold = streams.hold.filter(|_| !process.stdin_closed);
        (process.master, process.logger) = (made.master, streams.logger);
    }

    pub(crate) fn start(&mut self, reply: Reply, asked: StartRequest) -> Answer<()> {
        let namespace = self.identity.namespace.clone();
        if self.jobs.are_full_of(&asked.id) {
            return Err(too_many());
        }
        let container = self.container(&asked.id)?;
        let (at, options) = (container.at.clone(), container.options.clone());
        let (ended, freezing) = (container.ended.is_some(), container.freezing);
        let (bundle, images) = (container.bundle.clone(), container.images.clone());
        let process = container.process(&asked.exec_id)?;
        let refused = match process.stage {
            Stage::Starting | Stage::Running => Some("cannot start a running process".to_owned()),
            Stage::Ended => Some("cannot start a stopped process".to_owned()),
            Stage::Created if asked.exec_id.is_empty() => None,
            Stage::Created if ended => Some(format!("container {} init process is not running", asked.id)),
            Stage::Created if freezing != Freezing::No => Some("cannot exec in a paused state".to_owned()),
            Stage::Created => None,
        };
        if let Some(text) = refused {
            return Err(failure(Code::FailedPrecondition, text));
        }
        process.stage = Stage::Starting;
        if let Some(images) = images.filter(|_| asked.exec_id.is_empty()) {
            let names = process.names.clone();
            let owner = Owner { namespace, id: asked.id.clone(), uid: options.io_uid, gid: options.io_gid };
            // criu may wait, for memory or for a process that does not answer
            let stop = new_stop().inspect_err(|_| process.stage = Stage::Created)?;
            process.stop = Some(stop.clone());
            self.jobs.begin_of(&at.id.clone(), move || {
                let images = checkpoint::images(&images, &options.criu_work_path, &bundle);
                let make = |given| at.restore(&bundle, &options, images, given);
                let launched = launch(&names, &owner, &stop, make, "OCI runtime restore failed");
                Box::new(move |shim| shim.restored(reply, &asked.id, launched))
            });
            return Ok(());
        }
        if asked.exec_id.is_empty() {
            self.jobs.begin_of(&at.id.clone(), move || {
                let started = at.start().map_err(|error| of_runtime("OCI runtime start failed", &error));
                Box::new(move |shim| shim.started(reply, &asked.id, started))
            });
            return Ok(());
        }
        let stop = new_stop().inspect_err(|_| process.stage = Stage::Created)?;
        process.stop = Some(stop.clone());
        // it is needed no more, and may contain secrets
        let (object, names) = (std::mem::take(&mut process.object), process.names.clone());
        let owner = Owner { namespace, id: asked.exec_id.clone(), uid: options.io_uid, gid: options.io_gid };
        self.jobs.begin_of(&at.id.clone(), move || {
            let make = |given| at.exec(&object, given);
            let launched = launch(&names, &owner, &stop, make, "OCI runtime exec failed");
            Box::new(move |shim| shim.exec_started(reply, asked, launched))
        });
        Ok(())
    }

    fn started(&mut self, reply: Reply, id: &str, started: Answer<()>) {
        let whose = Whose { container: id.to_owned(), exec: None };
        let Some(process) = self.process_of(&whose) else {
            return self.answer(reply, Err(failure(Code::NotFound, "the container was deleted")));
        };
        process.stage = if started.is_ok() { Stage::Running } else { Stage::Created };
        let (pid, held) = (process.pid(), process.held.take());
        if started.is_ok() {
            self.watch_memory(id);
            self.publish(&events::TaskStart { container_id: id.to_owned(), pid });
        }
        self.answer(reply, started.map(|()| StartResponse { pid }.encode_to_vec()));
        if let Some(exit) = held {
            self.exited(&whose, exit);
        }
    }

    fn restored(&mut self, reply: Reply, id: &str, launched: Answer<Launched>) {
        let whose = Whose { container: id.to_owned(), exec: None };
        let restored = launched.map(|Launched { made, streams }| {
            if let Some(container) = self.containers.get_mut(id) {
                (container.own_pids, container.images) = (made.own_pids, None);
            }
            self.adopt(&whose, made, streams, Stage::Running);
        });
        let Some(process) = self.process_of(&whose) else { return self.started(reply, id, restored) };
        let is_killed = process.stop.take().is_some_and(|stop| stop.is_interrupted());
        match &process.made {
            // the kill came just after it had begun to run
            Some((made, _)) if is_killed => drop(made.kill(9)),
            None if is_killed => process.held = Some(Exit { status: 128 + 9, at: SystemTime::now() }),
            _ => {}
        }
        self.started(reply, id, restored);
    }

    fn exec_started(&mut self, reply: Reply, asked: StartRequest, launched: Answer<Launched>) {
        let StartRequest { id, exec_id } = asked;
        let whose = Whose { container: id.clone(), exec: Some(exec_id.clone()) };
        match launched {
            Ok(_) if self.process_of(&whose).is_none() => {
                // the deletion has killed it
                self.answer(reply, Err(failure(Code::NotFound, "the container was deleted")));
            }
            Ok(Launched { made, streams }) => {
                let pid = made.process.pid().cast_unsigned();
                self.adopt(&whose, made, streams, Stage::Running);
                if let Some(process) = self.process_of(&whose)
                    && process.stop.take().is_some_and(|stop| stop.is_interrupted())
                    && let Some((made, _)) = &process.made
                {
                    // its program has begun just before the kill
                    let _ = made.kill(9);
                }
                self.publish(&events::TaskExecStarted { container_id: id, exec_id, pid });
                self.answer(reply, Ok(StartResponse { pid }.encode_to_vec()));
            }
            Err(status) => {
                self.answer(reply, Err(status));
                self.never_began(&whose);
            }
        }
    }

    pub(crate) fn delete(&mut self, reply: Reply, asked: DeleteRequest) -> Answer<()> {
        if let Some(creation) = self.creating.get_mut(&asked.id).filter(|_| asked.exec_id.is_empty()) {
            // containerd asks for this when a creation takes too long
            creation.stop.interrupt();
            creation.deletions.push(reply);
            return Ok(());
        }
        let container = self.container(&asked.id)?;
        let freezing = container.freezing;
        let stage = container.process(&asked.exec_id)?.stage;
        let refused = match stage {
            Stage::Starting | Stage::Running if freezing == Freezing::Done => Some("cannot delete a paused process"),
            Stage::Starting | Stage::Running => Some("cannot delete a running process"),
            _ if asked.exec_id.is_empty() && container.deleting => Some("the container is being deleted"),
            _ => None,
        };
        if let Some(text) = refused {
            return Err(failure(Code::FailedPrecondition, text));
        }
        let exec = (!asked.exec_id.is_empty()).then_some(asked.exec_id);
        container.deleting |= exec.is_none();
        let whose = Whose { container: asked.id, exec };
        self.deletions.push(Deletion { whose, reply, deadline: Instant::now() + OUTPUT });
        Ok(())
    }

    /// Completes the deletions whose output has ended or whose time is over.
    pub(crate) fn go_on_deleting(&mut self) {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for deletion in std::mem::take(&mut self.deletions) {
            let outputs = self.process_of(&deletion.whose).map(|process| process.outputs.clone()).unwrap_or_default();
            let created = self.process_of(&deletion.whose).is_some_and(|process| process.stage == Stage::Created);
            if !created && deletion.deadline > now && outputs.iter().any(|token| self.pumps.contains_key(token)) {
                waiting.push(deletion);
            } else {
                self.delete_now(deletion);
            }
        }
        self.deletions.extend(waiting);
    }

    fn delete_now(&mut self, deletion: Deletion) {
        let Deletion { whose, reply, .. } = deletion;
        let Some(container) = self.containers.get_mut(&whose.container) else {
            return self.answer(reply, Err(failure(Code::NotFound, "container not created")));
        };
        if let Some(exec) = &whose.exec {
            let Some(process) = container.execs.remove(exec) else {
                let text = format!("process does not exist {exec}");
                return self.answer(reply, Err(failure(Code::NotFound, text)));
            };
            let answer = answer_of(&process);
            self.close(process);
            return self.answer(reply, Ok(answer.encode_to_vec()));
        }
        let (at, rootfs) = (container.at.clone(), container.rootfs.clone());
        if let Some(exit) = container.ended.filter(|_| container.init.exit.is_none()) {
            // it waits for the end of an exec, which may never come
            self.tell_exit(&whose, exit);
        }
        self.jobs.begin(move || {
            let deleted = delete_all(&at, rootfs.as_deref());
            Box::new(move |shim| shim.deleted(reply, &at.id, deleted))
        });
    }

    fn deleted(&mut self, reply: Reply, id: &str, deleted: Result<(), Status>) {
        if let Err(status) = deleted {
            if let Some(container) = self.containers.get_mut(id) {
                container.deleting = false;
            }
            return self.answer(reply, Err(status));
        }
        let Some(container) = self.containers.remove(id) else { return };
        let answer = answer_of(&container.init);
        for exec in container.execs.into_values() {
            self.close(exec);
        }
        self.close(container.init);
        self.unwatch_memory(id);
        let DeleteResponse { pid, exit_status, exited_at } = answer;
        let container_id = id.to_owned();
        self.publish(&events::TaskDelete { container_id, pid, exit_status, exited_at, id: String::new() });
        self.answer(reply, Ok(answer.encode_to_vec()));
    }

    /// Closes the streams of a process.
    fn close(&mut self, process: Process) {
        for token in process.outputs.iter().chain(&process.input) {
            self.end_pump(*token);
        }
        if let Some((made, token)) = &process.made {
            self.poll.remove(made);
            self.processes.remove(token);
        }
        if let Some(logger) = process.logger {
            logger.signal(rustix::process::Signal::TERM);
            self.loggers.push((logger, Instant::now() + LOGGER));
        }
        // otherwise the callers would wait for ever
        let answer = wait_answer(process.exit);
        for reply in process.waiting {
            self.answer(reply, Ok(answer.clone()));
        }
    }

    /// Kills the loggers that have not ended in time.
    pub(crate) fn kill_loggers(&mut self) {
        let now = Instant::now();
        self.loggers.retain(|(logger, deadline)| {
            if *deadline <= now {
                logger.signal(rustix::process::Signal::KILL);
            }
            *deadline > now
        });
    }
}

fn new_stop() -> Answer<Stop> {
    Stop::new().map_err(|errno| failure(Code::Unknown, format_args!("eventfd: {errno}", errno = in_words(&errno))))
}

/// Runs in a job: deletes the container, and then its root file system.
fn delete_all(at: &At, rootfs: Option<&Path>) -> Answer<()> {
    let deleted = match at.delete(Force::None) {
        Err(error) if *error.kind() == libcontainer::Kind::NotFound => Ok(()),
        other => other.map(drop).map_err(|error| of_runtime("failed to delete task", &error)),
    };
    if deleted.is_ok()
        && let Some(rootfs) = rootfs
    {
        let left = rootfs::take_away(rootfs);
        // The last close waits for the disk, so a thread does it. Without a thread, it happens here
        let _ = std::thread::Builder::new().stack_size(16 << 10).spawn(move || drop(left));
    }
    deleted
}

fn answer_of(process: &Process) -> DeleteResponse {
    let exit = process.exit;
    DeleteResponse {
        pid: process.pid(),
        exit_status: exit.map_or(0, |exit| exit.status),
        exited_at: Some(exit.map_or(ZERO, |exit| exit.at.into())),
    }
}
