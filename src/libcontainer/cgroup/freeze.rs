//! The freezer of both versions. A freeze that does not come about is undone.

use std::fs;
use std::path::{Path, PathBuf};

use super::Cgroup;
use super::files::{directory_is_frozen, event, frozen_above, put, wait_for};
use crate::error::{Context, Result, bail};

impl Cgroup {
    /// Stops every process where it is, and returns when all are stopped.
    ///
    /// # Errors
    /// No freezer here, or some process will not stop; then all run again.
    pub fn freeze(&self) -> Result<()> {
        let (directory, version) = self.freezer()?;
        let done = match version {
            Version::One => {
                // a process forked meanwhile is not frozen with the others: write until all are (freezer-subsystem.txt)
                wait_for(|| {
                    put(&directory.join("freezer.state"), "FROZEN")?;
                    Ok(fs::read_to_string(directory.join("freezer.state"))?.trim() == "FROZEN")
                })
            }
            Version::Two => {
                put(&directory.join("cgroup.freeze"), "1")?;
                wait_for(|| event(&directory.join("cgroup.events"), "frozen 1"))
            }
        };
        match done.with_context(|| format!("freeze {}", directory.display())) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.thaw()?;
                bail!("freeze {}: some processes do not stop; all run again", directory.display())
            }
            Err(error) => {
                self.thaw()?;
                Err(error)
            }
        }
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// No freezer here, or the kernel's word.
    pub fn thaw(&self) -> Result<()> {
        let (directory, version) = self.freezer()?;
        let (file, value) = match version {
            Version::One => ("freezer.state", "THAWED"),
            Version::Two => ("cgroup.freeze", "0"),
        };
        put(&directory.join(file), value).with_context(|| format!("thaw {}", directory.display()))
    }

    /// True when its processes are stopped, or about to be. Without a freezer they never are.
    ///
    /// # Errors
    /// The freezer's file cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        self.freezer().map_or(Ok(false), |(directory, _)| directory_is_frozen(directory))
    }

    /// The cgroup above its own that keeps it frozen, whatever `thaw` does.
    pub fn frozen_above(&self) -> Option<PathBuf> {
        self.freezer().ok().and_then(|(directory, _)| frozen_above(directory))
    }

    fn freezer(&self) -> Result<(&Path, Version)> {
        if let Some(directory) = self.paths.get("freezer") {
            return Ok((directory, Version::One));
        }
        match self.paths.get("").filter(|directory| directory.join("cgroup.freeze").exists()) {
            Some(directory) => Ok((directory, Version::Two)),
            None => bail!("this container has no cgroup with a freezer"),
        }
    }
}

enum Version {
    One,
    Two,
}
