//! The mistakes and warnings that are found while config.json is read. All are collected.

use crate::config::{At, Config, Faults, Warning};

/// Mistakes and warnings of one plan.
#[derive(Debug)]
pub(super) struct Notes {
    faults: Faults,
    warnings: Vec<Warning>,
}

impl Notes {
    /// Starts with the warnings of the config itself.
    pub(super) fn new(config: &Config) -> Notes {
        Notes { faults: Faults::none(), warnings: config.warnings.clone() }
    }

    /// Adds a mistake. The reader continues.
    pub(super) fn fault(&mut self, at: &At, problem: impl Into<String>) {
        self.faults.add(at.clone(), problem);
    }

    /// Adds a warning: the container is still created.
    pub(super) fn warn(&mut self, at: &At, said: impl Into<String>) {
        self.warnings.push(Warning { at: at.clone(), said: said.into() });
    }

    /// Adds several warnings.
    pub(super) fn warnings(&mut self, warnings: impl IntoIterator<Item = Warning>) {
        self.warnings.extend(warnings);
    }

    /// Returns the value, or adds its mistakes.
    pub(super) fn collect<T>(&mut self, result: Result<T, Faults>) -> Option<T> {
        self.faults.collect(result)
    }

    /// Returns the warnings if neither `config` nor what was read from it has mistakes; otherwise all mistakes.
    pub(super) fn into_warnings(self, config: &Config) -> Result<Vec<Warning>, Faults> {
        config.beside(self.faults).into_result(self.warnings)
    }
}
