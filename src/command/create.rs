//! `create`: makes a container that waits for `start`.

use std::path::Path;

use anyhow::Result;
use libcontainer::internals::wait;
use libcontainer::{Bundle, check_id, protect_program};

use super::making::{Detached, consoles};
use super::session::Session;
use crate::cli::Create;

pub fn run(session: &Session<'_>, args: &Create) -> Result<()> {
    let protection = protect_program()?;
    let making = &args.making;
    check_id(&args.id)?;
    let bundle = Bundle::with_config(making.bundle.as_deref().unwrap_or(Path::new(".")), making.config.as_deref())?;
    let (console, _) = consoles(bundle.terminal().into(), making.console_socket.as_deref(), Detached::Yes)?;
    let root = session.root()?;
    let new = session.with_flags(root.create(&args.id, &bundle), making, protection, console)?;
    let listening = wait::listen()?;
    let socket = making.pidfd_socket.as_deref();
    new.on_progress(|progress| session.on_progress(progress, |ready| ready.pass_on_pidfd(socket, "standard")))
        .create()?;
    listening.until_the_end();
    Ok(())
}
