//! `run`: creates and starts a container, and waits until it ends, except with --detach.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libcontainer::cgroup;
use libcontainer::container::{Container, check_id};
use libcontainer::launch::create::{Made, New};
use libcontainer::launch::delete::{Leftovers, remove_own};
use libcontainer::launch::foreground::{self, Reap, Relay};
use libcontainer::launch::notify::{self, Notify};
use libcontainer::launch::start::began;
use libcontainer::launch::{console, pidfile, seal};
use libcontainer::plan::{Flags, Start};
use libcontainer::wait;

use super::bundle::{Detached, Master, check_extra_fds, flags as decided};
use super::{Session, absolute, manager, print};
use crate::cli::{Making, Run};
use libcontainer::{Bundle, NOT_STARTED};

pub fn run(session: &Session<'_>, args: &Run) -> Result<u8> {
    let protected = seal::protect()?;
    let making = &args.making;
    let word = Word::of(&args.id, making);
    let (id, directory) = match word {
        Word::Id | Word::IdOfABundle => (args.id.clone(), making.bundle.clone()),
        Word::Bundle => (made_up_id(Path::new(&args.id)), Some(PathBuf::from(&args.id))),
    };
    if word == Word::IdOfABundle {
        session
            .log
            .warning(&format!("{id} is the id of a container of the bundle here; ./{id} runs the bundle in {id}"));
    }
    check_id(&id)?;
    let bundle = Bundle::with_config(directory.as_deref().unwrap_or(Path::new(".")), making.config.as_deref())?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let master = Master::of(bundle.terminal(), making.console_socket.as_deref(), detached)?;
    let root = session.root()?;
    let mut flags = decided(&bundle, &id, making, master.kind(), Start::AtOnce, session.cgroup_use()?);
    flags.rootless = session.rootless();
    flags.notify = manager().map(|_| notify::directory(&root.path().join(&id)));
    flags.death_signal = (detached == Detached::No).then(foreground::death_signal).flatten();
    check_extra_fds(flags.extra_fds)?;
    let plan = bundle.plan(&flags)?;
    session.planned(&plan);
    let held = match detached {
        Detached::Yes => None,
        Detached::No => {
            if !making.no_subreaper {
                foreground::become_subreaper()?;
            }
            Some(foreground::hold_signals()?)
        }
    };
    let (theirs, ours) = master.ends();
    let pid_file = making.pid_file.as_deref().map(absolute).transpose()?;
    let new = New {
        root: &root,
        text: &bundle.text,
        config: &bundle.config,
        flags: &flags,
        plan: &plan,
        times: session.times(),
        terminal: theirs,
        pid_file: pid_file.clone(),
        protected,
    };
    let listening = wait::listen()?;
    let made = new.make().context(NOT_STARTED)?;
    session.made(&plan, &made.ready);
    let done = attend(making, &made, &flags, ours);
    let (made, (relay, notify)) = made.unless_failed(done)?;
    let (container, child) = made.go()?;
    if let Err(error) = began(&container) {
        if let Some(path) = &pid_file {
            pidfile::forget(path, child.pid);
        }
        return Err(cgroup::undone(error, remove_own(container, Leftovers::Killed).map(drop)).into());
    }
    session.log.worked();
    match held {
        None => {
            if word == Word::Bundle {
                // Only this process knows the id.
                print(&format!("{id}\n"))?;
            }
            listening.until_the_end();
            notify.map_or(Ok(()), |notify| notify.wait_until_ready(child.pidfd.as_fd(), child.pid))?;
            Ok(0)
        }
        Some(held) => {
            // From here on, a signal goes to the program.
            drop(listening);
            let reap = if making.no_subreaper { Reap::Child } else { Reap::All };
            let status = foreground::supervise(&child, &held, relay, notify.as_ref(), reap);
            if !args.keep {
                end(session, container);
            }
            Ok(status?)
        }
    }
}

/// What must be ready before the program begins: the pidfd is sent, the terminal is relayed, the notify socket exists.
fn attend(
    making: &Making,
    made: &Made<'_>,
    flags: &Flags,
    master: Option<OwnedFd>,
) -> libcontainer::Result<(Option<Relay>, Option<Notify>)> {
    if let Some(socket) = &making.pidfd_socket {
        console::send_pidfd(socket, "standard", made.ready.pidfd())?;
    }
    let relay = master.map(|socket| console::receive(socket.as_fd()).and_then(Relay::begin)).transpose()?;
    let notify = match (&flags.notify, manager()) {
        (Some(directory), Some(manager)) => Notify::bind(directory, &manager)?,
        _ => None,
    };
    Ok((relay, notify))
}

/// Deletes the container after its program has ended. Failures here do not change the exit status of `run`: it is the
/// program's.
pub(super) fn end(session: &Session<'_>, container: Container) {
    let id = container.record().id.clone();
    match remove_own(container, Leftovers::None) {
        Ok(warnings) => warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}"))),
        Err(error) => session.log.error(&format!("remove container {id:?}: {error:#}")),
    }
}

/// The meaning of the word after `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// The id. The bundle is the directory of `--bundle`, or the current directory.
    Id,
    /// The id, and also the name of a bundle.
    IdOfABundle,
    /// A bundle. coracle chooses the id.
    Bundle,
}

impl Word {
    /// `run ID` is runc's form, and is used wherever runc would find a bundle. Otherwise the word is the bundle: a
    /// path, or a name if the current directory is not a bundle.
    fn of(word: &str, making: &Making) -> Word {
        let typed = Path::new(word);
        if making.bundle.is_some() {
            return Word::Id;
        }
        if word.contains('/') || [".", ".."].contains(&word) {
            return if typed.is_dir() { Word::Bundle } else { Word::Id };
        }
        let bundle_here = making.config.is_some() || Path::new("config.json").exists();
        match (typed.join("config.json").exists(), bundle_here) {
            (false, _) => Word::Id,
            (true, true) => Word::IdOfABundle,
            (true, false) => Word::Bundle,
        }
    }
}

/// An id for a bundle that the user runs by its path.
fn made_up_id(bundle: &Path) -> String {
    let name = std::path::absolute(bundle).unwrap_or_default();
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_+-.".contains(*c)).collect();
    // A leading dot of the directory's name is left out.
    let plain = Some(plain.trim_start_matches('.')).filter(|plain| !plain.is_empty()).unwrap_or("bundle");
    format!("{plain}-{}", std::process::id())
}
