//! `process.terminal`: who makes it, who gets its master.

use super::draft::{Draft, Opening};
use super::process::Own;
use super::step::{Console, ConsoleDevice, Last, Missing, Target, What};
use super::{Asked, Terminal};

/// Init's terminal, which is /dev/console as well.
pub(super) fn attach(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    let device = Target { path: c"dev/console".to_owned(), missing: Missing::File, last: Last::Any };
    terminal(own, ask, ConsoleDevice::Bound(device), plan);
}

/// A further process's terminal: /dev/console stays init's.
pub(super) fn attach_again(own: &Own<'_>, ask: &Asked<'_>, plan: &mut Draft) {
    terminal(own, ask, ConsoleDevice::Untouched, plan);
}

fn terminal(own: &Own<'_>, ask: &Asked<'_>, device: ConsoleDevice, plan: &mut Draft) {
    let at = own.at.key("terminal");
    if !own.process.is_some_and(|process| process.terminal().unwrap_or(false)) {
        return;
    }
    if ask.flags.terminal == Terminal::None {
        plan.fault(&at, "cannot allocate tty if coracle will detach without setting console socket");
        return;
    }
    let socket = plan.open(&at, Opening::Terminal);
    let clamp = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = own.process.and_then(|process| process.console_size());
    let size = size.map(|size| (clamp(size.height()), clamp(size.width()))).filter(|size| *size != (0, 0));
    plan.at(&at, What::Console(Console { socket, size, uid: own.uid, device }));
    plan.at(&at, What::ControllingTerminal);
}
