//! The ready message of a service (sd_notify(3)), from the container to the service manager.

use crate::container::{Root, check_id};
use crate::error::Result;
use crate::launch::notify;

pub use crate::launch::notify::NotifySocket;

impl Root {
    /// Binds the socket of a container that was made with `Create::notify`, and connects to `manager`: a path, or `@name`
    /// for an abstract socket. Call this before the program begins: when it is ready (`Progress::Ready`), or before
    /// `Container::start`. None if the container was made without `Create::notify`: it can never send anything.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong id; no process listens at `manager`; or the kernel's error.
    pub fn notify_socket(&self, id: &str, manager: &str) -> Result<Option<NotifySocket>> {
        check_id(id)?;
        NotifySocket::bind(&notify::directory(&self.path().join(id)), manager)
    }
}
