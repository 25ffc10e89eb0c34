//! Writes a container to images on the disk.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::bundle::Bundle;
use crate::config;
use crate::container::Container;
use crate::error::{Context, Error, Result};
use crate::launch::checkpoint::{Afterwards, Checkpoint};
use crate::launch::images::Images;
use crate::launch::notify;
use crate::plan::{Flags, Plan};

/// Settings of a checkpoint, which CRIU (criu(8)) makes.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Afterwards, Images, Root};
///
/// let container = Root::open("/run/coracle")?.load("box")?;
/// container.checkpoint(Images::new("/images/box")).afterwards(Afterwards::Running).make()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Dump {
    container: Container,
    requested: Checkpoint,
}

impl Container {
    /// A checkpoint of it, which becomes these images.
    pub fn checkpoint(self, images: Images) -> Dump {
        let requested =
            Checkpoint { images, parent: None, afterwards: Afterwards::default(), page_server: None, status: None };
        Dump { container: self, requested }
    }

    /// Its plan, with the current facts about the host.
    ///
    /// # Errors
    /// Its config cannot be read.
    fn plan(&self) -> Result<Plan> {
        let record = self.record();
        let text = self.config()?;
        let bundle = Bundle { directory: record.bundle().to_path_buf(), config: config::load(&text)?, text };
        let flags = bundle.flags(&record.id);
        let notify = Some(notify::directory(self.directory())).filter(|directory| directory.exists());
        bundle.plan(&Flags { notify, ..flags })
    }
}

impl Dump {
    /// What happens to the container after the checkpoint. By default, it is deleted.
    pub fn afterwards(mut self, afterwards: Afterwards) -> Self {
        self.requested.afterwards = afterwards;
        self
    }

    /// The directory of an earlier pre-dump, relative to the directory of the images: pages that have not changed since
    /// are not dumped again.
    pub fn parent(mut self, directory: impl Into<PathBuf>) -> Self {
        self.requested.parent = Some(directory.into());
        self
    }

    /// The page server of CRIU that receives the memory, instead of the images.
    pub fn page_server(mut self, address: impl Into<String>, port: u16) -> Self {
        self.requested.page_server = Some((address.into(), port));
        self
    }

    /// With `Allow::LazyPages`: CRIU writes a byte of 0 to it when the memory can be fetched. It is then closed.
    pub fn status(mut self, fd: OwnedFd) -> Self {
        self.requested.status = Some(fd);
        self
    }

    /// Makes it. Returns the warnings of poststop hooks, if the container is deleted.
    ///
    /// # Errors
    /// `State` if the container does not run; or CRIU's failure. The container then runs as before.
    pub fn make(mut self) -> Result<Vec<Error>> {
        self.requested.images = self.requested.images.absolute()?;
        let plan = self.container.plan()?;
        self.requested.make(self.container, &plan).context("checkpoint")
    }
}
