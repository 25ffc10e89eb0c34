//! The freezer of both versions. A freeze that does not come about is undone.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Cgroup, put, wait_for};
use crate::error::{Context, Result, bail};
use crate::sys::text;

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

/// True when what is in the directory is stopped, by itself or from above.
pub(super) fn directory_is_frozen(directory: &Path) -> Result<bool> {
    let file = directory.join("freezer.state");
    match text::value(&file, &mut [0; 32]) {
        Ok(state) => Ok(matches!(state.trim(), "FROZEN" | "FREEZING")),
        Err(errno) if !is_gone(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
        Err(_) => event(&directory.join("cgroup.events"), "frozen 1"),
    }
}

fn event(file: &Path, line: &str) -> Result<bool> {
    match text::value(file, &mut [0; 256]) {
        Ok(text) => Ok(text.lines().any(|there| there == line)),
        Err(errno) if is_gone(errno) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
    }
}

/// The file is not there, or its cgroup was removed after it was opened.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::NODEV)
}

/// The nearest of the directories above that is frozen by its own file. The root of a hierarchy has no such file.
pub(super) fn frozen_above(directory: &Path) -> Option<PathBuf> {
    let says_one = |file: &Path| text::value(file, &mut [0; 32]).is_ok_and(|text| text.trim() == "1");
    let frozen =
        |above: &&Path| ["cgroup.freeze", "freezer.self_freezing"].iter().any(|file| says_one(&above.join(file)));
    directory.ancestors().skip(1).find(frozen).map(Path::to_path_buf)
}
