//! Why a program could not be executed. The runtime process finds out after execve(2) has failed, while init waits. The kernel
//! returns "no such file or directory" for a script whose interpreter is missing, and "permission denied" for many reasons.
//!
//! The root is hostile: the kernel resolves every path in it. A file is opened only if it is a regular file of a plain file system.
//! Files of proc are regular files, too, and reading one may block or have an effect (/proc/kmsg).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::container_root::{ContainerRoot, Symlinks};
use crate::sys::host_proc::HostProc;
use crate::sys::plain::is_plain;
use crate::sys::process_status::ProcessStatus;
use crate::wire::{About, Failure};

/// How many nested interpreters the kernel allows (fs/exec.c).
const MAX_DEPTH: usize = 5;
/// How much the kernel reads to recognize a file (BINPRM_BUF_SIZE), with room for the table of an ELF header.
const HEAD: usize = 4096;
/// A process with this capability executes every file that has an execute bit.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
/// A process with this capability, or the one above, enters every directory.
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// The root and the ids of an init that waits.
pub(super) struct Waiting {
    root: ContainerRoot,
    cwd: PathBuf,
    uid: u32,
    gids: Vec<u32>,
    capabilities: u64,
}

impl Waiting {
    /// Reads root and ids of process `pid`. The caller makes sure that no other process can get this pid now. None if we
    /// may not read them: an ordinary user cannot read the files in /proc of an undumpable init.
    pub(super) fn of(pid: i32, cwd: &Path) -> Option<Waiting> {
        let root = ContainerRoot::of(pid).ok()?;
        let status = ProcessStatus::read(pid).ok()?;
        // The fourth id is the one for file access (proc_pid_status(5)).
        let id = |name: &str| status.field(name)?.split_whitespace().nth(3)?.parse::<u32>().ok();
        let others = status.field("Groups")?.split_whitespace().filter_map(|gid| gid.parse().ok());
        Some(Waiting {
            root,
            cwd: cwd.to_path_buf(),
            uid: id("Uid")?,
            gids: id("Gid").into_iter().chain(others).collect(),
            capabilities: u64::from_str_radix(status.field("CapEff")?, 16).ok()?,
        })
    }

