//! The call Delete: it waits for the last output, and then removes the process or the container.

use std::path::Path;
use std::time::{Duration, Instant};

use libcontainer::Force;
use prost::Message as _;

use crate::container::{Freezing, Process, Stage};
use crate::exits::{ZERO, wait_answer};
use crate::failure::{Answer, Code, failure, of_runtime};
use crate::messages::events;
use crate::messages::google::Status;
use crate::messages::task::{DeleteRequest, DeleteResponse};
use crate::pump::Pump;
use crate::reply::Reply;
use crate::rootfs;
use crate::runtime::At;
use crate::shim::{Deletion, Shim, Whose};

/// The time that a deletion waits for the last output of processes that still run.
const OUTPUT: Duration = Duration::from_secs(2);

impl Shim {
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
            let has_bytes = |token| self.pumps.get(token).is_some_and(Pump::has_bytes_to_deliver);
            if !created && deletion.deadline > now && outputs.iter().any(has_bytes) {
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
        let (at, bundle, rootfs) = (container.at.clone(), container.bundle.clone(), container.rootfs.clone());
        // ORDER: the kills for lack of memory are in its cgroup
        self.tell_last_ends(&whose.container);
        self.jobs.begin(move || {
            let deleted = delete_all(&at, &bundle, rootfs.as_deref());
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
        // the deletion ended a container that was not started. A tracer may keep that end
        self.tell_last_ends(id);
        self.look_at_init(id);
        self.tell_last_ends(id);
        let Some(container) = self.containers.remove(id) else {
            return self.answer(reply, Err(failure(Code::NotFound, "container not created")));
        };
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
        if let Some(stop) = &process.stop {
            // it is being started
            stop.interrupt();
        }
        for token in process.outputs.iter().chain(&process.input) {
            self.end_pump(*token);
        }
        if let Some((made, token)) = &process.made {
            self.poll.remove(made);
            self.processes.remove(token);
        }
        self.end_logger(process.logger);
        // otherwise the callers would wait for ever
        let answer = wait_answer(process.exit);
        for reply in process.waiting {
            self.answer(reply, Ok(answer.clone()));
        }
    }
}

/// Runs in a job: deletes the container, and then its root file system.
fn delete_all(at: &At, bundle: &Path, rootfs: Option<&Path>) -> Answer<()> {
    // images that were never restored: the id may be that of another engine's container
    let is_ours = at.other_bundle(bundle).is_none();
    let deleted = if is_ours { at.delete(Force::None) } else { Ok(Vec::new()) };
    let deleted = match deleted {
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
