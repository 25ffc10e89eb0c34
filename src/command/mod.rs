//! One short file for each command: load, plan, act, print.

mod bundle;
mod check;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod images;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use libcontainer::container::Root;
use libcontainer::host;
use libcontainer::launch::{Ready, Times};
use libcontainer::plan::Plan;
use libcontainer::plan::explain::Line;

use crate::cli::{Command, Global, Typed};
use crate::log::Log;

/// What every command needs: the global flags, and the log.
pub struct Session<'a> {
    global: &'a Global,
    log: &'a Log,
    began: Instant,
}

/// Runs the command. The number is the exit status.
///
/// # Errors
/// The failure. It has not been printed yet.
pub fn run(typed: &Typed, log: &Log) -> Result<u8> {
    let session = Session { global: &typed.global, log, began: Instant::now() };
    let done = |(): ()| 0;
    match &typed.command {
        Command::Check(args) => check::run(args),
        Command::Checkpoint(args) => checkpoint::run(&session, args).map(done),
        Command::Create(args) => create::run(&session, args).map(done),
        Command::Delete(args) => delete::run(&session, args).map(done),
        Command::Events(args) => events::run(&session, args).map(done),
        Command::Exec(args) => exec::run(&session, args),
        Command::Explain(args) => explain::run(&session, args).map(done),
        Command::Features => features::run().map(done),
        Command::Kill(args) => kill::run(&session, args).map(done),
        Command::List(args) => list::run(&session, args).map(done),
        Command::Pause(args) => pause::pause(&session, &args.id).map(done),
        Command::Ps(args) => ps::run(&session, args).map(done),
        Command::Restore(args) => restore::run(&session, args),
        Command::Resume(args) => pause::resume(&session, &args.id).map(done),
        Command::Run(args) => run::run(&session, args),
        Command::Spec(args) => spec::run(args).map(done),
        Command::Start(args) => start::run(&session, &args.id).map(done),
        Command::State(args) => state::run(&session, &args.id).map(done),
        Command::Update(args) => update::run(&session, args).map(done),
        Command::Later(name) => bail!("{name} is not implemented"),
    }
}

impl Session<'_> {
    /// The directory of all containers: --root, or /run/coracle, or for an ordinary user a directory below
    /// XDG_RUNTIME_DIR.
    fn root(&self) -> Result<Root> {
        let root = match &self.global.root {
            Some(path) => Root::open(Path::new(path))?,
            None => default_root()?,
        };
        self.log.debug(|| format!("--root {}", root.path().display()));
        Ok(root)
    }

    /// Prints the plan's warnings, and with --debug the whole plan.
    fn planned(&self, plan: &Plan) {
        plan.warnings.iter().for_each(|warning| self.log.warning(&warning.to_string()));
        if self.log.is_debug() {
            if let Some(filter) = &plan.filter {
                // runc's words.
                self.log.debug(|| format!("seccomp filter flags: {}", filter.flags()));
            }
            self.log.debug(|| format!("planned after {} µs", self.began.elapsed().as_micros()));
            for Line { process, act, from, .. } in plan.lines() {
                self.log.debug(|| format!("plan: {process}: {act} ({from})"));
            }
        }
    }

    /// Whether to measure the time of each step.
    fn times(&self) -> Times {
        if self.log.is_debug() { Times::Kept } else { Times::NotKept }
    }

    /// The process is ready. Prints its warnings, and with --debug the time of each step.
    fn made(&self, plan: &Plan, ready: &Ready<'_>) {
        ready.warnings().iter().for_each(|warning| self.log.warning(&warning.to_string()));
        if self.log.is_debug() {
            let steps: Vec<_> = plan.lines().into_iter().filter(|line| line.process != "runtime").collect();
            for (n, micros) in ready.times() {
                let Some(Line { process, act, from, .. }) = steps.get(n) else { continue };
                self.log.debug(|| format!("took {micros} µs: {process}: {act} ({from})"));
            }
            self.log
                .debug(|| format!("process {} is ready after {} µs", ready.pid(), self.began.elapsed().as_micros()));
        }
    }
}

/// The directory of containers without --root. Below XDG_RUNTIME_DIR, other users must not be able to write to it: the
/// hooks of its containers run as the user who calls coracle.
fn default_root() -> Result<Root> {
    // podman sets XDG_RUNTIME_DIR="" and means that there is none.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).filter(|_| !is_real_root());
    match runtime.map(PathBuf::from) {
        None => Ok(Root::open(Path::new("/run/coracle"))?),
        Some(runtime) => {
            let root = Root::open(runtime.join("coracle"))?;
            root.must_be_ours().with_context(|| format!("XDG_RUNTIME_DIR={}", runtime.display()))?;
            Ok(root)
        }
    }
}

/// True for root of the initial user namespace. Root of another user namespace cannot use /run, unless the user's name
/// is root: then /run was prepared for it.
fn is_real_root() -> bool {
    if rustix::process::geteuid().as_raw() != 0 {
        return false;
    }
    host::has_all_ids() || std::env::var_os("USER").is_some_and(|user| user == "root")
}

/// Writes to standard output. If the reader has closed the pipe, that is not an error.
///
/// # Errors
/// It cannot be written to.
pub fn print(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

/// The service manager's socket, if the manager waits for a readiness message (sd_notify(3)).
fn manager() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty())
}

/// `path` below the current directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}
