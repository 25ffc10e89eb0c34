//! `delete`: removes a container.

use anyhow::{Error, Result};
use libcontainer::Force;

use super::flag_values::matching;
use super::making::close_on_exec_behind;
use super::session::Session;
use crate::cli::Delete;

/// Each of the containers, and each regular expression, is tried, also after a failure.
pub fn run(session: &Session<'_>, args: &Delete) -> Result<()> {
    // For the poststop hooks.
    close_on_exec_behind(0);
    let root = session.root()?;
    let mut failed: Option<Error> = None;
    let mut note = |error| {
        if let Some(earlier) = failed.replace(error) {
            session.log.error(&format!("{earlier:#}"));
        }
    };
    for word in &args.ids {
        let ids = if args.regex { matching(&root, word) } else { Ok(vec![word.clone()]) };
        let ids = ids.unwrap_or_else(|error| {
            note(error);
            Vec::new()
        });
        for id in ids {
            match root.delete(&id, if args.force { Force::Kill } else { Force::None }) {
                Ok(warnings) => warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}"))),
                Err(error) => note(error.into()),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
