//! The freezer of both versions. A freeze that fails is undone.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::Cgroup;
use super::files::{has_line, is_missing, put, wait_for};
use super::frozen::{directory_is_frozen, frozen_above};
use super::processes::{self, as_path};
use super::rights;
use super::tree::{self, Walk};
use crate::error::{Context, Result, bail, error};
use crate::sys::kernel_file;

impl Cgroup {
    /// Freezes every process, and returns after all are frozen.
    ///
    /// # Errors
    /// No freezer is mounted, or some process does not freeze. Then all are thawed.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_while(|| Ok(()))
    }

    /// The same, and stops when `go_on` returns an error.
    ///
    /// # Errors
    /// Those of `freeze` and of `go_on`. Then all are thawed.
    pub fn freeze_while(&self, go_on: impl Fn() -> Result<()>) -> Result<()> {
        let (directory, version) = self.freezer()?;
        processes::leave(Walk::long(), [directory])?;
        let frozen_or_go_on = |frozen: bool| if frozen { Ok(true) } else { go_on().map(|()| false) };
        let done = match version {
            CgroupVersion::One => {
                // If a process was forked during the freeze, it is not frozen with the others. So we write the file until all
                // processes are frozen (freezer-subsystem.txt).
                wait_for(|| {
                    put(&directory.join("freezer.state"), "FROZEN")?;
                    frozen_or_go_on(fs::read_to_string(directory.join("freezer.state"))?.trim() == "FROZEN")
                })
            }
            CgroupVersion::Two => {
                put(&directory.join("cgroup.freeze"), "1")?;
                wait_for(|| frozen_or_go_on(has_line(&directory.join("cgroup.events"), "frozen 1")?))
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

    /// Thaws every process.
    ///
    /// # Errors
    /// No freezer is mounted, or the kernel's error.
    pub fn thaw(&self) -> Result<()> {
        let (directory, version) = self.freezer()?;
        let (file, value) = version.thaw();
        put(&directory.join(file), value).with_context(|| format!("thaw {}", directory.display()))
    }

    /// The open file that thaws every process, and the text to write into it. None without a freezer.
    ///
    /// # Errors
    /// The kernel's error.
    #[cfg(feature = "checkpoint")]
    pub fn thaw_file(&self) -> Result<Option<(fs::File, &'static str)>> {
        let Ok((directory, version)) = self.freezer() else { return Ok(None) };
        let (file, value) = version.thaw();
        let path = directory.join(file);
        let opened = rights::restoring(&path, || {
            rustix::fs::openat(rustix::fs::CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        });
        let opened = opened.map_err(std::io::Error::from).with_context(|| format!("open {}", path.display()))?;
        Ok(Some((opened.into(), value)))
    }

    /// Thaws every process, also those in cgroups below that the container has frozen itself. Version 1: a frozen
    /// process dies only after it is thawed. Without a freezer, no process is frozen.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn thaw_all(&self) -> Result<()> {
        let Ok((directory, version)) = self.freezer() else { return Ok(()) };
        let (says, file, value) = match version {
            CgroupVersion::One => (c"freezer.self_freezing", c"freezer.state", "THAWED"),
            CgroupVersion::Two => (c"cgroup.freeze", c"cgroup.freeze", "0"),
        };
        let thaw = |here: BorrowedFd<'_>| {
            let mut frozen = false;
            let read = rights::restoring_in(here, says, || {
                kernel_file::read_pieces_at(here, as_path(says), |piece| frozen |= piece.first() == Some(&b'1'))
            });
            let thawed = match read {
                Ok(()) if frozen => {
                    let file = rights::open(here, file, OFlags::WRONLY | OFlags::CLOEXEC);
                    file.and_then(|file| rustix::io::write(file, value.as_bytes()).map(drop))
                }
                other => other,
            };
            thawed.or_else(|errno| if tree::is_gone(errno) { Ok(()) } else { Err(errno) })
        };
        Walk::long()
            .sparing(&self.spared)
            .through(directory, thaw, |_, _| Ok(()))
            .map_err(|end| error!("thaw {} and all below: {end}", directory.display()))
    }

    /// True if its processes are frozen, or the kernel is freezing them. False without a freezer.
    ///
    /// # Errors
    /// The freezer's file cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        is_frozen(&self.paths)
    }

    /// The ancestor that keeps it frozen after `thaw`.
    pub fn frozen_above(&self) -> Option<PathBuf> {
        self.freezer().ok().and_then(|(directory, _)| frozen_above(directory))
    }

    fn freezer(&self) -> Result<(&PathBuf, CgroupVersion)> {
        freezer(&self.paths)
    }
}

/// Whether the cgroup with these directories is frozen. `list` needs no more of a container's cgroup.
///
/// # Errors
/// The freezer's file cannot be read.
pub fn is_frozen(paths: &BTreeMap<String, PathBuf>) -> Result<bool> {
    freezer(paths).map_or(Ok(false), |(directory, _)| directory_is_frozen(directory))
}

fn freezer(paths: &BTreeMap<String, PathBuf>) -> Result<(&PathBuf, CgroupVersion)> {
    if let Some(directory) = paths.get("freezer") {
        return Ok((directory, CgroupVersion::One));
    }
    match paths.get("").filter(|directory| may_exist(&directory.join("cgroup.freeze"))) {
        Some(directory) => Ok((directory, CgroupVersion::Two)),
        None => bail!("this container has no cgroup with a freezer"),
    }
}

/// True also for a file that we cannot look at: its user reports the error.
fn may_exist(file: &Path) -> bool {
    !rights::restoring(file, || rustix::fs::stat(file)).is_err_and(is_missing)
}

enum CgroupVersion {
    One,
    Two,
}

impl CgroupVersion {
    /// The file that thaws, and the text to write into it.
    fn thaw(&self) -> (&'static str, &'static str) {
        match self {
            CgroupVersion::One => ("freezer.state", "THAWED"),
            CgroupVersion::Two => ("cgroup.freeze", "0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Environment;

    #[test]
    fn a_freezer_that_cannot_be_looked_at_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            Cgroup::recorded([(String::new(), top.path().join(name))].into(), None, &Environment::default())
        };
        assert!(!open("removed").is_frozen().unwrap());
        open("removed").thaw_all().unwrap();
        // a path that nobody can follow, not even root
        std::os::unix::fs::symlink("loop", top.path().join("loop")).unwrap();
        let said = open("loop").is_frozen().unwrap_err().to_string();
        assert!(said.contains("/loop/") && said.ends_with("(ELOOP)"), "{said}");
        let said = open("loop").thaw_all().unwrap_err().to_string();
        assert!(said.contains("/loop"), "{said}");
    }
}
