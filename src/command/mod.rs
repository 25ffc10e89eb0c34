//! One file for each command: it loads, calls the library, and prints.

mod check;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod flag_values;
mod host;
mod images;
mod kill;
mod layout;
mod list;
mod making;
mod mounts;
mod pause;
mod ps;
mod restore;
mod run;
mod session;
mod spec;
mod start;
mod state;
mod top;
mod update;
mod usage;

use anyhow::Result;

use crate::cli::{Command, Typed};
use crate::log::Log;
pub use session::print;

use session::Session;

/// Runs the command. Returns the exit status.
///
/// # Errors
/// The failure, which is not printed yet.
pub fn run(typed: &Typed, log: &Log) -> Result<u8> {
    let session = Session::new(&typed.global, log);
    perform(typed, &session).map_err(|error| match &typed.command {
        // They look at no container.
        Command::Check(_) | Command::Explain(_) | Command::Features | Command::Host(_) | Command::Spec(_) => error,
        _ => session.because_of_the_root(error),
    })
}

fn perform(typed: &Typed, session: &Session<'_>) -> Result<u8> {
    let done = |(): ()| 0;
    match &typed.command {
        Command::Check(args) => check::run(args),
        Command::Checkpoint(args) => checkpoint::run(session, args).map(done),
        Command::Create(args) => create::run(session, args).map(done),
        Command::Delete(args) => delete::run(session, args).map(done),
        Command::Events(args) => events::run(session, args).map(done),
        Command::Exec(args) => exec::run(session, args),
        Command::Explain(args) => explain::run(session, args).map(done),
        Command::Features => features::run().map(done),
        Command::Host(args) => host::run(args),
        Command::Kill(args) => kill::run(session, args).map(done),
        Command::List(args) => list::run(session, args).map(done),
        Command::Mounts(args) => mounts::run(session, args).map(done),
        Command::Pause(args) => pause::pause(session, &args.id).map(done),
        Command::Ps(args) => ps::run(session, args).map(done),
        Command::Restore(args) => restore::run(session, args),
        Command::Resume(args) => pause::resume(session, &args.id).map(done),
        Command::Run(args) => run::run(session, args),
        Command::Spec(args) => spec::run(session, args).map(done),
        Command::Start(args) => start::run(session, &args.id).map(done),
        Command::State(args) => state::run(session, &args.id).map(done),
        Command::Top(args) => top::run(session, args).map(done),
        Command::Update(args) => update::run(session, args).map(done),
    }
}
