//! Where we are: facts of this machine as plain data, probed once. Tests build one by hand.

pub mod cgroups;
pub mod cpu_list;
mod environment;
pub mod grants;
pub mod id_map;
pub mod mountinfo;
mod resctrl;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

pub use cgroups::Cgroups;
pub(crate) use environment::environment;
pub use environment::{Environment, set_environment};
pub use resctrl::Resctrl;

/// What a plan needs to know of this machine.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Which cgroup hierarchies are mounted where, and where we are in them.
    pub cgroups: Cgroups,
    /// Who we are.
    pub me: Me,
    /// Which security modules are at work.
    pub lsm: Lsm,
    /// /proc/kcore is there, so that a container gets /dev/core.
    pub has_kcore: bool,
    /// Where resctrl is, if somebody asked.
    pub resctrl: Resctrl,
    /// The version of Landlock that the kernel has, if somebody asked; 0 without Landlock.
    pub landlock: u32,
    /// Where a whole proc or sysfs is mounted, if somebody asked, those first that stand last.
    pub views: Vec<mountinfo::View>,
}

/// Who we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Me {
    /// Our effective uid.
    pub uid: u32,
    /// Our effective gid.
    pub gid: u32,
    /// Which user namespace we are in.
    pub users: Users,
    /// Whether we may mount where we are.
    pub mounts: Mounts,
    /// Our capability bounding set.
    pub bounding: u64,
    /// No exec gives us or our children more than we have (PR_GET_NO_NEW_PRIVS(2const)).
    pub no_new_privs: bool,
}

/// Which user namespace we are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// The first one, where root is root.
    #[default]
    Initial,
    /// Somebody's: there is much that its root may not do.
    Nested,
}

/// Whether we may mount where we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// In our mount namespace, and make mounts that are in none.
    #[default]
    Here,
    /// Only in a mount namespace that belongs to a user namespace of the container's own.
    Inside,
}

impl Me {
    /// Root, and not merely within a user namespace.
    pub fn is_root(&self) -> bool {
        self.uid == 0 && self.users == Users::Initial
    }

    fn probe() -> io::Result<Me> {
        let mut me = Me {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            bounding: bounding()?,
            // a profile around us that hides it: as if it were not set, and the kernel weighs what we ask
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            ..Me::default()
        };
        let own = rustix::fs::stat(c"/proc/self/ns/user");
        me.users = match &own {
            Ok(own) if own.st_ino != INITIAL_USERS => Users::Nested,
            // no /proc: what we find missing will be told where it is missed
            Ok(_) | Err(_) => Users::Initial,
        };
        if !me.is_root() {
            let here = own.is_ok_and(|own| may_mount(own.st_ino));
            me.mounts = if here { Mounts::Here } else { Mounts::Inside };
        }
        Ok(me)
    }
}

/// True where every id is one of the host's, as in the initial user namespace (user_namespaces(7)).
pub fn has_all_ids() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    id_map::ranges(&map).eq([id_map::Range { inside: 0, outside: 0, size: u32::MAX }])
}

/// The name of the user with that number in the text of a passwd(5).
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, there) = (fields.next()?, fields.nth(1)?);
        (there.parse() == Ok(uid)).then_some(name)
    })
}

/// The inode of the initial user namespace (PROC_USER_INIT_INO, which no kernel may change).
const INITIAL_USERS: u64 = 0xEFFF_FFFD;

/// CAP_SYS_ADMIN over the user namespace that our mount namespace belongs to, which must be our own then.
fn may_mount(own: u64) -> bool {
    use rustix::fs::{CWD, Mode, OFlags};
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let owner = rustix::fs::openat(CWD, c"/proc/self/ns/mnt", flags, Mode::empty())
        .and_then(|mounts| crate::sys::clone::owner_of_namespace(mounts.as_fd()))
        .and_then(rustix::fs::fstat);
    capable && owner.is_ok_and(|owner| owner.st_ino == own)
}

/// Which security modules are at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor confines processes.
    pub apparmor: bool,
    /// AppArmor has files of its own under /proc/PID/attr.
    pub own_apparmor_files: bool,
    /// SELinux is loaded.
    pub selinux: bool,
}

impl Host {
    /// Looks at the host. It looks at the security modules only if `labels` says that the config asks for a label.
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

/// Whether config.json asks for a label at all.
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

/// CAP_CHECKPOINT_RESTORE (linux/capability.h): the last capability that every kernel knows on which we run (Linux 5.9).
const KNOWN_EVERYWHERE: u32 = 40;

/// prctl(PR_CAPBSET_READ) for every capability: quicker than the text of /proc/self/status.
fn bounding() -> io::Result<u64> {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
    let mut set = 0;
    for bit in 0..64 {
        match capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(true) => set |= 1 << bit,
            Ok(false) => {}
            // beyond the last capability that this kernel knows
            Err(Errno::INVAL) if bit > KNOWN_EVERYWHERE => break,
            // what we do not know to be there would not be dropped
            Err(errno) => return Err(io::Error::other(format!("prctl PR_CAPBSET_READ: {errno}"))),
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
