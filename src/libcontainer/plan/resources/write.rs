//! The values for files of a cgroup, and the mistakes that are found with them.

use crate::config::{At, Faults};

/// One value for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The hierarchy's controller, or the empty text for version 2.
    pub controller: String,
    /// The file in the container's directory.
    pub file: String,
    /// The value to write.
    pub value: String,
    /// What happens on a failure.
    pub on_failure: OnFailure,
    /// The value is not written if more memory than this is in use (`checkBeforeUpdate`).
    pub unless_used: Option<u64>,
    /// The property.
    pub at: At,
}

/// What happens if a write fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The container fails.
    Fail,
    /// A missing file is not an error.
    SkipMissing,
    /// A denied permission is not an error.
    SkipForbidden,
    /// If the file is missing, another file is written with another value.
    Instead(String, String),
    /// If the value is out of bounds (EINVAL), it is written again after the others, which may set the bounds.
    AfterOthers,
}

/// Collects writes and mistakes.
#[derive(Default)]
pub(super) struct WriteList {
    pub(super) writes: Vec<Write>,
    /// Limits that this host has no file for.
    pub(super) absent: Faults,
    pub(super) faults: Faults,
}

impl WriteList {
    pub(super) fn write(&mut self, controller: &str, file: &str, value: impl ToString, at: At) {
        self.add(controller, file, value.to_string(), OnFailure::Fail, at);
    }

    pub(super) fn add(&mut self, controller: &str, file: &str, value: String, on_failure: OnFailure, at: At) {
        // The kernel stops at a NUL byte, and would use only what is before it.
        if value.chars().any(|c| c.is_control() && !c.is_ascii_whitespace()) {
            self.faults.add(at, format!("{value:?} has a control character"));
            return;
        }
        let (controller, file) = (controller.to_owned(), file.to_owned());
        self.writes.push(Write { controller, file, value, on_failure, unless_used: None, at });
    }

    pub(super) fn into_result(mut self) -> Result<Vec<Write>, Faults> {
        self.faults.extend(self.absent);
        self.faults.into_result(self.writes)
    }
}
