//! What is found while config.json is read: mistakes and warnings. Both are collected to the end.

use crate::config::{At, Config, Faults, Warning};

/// Mistakes and warnings of one plan.
#[derive(Debug)]
pub(super) struct Notes {
    faults: Faults,
    warnings: Vec<Warning>,
}

impl Notes {
    /// Those of the config itself come first.
    pub(super) fn of(config: &Config) -> Notes {
        Notes { faults: Faults::none(), warnings: config.warnings.clone() }
    }

    /// A mistake. The rest is still read.
    pub(super) fn fault(&mut self, at: &At, problem: impl Into<String>) {
        self.faults.add(at.clone(), problem);
    }

    /// Something that the user should know, and that does not stop the container.
    pub(super) fn warn(&mut self, at: &At, said: impl Into<String>) {
        self.warnings.push(Warning { at: at.clone(), said: said.into() });
    }

    /// Several warnings.
    pub(super) fn warnings(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        self.warnings.extend(warnings);
    }

    /// The value, or its mistakes noted.
    pub(super) fn keep<T>(&mut self, result: Result<T, Faults>) -> Option<T> {
        self.faults.keep(result)
    }

    /// The warnings, when `config` and what was read from it have no mistakes; otherwise all mistakes.
    pub(super) fn into_warnings(self, config: &Config) -> Result<Vec<Warning>, Faults> {
        config.beside(self.faults).into_result(self.warnings)
    }
}
