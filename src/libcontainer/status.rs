//! The status of a container. It is never stored: a table computes it from observations.

use std::fmt;

/// The states of runtime.md#state, and `paused`.
///
/// ```
/// assert_eq!(libcontainer::Status::Created.to_string(), "created");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its process waits for `start`.
    Created,
    /// Its process is the program.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended.
    Stopped,
}

/// The observable state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its init.
    pub process: ProcessState,
    /// Its cgroup is frozen.
    pub frozen: bool,
    /// Its exec fifo exists.
    pub waiting: bool,
}

/// The observable state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It does not exist, or another process has its pid.
    Gone,
    /// It has ended with all its threads, and its parent has not reaped it yet.
    Zombie,
    /// It exists.
    Alive,
}

/// The table. As in runc, frozen comes before waiting.
pub fn status(observed: Observed) -> Status {
    match observed {
        Observed { process: ProcessState::Gone | ProcessState::Zombie, .. } => Status::Stopped,
        Observed { frozen: true, .. } => Status::Paused,
        Observed { waiting: true, .. } => Status::Created,
        Observed { process: ProcessState::Alive, frozen: false, waiting: false } => Status::Running,
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        for process in [ProcessState::Gone, ProcessState::Zombie, ProcessState::Alive] {
            for (frozen, waiting) in [(false, false), (false, true), (true, false), (true, true)] {
                let expected = match (process, frozen, waiting) {
                    (ProcessState::Gone | ProcessState::Zombie, ..) => "stopped",
                    (_, true, _) => "paused",
                    (_, _, true) => "created",
                    _ => "running",
                };
                assert_eq!(status(Observed { process, frozen, waiting }).to_string(), expected);
            }
        }
    }
}
