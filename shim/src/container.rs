//! The shim's state of a container and its processes: the requests, the callers that wait, and the ends. The library
//! does the work.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::failure::{Answer, Code, failure};
use crate::logger::Logger;
use crate::messages::runc::Options;
use crate::messages::task::status;
use crate::poll::Token;
use crate::reply::Reply;
use crate::room::Share;
use crate::runtime::At;
use crate::stdio::Names;
use libcontainer::Stop;

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// As in a shell: 128 plus the signal's number if a signal killed it.
    pub status: u32,
    pub at: SystemTime,
}

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An exec that is not started, an init that waits.
    Created,
    /// A start is under way.
    Starting,
    /// It runs.
    Running,
    /// It has ended, or never began.
    Ended,
}

/// A process: the init, or an exec.
pub struct Process {
    pub names: Names,
    pub stage: Stage,
    pub pid: i32,
    /// None after its end.
    pub made: Option<(libcontainer::Process, Token)>,
    /// Its end, if it came while a start, a kill, a pause or a resume was running. It is reported after their answers.
    pub held: Option<Exit>,
    /// The number of signals, pauses and resumes that are not yet answered.
    pub unanswered: u32,
    pub exit: Option<Exit>,
    pub waiting: Vec<Reply>,
    pub outputs: Vec<Token>,
    pub input: Option<Token>,
    /// The write end of its stdin, until CloseIO.
    pub hold: Option<OwnedFd>,
    /// CloseIO has come. It may come before the start that opens stdin has been noted.
    pub stdin_closed: bool,
    pub master: Option<OwnedFd>,
    pub logger: Option<Logger>,
    /// The process object of an exec, and its memory. None for an init, and once it is started.
    pub object: Option<(Vec<u8>, Share)>,
    /// It ends the start of an exec, and that of an init from images.
    pub stop: Option<Stop>,
}

impl Process {
    /// A process that does not run yet.
    pub fn new(names: Names, object: Option<(Vec<u8>, Share)>) -> Process {
        Process {
            names,
            stage: Stage::Created,
            pid: 0,
            made: None,
            held: None,
            unanswered: 0,
            exit: None,
            waiting: Vec::new(),
            outputs: Vec::new(),
            input: None,
            hold: None,
            stdin_closed: false,
            master: None,
            logger: None,
            object,
            stop: None,
        }
    }

    /// Kills it, if it runs. It may have ended already.
    pub fn kill_at_once(&self) {
        if let Some((made, _)) = &self.made {
            let _ = made.kill(9);
        }
    }

    /// Its pid, as messages contain it.
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }
}

/// Whether a container is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freezing {
    No,
    UnderWay,
    Done,
}

/// A container.
pub struct Container {
    pub at: At,
    pub bundle: PathBuf,
    pub options: Options,
    /// The mount point of its root file system.
    pub rootfs: Option<PathBuf>,
    pub own_pids: bool,
    /// The images that its start restores. None if it was created.
    pub images: Option<PathBuf>,
    pub init: Process,
    pub execs: BTreeMap<String, Process>,
    pub freezing: Freezing,
    /// The end of its init. It is reported after the ends of its execs.
    pub ended: Option<Exit>,
    /// The time until which the end of its init waits for those of its execs. None while it runs, and after it is reported.
    pub patience: Option<Instant>,
    /// Its other processes are being killed, after the end of its init.
    pub is_killing: bool,
    pub deleting: bool,
}

impl Container {
    /// The init, or an exec.
    ///
    /// # Errors
    /// The exec does not exist.
    pub fn process(&mut self, exec: &str) -> Answer<&mut Process> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        let process = self.execs.get_mut(exec);
        process.ok_or_else(|| failure(Code::NotFound, format_args!("process does not exist {exec}")))
    }

    /// Whether execs run or are being started.
    pub fn has_execs(&self) -> bool {
        self.execs.values().any(|exec| matches!(exec.stage, Stage::Starting | Stage::Running))
    }

    /// The status of a process, as containerd's number.
    pub fn status(&self, process: &Process) -> i32 {
        match (process.stage, self.freezing) {
            (Stage::Ended, _) => status::STOPPED,
            (_, Freezing::UnderWay) => status::PAUSING,
            (_, Freezing::Done) => status::PAUSED,
            (Stage::Created | Stage::Starting, _) => status::CREATED,
            (Stage::Running, _) => status::RUNNING,
        }
    }
}
