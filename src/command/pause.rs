//! `pause` and `resume`: freeze and thaw a container.

use anyhow::Result;

use super::Session;

pub fn pause(session: &Session<'_>, id: &str) -> Result<()> {
    Ok(session.root()?.load(id)?.pause()?)
}

pub fn resume(session: &Session<'_>, id: &str) -> Result<()> {
    Ok(session.root()?.load(id)?.resume()?)
}
