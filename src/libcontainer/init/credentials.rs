//! The rights of the process: ids, groups, capabilities, labels, kernel parameters.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::thread::{CapabilitySet, CapabilitySets as Sets, Gid, Uid};

use super::prepared::{Outcome, Prepared, Trouble};
use super::protocol;
use crate::plan::step::{CallersGroups, CapabilitySets, Namespaces, Rlimit};
use crate::wire::Request;

pub(super) fn become_root(others: CallersGroups) -> Outcome {
    if others == CallersGroups::Dropped {
        groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    Ok(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

/// setns(2) refuses to join the user namespace that we are in already. Rootless podman asks for that, so it is not an error.
pub(super) fn join(prepared: &Prepared<'_>, file: BorrowedFd<'_>, namespaces: Namespaces) -> Outcome {
    match crate::sys::namespace::setns(file, namespaces.0) {
        Err(Errno::INVAL) if namespaces.0 == libc::CLONE_NEWUSER as u64 => {
            let own = rustix::fs::statat(prepared.proc.own_namespaces()?, c"user", AtFlags::empty())?;
            let there = rustix::fs::fstat(file)?;
            let same = (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino);
            if same { Ok(()) } else { Err(Errno::INVAL.into()) }
        }
        other => Ok(other?),
    }
}

/// If init may not raise a limit, in a user namespace, the runtime sets all of them, and reports those that are impossible.
pub(super) fn limits(prepared: &Prepared<'_>) -> Outcome {
    let set = |limit: &Rlimit| crate::sys::sched::set_limit(0, limit.resource, limit.soft, limit.hard);
    match prepared.limits.iter().try_for_each(set) {
        Ok(()) => Ok(()),
        Err(_) => protocol::request(prepared, Request::Limits),
    }
}

/// unshare(2) moves only future children into a time namespace. The calling thread enters by setns(2).
pub(super) fn enter_time(prepared: &Prepared<'_>) -> Outcome {
    let (own, flags) = (prepared.proc.own_namespaces()?, OFlags::RDONLY | OFlags::CLOEXEC);
    let time = rustix::fs::openat(&own, c"time_for_children", flags, Mode::empty())?;
    Ok(crate::sys::namespace::setns(std::os::fd::AsFd::as_fd(&time), libc::CLONE_NEWTIME as u64)?)
}

pub(super) fn undumpable() -> Outcome {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// A container does not fail if the kernel has no keyrings, or a profile hides them.
pub(super) fn keyring(name: &CStr) -> Outcome {
    match crate::sys::keyring::join_session(name) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(Errno::DQUOT) => Err(Trouble::saying(
            Errno::DQUOT,
            "too many keyrings: raise the sysctls kernel.keys.maxkeys and maxbytes, or use Keyring::Inherited",
        )),
        Err(Errno::ACCESS) => Err(Trouble::saying(Errno::ACCESS, "a keyring of this name belongs to another user")),
        Err(other) => Err(other.into()),
    }
}

pub(super) fn umask(prepared: &Prepared<'_>, mask: u32) -> Outcome {
    let before = rustix::process::umask(Mode::from_raw_mode(mask));
    let first = prepared.results.umask.get().unwrap_or(before);
    prepared.results.umask.set(Some(first));
    Ok(())
}

pub(super) fn groups(groups: &[Gid]) -> Outcome {
    match rustix::thread::set_thread_groups(groups) {
        // denied in the user namespace of an unprivileged user (user_namespaces(7)); no groups are requested
        Err(Errno::PERM) if groups.is_empty() => Ok(()),
        other => Ok(other?),
    }
}

/// The mask has more CPUs than any kernel supports. The kernel uses those that exist.
pub(super) fn all_cpus() -> Outcome {
    // a profile may forbid it; then the affinity stays
    let _ = crate::sys::sched::set_affinity(0, &[u64::MAX; 128]);
    Ok(())
}

/// If the parent has ended already, the kernel sends no signal.
pub(super) fn death_signal(signal: i32) -> Outcome {
    rustix::process::set_parent_process_death_signal(rustix::process::Signal::from_named_raw(signal))?;
    Ok(())
}

/// The file system type of unnamed pipes (statfs(2)).
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

/// Gives unnamed pipes among the standard streams to the process's user, so that it can open them again as /dev/stdout. Only
/// those who hold such a pipe can use it. A terminal, device, file, fifo or socket outlives the container, and keeps its owner.
/// Our own terminal belongs to the user already (`Pty`).
pub(super) fn own_stdio(uid: u32) -> Outcome {
    for fd in [stdin(), stdout(), stderr()] {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let fifo = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo;
        if !fifo || stat.st_uid == uid || !rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == PIPEFS_MAGIC) {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
            // The owner is not mapped here. The stream works nevertheless.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// CAP_CHECKPOINT_RESTORE (linux/capability.h, Linux 5.9). Every kernel that we support knows it and those before it.
const KNOWN_EVERYWHERE: u32 = 40;

/// Drops from the bounding set before the ids change, because afterwards CAP_SETPCAP is gone. Keeps the permitted set over that
/// change.
pub(super) fn drop_bounding(drop: u64) -> Outcome {
    for bit in (0..64).filter(|bit| drop & (1 << bit) != 0) {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // beyond the last capability that the kernel knows
            Err(Errno::INVAL) if bit > KNOWN_EVERYWHERE => break,
            Err(other) => return Err(Trouble::saying(other, "prctl PR_CAPBSET_DROP")),
        }
    }
    Ok(rustix::thread::set_keep_capabilities(true)?)
}

pub(super) fn become_user(uid: u32, gid: u32) -> Outcome {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

pub(super) fn capabilities(sets: &CapabilitySets) -> Outcome {
    rustix::thread::set_keep_capabilities(false)?;
    // An ambient capability must be in the inheritable and permitted sets first (capabilities(7)).
    rustix::thread::set_capabilities(
        None,
        Sets {
            effective: CapabilitySet::from_bits_retain(sets.effective | sets.until_exec),
            permitted: CapabilitySet::from_bits_retain(sets.permitted | sets.until_exec),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
        },
    )?;
    rustix::thread::clear_ambient_capability_set()?;
    for bit in (0..64).filter(|bit| sets.ambient & (1 << bit) != 0) {
        // the plan asks for known, permitted and inheritable capabilities, so only securebits can forbid it
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << bit), true)
            .map_err(|errno| Trouble::saying(errno, "prctl PR_CAP_AMBIENT_RAISE"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::seccomp::{Program, load};

    /// As a filter around us may: prctl(PR_CAPBSET_DROP, 7) fails with `errno`.
    fn without_drop_of_setuid(errno: u32) {
        let instruction = |code: u16, jump_true: u8, jump_false: u8, k: u32| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&code.to_ne_bytes());
            (bytes[2], bytes[3]) = (jump_true, jump_false);
            bytes[4..].copy_from_slice(&k.to_ne_bytes());
            bytes
        };
        let (load_word, equal, answer) = (0x20, 0x15, 0x06);
        let prctl = u32::try_from(libc::SYS_prctl).unwrap();
        let program = [
            instruction(load_word, 0, 0, 0), // struct seccomp_data: nr
            instruction(equal, 0, 5, prctl),
            instruction(load_word, 0, 0, 16), // the low words of the first two arguments
            instruction(equal, 0, 3, libc::PR_CAPBSET_DROP.unsigned_abs()),
            instruction(load_word, 0, 0, 24),
            instruction(equal, 0, 1, 7),
            instruction(answer, 0, 0, libc::SECCOMP_RET_ERRNO | errno),
            instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        rustix::thread::set_no_new_privs(true).unwrap();
        load(&Program::from_bytes(&program.concat()).unwrap(), 0).unwrap();
    }

    #[test]
    fn a_capability_that_cannot_be_dropped_is_reported() {
        for errno in [Errno::INVAL, Errno::PERM, Errno::NOSYS] {
            // both the filter and the bounding set are a thread's own
            let dropped = std::thread::spawn(move || {
                without_drop_of_setuid(errno.raw_os_error().unsigned_abs());
                drop_bounding(1 << 7)
            });
            let trouble = dropped.join().unwrap().unwrap_err();
            assert_eq!((trouble.errno, &*trouble.said.text()), (errno, "prctl PR_CAPBSET_DROP"));
        }
    }
}
