//! `delete`: removes a container.

use anyhow::Result;
use libcontainer::Force;

use super::bundle::close_on_exec_behind;
use super::{Session, kill};
use crate::cli::Delete;

pub fn run(session: &Session<'_>, args: &Delete) -> Result<()> {
    // For the poststop hooks.
    close_on_exec_behind(0);
    let root = session.root()?;
    let ids = if args.regex { kill::matching(&root, &args.id)? } else { vec![args.id.clone()] };
    for id in ids {
        let warnings = root.delete(&id, if args.force { Force::Kill } else { Force::None })?;
        warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    }
    Ok(())
}