    /// Why execve(2) failed. None if the kernel's error is the whole reason. `paths` are all paths that init has tried.
    /// The error belongs to the path that init names. ENOENT belongs to all of them.
    pub(super) fn cause<'p>(&self, paths: impl IntoIterator<Item = &'p OsStr>, failed: &Failure) -> Option<String> {
        let mut paths = paths.into_iter();
        let of_file = |path: &OsStr| self.of_file(Path::new(path), failed.errno, 0);
        match failed.errno {
            Errno::NOENT => paths.find_map(of_file),
            Errno::NOEXEC | Errno::ACCESS | Errno::NOTDIR => match failed.said.subject() {
                About::Candidate(n) => of_file(paths.nth(usize::try_from(n).ok()?)?),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_file(&self, path: &Path, errno: Errno, depth: usize) -> Option<String> {
        let path = self.cwd.join(path);
        if errno == Errno::ACCESS
            && let Some(cause) = self.closed_directory(&path)
        {
            return Some(cause);
        }
        if errno == Errno::NOTDIR
            && let Some(file) = self.file_above(&path)
        {
            return Some(format!("{file:?} is a file"));
        }
        let file = self.open(&path)?;
        // ORDER: before all other checks, which can block for ever on another file system.
        if !is_plain(file.as_fd()) {
            return None;
        }
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        if errno == Errno::ACCESS {
            if rustix::fs::fstatvfs(&file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
                return Some(format!("{path:?} is on a mount with noexec"));
            }
            if !self.has_execute(&stat) {
                return Some(format!(
                    "{path:?} has no execute permission for the user (mode {:04o})",
                    stat.st_mode & 0o7777
                ));
            }
        }
        match kind(&head(file.as_fd())?) {
            ProgramKind::Empty if errno == Errno::NOEXEC => Some(format!("{path:?} is empty")),
            ProgramKind::Text if errno == Errno::NOEXEC => {
                Some(format!("{path:?} does not begin with #!, and is not a binary of Linux"))
            }
            ProgramKind::Short if errno == Errno::NOEXEC => Some(format!("{path:?} is not a whole ELF file")),
            ProgramKind::Machine(machine) if errno == Errno::NOEXEC && Some(machine) != native() => {
                let architecture = architecture(machine).map_or_else(|| machine.to_string(), str::to_owned);
                Some(format!("{path:?} is for another architecture: {architecture}"))
            }
            ProgramKind::Script(interpreter) => self.of_interpreter("interpreter", &path, &interpreter, errno, depth),
            ProgramKind::Dynamic(loader) => self.of_interpreter("loader", &path, &loader, errno, depth),
            ProgramKind::Empty | ProgramKind::Text | ProgramKind::Short | ProgramKind::Machine(_) => None,
        }
    }

    fn of_interpreter(&self, what: &str, path: &Path, named: &OsStr, errno: Errno, depth: usize) -> Option<String> {
        if named.is_empty() {
            return Some(format!("the #! line of {path:?} names no interpreter"));
        }
        if errno == Errno::NOENT && self.open(&self.cwd.join(named)).is_none() {
            return Some(format!("the {what} of {path:?} is missing: {named:?}"));
        }
        if errno == Errno::ACCESS && self.open(&self.cwd.join(named)).is_some_and(|file| is_directory(&file)) {
            return Some(format!("the {what} of {path:?} is a directory: {named:?}"));
        }
        if depth < MAX_DEPTH { self.of_file(Path::new(named), errno, depth + 1) } else { None }
    }

    /// Opens the path with O_PATH. None also if a file system of the container may never answer.
    fn open(&self, path: &Path) -> Option<OwnedFd> {
        self.root.find(path, Symlinks::Followed).ok().map(|found| found.file)
    }

    /// The component of `path` that is not a directory.
    fn file_above<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let there = path.ancestors().skip(1).find_map(|above| Some((above, self.open(above)?)));
        there.filter(|(_, file)| !is_directory(file)).map(|(above, _)| above)
    }

    /// The first directory of `path` that the user may not enter.
    fn closed_directory(&self, path: &Path) -> Option<String> {
        if self.capabilities & (CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH) != 0 {
            return None;
        }
        let mut above: Vec<_> = path.ancestors().skip(1).collect();
        above.reverse();
        above.into_iter().find_map(|directory| {
            let stat = rustix::fs::fstat(self.open(directory)?).ok()?;
            let mode = stat.st_mode & 0o7777;
            (!self.has_execute(&stat)).then(|| format!("the user may not enter {directory:?} (mode {mode:04o})"))
        })
    }

    /// Decides by the mode only. An acl(5) may decide otherwise.
    fn has_execute(&self, stat: &Stat) -> bool {
        let bits = if self.capabilities & CAP_DAC_OVERRIDE != 0 {
            0o111
        } else if stat.st_uid == self.uid {
            0o100
        } else if self.gids.contains(&stat.st_gid) {
            0o010
        } else {
            0o001
        };
        stat.st_mode & bits != 0
    }
}

fn is_directory(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Reads the beginning of a regular file that is open with O_PATH. It does not wait for a lease (O_NONBLOCK).
fn head(file: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(HostProc::open().ok()?.reopen(file, flags).ok()?);
    let mut head = vec![0; HEAD];
    let length = file.read_at(&mut head, 0).ok()?;
    head.truncate(length);
    Some(head)
}

/// The kind of a program, as the kernel recognizes it.
#[derive(Debug, PartialEq, Eq)]
enum ProgramKind {
    Empty,
    /// `#!`, and this interpreter.
    Script(Box<OsStr>),
    /// A binary for our architecture with this loader (PT_INTERP).
    Dynamic(Box<OsStr>),
    /// An ELF file that ends within its header.
    Short,
    /// Any other binary, by the number of its architecture (e_machine).
    Machine(u16),
    Text,
}

fn kind(head: &[u8]) -> ProgramKind {
    let text = |bytes: &[u8]| -> Box<OsStr> { Box::from(OsStr::from_bytes(bytes)) };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).filter(|word| !word.is_empty());
        return ProgramKind::Script(text(words.next().unwrap_or_default()));
    }
    match head {
        [] => ProgramKind::Empty,
        [0x7f, b'E', b'L', b'F', rest @ ..] => {
            let [class, order, ..] = rest else { return ProgramKind::Short };
            let Some(Elf { machine, loader }) = elf(head, *class, *order) else { return ProgramKind::Short };
            let ours = Some(machine) == native();
            loader.filter(|_| ours).map_or(ProgramKind::Machine(machine), |loader| ProgramKind::Dynamic(text(loader)))
        }
        _ => ProgramKind::Text,
    }
}

