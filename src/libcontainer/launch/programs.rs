//! (stand-in until branch seccomp lands)
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::plan::seccomp::Filter;

pub(super) fn program(filter: &Filter, _root: &Path) -> Result<Vec<u8>> {
    filter.compile().map_err(|fault| anyhow!("{fault}"))
}
