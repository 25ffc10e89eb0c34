//! The call Create: the part that runs in a job, and the part after the job has ended.

use libcontainer::{Force, Stop, in_words};
use std::path::PathBuf;

use prost::Message as _;

use crate::container::{Container, Freezing, Process, Stage};
use crate::failure::{Answer, Code, failure, too_many};
use crate::launch::{Launched, launch, new_stop};
use crate::messages::events;
use crate::messages::runc::Options;
use crate::messages::task::{CreateTaskRequest, CreateTaskResponse, DeleteRequest};
use crate::options;
use crate::owner::Owner;
use crate::reply::Reply;
use crate::room::Share;
use crate::rootfs;
use crate::runtime::{self, At};
use crate::shim::{Creation, Shim, Whose};
use crate::stdio::Names;

/// The maximum number of containers that are created at the same time; most of them wait for a thread.
const CREATIONS: usize = 1024;

/// A container to make.
struct Order {
    at: At,
    bundle: PathBuf,
    rootfs: Option<PathBuf>,
    options: Options,
    owner: Owner,
    names: Names,
    asked: CreateTaskRequest,
    /// The memory of the request.
    _share: Share,
}

impl Order {
    fn of(mut asked: CreateTaskRequest, share: Share, namespace: &str) -> Answer<Order> {
        libcontainer::check_id(&asked.id).map_err(|error| failure(Code::InvalidArgument, error))?;
        if !asked.bundle.starts_with('/') {
            // the files of the bundle would come into our own directory
            return Err(failure(Code::InvalidArgument, format_args!("bundle {:?}: must be absolute", asked.bundle)));
        }
        let options = options::read(asked.options.as_ref()).map_err(|text| failure(Code::InvalidArgument, text))?;
        if asked.checkpoint.is_empty() {
            // containerd itself reads this option only for runc
            asked.checkpoint.clone_from(&options.criu_image_path);
        }
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
        Ok(Order { at, bundle, rootfs, options, owner, names, asked, _share: share })
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
        options::save(&self.bundle, &self.options).map_err(failed)?;
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
        let mut is_made = false;
        let make = |given| {
            let made = self.at.create(&self.bundle, &self.options, given);
            is_made = made.is_ok();
            made
        };
        let launched = launch(&self.names, &self.owner, stop, make, "OCI runtime create failed");
        launched.map(Some).inspect_err(|_| {
            // the output of the terminal could not be opened. Without `is_made` it may be the container of another engine with this id
            if is_made {
                let _ = self.at.delete(Force::Kill);
            }
            if let Some(rootfs) = &self.rootfs {
                drop(rootfs::take_away(rootfs));
            }
        })
    }
}

impl Shim {
    pub(crate) fn create(&mut self, reply: Reply, asked: CreateTaskRequest) -> Answer<()> {
        if self.ending.is_some() {
            return Err(failure(Code::Unavailable, "the shim ends"));
        }
        let share = self.room.take(asked.encoded_len())?;
        if let Some(early) = &mut self.early {
            // ORDER: our program is protected before a container can see it (CVE-2019-5736)
            early.push((reply, asked, share));
            return Ok(());
        }
        if self.containers.contains_key(&asked.id) || self.creating.contains_key(&asked.id) {
            return Err(failure(Code::AlreadyExists, format_args!("container {}", asked.id)));
        }
        if self.creating.len() >= CREATIONS || self.publisher.is_full() {
            return Err(too_many());
        }
        let order = Order::of(asked, share, &self.identity.namespace)?;
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
        let creation = self.creating.remove(&id);
        let is_killed = creation.as_ref().is_some_and(|creation| creation.stop.is_interrupted());
        let deletions = creation.map(|creation| creation.deletions).unwrap_or_default();
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
            init: Process::new(names, None),
            execs: std::collections::BTreeMap::new(),
            freezing: Freezing::No,
            ended: None,
            patience: None,
            is_killing: false,
            deleting: false,
        };
        self.containers.insert(id.clone(), container);
        if let Some(Launched { made, streams }) = launched {
            let whose = Whose { container: id, exec: None };
            self.adopt(&whose, made, streams, Stage::Created);
            if let Some(process) = self.process_of(&whose).filter(|_| is_killed) {
                // the kill, or the deletion, came just after it was made
                process.kill_at_once();
            }
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
}
