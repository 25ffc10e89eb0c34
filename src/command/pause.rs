//! `pause` and `resume`: the freezer.

use anyhow::{Result, bail};
use libcontainer::container::Status;

use super::Session;

pub fn pause(session: &Session<'_>, id: &str) -> Result<()> {
    let mut container = session.root()?.load(id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created | Status::Running => container.cgroup().freeze(),
        Status::Paused => bail!("container paused"),
        Status::Stopped => bail!("container not running"),
    }
}

pub fn resume(session: &Session<'_>, id: &str) -> Result<()> {
    let mut container = session.root()?.load(id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Paused => container.cgroup().thaw(),
        Status::Created | Status::Running => bail!("container not paused"),
        Status::Stopped => bail!("container not running"),
    }
}
