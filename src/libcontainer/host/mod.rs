//! The facts about this machine as plain data, read once. Tests make their own.

pub mod cgroups;
pub mod cpu_list;
mod environment;
pub mod grants;
pub mod id_map;
pub mod mountinfo;
mod namespace;
mod resctrl;
pub mod views;

use crate::sys::errno::in_words;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

pub use cgroups::Cgroups;
pub use environment::{Environment, ProgramEnvironment};
pub use id_map::IdMap;
pub use namespace::Namespace;
pub use resctrl::Resctrl;

/// The facts that a plan needs.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The mounted cgroup hierarchies, and our own cgroup in each.
    pub cgroups: Cgroups,
    /// Our ids and rights.
    pub me: Me,
    /// The active security modules.
    pub lsm: Lsm,
    /// Whether /proc/kcore exists, so that a container gets /dev/core.
    pub has_kcore: bool,
    /// The mount of resctrl, if the config uses it.
    pub resctrl: Resctrl,
    /// The version of Landlock that the kernel has, if somebody asked; 0 without Landlock.
    pub landlock: u32,
    /// The mount points of each whole proc and sysfs, the last one first, if the plan needs them.
    pub views: Vec<views::View>,
}

/// Our ids and rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Me {
    /// Our effective uid.
    pub uid: u32,
    /// Our effective gid.
    pub gid: u32,
    /// The user namespace that we are in.
    pub user_namespace: UserNamespace,
    /// Where we may mount.
    pub may_mount: MayMount,
    /// Our capability bounding set.
    pub bounding: u64,
    /// True if execve(2) gives us and our children no more rights than we have (PR_GET_NO_NEW_PRIVS(2const)).
    pub no_new_privs: bool,
}

/// The user namespace that we are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserNamespace {
    /// The initial one.
    #[default]
    Initial,
    /// Another one: its root lacks many rights.
    Nested,
}

/// Where we may mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MayMount {
    /// In our mount namespace. We may also make detached mounts.
    #[default]
    Here,
    /// Only in a mount namespace that belongs to a user namespace of the container.
    Inside,
}

impl Me {
    /// True for root in the initial user namespace.
    pub fn is_root(&self) -> bool {
        self.uid == 0 && self.user_namespace == UserNamespace::Initial
    }

    fn probe() -> io::Result<Me> {
        let mut me = Me {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            bounding: bounding()?,
            // A profile hides the call: it counts as not set. The kernel decides later.
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            ..Me::default()
        };
        let own = rustix::fs::stat(c"/proc/self/ns/user");
        me.user_namespace = match &own {
            Ok(own) if own.st_ino != INITIAL_USER_NAMESPACE => UserNamespace::Nested,
            // Without /proc: a later step that needs it reports the error.
            Ok(_) | Err(_) => UserNamespace::Initial,
        };
        if !me.is_root() {
            let here = own.is_ok_and(|own| may_mount(own.st_ino));
            me.may_mount = if here { MayMount::Here } else { MayMount::Inside };
        }
        Ok(me)
    }
}

/// True if every id is mapped to itself, as in the initial user namespace (user_namespaces(7)).
pub fn has_all_ids() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    id_map::lines(&map).eq([IdMap { container: 0, host: 0, size: u32::MAX }])
}

/// The name of the user with this uid in the text of a passwd(5).
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, there) = (fields.next()?, fields.nth(1)?);
        (there.parse() == Ok(uid)).then_some(name)
    })
}

/// The inode of the initial user namespace (PROC_USER_INIT_INO, which is part of the kernel's ABI).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether we have CAP_SYS_ADMIN over the user namespace that owns our mount namespace. That one must be ours then.
fn may_mount(own: u64) -> bool {
    use rustix::fs::{CWD, Mode, OFlags};
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let owner = rustix::fs::openat(CWD, c"/proc/self/ns/mnt", flags, Mode::empty())
        .and_then(|mounts| crate::sys::namespace::owner_of_namespace(mounts.as_fd()))
        .and_then(rustix::fs::fstat);
    capable && owner.is_ok_and(|owner| owner.st_ino == own)
}

/// The active security modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor is active.
    pub apparmor: bool,
    /// AppArmor has files of its own under /proc/PID/attr.
    pub own_apparmor_files: bool,
    /// SELinux is loaded.
    pub selinux: bool,
}

impl Host {
    /// Reads the facts. Reads the security modules only if `labels` says that the config has a label.
    ///
    /// # Errors
    /// /proc/self/cgroup, /proc/self/mountinfo or our bounding set cannot be read.
    pub fn probe(labels: Labels) -> io::Result<Host> {
        let lsm = match labels {
            Labels::Given => Lsm::probe(),
            Labels::None => Lsm::default(),
        };
        let has_kcore = Path::new("/proc/kcore").exists();
        Ok(Host { cgroups: Cgroups::probe()?, me: Me::probe()?, lsm, has_kcore, ..Host::default() })
    }
}

/// Whether config.json has a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// `apparmorProfile`, `selinuxLabel` or `mountLabel` is set.
    Given,
    /// None of them is.
    None,
}

impl Lsm {
    fn probe() -> Lsm {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        Lsm {
            apparmor: enabled.is_ok_and(|text| text.first() == Some(&b'Y')),
            own_apparmor_files: Path::new("/proc/self/attr/apparmor/exec").exists(),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}

/// CAP_CHECKPOINT_RESTORE (linux/capability.h): the last capability that all supported kernels know (Linux 5.9).
const KNOWN_EVERYWHERE: u32 = 40;

/// prctl(PR_CAPBSET_READ) for every capability: faster than to parse /proc/self/status.
fn bounding() -> io::Result<u64> {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
    let mut set = 0;
    for bit in 0..64 {
        match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(true) => set |= 1 << bit,
            Ok(false) => {}
            // Beyond the last capability of this kernel.
            Err(Errno::INVAL) if bit > KNOWN_EVERYWHERE => break,
            // A capability that we count as missing would not be dropped.
            Err(errno) => {
                return Err(io::Error::other(format!("prctl PR_CAPBSET_READ: {errno}", errno = in_words(&errno))));
            }
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbad\nmail:x:8:8::/:/bin/false\n";
        let name = |uid| super::user_name(users, uid);
        assert_eq!((name(8), name(0), name(5)), (Some("mail"), Some("root"), None));
    }
}
