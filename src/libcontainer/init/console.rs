//! The container's terminal: a pty from its own devpts. The master is sent away. The slave becomes the standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::pty::OpenptFlags;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::Winsize;

use super::mounts::record_mount;
use super::prepared::{Outcome, Prepared, Trouble};
use super::protocol::send_with_fd;
use super::resolve::{open_path, open_target_without_links_into_binds};
use crate::plan::step::{ConsoleDevice, Pty, Target};

/// statfs(2)'s f_type of a devpts.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// The name that is sent with the master. The receiver uses it as the name of the file.
const MASTER_NAME: &[u8] = b"/dev/pts/ptmx";

pub(super) fn make(prepared: &Prepared<'_>, console: &Pty) -> Outcome {
    let master = open_master(prepared)?;
    rustix::pty::unlockpt(&master)?;
    // open the slave by ioctl(2), and not by its path: a process in the container could replace that (CVE-2025-52565)
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Some((rows, columns)) = console.size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size)?;
    }
    if let ConsoleDevice::Bound(target) = &console.device {
        bind_device(prepared, slave.as_fd(), target)?;
    }
    send(prepared.fd(console.socket)?, master.as_fd())?;
    if console.uid != 0 {
        rustix::fs::fchown(&slave, Some(Uid::from_raw(console.uid)), None)?;
    }
    dup2_stdin(&slave)?;
    dup2_stdout(&slave)?;
    Ok(dup2_stderr(&slave)?)
}

/// Opens the ptmx of the container's devpts. It must be inode 2 of a devpts, device 5:2.
fn open_master(prepared: &Prepared<'_>) -> Outcome<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = open_path(prepared, c"dev/pts/ptmx", flags).map_err(|trouble| {
        if trouble.errno == Errno::NOENT {
            return Trouble::saying(Errno::NOENT, "a terminal needs a devpts on /dev/pts");
        }
        trouble
    })?;
    let stat = rustix::fs::fstat(&master)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(5, 2)
        && stat.st_ino == 2;
    #[allow(clippy::cast_sign_loss)] // a magic number, whichever way the platform declares it
    let devpts = rustix::fs::fstatfs(&master)?.f_type as u64 == DEVPTS_SUPER_MAGIC;
    if !(device && devpts) {
        return Err(Trouble::saying(Errno::PERM, "/dev/pts/ptmx is not in a devpts file system"));
    }
    Ok(master)
}

fn bind_device(prepared: &Prepared<'_>, slave: BorrowedFd<'_>, target: &Target) -> Outcome {
    let (mount_point, _) = open_target_without_links_into_binds(prepared, target)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(slave, c"", clone)?;
    record_mount(prepared, tree.as_fd())?;
    let both_fds = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&tree, c"", &mount_point, c"", both_fds)?)
}

/// One message: the name, and the master beside it.
fn send(socket: BorrowedFd<'_>, master: BorrowedFd<'_>) -> Outcome {
    send_with_fd(socket, MASTER_NAME, master)?;
    // our end stays open until the exec; a receiver that reads to the end of the stream must not have to wait for `start`
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?)
}
