//! `create`: makes a container that waits for `start`.

use std::path::Path;

use anyhow::{Context, Result};
use libcontainer::container::check_id;
use libcontainer::launch::create::New;
use libcontainer::launch::{console, notify, seal};
use libcontainer::plan::Start;
use libcontainer::wait;

use super::bundle::{Detached, Master, check_extra_fds, flags as decided};
use super::{Session, absolute, manager};
use crate::cli::Create;
use libcontainer::{Bundle, NOT_STARTED};

pub fn run(session: &Session<'_>, args: &Create) -> Result<()> {
    let protected = seal::protect()?;
    let making = &args.making;
    check_id(&args.id)?;
    let bundle = Bundle::with_config(making.bundle.as_deref().unwrap_or(Path::new(".")), making.config.as_deref())?;
    let master = Master::of(bundle.terminal(), making.console_socket.as_deref(), Detached::Yes)?;
    let root = session.root()?;
    let mut flags = decided(&bundle, &args.id, making, master.kind(), Start::OnFifo, session.cgroup_use()?);
    flags.rootless = session.rootless();
    flags.notify = manager().map(|_| notify::directory(&root.path().join(&args.id)));
    check_extra_fds(flags.extra_fds)?;
    let plan = bundle.plan(&flags)?;
    session.planned(&plan);
    let new = New {
        root: &root,
        text: &bundle.text,
        config: &bundle.config,
        flags: &flags,
        plan: &plan,
        times: session.times(),
        terminal: master.ends().0,
        pid_file: making.pid_file.as_deref().map(absolute).transpose()?,
        protected,
    };
    let listening = wait::listen()?;
    let made = new.make().context(NOT_STARTED)?;
    session.made(&plan, &made.ready);
    let sent = making
        .pidfd_socket
        .as_ref()
        .map_or(Ok(()), |socket| console::send_pidfd(socket, "standard", made.ready.pidfd()));
    let (made, ()) = made.unless_failed(sent)?;
    made.go()?;
    listening.until_the_end();
    Ok(())
}
