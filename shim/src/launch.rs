//! A new process with its streams: the part that runs in a job, and the part after the job has ended.

use libcontainer::{Stop, in_words};

use crate::container::Stage;
use crate::failure::{Answer, Code, failure, of_runtime};
use crate::owner::Owner;
use crate::runtime::{Given, Made};
use crate::shim::{Shim, Whose};
use crate::stdio::{self, Names, Streams};

/// A process with its streams.
pub struct Launched {
    pub made: Made,
    pub streams: Streams,
}

/// Opens the streams, calls `make`, and connects the terminal of the new process. `stop` ends it.
///
/// # Errors
/// No process is left.
pub fn launch(
    names: &Names,
    owner: &Owner,
    stop: &Stop,
    make: impl FnOnce(Given) -> libcontainer::Result<Made>,
    what: &str,
) -> Answer<Launched> {
    let failed = |text: String| failure(Code::Unknown, format_args!("failed to create init process I/O: {text}"));
    if stop.is_interrupted() {
        return Err(failure(Code::Unknown, format_args!("{what}: it was killed before it began")));
    }
    if !names.terminal {
        let mut streams = stdio::open(names, owner, stop).map_err(failed)?;
        let theirs = std::mem::take(&mut streams.theirs);
        let made = stop.over(|| make(Given::Streams(theirs)));
        let made = made.inspect_err(|_| streams.end_logger()).map_err(|error| of_runtime(what, &error))?;
        return Ok(Launched { made, streams });
    }
    let made = stop.over(|| make(Given::Terminal)).map_err(|error| of_runtime(what, &error))?;
    let Some(master) = &made.master else { return Ok(Launched { made, streams: Streams::default() }) };
    match stdio::open_terminal(master, names, owner, stop) {
        Ok(streams) => Ok(Launched { made, streams }),
        Err(text) => {
            made.abandon();
            Err(failed(text))
        }
    }
}

/// What ends a launch that waits for a process, or for a logger.
///
/// # Errors
/// Those of eventfd(2).
pub fn new_stop() -> Answer<Stop> {
    Stop::new().map_err(|errno| failure(Code::Unknown, format_args!("eventfd: {errno}", errno = in_words(&errno))))
}

impl Shim {
    /// Adds a new process: its streams are moved, and its end is watched.
    pub(crate) fn adopt(&mut self, whose: &Whose, made: Made, streams: Streams, stage: Stage) {
        if self.process_of(whose).is_none() {
            // its container was deleted meanwhile, and the process with it
            return self.end_logger(streams.logger);
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
}
