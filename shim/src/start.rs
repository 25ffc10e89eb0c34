//! The call Start: of a container, of one that is restored from images, and of an exec.

use std::time::SystemTime;

use prost::Message as _;

use crate::checkpoint;
use crate::container::{Exit, Freezing, Stage};
use crate::failure::{Answer, Code, failure, of_runtime, too_many};
use crate::launch::{Launched, launch, new_stop};
use crate::messages::events;
use crate::messages::task::{StartRequest, StartResponse};
use crate::owner::Owner;
use crate::reply::Reply;
use crate::shim::{Shim, Whose};

impl Shim {
    pub(crate) fn start(&mut self, reply: Reply, asked: StartRequest) -> Answer<()> {
        let namespace = self.identity.namespace.clone();
        if self.jobs.are_full_of(&asked.id) || (!asked.exec_id.is_empty() && self.publisher.is_full()) {
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
            // ORDER: its memory may run out before `start` returns, which waits for the poststart hooks
            self.watch_memory(&asked.id);
            self.jobs.begin_of(&at.id.clone(), move || {
                let started = at.start().map_err(|error| of_runtime("OCI runtime start failed", &error));
                Box::new(move |shim| shim.started(reply, &asked.id, started))
            });
            return Ok(());
        }
        let stop = new_stop().inspect_err(|_| process.stage = Stage::Created)?;
        process.stop = Some(stop.clone());
        // it is needed no more, and may contain secrets
        let (object, names) = (process.object.take(), process.names.clone());
        let owner = Owner { namespace, id: asked.exec_id.clone(), uid: options.io_uid, gid: options.io_gid };
        self.jobs.begin_of(&at.id.clone(), move || {
            let make = |given| at.exec_process(object.as_ref().map_or(&[][..], |(object, _)| object), given);
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
            self.publish(&events::TaskStart { container_id: id.to_owned(), pid });
            self.report_oom_of(id);
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
        if is_killed && process.made.is_none() {
            process.held = Some(Exit { status: 128 + 9, at: SystemTime::now() });
        } else if is_killed {
            // the kill came just after it had begun to run
            process.kill_at_once();
        }
        self.started(reply, id, restored);
    }

    fn exec_started(&mut self, reply: Reply, asked: StartRequest, launched: Answer<Launched>) {
        let StartRequest { id, exec_id } = asked;
        let whose = Whose { container: id.clone(), exec: Some(exec_id.clone()) };
        match launched {
            Ok(Launched { streams, .. }) if self.process_of(&whose).is_none() => {
                // the deletion has killed it
                self.end_logger(streams.logger);
                self.answer(reply, Err(failure(Code::NotFound, "the container was deleted")));
            }
            Ok(Launched { made, streams }) => {
                let pid = made.process.pid().cast_unsigned();
                self.adopt(&whose, made, streams, Stage::Running);
                if let Some(process) = self.process_of(&whose)
                    && process.stop.take().is_some_and(|stop| stop.is_interrupted())
                {
                    // its program has begun just before the kill
                    process.kill_at_once();
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
}
