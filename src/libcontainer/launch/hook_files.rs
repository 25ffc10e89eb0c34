//! The files of the annotations `run.oci.hooks.stdout` and `run.oci.hooks.stderr`. They belong to the host, but the author of the
//! annotation may not be the administrator. So we follow no link, open only a regular file of a plain file system, and only
//! append to it.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::identity::Identity;
use crate::config::At;
use crate::error::{Result, bail, error};
use crate::plan::annotations::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::plan::{Plan, RuntimeHooks};
use crate::sys::errno::words;
use crate::sys::host_proc::HostProc;
use crate::sys::plain::is_plain;

/// The owner of a directory of the path could put a link there, and decide where it leads.
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);
const APPEND: OFlags = OFlags::WRONLY.union(OFlags::APPEND).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A file to which the output of hooks is appended.
#[derive(Debug)]
pub(super) struct HookFile {
    pub(super) file: File,
    pub(super) path: String,
}

/// The files of both annotations.
#[derive(Debug, Default)]
pub(super) struct HookFiles {
    pub(super) stdout: Option<HookFile>,
    pub(super) stderr: Option<HookFile>,
}

impl HookFiles {
    /// Opens the files that the annotations name.
    ///
    /// # Errors
    /// The annotation, and why its file cannot be opened.
    pub(super) fn open(annotations: &HashMap<String, String>) -> Result<HookFiles> {
        let open = |name| annotations.get(name).map(|path| HookFile::open(name, path)).transpose();
        Ok(HookFiles { stdout: open(HOOKS_STDOUT)?, stderr: open(HOOKS_STDERR)? })
    }

    /// Opens the files for these hooks. None of them runs if one file cannot be opened.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn open_for(hooks: &[RuntimeHooks], identity: &Identity<'_>) -> Result<HookFiles> {
        if hooks.is_empty() { Ok(HookFiles::default()) } else { HookFiles::open(identity.annotations) }
    }

    /// Opens and closes the files, so that an error is found before anything is made.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn check(plan: &Plan, annotations: &HashMap<String, String>) -> Result<()> {
        if plan.runtime_hooks.is_empty() && plan.later_hooks.is_empty() {
            return Ok(());
        }
        HookFiles::open(annotations).map(drop)
    }
}

impl HookFile {
    /// Opens the file of this annotation, or makes a new one.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) fn open(annotation: &str, path: &str) -> Result<HookFile> {
        let at = At::annotation(annotation);
        let failed = |errno: Errno| {
            let why = match errno {
                Errno::LOOP => ": a link in it is not followed",
                Errno::OPNOTSUPP => ": only a file on a disk or in a tmpfs is opened",
                _ => "",
            };
            error!("{at}: open {path}: {}{why}", words(errno))
        };
        let file = match found(path) {
            Err(Errno::NOENT) => match make_file(Path::new(path)) {
                // Another runtime has made it in the meantime.
                Err(Errno::EXIST) => found(path),
                made => made,
            },
            found => found,
        };
        match file {
            Err(NOT_REGULAR) => bail!("{at}: {path} is not a regular file"),
            file => Ok(HookFile { file: File::from(file.map_err(failed)?), path: path.to_owned() }),
        }
    }
}

/// The error for a file that is not regular. No system call here returns this error.
const NOT_REGULAR: Errno = Errno::MEDIUMTYPE;

/// Opens an existing file.
fn found(path: &str) -> Result<OwnedFd, Errno> {
    let found = rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), NO_LINKS)?;
    // ORDER: before the open(2), because opening a device has effects.
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(NOT_REGULAR);
    }
    must_be_plain(&found)?;
    HostProc::open()?.reopen(found.as_fd(), APPEND)
}

/// Makes a new file.
fn make_file(path: &Path) -> Result<OwnedFd, Errno> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat2(CWD, directory, flags, Mode::empty(), NO_LINKS)?;
    must_be_plain(&directory)?;
    let flags = APPEND | OFlags::CREATE | OFlags::EXCL;
    rustix::fs::openat2(&directory, name, flags, Mode::RUSR | Mode::WUSR, NO_LINKS)
}

/// A write to a file of proc, sysfs or a cgroup changes the kernel. A write to a file system in user space or in the network
/// may never end.
fn must_be_plain(file: &OwnedFd) -> Result<(), Errno> {
    if is_plain(file.as_fd()) { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_another_runtime_makes_at_the_same_time_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        for n in 0..100 {
            let path = top.join(n.to_string()).to_str().unwrap().to_owned();
            std::thread::scope(|scope| {
                let open = || HookFile::open(HOOKS_STDOUT, &path).map(drop).map_err(|error| error.to_string());
                let all: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                all.into_iter().for_each(|opened| assert_eq!(opened.join().unwrap(), Ok(())));
            });
        }
    }

    #[test]
    fn only_regular_files_of_plain_file_systems_without_a_link_on_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        fs::create_dir(top.join("real")).unwrap();
        symlink("real", top.join("link")).unwrap();
        symlink("real/there", top.join("last")).unwrap();
        fs::write(top.join("real/there"), "before\n").unwrap();
        let fifo = top.join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let below = |name: &str| top.join(name).to_str().unwrap().to_owned();
        let refused = [
            (below("link/there"), "a link in it is not followed"),
            (below("link/new"), "a link in it is not followed"),
            (below("last"), "a link in it is not followed"),
            ("/proc/self/cwd/new".to_owned(), "a link in it is not followed"),
            (below("fifo"), "is not a regular file"),
            (below("real"), "is not a regular file"),
            (below("none/new"), "(ENOENT)"),
            ("/dev/null".to_owned(), "is not a regular file"),
            ("/proc/sys/kernel/core_pattern".to_owned(), "only a file on a disk or in a tmpfs is opened"),
            ("/sys/kernel/mm/ksm/run".to_owned(), "only a file on a disk or in a tmpfs is opened"),
        ];
        for (path, why) in refused {
            let said = HookFile::open(HOOKS_STDOUT, &path).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(&path), "{path}: {said}");
        }
        assert!(!top.join("real/new").exists());
        for (name, text) in [("real/there", "before\nand\n"), ("real/new", "and\n")] {
            use std::io::Write;
            HookFile::open(HOOKS_STDOUT, &below(name)).unwrap().file.write_all(b"and\n").unwrap();
            assert_eq!(fs::read_to_string(top.join(name)).unwrap(), text);
        }
    }
}
