//! The service: one function for each call of containerd.task.v2 and v3.

use libcontainer::Kind;
use libcontainer::in_words;
use prost::Message;

use crate::container::{Freezing, Process, Stage};
use crate::exits::{ZERO, wait_answer};
use crate::failure::{Answer, Code, failure, of_runtime, too_many};
use crate::messages::google::{Any, Empty};
use crate::messages::task::*;
use crate::messages::ttrpc::Request;
use crate::messages::{events, runc};
use crate::reply::Reply;
use crate::shim::{Shim, Whose};
use crate::stats;
use crate::stdio::Names;

const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The maximum number of callers that wait for the end of one process.
const WAITS: usize = 4096;

fn decode<M: Message + Default>(request: &Request) -> Answer<M> {
    M::decode(&*request.payload)
        .map_err(|error| failure(Code::InvalidArgument, format_args!("{}: {error}", request.method)))
}

fn encode<M: Message>(answer: Answer<M>) -> Answer<Vec<u8>> {
    answer.map(|message| message.encode_to_vec())
}

impl Shim {
    /// Performs a request. A request that may block is answered later.
    pub fn call(&mut self, reply: Reply, request: &Request) {
        if !SERVICES.contains(&&*request.service) {
            return self.answer(reply, Err(failure(Code::Unimplemented, format_args!("service {}", request.service))));
        }
        // A monitor calls these for each task that containerd believes to have.
        if !matches!(&*request.method, "State" | "Stats" | "Pids" | "Connect") {
            self.alone = None;
        }
        let now = match &*request.method {
            "State" => decode(request).and_then(|asked| self.state(&asked)).map(|m: StateResponse| m.encode_to_vec()),
            "Connect" => decode(request).and_then(|asked| self.connect(&asked)).map(|m| m.encode_to_vec()),
            "Shutdown" => encode(decode(request).and_then(|asked: ShutdownRequest| self.shutdown(&asked))),
            "Exec" => encode(decode(request).and_then(|asked| self.exec(asked))),
            "ResizePty" => encode(decode(request).and_then(|asked| self.resize(&asked))),
            "CloseIO" => encode(decode(request).and_then(|asked| self.close_io(&asked))),
            later => {
                let begun = match later {
                    "Create" => decode(request).and_then(|asked| self.create(reply, asked)),
                    "Start" => decode(request).and_then(|asked| self.start(reply, asked)),
                    // ORDER: it begins no job, and so it is not refused
                    "Wait" => decode(request).and_then(|asked| self.wait(reply, &asked)),
                    _ if self.jobs.are_full() => Err(too_many()),
                    "Delete" => decode(request).and_then(|asked| self.delete(reply, asked)),
                    "Pids" => decode(request).and_then(|asked| self.pids(reply, &asked)),
                    "Pause" => decode(request).and_then(|asked| self.pause(reply, asked)),
                    "Resume" => decode(request).and_then(|asked| self.resume(reply, asked)),
                    "Kill" => decode(request).and_then(|asked| self.kill(reply, &asked)),
                    "Update" => decode(request).and_then(|asked| self.update(reply, asked)),
                    "Stats" => decode(request).and_then(|asked| self.stats(reply, &asked)),
                    "Checkpoint" => decode(request).and_then(|asked| self.checkpoint(reply, asked)),
                    other => Err(failure(Code::Unimplemented, format_args!("method {other}"))),
                };
                match begun {
                    Ok(()) => return,
                    Err(status) => Err(status),
                }
            }
        };
        self.answer(reply, now);
    }

    fn state(&mut self, asked: &StateRequest) -> Answer<StateResponse> {
        let container = self.container(&asked.id)?;
        container.process(&asked.exec_id)?;
        let process = container.execs.get(&asked.exec_id).unwrap_or(&container.init);
        let Names { stdin, stdout, stderr, terminal } = process.names.clone();
        Ok(StateResponse {
            id: if asked.exec_id.is_empty() { asked.id.clone() } else { asked.exec_id.clone() },
            bundle: container.bundle.display().to_string(),
            pid: process.pid(),
            status: container.status(process),
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status: process.exit.map_or(0, |exit| exit.status),
            exited_at: Some(process.exit.map_or(ZERO, |exit| exit.at.into())),
            exec_id: asked.exec_id.clone(),
        })
    }

