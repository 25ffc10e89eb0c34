//! The session of a process: its keyring and its terminal (`process.terminal`).

use std::ffi::CString;

use oci_spec::runtime::Process;

use super::finished::Opening;
use super::given::{Given, Keyring, PlannedProcess, Terminal};
use super::namespaces::SpawnOrder;
use super::notes::Notes;
use super::step::{ConsoleDevice, Last, Missing, Pty, Target, What};
use super::steps::Steps;
use super::values::c_string;
use crate::config::At;

/// A new session.
#[derive(Debug)]
pub(super) struct Session {
    keyring: Option<CString>,
    terminal: Option<OwnTerminal>,
    spawn: SpawnOrder,
}

#[derive(Debug)]
struct OwnTerminal {
    at: At,
    /// Rows and columns.
    size: Option<(u16, u16)>,
    /// The uid that owns the terminal.
    uid: u32,
}

/// Reads `terminal` and `consoleSize`.
pub(super) fn read(planned: PlannedProcess<'_>, spawn: SpawnOrder, given: &Given<'_>, notes: &mut Notes) -> Session {
    let keyring = match &given.flags.keyring {
        Keyring::Named(name) => c_string(name, &At::new("session keyring"), notes),
        Keyring::Inherited => None,
    };
    let terminal = planned.process.and_then(|process| terminal(process, planned.at.key("terminal"), given, notes));
    Session { keyring, terminal, spawn }
}

fn terminal(process: &Process, at: At, given: &Given<'_>, notes: &mut Notes) -> Option<OwnTerminal> {
    if !process.terminal().unwrap_or(false) {
        return None;
    }
    if given.flags.terminal == Terminal::None {
        notes.fault(&at, "cannot allocate tty if coracle will detach without setting console socket");
        return None;
    }
    let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = process.console_size().map(|size| (clamp(size.height()), clamp(size.width())));
    Some(OwnTerminal { at, size: size.filter(|size| *size != (0, 0)), uid: process.user().uid() })
}

impl Session {
    /// fork(2) passes on the keyring, but not the session. So a process that is spawned last makes its session after
    /// the fork.
    pub(super) fn begin(&self, steps: &mut Steps) {
        if self.spawn == SpawnOrder::First {
            steps.add_always("a session of its own", What::Session);
        }
        if let Some(name) = &self.keyring {
            steps.add_always("a keyring of its own", What::Keyring(name.clone()));
        }
    }

    /// Init's terminal. It is also /dev/console.
    pub(super) fn console(&self, steps: &mut Steps) {
        let device = Target { path: c"dev/console".to_owned(), missing: Missing::File, last: Last::Any };
        self.terminal(ConsoleDevice::Bound(device), steps);
    }

    /// The terminal of a further process. /dev/console stays init's.
    pub(super) fn further_terminal(&self, steps: &mut Steps) {
        self.terminal(ConsoleDevice::Untouched, steps);
    }

    fn terminal(&self, device: ConsoleDevice, steps: &mut Steps) {
        let Some(OwnTerminal { at, size, uid }) = &self.terminal else { return };
        let socket = steps.open(at, Opening::Terminal);
        steps.add(at, What::Console(Pty { socket, size: *size, uid: *uid, device }));
        if self.spawn == SpawnOrder::First {
            steps.add(at, What::ControllingTerminal);
        }
    }

    /// The settings that a process that is spawned last does not inherit from the bridge.
    pub(super) fn begin_last(&self, steps: &mut Steps) {
        steps.add_always("a session of its own", What::Session);
        if let Some(OwnTerminal { at, .. }) = &self.terminal {
            steps.add(at, What::ControllingTerminal);
        }
    }
}
