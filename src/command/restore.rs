//! `restore`: a container out of images, and stay until it ends unless told otherwise.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use libcontainer::Bundle;
use libcontainer::container::check_id;
use libcontainer::launch::console;
use libcontainer::launch::foreground::{self, Reap, Relay};
use libcontainer::launch::images::Allow;
use libcontainer::launch::restore::Restore;
use libcontainer::plan::Start;
use libcontainer::wait;

use super::bundle::{Detached, Master, flags as decided};
use super::{Session, absolute};
use crate::cli::{self, Making};

pub fn run(session: &Session<'_>, args: &cli::Restore) -> Result<u8> {
    check_id(&args.id)?;
    let mut imaging = session.imaging(&args.imaging)?;
    if args.tcp_close {
        if args.imaging.tcp_established {
            bail!("--tcp-close and --tcp-established contradict each other");
        }
        imaging.allowed.push(Allow::TcpClose);
    }
    let bundle = Bundle::read(args.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let master = Master::of(bundle.terminal(), args.console_socket.as_deref(), detached)?;
    let root = session.root()?;
    let making = Making::default();
    let mut flags = decided(&bundle, &args.id, &making, master.kind(), Start::AtOnce, session.cgroup_use()?);
    flags.rootless = session.rootless();
    let plan = bundle.plan(&flags)?;
    session.planned(&plan);
    let held = match detached {
        Detached::Yes => None,
        Detached::No => {
            if !args.no_subreaper {
                foreground::become_subreaper()?;
            }
            Some(foreground::hold_signals()?)
        }
    };
    let (theirs, ours) = master.ends();
    let restore = Restore {
        root: &root,
        text: &bundle.text,
        config: &bundle.config,
        flags: &flags,
        plan: &plan,
        imaging,
        terminal: theirs,
        pid_file: args.pid_file.as_deref().map(absolute).transpose()?,
        lsm_profile: args.lsm_profile.clone(),
        lsm_mount_context: args.lsm_mount_context.clone(),
    };
    let listening = wait::listen()?;
    let restored = restore.make().context("restore")?;
    restored.warnings.iter().for_each(|warning| session.log.warning(&warning.to_string()));
    let (container, child) = restored.parts();
    session.log.worked();
    let Some(held) = held else {
        listening.until_the_end();
        return Ok(0);
    };
    drop(listening);
    let relay = ours.map(|socket| console::receive(socket.as_fd()).and_then(Relay::begin)).transpose()?;
    let reap = if args.no_subreaper { Reap::Child } else { Reap::All };
    let status = foreground::supervise(&child, &held, relay, None, reap);
    super::run::end(session, container);
    Ok(status?)
}
