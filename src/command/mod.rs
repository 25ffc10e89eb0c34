//! One file per verb, each thin: load, plan, act, print.

mod bundle;
mod create;
mod delete;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libcontainer::config::Warning;
use libcontainer::container::Root;

use crate::cli::{Command, Global, Typed};
use crate::log::Log;

/// What every command has: how it was called, and where it says what.
pub struct Session<'a> {
    global: &'a Global,
    log: &'a Log,
}

/// Does what was typed. The number is the exit status.
///
/// # Errors
/// Whatever went wrong; it has not been said yet.
pub fn run(typed: &Typed, log: &Log) -> Result<u8> {
    let session = Session { global: &typed.global, log };
    if typed.global.criu.is_some() {
        log.warning("--criu is ignored: criu is found in PATH");
    }
    let done = |(): ()| 0;
    match &typed.command {
        Command::Create(args) => create::run(&session, args).map(done),
        Command::Delete(args) => delete::run(&session, args).map(done),
        Command::Exec(args) => exec::run(&session, args),
        Command::Explain(args) => explain::run(args).map(done),
        Command::Features => features::run().map(done),
        Command::Kill(args) => kill::run(&session, args).map(done),
        Command::List(args) => list::run(&session, args).map(done),
        Command::Pause(args) => pause::pause(&session, &args.id).map(done),
        Command::Ps(args) => ps::run(&session, args).map(done),
        Command::Resume(args) => pause::resume(&session, &args.id).map(done),
        Command::Run(args) => run::run(&session, args),
        Command::Spec(args) => spec::run(args).map(done),
        Command::Start(args) => start::run(&session, &args.id).map(done),
        Command::State(args) => state::run(&session, &args.id).map(done),
        Command::Later(name) => bail!("{name} is not there yet"),
    }
}

impl Session<'_> {
    /// The directory of all containers: what --root says, else /run/coracle, or for a user, below XDG_RUNTIME_DIR.
    fn root(&self) -> Result<Root> {
        if let Some(path) = &self.global.root {
            return Root::at(path);
        }
        let user = rustix::process::geteuid().as_raw() != 0;
        // podman says XDG_RUNTIME_DIR="" and means that there is none
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).filter(|_| user);
        Root::at(&runtime.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("coracle"))
    }

    fn warn(&self, warnings: &[Warning]) {
        warnings.iter().for_each(|warning| self.log.warning(&warning.to_string()));
    }
}

/// `path` below the current directory, as it is now.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}
