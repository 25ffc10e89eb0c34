//! The host's /proc, opened once before the clone. Every write that has an effect goes through it. A container may mount
//! something on its own /proc, or on a file below it (CVE-2019-16884, CVE-2025-52881). After init has joined a mount namespace,
//! a path leads to the container's /proc.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::retry::retry;

/// The inode of a proc file system's root.
const ROOT_INO: u64 = 1;

/// No path leads out of the proc file system. KERNEL(5.6): openat2; an older kernel, or a profile that hides the call,
/// is an error (ENOSYS, EPERM), as for every place in the root (`init/resolve.rs`).
const INSIDE: ResolveFlags = ResolveFlags::NO_XDEV
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::BENEATH);

/// A proc file system's root directory, as the runtime found it in its own mount namespace. There is no other way to make
/// one.
#[derive(Debug)]
pub struct HostProc(OwnedFd);

impl HostProc {
    /// Opens /proc.
    ///
    /// # Errors
    /// Those of openat(2); `NODEV` when it is not the root of a proc file system.
    pub fn open() -> Result<HostProc, Errno> {
        HostProc::of_path(c"/proc")
    }

    fn of_path(path: &CStr) -> Result<HostProc, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        if is_proc_root(root.as_fd())? { Ok(HostProc(root)) } else { Err(Errno::NODEV) }
    }

    /// Its descriptor gets a number that is not below `first`.
    ///
    /// # Errors
    /// Those of fcntl(2), F_DUPFD_CLOEXEC.
    pub fn raise(&mut self, first: RawFd) -> Result<(), Errno> {
        if self.0.as_raw_fd() < first {
            self.0 = rustix::io::fcntl_dupfd_cloexec(&self.0, first)?;
        }
        Ok(())
    }

    /// Writes a file of the calling process (`attr/exec`).
    ///
    /// # Errors
    /// Those of openat2(2) and write(2).
    pub fn write_own(&self, file: &CStr, value: &[u8]) -> Result<(), Errno> {
        self.write(&self.own_name(file)?, value)
    }

    /// Writes a file of process `pid` (in the runtime's pid namespace).
    ///
    /// # Errors
    /// Those of openat2(2) and write(2).
    pub fn write_of(&self, pid: i32, file: &CStr, value: &[u8]) -> Result<(), Errno> {
        self.write(&Name::from_parts(&[DecInt::new(pid).as_bytes(), b"/", file.to_bytes()])?, value)
    }

    /// Reads a file of process `pid` (in the runtime's pid namespace).
    ///
    /// # Errors
    /// Those of openat2(2) and read(2).
    pub fn read_of(&self, pid: i32, file: &CStr) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.open_of(pid, file)?.read_to_end(&mut text)?;
        Ok(text)
    }

    /// Opens a file of process `pid` (in the runtime's pid namespace) for reading.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn open_of(&self, pid: i32, file: &CStr) -> Result<File, Errno> {
        let name = Name::from_parts(&[DecInt::new(pid).as_bytes(), b"/", file.to_bytes()])?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, name.as_c_str()?, flags, Mode::empty(), INSIDE).map(File::from)
    }

    /// Writes a kernel parameter (`net/ipv4/ip_forward`), in the namespaces of the process that calls this.
    ///
    /// # Errors
    /// Those of openat2(2) and write(2); `NODEV` when something else than a proc file system lies over it.
    pub fn write_sys(&self, parameter: &CStr, value: &[u8]) -> Result<(), Errno> {
        let name = Name::from_parts(&[b"sys/", parameter.to_bytes()])?;
        let how = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat2(&self.0, name.as_c_str()?, how, Mode::empty(), INSIDE) {
            // our caller has made a part of /proc/sys writable by its own mounts; they are in the runtime's mount
            // namespace, which no container changes
            Err(Errno::XDEV) => {
                let resolve = INSIDE.difference(ResolveFlags::NO_XDEV);
                let file = rustix::fs::openat2(&self.0, name.as_c_str()?, how, Mode::empty(), resolve)?;
                if is_proc(file.as_fd())? { file } else { return Err(Errno::NODEV) }
            }
            other => other?,
        };
        write_value(file.as_fd(), value)
    }

    /// Reads the beginning of a kernel parameter into `text`, and returns the number of bytes.
    ///
    /// # Errors
    /// Those of openat2(2) and read(2).
    pub fn read_sys(&self, parameter: &CStr, text: &mut [u8]) -> Result<usize, Errno> {
        let name = Name::from_parts(&[b"sys/", parameter.to_bytes()])?;
        let (how, resolve) = (OFlags::RDONLY | OFlags::CLOEXEC, INSIDE.difference(ResolveFlags::NO_XDEV));
        let file = rustix::fs::openat2(&self.0, name.as_c_str()?, how, Mode::empty(), resolve)?;
        if is_proc(file.as_fd())? { rustix::io::read(&file, text) } else { Err(Errno::NODEV) }
    }

    /// The directory of the calling process's namespaces.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn own_namespaces(&self) -> Result<OwnedFd, Errno> {
        let name = self.own_name(c"ns")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, name.as_c_str()?, flags, Mode::empty(), INSIDE)
    }

    /// Opens again a file that the calling process has open, perhaps with O_PATH. It is the same file, wherever its path leads now.
    ///
    /// # Errors
    /// Those of openat2(2) and openat(2).
    pub fn reopen(&self, file: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.own_descriptors()?, DecInt::from_fd(file), flags, Mode::empty())
    }

    /// The directory of the calling process's descriptors: each name there leads to the file itself.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn own_descriptors(&self) -> Result<OwnedFd, Errno> {
        let name = self.own_name(c"fd")?;
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, name.as_c_str()?, how, Mode::empty(), INSIDE)
    }

    fn write(&self, name: &Name, value: &[u8]) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.0, name.as_c_str()?, flags, Mode::empty(), INSIDE)?;
        write_value(file.as_fd(), value)
    }

    /// The name of a file of the calling process. The link `self` gives the pid that the process has in that /proc.
    fn own_name(&self, file: &CStr) -> Result<Name, Errno> {
        let mut number = [0u8; 16];
        let length = rustix::fs::readlinkat_raw(&self.0, c"self", &mut number[..])?;
        if length == 0 || !number[..length].iter().all(u8::is_ascii_digit) {
            return Err(Errno::NODEV);
        }
        Name::from_parts(&[&number[..length], b"/", file.to_bytes()])
    }
}

