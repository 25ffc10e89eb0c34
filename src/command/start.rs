//! `start`: the program of a created container begins.

use anyhow::Result;
use libcontainer::launch::new;

use super::Session;

pub fn run(session: &Session<'_>, id: &str) -> Result<()> {
    new::start(&session.root()?.load(id)?)
}