/// The fields of an ELF file that we read (elf(5)).
struct Elf<'h> {
    machine: u16,
    loader: Option<&'h [u8]>,
}

fn elf(head: &[u8], class: u8, order: u8) -> Option<Elf<'_>> {
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at.checked_add(length)?)?;
        let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(if order == 2 { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    let machine = u16::try_from(number(18, 2)?).ok()?;
    // For each class: e_phoff, e_phentsize and e_phnum; p_offset and p_filesz.
    let (size, phoff, entsize, phnum, offset, filesz) =
        if class == 1 { (4, 28, 42, 44, 4, 16) } else { (8, 32, 54, 56, 8, 32) };
    let (table, entry, count) = (number(phoff, size)?, number(entsize, 2)?, number(phnum, 2)?);
    let loader = (0..count.min(64)).find_map(|n| {
        let at = table.checked_add(n * entry)?;
        // PT_INTERP
        if number(at, 4)? != 3 {
            return None;
        }
        let begin = number(at + offset, size)?;
        let text = head.get(begin..begin.checked_add(number(at + filesz, size)?)?)?;
        text.split(|byte| *byte == 0).next()
    });
    Some(Elf { machine, loader })
}

/// The number of our own architecture.
fn native() -> Option<u16> {
    MACHINES.iter().find(|(_, name)| *name == std::env::consts::ARCH).map(|(machine, _)| *machine)
}

fn architecture(machine: u16) -> Option<&'static str> {
    MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name)
}

/// EM_* of elf.h.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: &str) -> ProgramKind {
        ProgramKind::Script(Box::from(OsStr::new(interpreter)))
    }

    #[test]
    fn a_file_is_what_its_beginning_says() {
        assert_eq!(kind(b""), ProgramKind::Empty);
        assert_eq!(kind(b"echo x\n"), ProgramKind::Text);
        assert_eq!(kind(b"#! /bin/sh -e\n"), script("/bin/sh"));
        assert_eq!(kind(b"#!/bin/sh\r\n"), script("/bin/sh\r"));
        assert_eq!(kind(b"#!\n/bin/sh"), script(""));
        assert_eq!(kind(b"\x7fELF"), ProgramKind::Short);
        assert_eq!(kind(b"\x7fELF\x02\x01"), ProgramKind::Short);
        // One byte less than the e_phnum of the header.
        assert_eq!(kind(&[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 50]].concat()), ProgramKind::Short);
        // 64 bits, with the other byte order.
        let mut foreign = b"\x7fELF\x02\x02\x01".to_vec();
        foreign.resize(64, 0);
        foreign[19] = 22;
        assert_eq!(kind(&foreign), ProgramKind::Machine(22));
        let own = std::fs::read("/bin/busybox").unwrap_or_default();
        assert!(own.is_empty() || matches!(kind(&own[..HEAD]), ProgramKind::Machine(n) if Some(n) == native()));
    }

    #[test]
    fn files_of_proc_are_not_opened() {
        let open =
            |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
        for path in ["/proc/self/status", "/proc/version", "/sys/kernel/uevent_seqnum"] {
            assert!(std::fs::metadata(path).is_ok_and(|file| file.is_file()), "{path}");
            assert!(!is_plain(open(path).as_fd()), "{path}");
        }
        let file = open("/dev/null");
        assert!(is_plain(open("/tmp").as_fd()) && head(file.as_fd()).is_some_and(|head| head.is_empty()));
    }

    #[test]
    fn a_wrong_header_does_no_harm() {
        let mut lying = b"\x7fELF\x02\x01\x01".to_vec();
        lying.resize(120, 0xff);
        assert_eq!(kind(&lying), ProgramKind::Machine(0xffff));
        lying[32..40].copy_from_slice(&64_u64.to_le_bytes());
        lying[64..68].copy_from_slice(&3_u32.to_le_bytes());
        assert_eq!(kind(&lying), ProgramKind::Machine(0xffff));
    }
}