    fn connect(&mut self, asked: &ConnectRequest) -> Answer<ConnectResponse> {
        let task_pid = self.containers.get(&asked.id).map_or(0, |container| container.init.pid());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version: String::new() })
    }

    fn shutdown(&mut self, _: &ShutdownRequest) -> Answer<Empty> {
        let early = self.early.as_ref().is_some_and(|early| !early.is_empty());
        if self.containers.is_empty() && self.creating.is_empty() && !early {
            self.end();
        }
        Ok(Empty {})
    }

    fn exec(&mut self, asked: ExecProcessRequest) -> Answer<Empty> {
        let share = self.room.take(asked.encoded_len())?;
        let is_full = self.publisher.is_full();
        let ExecProcessRequest { id, exec_id, terminal, stdin, stdout, stderr, spec } = asked;
        let container = self.container(&id)?;
        if exec_id.is_empty() || container.execs.contains_key(&exec_id) {
            return Err(failure(Code::AlreadyExists, format_args!("id {exec_id}")));
        }
        if container.init.stage == Stage::Ended {
            return Err(failure(Code::FailedPrecondition, "cannot exec in a stopped state"));
        }
        if container.freezing != Freezing::No {
            return Err(failure(Code::FailedPrecondition, "cannot exec in a paused state"));
        }
        if is_full {
            return Err(too_many());
        }
        let object = with_terminal(&spec.unwrap_or_default().value, terminal)?;
        let process = Process::new(Names { stdin, stdout, stderr, terminal }, Some((object, share)));
        container.execs.insert(exec_id.clone(), process);
        self.publish(&events::TaskExecAdded { container_id: id, exec_id });
        Ok(Empty {})
    }

    fn resize(&mut self, asked: &ResizePtyRequest) -> Answer<Empty> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        if let Some(master) = &process.master {
            let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
            let size = rustix::termios::Winsize {
                ws_row: cells(asked.height),
                ws_col: cells(asked.width),
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let done = rustix::termios::tcsetwinsize(master, size);
            done.map_err(|errno| {
                failure(Code::Unknown, format_args!("resize the terminal: {errno}", errno = in_words(&errno)))
            })?;
        }
        Ok(Empty {})
    }

    fn close_io(&mut self, asked: &CloseIoRequest) -> Answer<Empty> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        process.hold = None;
        process.stdin_closed = true;
        Ok(Empty {})
    }

    fn wait(&mut self, reply: Reply, asked: &WaitRequest) -> Answer<()> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        match process.exit {
            Some(exit) => {
                let answer = WaitResponse { exit_status: exit.status, exited_at: Some(exit.at.into()) };
                self.answer(reply, Ok(answer.encode_to_vec()));
            }
            // it never began
            None if process.stage == Stage::Ended && !asked.exec_id.is_empty() => {
                self.answer(reply, Ok(wait_answer(None)));
            }
            None if process.waiting.len() == WAITS => {
                return Err(failure(Code::ResourceExhausted, "too many callers wait for this process"));
            }
            None => process.waiting.push(reply),
        }
        Ok(())
    }

    fn kill(&mut self, reply: Reply, asked: &KillRequest) -> Answer<()> {
        let signal = i32::try_from(asked.signal)
            .map_err(|_| failure(Code::InvalidArgument, format_args!("signal {}: it does not exist", asked.signal)))?;
        if signal == 9
            && let Some(creation) = self.creating.get(&asked.id).filter(|_| asked.exec_id.is_empty())
        {
            creation.stop.interrupt();
            self.answer(reply, Ok(Vec::new()));
            return Ok(());
        }
        let container = self.container(&asked.id)?;
        let at = container.at.clone();
        let process = container.process(&asked.exec_id)?;
        if process.exit.is_some() || process.held.is_some() {
            return Err(failure(Code::NotFound, "process already finished"));
        }
        // an exec, or a restore, that has not come to its program
        if signal == 9
            && process.made.is_none()
            && let Some(stop) = process.stop.as_ref().filter(|_| process.stage == Stage::Starting)
        {
            stop.interrupt();
            self.answer(reply, Ok(Vec::new()));
            return Ok(());
        }
        if asked.exec_id.is_empty() && process.made.is_none() {
            // it is not restored yet: another engine may have a container with this id
            return Err(failure(Code::NotFound, "process already finished"));
        }
        if asked.exec_id.is_empty() {
            process.unanswered += 1;
            self.jobs.begin(move || {
                let killed = at.kill(signal);
                let is_over =
                    killed.as_ref().is_err_and(|error| *error.kind() == Kind::State(libcontainer::Status::Stopped));
                let done = killed.map(|()| Vec::new()).map_err(|error| match error.kind() {
                    // it has just ended: engines treat this answer as success
                    Kind::State(libcontainer::Status::Stopped) | Kind::NotFound => {
                        failure(Code::NotFound, "process already finished")
                    }
                    _ => of_runtime("OCI runtime kill failed", &error),
                });
                Box::new(move |shim| {
                    shim.answer_of_init(reply, at.id.clone(), done);
                    if is_over {
                        // a tracer keeps one of its threads: its pidfd does not show the end
                        shim.look_at_init(&at.id);
                    }
                })
            });
            return Ok(());
        }
        let Some((made, _)) = &process.made else {
            return Err(failure(Code::FailedPrecondition, "process not created"));
        };
        // any number: real-time signals have no name, and 0 only tests whether it exists
        match made.kill(signal) {
            Ok(()) => self.answer(reply, Ok(Vec::new())),
            Err(_) if made.kill(0).is_err() => return Err(failure(Code::NotFound, "process already finished")),
            Err(error) => return Err(failure(Code::Unknown, format_args!("exec kill error: {error}"))),
        }
        Ok(())
    }

    /// Answers a call that acts on an init, and then reports its end, if it has come meanwhile.
    fn answer_of_init(&mut self, reply: Reply, container: String, done: Answer<Vec<u8>>) {
        self.answer(reply, done);
        let whose = Whose { container, exec: None };
        let Some(process) = self.process_of(&whose) else { return };
        process.unanswered = process.unanswered.saturating_sub(1);
        if let Some(exit) = process.held.take() {
            self.exited(&whose, exit);
        }
    }

    fn pids(&mut self, reply: Reply, asked: &PidsRequest) -> Answer<()> {
        let container = self.container(&asked.id)?;
        let at = container.at.clone();
        let execs: Vec<_> = container.execs.iter().map(|(id, exec)| (exec.pid, id.clone())).collect();
        let details = move |pid: i32| {
            let exec_id = execs.iter().find(|(exec, _)| *exec == pid)?.1.clone();
            Some(Any::of("containerd.runc.v1.ProcessDetails", &runc::ProcessDetails { exec_id }))
        };
        self.do_and_answer(reply, "OCI runtime ps failed", move || {
            let info = |pid: i32| ProcessInfo { pid: pid.cast_unsigned(), info: details(pid) };
            Ok(PidsResponse { processes: at.pids()?.into_iter().map(info).collect() })
        });
        Ok(())
    }

    fn update(&mut self, reply: Reply, asked: UpdateTaskRequest) -> Answer<()> {
        let share = self.room.take(asked.encoded_len())?;
        let container = self.container(&asked.id)?;
        if container.init.stage == Stage::Ended {
            return Err(failure(Code::FailedPrecondition, "cannot update a stopped container"));
        }
        let at = container.at.clone();
        let resources = asked.resources.unwrap_or_default().value;
        self.do_and_answer(reply, "OCI runtime update failed", move || {
            let updated = at.update(&resources).map(|()| Empty {});
            drop(share);
            updated
        });
        Ok(())
    }

    fn stats(&mut self, reply: Reply, asked: &StatsRequest) -> Answer<()> {
        let at = self.container(&asked.id)?.at.clone();
        self.do_and_answer(reply, "OCI runtime stats failed", move || {
            let (stats, format) = at.stats()?;
            Ok(StatsResponse { stats: Some(stats::metrics(&stats, format)) })
        });
        Ok(())
    }

    fn pause(&mut self, reply: Reply, asked: PauseRequest) -> Answer<()> {
        let container = self.container(&asked.id)?;
        let state = match (container.init.stage, container.freezing) {
            (Stage::Running, Freezing::No) => None,
            (Stage::Running, _) => Some("cannot pause a paused container"),
            (Stage::Ended, _) => Some("cannot pause a stopped container"),
            _ => Some("cannot pause task in created state"),
        };
        if let Some(state) = state {
            return Err(failure(Code::FailedPrecondition, state));
        }
        container.freezing = Freezing::UnderWay;
        container.init.unanswered += 1;
        let at = container.at.clone();
        self.jobs.begin(move || {
            let done = at.pause();
            Box::new(move |shim| {
                if let Ok(container) = shim.container(&asked.id) {
                    container.freezing = if done.is_ok() { Freezing::Done } else { Freezing::No };
                }
                if done.is_ok() {
                    shim.publish(&events::TaskPaused { container_id: asked.id.clone() });
                }
                let done = done.map(|()| Vec::new()).map_err(|error| of_runtime("OCI runtime pause failed", &error));
                shim.answer_of_init(reply, asked.id, done);
            })
        });
        Ok(())
    }

    fn resume(&mut self, reply: Reply, asked: ResumeRequest) -> Answer<()> {
        let container = self.container(&asked.id)?;
        if container.freezing != Freezing::Done {
            return Err(failure(Code::FailedPrecondition, "cannot resume a container that is not paused"));
        }
        container.freezing = Freezing::UnderWay;
        container.init.unanswered += 1;
        let at = container.at.clone();
        self.jobs.begin(move || {
            let done = at.resume();
            Box::new(move |shim| {
                if let Ok(container) = shim.container(&asked.id) {
                    container.freezing = if done.is_ok() { Freezing::No } else { Freezing::Done };
                }
                if done.is_ok() {
                    shim.publish(&events::TaskResumed { container_id: asked.id.clone() });
                }
                let done = done.map(|()| Vec::new()).map_err(|error| of_runtime("OCI runtime resume failed", &error));
                shim.answer_of_init(reply, asked.id, done);
            })
        });
        Ok(())
    }
}

/// The process object of the request, with its terminal.
fn with_terminal(object: &[u8], terminal: bool) -> Answer<Vec<u8>> {
    let read = serde_json::from_slice(object);
    let mut read: serde_json::Map<String, serde_json::Value> =
        read.map_err(|error| failure(Code::InvalidArgument, format_args!("process: {error}")))?;
    read.insert("terminal".to_owned(), terminal.into());
    serde_json::to_vec(&read).map_err(|error| failure(Code::Unknown, error))
}
