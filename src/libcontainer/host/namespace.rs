//! Which namespace a process is in (namespaces(7)).

use std::io;
use std::os::fd::AsFd;

use rustix::fs::Stat;
use rustix::io::Errno;

/// A namespace, by the device and inode of its file in nsfs. Two processes are in the same one if these are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    device: u64,
    /// The number of its file.
    pub inode: u64,
}

impl Namespace {
    /// That of process `pid`. `name` is the name of a file in /proc/PID/ns.
    ///
    /// # Errors
    /// The process does not exist, or we may not examine it (ptrace(2)).
    pub fn of(pid: i32, name: &str) -> io::Result<Namespace> {
        Namespace::of_path(&format!("/proc/{pid}/ns/{name}"))
    }

    /// Our own.
    ///
    /// # Errors
    /// /proc cannot be read, or the kernel does not have this type of namespace.
    pub fn ours(name: &str) -> io::Result<Namespace> {
        Namespace::of_path(&format!("/proc/self/ns/{name}"))
    }

    /// That of an open file of nsfs.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of_file(file: impl AsFd) -> Result<Namespace, Errno> {
        rustix::fs::fstat(file).map(Namespace::from)
    }

    /// That with these numbers.
    pub fn new(device: u64, inode: u64) -> Namespace {
        Namespace { device, inode }
    }

    /// The device and the inode number of its file.
    pub fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    fn of_path(path: &str) -> io::Result<Namespace> {
        Ok(rustix::fs::stat(path).map(Namespace::from)?)
    }
}

impl From<Stat> for Namespace {
    fn from(file: Stat) -> Namespace {
        Namespace { device: file.st_dev, inode: file.st_ino }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_in_its_own_namespaces() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (here, net) = (Namespace::ours("mnt").unwrap(), Namespace::ours("net").unwrap());
        assert_eq!((Namespace::of(own, "mnt").unwrap(), here == net), (here, false));
        assert_eq!(Namespace::of(i32::MAX, "mnt").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Namespace::ours("none").is_err());
        let net = std::fs::File::open("/proc/self/ns/net").unwrap();
        assert_eq!(Namespace::of_file(&net).unwrap(), Namespace::ours("net").unwrap());
    }
}
