//! `kill`: sends a signal to a container's init, or SIGKILL to all its processes.

use anyhow::Result;
use libcontainer::{Stopped, signal_by_name};

use super::flag_values::{duration, matching};
use super::session::Session;
use crate::cli::Kill;

pub fn run(session: &Session<'_>, args: &Kill) -> Result<()> {
    let root = session.root()?;
    let given = args.signal.as_deref().filter(|name| !name.is_empty());
    let given = given.map(signal_by_name).transpose()?;
    let wait = args.wait.as_deref().map(|text| duration("--wait", text)).transpose()?;
    let ids = if args.regex { matching(&root, &args.id)? } else { vec![args.id.clone()] };
    for id in ids {
        let container = root.load(&id)?;
        // SPEC: without a signal, kill sends the stop signal of the image
        let signal = given.unwrap_or_else(|| container.stop_signal());
        let stopped = if args.all { Stopped::Fine } else { Stopped::Refused };
        match wait {
            Some(time) => container.stop(signal, stopped, time)?,
            None => container.kill(signal, stopped)?,
        }
    }
    Ok(())
}
