//! `pause` and `resume`: the freezer.

use anyhow::{Result, bail};
use libcontainer::container::Status;

use super::Session;

pub fn pause(session: &Session<'_>, id: &str) -> Result<()> {
    let mut container = session.root()?.load(id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created | Status::Running => Ok(container.cgroup().freeze()?),
        Status::Paused => match container.cgroup().frozen_above() {
            Some(above) => bail!("container paused: the cgroup {} above its own is frozen", above.display()),
            None => bail!("container paused"),
        },
        Status::Stopped => bail!("container not running"),
    }
}

pub fn resume(session: &Session<'_>, id: &str) -> Result<()> {
    let mut container = session.root()?.load(id)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Paused => {
            let cgroup = container.cgroup();
            cgroup.thaw()?;
            match cgroup.frozen_above() {
                Some(above) => bail!("container still paused: the cgroup {} above its own is frozen", above.display()),
                None => Ok(()),
            }
        }
        Status::Created | Status::Running => bail!("container not paused"),
        Status::Stopped => bail!("container not running"),
    }
}
