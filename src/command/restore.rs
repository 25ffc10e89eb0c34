//! `restore`: makes a container from images, and waits for its end, unless `--detach` is set.

use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::internals::{Creator, wait};
use libcontainer::{Allow, Bundle, check_id};

use super::making::{Detached, consoles};
use super::session::Session;
use crate::cli;
use crate::foreground::{self, Reap};
use crate::relay::Relay;

pub fn run(session: &Session<'_>, args: &cli::Restore) -> Result<u8> {
    check_id(&args.id)?;
    let mut images = session.images(&args.imaging)?;
    if args.tcp_close {
        if args.imaging.tcp_established {
            bail!("--tcp-close and --tcp-established contradict each other");
        }
        images = images.allow(Allow::TcpClose);
    }
    let bundle = Bundle::read(args.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let detached = if args.detach { Detached::Yes } else { Detached::No };
    let (console, master) = consoles(bundle.terminal().into(), args.console_socket.as_deref(), detached)?;
    let root = session.root()?;
    let mut restore = root
        .restore(&args.id, &bundle, images)
        .creator(Creator::Ended)
        .cgroup(session.cgroup_use()?)
        .rootless(session.rootless())
        .lsm_profile(args.lsm_profile.clone())
        .lsm_mount_context(args.lsm_mount_context.clone());
    if let Some(console) = console {
        restore = restore.console(console);
    }
    if let Some(path) = &args.pid_file {
        restore = restore.pid_file(path);
    }
    let held = match detached {
        Detached::Yes => None,
        Detached::No => {
            if !args.no_subreaper {
                foreground::become_subreaper()?;
            }
            Some(foreground::hold_signals()?)
        }
    };
    let listening = wait::listen()?;
    let (container, process) = restore.on_progress(|progress| session.on_progress(progress, |_| Ok(()))).restore()?;
    session.log.worked();
    let Some(held) = held else {
        listening.until_the_end();
        return Ok(0);
    };
    drop(listening);
    let relay = master.map(|master| Relay::begin(master.receive()?)).transpose()?;
    let reap = if args.no_subreaper { Reap::Child } else { Reap::All };
    let status = foreground::supervise(&process, &held, relay, None, reap);
    super::run::end(session, container);
    status
}
