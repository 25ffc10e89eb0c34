//! All containers of a root.

use crate::container::{Container, Root};
use crate::error::Result;
use crate::status::Status;

impl Root {
    /// The states of all containers, sorted by id. One that cannot be read is an error at its position. One that is
    /// deleted during the call is left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Result<(Container, Status)>>> {
        let mut list = Vec::new();
        for id in self.ids()? {
            match self.load(&id).and_then(|container| container.status().map(|status| (container, status))) {
                Err(_) if matches!(self.path().join(&id).join("state.json").try_exists(), Ok(false)) => {}
                found => list.push(found.map_err(|error| error.context(format!("load container {id}")))),
            }
        }
        Ok(list)
    }
}
