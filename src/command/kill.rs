//! `kill`: a signal for a container's init, or for all that is in it.

use anyhow::{Result, anyhow};
use libcontainer::{Root, Stopped, signal_by_name};

use super::Session;
use crate::cli::Kill;

pub fn run(session: &Session<'_>, args: &Kill) -> Result<()> {
    let root = session.root()?;
    let given = args.signal.as_deref().map(signal_by_name).transpose()?;
    for id in named(&root, &args.id, args.regex)? {
        let container = root.load(&id)?;
        // SPEC: the image's stop signal is what a kill without a signal should be
        let signal = given.unwrap_or_else(|| container.stop_signal());
        container.kill(signal, if args.all { Stopped::Fine } else { Stopped::Refused })?;
    }
    Ok(())
}

/// The one id, or every id that fits.
pub fn named(root: &Root, id: &str, regex: bool) -> Result<Vec<String>> {
    if !regex {
        return Ok(vec![id.to_owned()]);
    }
    let pattern = regex_lite::Regex::new(id).map_err(|error| anyhow!("--regex {id:?}: {error}"))?;
    Ok(root.ids()?.into_iter().filter(|id| pattern.is_match(id)).collect())
}
