//! Where we are: facts of this machine as plain data, probed once. Tests build one by hand.

pub mod cgroups;

use std::io;
use std::path::Path;

pub use cgroups::Cgroups;

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
}

/// Who we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Me {
    /// Our effective uid.
    pub uid: u32,
    /// Our capability bounding set.
    pub bounding: u64,
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
    /// Looks around. The security modules are looked at only when `labels` says that a label is asked for.
    ///
    /// # Errors
    /// /proc/self/cgroup or /proc/self/mountinfo cannot be read.
    pub fn probe(labels: Labels) -> io::Result<Host> {
        let lsm = match labels {
            Labels::Asked => Lsm::probe(),
            Labels::None => Lsm::default(),
        };
        let me = Me { uid: rustix::process::geteuid().as_raw(), bounding: bounding() };
        Ok(Host { cgroups: Cgroups::probe()?, me, lsm, has_kcore: Path::new("/proc/kcore").exists() })
    }
}

/// Whether config.json asks for a label at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// `apparmorProfile`, `selinuxLabel` or `mountLabel` is set.
    Asked,
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

/// prctl(PR_CAPBSET_READ) for every capability: quicker than the text of /proc/self/status.
fn bounding() -> u64 {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
    (0..64)
        .map(|bit| 1u64 << bit)
        // EINVAL: beyond the last capability that this kernel knows
        .map_while(|bit| {
            capability_is_in_bounding_set(CapabilitySet::from_bits_retain(bit))
                .ok()
                .map(|has| if has { bit } else { 0 })
        })
        .sum()
}
