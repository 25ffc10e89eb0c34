//! `run`: creates and starts a container, and waits for its end, unless `--detach` is set.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use libcontainer::internals::wait;
use libcontainer::internals::words;
use libcontainer::{Bundle, Container, Master, NotifySocket, Ready, Root, check_id, protect_program};

use rustix::io::Errno;

use super::making::{Detached, consoles};
use super::session::{Session, manager, print};
use crate::cli::{Making, Run};
use crate::foreground::{self, Reap};
use crate::relay::Relay;

pub fn run(session: &Session<'_>, args: &Run) -> Result<u8> {
    let protection = protect_program()?;
    let making = &args.making;
    let (word, id, bundle) = id_and_bundle(session, args)?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let (console, mut master) = consoles(bundle.terminal().into(), making.console_socket.as_deref(), detached)?;
    let root = session.root()?;
    let new = session
        .with_flags(root.create(&id, &bundle), making, protection, console)?
        .death_signal((detached == Detached::No).then(foreground::death_signal).flatten());
    let held = match detached {
        Detached::Yes => None,
        Detached::No => {
            if !making.no_subreaper {
                foreground::become_subreaper()?;
            }
            Some(foreground::hold_signals()?)
        }
    };
    let listening = wait::listen()?;
    let mut attended = Attended::default();
    let (container, process) = new
        .on_progress(|progress| {
            session.on_progress(progress, |ready| {
                attended = attend(making, ready, &root, &id, master.take())?;
                Ok(())
            })
        })
        .run()?;
    let Attended { relay, notify } = attended;
    session.log.worked();
    match held {
        None => {
            if word == Argument::Bundle {
                // No other process knows this id.
                print(&format!("{id}\n"))?;
            }
            listening.until_the_end();
            notify.map_or(Ok(()), |notify| notify.wait_until_ready(process.pidfd(), process.pid()))?;
            Ok(0)
        }
        Some(held) => {
            // From here on a signal is for the program.
            drop(listening);
            let reap = if making.no_subreaper { Reap::Child } else { Reap::All };
            let status = foreground::supervise(&process, &held, relay, notify.as_ref(), reap);
            if !args.keep {
                end(session, container);
            }
            status
        }
    }
}

/// The meaning of the argument, the id and the bundle.
fn id_and_bundle(session: &Session<'_>, args: &Run) -> Result<(Argument, String, Bundle)> {
    let making = &args.making;
    let word = Argument::classify(&args.id, making);
    let (id, directory) = match word {
        Argument::Id | Argument::IdOfABundle => (args.id.clone(), making.bundle.clone()),
        Argument::Bundle => (made_up_id(Path::new(&args.id)), Some(PathBuf::from(&args.id))),
    };
    if word == Argument::IdOfABundle {
        session
            .log
            .warning(&format!("{id} is the id, and the bundle is the current directory; ./{id} runs the bundle {id}"));
    }
    let no_bundle = || no_bundle(&id).filter(|_| making.bundle.is_none());
    check_id(&id).map_err(|error| no_bundle().unwrap_or_else(|| error.into()))?;
    let bundle = Bundle::with_config(directory.as_deref().unwrap_or(Path::new(".")), making.config.as_deref());
    let bundle = bundle.map_err(|error| match near_bundle(&word, &id, making) {
        Some(hint) => anyhow!("{error}: {hint}"),
        None => error.into(),
    })?;
    let bundle = if args.command.is_empty() { bundle } else { bundle.with_args(&args.command)? };
    Ok((word, id, bundle))
}

/// The container before its program begins.
#[derive(Default)]
struct Attended {
    relay: Option<Relay>,
    notify: Option<NotifySocket>,
}

/// Sends the pidfd, receives the terminal, and binds the notify socket.
fn attend(
    making: &Making,
    ready: &Ready<'_>,
    root: &Root,
    id: &str,
    master: Option<Master>,
) -> libcontainer::Result<Attended> {
    ready.pass_on_pidfd(making.pidfd_socket.as_deref(), "standard")?;
    let relay = master.map(|master| Relay::begin(master.receive()?)).transpose()?;
    let notify = match manager() {
        Some(manager) => root.notify_socket(id, &manager)?,
        None => None,
    };
    Ok(Attended { relay, notify })
}

/// Deletes the container after its program has ended. Failures here do not change the exit status of `run`: it is the
/// program's.
pub(super) fn end(session: &Session<'_>, container: Container) {
    let id = container.record().id.clone();
    match container.delete_ended() {
        Ok(warnings) => warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}"))),
        Err(error) => session.log.error(&format!("remove container {id:?}: {error}")),
    }
}

/// The meaning of the argument of `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    /// An id. The bundle is that of `--bundle`, or the current directory.
    Id,
    /// An id, which is also the name of a bundle.
    IdOfABundle,
    /// A bundle. coracle chooses the id.
    Bundle,
}

impl Argument {
    /// As with runc, the argument is an id if runc would find a bundle. Otherwise a path, or the name of a bundle, is
    /// the bundle.
    fn classify(word: &str, making: &Making) -> Argument {
        let typed = Path::new(word);
        if making.bundle.is_some() || word.is_empty() {
            return Argument::Id;
        }
        if word.contains('/') || [".", ".."].contains(&word) {
            return if typed.is_dir() { Argument::Bundle } else { Argument::Id };
        }
        let bundle_here = making.config.is_some() || Path::new("config.json").exists();
        match (typed.join("config.json").exists(), bundle_here) {
            (false, _) => Argument::Id,
            (true, true) => Argument::IdOfABundle,
            (true, false) => Argument::Bundle,
        }
    }
}

/// `run bundle/config.json`, or `run bundle/` where no such directory exists.
fn no_bundle(word: &str) -> Option<anyhow::Error> {
    let path = Path::new(word);
    if word.contains('/') && !path.exists() {
        let missing = words(Errno::NOENT);
        return Some(anyhow!("{word}: {missing}: name the directory of a bundle (an id has no /)"));
    }
    let above = path.parent().filter(|above| path.is_file() && !above.as_os_str().is_empty())?;
    Some(if path.ends_with("config.json") {
        anyhow!("{word} is the config of a bundle: run {}/", above.display())
    } else {
        anyhow!("{word} is a file: name the directory of a bundle, or another config with --config")
    })
}

/// The hint for a word that may name a bundle: it is used if the current directory is not a bundle and --bundle is missing.
fn near_bundle(word: &Argument, id: &str, making: &Making) -> Option<String> {
    if *word != Argument::Id || making.bundle.is_some() || Path::new("config.json").exists() {
        return None;
    }
    let entries = std::fs::read_dir(".").into_iter().flatten().flatten();
    let bundles = entries.filter(|entry| entry.path().join("config.json").exists());
    let names = bundles.filter_map(|entry| entry.file_name().into_string().ok());
    let near = names.map(|name| (libcontainer::config::distance(&name, id), name)).filter(|(far, _)| *far <= 2).min();
    Some(match near {
        Some((_, name)) => format!("did you mean the bundle {name}/?"),
        None => "name the directory of a bundle (coracle run bundle/), or use --bundle".to_owned(),
    })
}

/// An id for a bundle that is run by its path.
fn made_up_id(bundle: &Path) -> String {
    let name = std::path::absolute(bundle).unwrap_or_default();
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_+-.".contains(*c)).collect();
    // Dots at the beginning are removed: the name of a hidden directory would give a hidden id.
    let plain = Some(plain.trim_start_matches('.')).filter(|plain| !plain.is_empty()).unwrap_or("bundle");
    format!("{plain}-{}", std::process::id())
}
