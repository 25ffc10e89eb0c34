//! A container becomes images on the disk.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::bundle::{Bundle, absolute};
use crate::config;
use crate::container::Container;
use crate::error::{Error, Result};
use crate::launch::checkpoint::{Afterwards, Checkpoint};
use crate::launch::images::{Allow, CgroupMode, Imaging, NetworkLock};
use crate::launch::notify;
use crate::plan::{Flags, Plan};

/// Settings of a checkpoint, which CRIU (criu(8)) makes.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// container.checkpoint("/images/box").work("/tmp/log").make()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Dump {
    container: Container,
    asked: Checkpoint,
}

impl Container {
    /// A checkpoint of it, with the images in `directory`.
    pub fn checkpoint(self, directory: impl Into<PathBuf>) -> Dump {
        let asked = Checkpoint {
            imaging: Imaging::new(directory),
            parent: None,
            afterwards: Afterwards::Deleted,
            page_server: None,
            status: None,
        };
        Dump { container: self, asked }
    }

    /// The plan it was made by, as the host is now.
    ///
    /// # Errors
    /// Its config cannot be read.
    #[doc(hidden)]
    pub fn plan(&self) -> Result<Plan> {
        let record = self.record();
        let text = self.config()?;
        let bundle = Bundle { directory: record.bundle().to_path_buf(), config: config::load(&text)?, text };
        let flags = bundle.flags(&record.id);
        let notify = Some(notify::directory(self.directory())).filter(|directory| directory.exists());
        bundle.plan(&Flags { notify, ..flags })
    }
}

impl Dump {
    /// Where CRIU's log goes, and what it keeps beside it; without this, to the images.
    pub fn work(mut self, directory: impl Into<PathBuf>) -> Self {
        self.asked.imaging.work = Some(directory.into());
        self
    }

    /// The program; without this, `criu` in PATH.
    pub fn criu(mut self, program: impl Into<PathBuf>) -> Self {
        self.asked.imaging.criu = Some(program.into());
        self
    }

    /// What becomes of the container; without this, it is deleted.
    pub fn afterwards(mut self, afterwards: Afterwards) -> Self {
        self.asked.afterwards = afterwards;
        self
    }

    /// The directory of an earlier pre-dump, relative to that of the images: what was not written since is not dumped again.
    pub fn parent(mut self, directory: impl Into<PathBuf>) -> Self {
        self.asked.parent = Some(directory.into());
        self
    }

    /// What CRIU does beyond what it always does.
    pub fn allow(mut self, what: Allow) -> Self {
        self.asked.imaging.allowed.push(what);
        self
    }

    /// What becomes of cgroups.
    pub fn cgroups(mut self, mode: CgroupMode) -> Self {
        self.asked.imaging.cgroups = mode;
        self
    }

    /// How packets of open connections are held back.
    pub fn network_lock(mut self, lock: NetworkLock) -> Self {
        self.asked.imaging.network_lock = Some(lock);
        self
    }

    /// Who takes the memory.
    pub fn page_server(mut self, address: &str, port: u16) -> Self {
        self.asked.page_server = Some((address.to_owned(), port));
        self
    }

    /// One byte of 0 is written there when the memory can be fetched, and it is closed.
    pub fn status(mut self, fd: OwnedFd) -> Self {
        self.asked.status = Some(fd);
        self
    }

    /// Makes it. Returned are warnings of poststop hooks, where the container is deleted.
    ///
    /// # Errors
    /// The container does not run, or what CRIU could not do: then it goes on as if nothing had been.
    pub fn make(mut self) -> Result<Vec<Error>> {
        let imaging = &mut self.asked.imaging;
        imaging.directory = absolute(&imaging.directory)?;
        imaging.work = imaging.work.take().map(|work| absolute(&work)).transpose()?;
        let plan = self.container.plan()?;
        self.asked.make(self.container, &plan)
    }
}
