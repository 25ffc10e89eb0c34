//! The ends of processes, in the order in which containerd gets them, and out-of-memory events.

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use libcontainer::Stop;
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag};
use prost::Message as _;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::container::{Exit, Freezing, Process, Stage};
use crate::messages::events;
use crate::messages::google::Timestamp;
use crate::messages::task::WaitResponse;
use crate::poll::{Interest, Token};
use crate::pump::Pump;
use crate::shim::{Shim, Whose};

/// The time that the end of an init waits for those of its execs and other processes. With cgroup v1, a frozen process does not end.
const EXECS: Duration = Duration::from_secs(10);

fn exit_of(status: &WaitIdStatus) -> Exit {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    Exit { status: code.unwrap_or(255).cast_unsigned(), at: SystemTime::now() }
}

/// The status of a process that has ended and has not been waited for (proc_pid_stat(5), exit_code).
fn status_in_proc(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name may contain spaces and brackets; the first field after it is the third one
    let (_, fields) = stat.rsplit_once(") ")?;
    let code: u32 = fields.split_whitespace().nth(52 - 3)?.parse().ok()?;
    let (status, signal) = (code >> 8 & 0xff, code & 0x7f);
    Some(if signal == 0 { status } else { 128 + signal })
}

impl Shim {
    /// A pidfd is readable: the process has ended.
    pub(crate) fn is_readable(&mut self, token: Token) {
        if let Some((whose, exit)) = self.end_of(token).or_else(|| self.kept_end_of(token)) {
            self.exited(&whose, exit);
        }
    }

    /// Another process traces the one that has ended, and keeps its end until it has read it (ptrace(2)). `reap` takes that later.
    fn kept_end_of(&mut self, token: Token) -> Option<(Whose, Exit)> {
        let whose = self.processes.get(&token).cloned()?;
        let status = self.process_of(&whose).and_then(|process| status_in_proc(process.pid)).unwrap_or(255);
        self.forget(token, &whose);
        Some((whose, Exit { status, at: SystemTime::now() }))
    }

    /// Waits no longer for the end of a process.
    fn forget(&mut self, token: Token, whose: &Whose) {
        self.processes.remove(&token);
        let made = self.process_of(whose).and_then(|process| process.made.take());
        if let Some((made, _)) = made {
            self.poll.remove(made);
        }
    }

    /// Looks whether the process has ended.
    pub(crate) fn has_exited(&mut self, token: Token) {
        if let Some((whose, exit)) = self.end_of(token) {
            self.exited(&whose, exit);
        }
    }

    /// Looks at a container's init whose pidfd may not show its end.
    pub(crate) fn look_at_init(&mut self, id: &str) {
        let made = self.containers.get(id).and_then(|container| container.init.made.as_ref());
        if let Some(token) = made.map(|(_, token)| *token) {
            self.is_readable(token);
        }
    }

    /// Takes the end of the process, if it has ended.
    fn end_of(&mut self, token: Token) -> Option<(Whose, Exit)> {
        let whose = self.processes.get(&token).cloned()?;
        let (made, _) = self.process_of(&whose).and_then(|process| process.made.as_ref())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let exit = match rustix::process::waitid(WaitId::PidFd(made.as_fd()), options) {
            Ok(Some(status)) => exit_of(&status),
            Ok(None) | Err(rustix::io::Errno::INTR) => return None,
            // another caller has waited for it: it has ended, and its status is unknown
            Err(_) => Exit { status: 255, at: SystemTime::now() },
        };
        self.forget(token, &whose);
        Some((whose, exit))
    }

    /// A process of a container has ended.
    pub(crate) fn exited(&mut self, whose: &Whose, exit: Exit) {
        let Some(process) = self.process_of(whose) else { return };
        if process.stage == Stage::Starting || process.unanswered > 0 {
            // ORDER: containerd must get the answers to Start, Kill, Pause and Resume before the exit event. At that event it deletes the task
            // and closes its connection. A kill without an answer then counts as failed.
            process.held = Some(exit);
            return;
        }
        if whose.exec.is_some() {
            self.tell_exit(whose, exit);
            return self.tell_of_init(&whose.container);
        }
        process.stage = Stage::Ended;
        let Some(container) = self.containers.get_mut(&whose.container) else { return };
        container.ended = Some(exit);
        container.patience = Some(Instant::now() + EXECS);
        // its end is reported after theirs, and another container may have stopped them
        container.execs.values().filter_map(|exec| exec.stop.as_ref()).for_each(Stop::interrupt);
        container.freezing = Freezing::No;
        // not restored: another engine may have the container with this id
        if container.own_pids || container.images.is_some() {
            return self.tell_of_init(&whose.container);
        }
        // ORDER: processes that share a pid namespace with others are killed with their init, before the end is
        // reported. An exec may have left the cgroup
        container.execs.values().for_each(Process::kill_at_once);
        container.is_killing = true;
        let (at, id) = (container.at.clone(), whose.container.clone());
        self.jobs.begin(move || {
            // the container may have been deleted; the deletion then removes the rest
            let _ = at.kill_all();
            Box::new(move |shim| {
                shim.containers.get_mut(&id).into_iter().for_each(|container| container.is_killing = false);
                shim.tell_of_init(&id);
            })
        });
    }

