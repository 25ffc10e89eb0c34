//! `pause` and `resume`: freeze and thaw a container.

use anyhow::Result;
use libcontainer::internals::wait;

use super::session::Session;

pub fn pause(session: &Session<'_>, id: &str) -> Result<()> {
    let mut container = session.root()?.load(id)?;
    // A signal while it waits for the processes must not leave half of them frozen.
    let listening = wait::listen()?;
    container.pause()?;
    listening.until_the_end();
    Ok(())
}

pub fn resume(session: &Session<'_>, id: &str) -> Result<()> {
    Ok(session.root()?.load(id)?.resume()?)
}
