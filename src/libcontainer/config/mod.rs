//! What was asked: the bytes of config.json as typed sections, every mistake with its place. Runs in the runtime
//! process; reads no file and asks the host nothing.

mod at;
mod fault;

pub use at::At;
pub use fault::{Fault, Faults, Warning};

/// A config.json that was read: the sections as `oci-spec` types them, and what its author should be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The document.
    pub spec: oci_spec::runtime::Spec,
    /// Notes that do not stop the container.
    pub warnings: Vec<Warning>,
}
