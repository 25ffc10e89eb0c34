//! `mounts add` and `mounts remove`: mounts of a container that runs.

use anyhow::{Context, Result, bail};
use libcontainer::MountList;
use libcontainer::internals::wait;

use super::session::Session;
use crate::cli::Mounts;

pub fn run(session: &Session<'_>, args: &Mounts) -> Result<()> {
    let mut container = session.root()?.load(&args.id)?;
    let text = match args.file.as_os_str() == "-" {
        true => wait::contents_of(std::io::stdin()).context("read standard input")?,
        false => wait::contents(&args.file).with_context(|| args.file.display().to_string())?,
    };
    let list = MountList::read(&text).map_err(|error| anyhow::anyhow!("{}: {error}", args.file.display()))?;
    match args.what.as_str() {
        "add" => {
            let warnings = container.add_mounts(&list)?;
            warnings.iter().for_each(|warning| session.log.warning(&warning.to_string()));
            Ok(())
        }
        "remove" => Ok(container.remove_mounts(&list)?),
        other => bail!("unknown word {other:?} (expected one of add, remove)"),
    }
}