    /// An exec could not be started.
    pub(crate) fn never_began(&mut self, whose: &Whose) {
        if let Some(process) = self.process_of(whose) {
            (process.stage, process.stop) = (Stage::Ended, None);
            for reply in std::mem::take(&mut process.waiting) {
                self.answer(reply, Ok(wait_answer(None)));
            }
        }
        self.tell_of_init(&whose.container);
    }

    /// Reports the end of a container's init, after all its execs have ended and its other processes are killed.
    fn tell_of_init(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else { return };
        let waits = (container.has_execs() || container.is_killing)
            && container.patience.is_some_and(|time| time > Instant::now());
        let Some(exit) = container.ended.filter(|_| container.init.exit.is_none() && !waits) else { return };
        self.look_for_oom_of(id);
        self.tell_exit(&Whose { container: id.to_owned(), exec: None }, exit);
    }

    /// Reports the ends that have waited for execs too long.
    pub(crate) fn tell_late_ends(&mut self) {
        let now = Instant::now();
        let late = self.containers.iter().filter(|(_, container)| container.patience.is_some_and(|time| time <= now));
        for id in late.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.tell_of_init(&id);
        }
    }

    /// Reports the ends of a container that is deleted: those that wait, and those that the loop has not looked at.
    pub(crate) fn tell_last_ends(&mut self, id: &str) {
        let of = self.processes.iter().filter(|(_, whose)| whose.container == id);
        let mut tokens: Vec<_> = of.map(|(token, whose)| (whose.exec.is_none(), *token)).collect();
        // ORDER: execs are first
        tokens.sort_unstable();
        let mut last = None;
        for (is_init, token) in tokens {
            match self.end_of(token) {
                Some((_, exit)) if is_init => last = Some(exit),
                Some((whose, exit)) => self.tell_exit(&whose, exit),
                None => {}
            }
        }
        let Some(container) = self.containers.get_mut(id).filter(|container| container.init.exit.is_none()) else {
            return;
        };
        if let Some(exit) = last.or(container.init.held.take()).or(container.ended) {
            self.look_for_oom_of(id);
            self.tell_exit(&Whose { container: id.to_owned(), exec: None }, exit);
        }
    }

    fn tell_exit(&mut self, whose: &Whose, exit: Exit) {
        if let Some(container) = self.containers.get_mut(&whose.container).filter(|_| whose.exec.is_none()) {
            container.patience = None;
        }
        let Some(process) = self.process_of(whose) else { return };
        process.stage = Stage::Ended;
        process.exit = Some(exit);
        process.hold = None;
        let (pid, input, outputs) = (process.pid(), process.input.take(), process.outputs.clone());
        let waiting = std::mem::take(&mut process.waiting);
        if let Some(token) = input {
            self.end_pump(token);
        }
        // ORDER: its output is moved before its end is reported
        for token in outputs {
            self.pumps.get_mut(&token).into_iter().for_each(Pump::program_has_ended);
            self.run_pump(token);
        }
        self.publish(&events::TaskExit {
            container_id: whose.container.clone(),
            id: whose.exec.clone().unwrap_or_else(|| whose.container.clone()),
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.at.into()),
        });
        for reply in waiting {
            self.answer(reply, Ok(wait_answer(Some(exit))));
        }
    }

    /// Reaps children that no container owns: orphans of containers, and loggers. The library waits for the children of a job: they
    /// belong to its thread, and come to our first thread when that ends. The kernel gives orphans to our first thread, too.
    pub(crate) fn reap(&mut self) {
        loop {
            let mut ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if self.jobs.any() {
                if self.is_restoring() {
                    return;
                }
                ended |= WaitPidFlag::__WNOTHREAD;
            }
            let peeked = nix::sys::wait::waitid(Id::All, ended | WaitPidFlag::WNOWAIT);
            // ORDER: after that look. The child may be that of a job that has just ended: its result, which is there before the
            // thread ends, says to which container it belongs. After the results we are called again
            if self.jobs.have_results() {
                return;
            }
            let pid = match peeked.map(|status| status.pid()) {
                Ok(Some(pid)) => pid,
                Err(Errno::EINTR) => continue,
                // an unknown signal ended it
                Err(Errno::EINVAL) => {
                    self.reap_without_pid(ended);
                    continue;
                }
                Ok(None) | Err(_) => return,
            };
            let known = self.processes.iter().find(|(_, whose)| self.pid_is(whose, pid.as_raw()));
            match known.map(|(token, _)| *token) {
                Some(token) => self.has_exited(token),
                None => drop(nix::sys::wait::waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)),
            }
        }
    }

    /// Reaps a child whose pid we cannot read: one of our processes, or an orphan.
    fn reap_without_pid(&mut self, ended: WaitPidFlag) {
        let before = self.processes.len();
        for token in self.processes.keys().copied().collect::<Vec<_>>() {
            self.has_exited(token);
        }
        if self.processes.len() == before {
            let ended = WaitIdOptions::from_bits_retain(ended.bits().cast_unsigned());
            let _ = rustix::process::waitid(WaitId::All, ended);
        }
    }

    /// Whether a container is being restored. The library starts CRIU in a thread that ends before CRIU does, and so CRIU and the new
    /// init become children of our first thread. A restore ends: the library waits for a CRIU that works, but for no other.
    fn is_restoring(&self) -> bool {
        let mut containers = self.containers.values();
        containers.any(|container| container.images.is_some() && container.init.stage == Stage::Starting)
    }

    fn pid_is(&self, whose: &Whose, pid: i32) -> bool {
        let container = self.containers.get(&whose.container);
        container.is_some_and(|container| match &whose.exec {
            None => container.init.pid == pid,
            Some(exec) => container.execs.get(exec).is_some_and(|exec| exec.pid == pid),
        })
    }

    /// Begins to count the out-of-memory kills of a container. A container without a memory controller has none.
    pub(crate) fn watch_memory(&mut self, id: &str) {
        if self.watches.values().any(|(of, _)| of == id) {
            return;
        }
        let Some(container) = self.containers.get(id) else { return };
        let Ok(watch) = container.at.watch() else { return };
        if watch.descriptor().is_some() {
            let token = self.poll.token();
            self.watches.insert(token, (id.to_owned(), watch));
        }
    }

    /// Reports them from now on.
    pub(crate) fn report_oom_of(&mut self, id: &str) {
        // (that of a restored container begins here)
        self.watch_memory(id);
        let found = self.watches.iter().find(|(_, (of, _))| of == id);
        if let Some((token, (_, watch))) = found
            && let Some(fd) = watch.descriptor()
        {
            // if epoll has no room for it, they are reported before the end
            let _ = self.poll.add(fd, *token, Interest::Read);
        }
    }

    /// Stops watching.
    pub(crate) fn unwatch_memory(&mut self, id: &str) {
        let tokens: Vec<_> = self.watches.iter().filter(|(_, (of, _))| of == id).map(|(token, _)| *token).collect();
        for token in tokens {
            if let Some((_, watch)) = self.watches.remove(&token)
                && let Some(fd) = watch.descriptor()
            {
                self.poll.remove(fd);
            }
        }
    }

    pub(crate) fn look_for_oom_of(&mut self, id: &str) {
        let token = self.watches.iter().find(|(_, (of, _))| of == id).map(|(token, _)| *token);
        if let Some(token) = token {
            self.look_for_oom(token);
        }
    }

    /// The memory events of a container have changed.
    pub(crate) fn look_for_oom(&mut self, token: Token) {
        let Some((id, watch)) = self.watches.get_mut(&token) else { return };
        let (id, count) = (id.clone(), watch.look());
        for _ in 0..count.unwrap_or_default() {
            self.publish(&events::TaskOom { container_id: id.clone() });
        }
        if count.is_none() {
            self.unwatch_memory(&id);
        }
    }
}

/// Go's zero time, for an end that has not happened.
pub const ZERO: Timestamp = Timestamp { seconds: -62_135_596_800, nanos: 0 };

/// The answer to Wait.
pub fn wait_answer(exit: Option<Exit>) -> Vec<u8> {
    let (exit_status, at) = exit.map_or((255, ZERO), |exit| (exit.status, exit.at.into()));
    WaitResponse { exit_status, exited_at: Some(at) }.encode_to_vec()
}
