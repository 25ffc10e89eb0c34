//! `state`: prints the state of a container, in the form of runtime.md.

use anyhow::Result;
use libcontainer::{Container, Status};
use serde_json::{Value, json};

use super::session::{Session, print};

pub fn run(session: &Session<'_>, id: &str) -> Result<()> {
    let container = session.root()?.load(id)?;
    let status = container.status()?;
    if status == Status::Paused
        && let Some(above) = container.frozen_above()
    {
        session.log.warning(&format!("container paused: the cgroup {} above its own is frozen", above.display()));
    }
    let mut text = serde_json::to_string_pretty(&document(&container, status, String::new()))?;
    text.push('\n');
    print(&text)
}

/// The object that `state` and `list` print. `state` leaves the owner empty.
pub fn document(container: &Container, status: Status, owner: String) -> Value {
    let mut state = json!(container.state_in(status));
    state["owner"] = json!(owner);
    state
}