impl AsFd for HostProc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// True if `directory` is the root directory of a proc file system.
///
/// # Errors
/// Those of fstatfs(2) and fstat(2).
pub fn is_proc_root(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(is_proc(directory)? && rustix::fs::fstat(directory)?.st_ino == ROOT_INO)
}

fn is_proc(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(file)?.f_type == PROC_SUPER_MAGIC)
}

/// write(2). The kernel takes such a value in one write.
fn write_value(file: BorrowedFd<'_>, value: &[u8]) -> Result<(), Errno> {
    retry(|| rustix::io::write(file, value)).map(drop)
}

/// A path below /proc, built without the heap.
struct Name {
    text: [u8; 256],
}

impl Name {
    fn from_parts(parts: &[&[u8]]) -> Result<Name, Errno> {
        let mut text = [0u8; 256];
        let mut length = 0;
        for part in parts {
            let end = length + part.len();
            // one byte stays for the NUL
            let room = text[..255].get_mut(length..end).ok_or(Errno::NAMETOOLONG)?;
            room.copy_from_slice(part);
            length = end;
        }
        Ok(Name { text })
    }

    fn as_c_str(&self) -> Result<&CStr, Errno> {
        CStr::from_bytes_until_nul(&self.text).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_of_a_proc_file_system_is_one() {
        assert!(HostProc::open().is_ok());
        assert_eq!(HostProc::of_path(c"/proc/self").unwrap_err(), Errno::NODEV);
        assert_eq!(HostProc::of_path(c"/tmp").unwrap_err(), Errno::NODEV);
        assert_eq!(HostProc::of_path(c"/proc/version").unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn a_link_is_not_followed_and_nothing_outside_is_reached() {
        let proc = HostProc::open().unwrap();
        assert_eq!(proc.write_own(c"exe", b"x"), Err(Errno::LOOP));
        assert_eq!(proc.write_own(c"root/tmp/x", b"x"), Err(Errno::LOOP));
        assert_eq!(proc.write_sys(c"../../tmp", b"x"), Err(Errno::XDEV));
        assert_eq!(proc.write_sys(c"no/such", b"x"), Err(Errno::NOENT));
    }

    #[test]
    fn a_file_of_a_process_is_written() {
        let proc = HostProc::open().unwrap();
        let own = std::fs::read("/proc/self/oom_score_adj").unwrap();
        proc.write_own(c"oom_score_adj", &own).unwrap();
        proc.write_of(i32::try_from(std::process::id()).unwrap(), c"oom_score_adj", &own).unwrap();
        assert!(rustix::fs::statat(proc.own_namespaces().unwrap(), c"user", rustix::fs::AtFlags::empty()).is_ok());
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        assert!(Name::from_parts(&[&[b'x'; 255]]).is_ok());
        assert_eq!(Name::from_parts(&[&[b'x'; 256]]).err(), Some(Errno::NAMETOOLONG));
    }
}
