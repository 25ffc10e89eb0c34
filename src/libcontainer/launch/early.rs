//! On cgroup version 1 the first move of a process waits for an RCU grace period, 4 to 25 ms, which is most of what a
//! container's making takes; moves that follow soon do not wait again. So the wait begins as soon as may be, before there is anything to move.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::sys::clone::{Beside, write_beside};
use crate::sys::text;

/// The wait, under way. Dropped, it is over.
#[derive(Debug)]
pub struct Early(#[allow(dead_code)] Option<Beside>);

impl Early {
    /// Begins it: a process beside us moves itself to the cgroup it is in, which changes nothing and waits as any move does,
    /// while we read, plan and let init mount. Where that cannot be, nothing is lost but time.
    pub fn begin() -> Early {
        let mut list = Vec::with_capacity(1024);
        let read = text::pieces(Path::new("/proc/self/cgroup"), |piece| list.extend_from_slice(piece));
        let list = String::from_utf8_lossy(&list);
        let place = read.ok().and_then(|()| first_of_version_1(&list));
        let file = place
            .and_then(|place| rustix::fs::openat(CWD, place, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok());
        Early(file.and_then(|file| write_beside(file.as_fd()).ok()))
    }
}

/// `cgroup.procs` of our own cgroup in some hierarchy of version 1, if it is mounted where everybody mounts it.
fn first_of_version_1(list: &str) -> Option<PathBuf> {
    list.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, own) = (fields.next()?, fields.next()?);
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        (!name.is_empty()).then(|| PathBuf::from(format!("/sys/fs/cgroup/{name}{own}/cgroup.procs")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_of_version_1_is_found_and_version_2_is_none() {
        let place = |list| first_of_version_1(list).map(|path| path.display().to_string());
        let hybrid = "3:cpu,cpuacct:/a\n1:name=systemd:/s\n0::/u\n";
        assert_eq!(place(hybrid).as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/a/cgroup.procs"));
        assert_eq!(place("1:name=systemd:/\n").as_deref(), Some("/sys/fs/cgroup/systemd//cgroup.procs"));
        assert_eq!(place("0::/user.slice\n"), None);
    }

    #[test]
    fn a_process_beside_us_writes_and_is_gone() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let beside = write_beside(write.as_fd()).unwrap();
        let mut byte = [1];
        assert_eq!(rustix::io::read(&read, &mut byte), Ok(1));
        assert_eq!(&byte, b"0");
        assert_eq!(write_beside(write.as_fd()).unwrap_err(), rustix::io::Errno::BUSY);
        drop(beside);
        drop(write_beside(write.as_fd()).unwrap());
    }
}
