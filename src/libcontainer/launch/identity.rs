//! The state of a container that hooks and agents read.

use std::collections::HashMap;
use std::path::Path;

use crate::container::{Container, Record};
use crate::host::Environment;

/// The facts about a container for its hooks and agents.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle, absolute.
    pub bundle: &'a Path,
    /// `ociVersion` of its config.
    pub version: &'a str,
    /// Its annotations.
    pub annotations: &'a HashMap<String, String>,
    /// For an `exec`: the pid of the container's init. None while the container is made.
    pub init: Option<i32>,
    /// The variables for programs whose environment is not in config.json.
    pub environment: &'a Environment,
}

impl<'a> Identity<'a> {
    /// The identity of an existing container.
    pub(super) fn of_record(
        record: &'a Record,
        annotations: &'a HashMap<String, String>,
        environment: &'a Environment,
    ) -> Identity<'a> {
        let (bundle, version) = (record.bundle(), record.version());
        Identity { id: &record.id, bundle, version, annotations, init: None, environment }
    }

    /// The same, for an `exec` in the container.
    pub fn for_exec(container: &'a Container, annotations: &'a HashMap<String, String>) -> Identity<'a> {
        let record = container.record();
        let init = Some(record.init_process_pid);
        Identity { init, ..Identity::of_record(record, annotations, container.environment()) }
    }

    /// The state that hooks read (runtime.md#state), as one line of JSON.
    pub fn state(&self, status: &str, pid: i32) -> Vec<u8> {
        self.state_value(status, pid).to_string().into_bytes()
    }

    pub(super) fn state_value(&self, status: &str, pid: i32) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }
}
