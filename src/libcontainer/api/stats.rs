//! The resources that a container uses.

use serde::Serialize;

use super::network::Interface;
use crate::container::Container;
use crate::resctrl::stats;

pub use crate::cgroup::stats::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Numbers, Pids, Pressure, Psi, Throttling,
};
pub use crate::resctrl::stats::{BandwidthInfo, CacheInfo, IntelRdt, Occupancy, Traffic};

/// The resources that a container uses. Serialized, it is the `data` of `coracle events --stats`, in the form of runc.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// let stats = libcontainer::Root::open("/run/coracle")?.load("box")?.stats();
/// println!("{} of {} bytes", stats.cgroup.memory.usage.usage, stats.cgroup.memory.usage.limit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The numbers of its cgroups.
    #[serde(flatten)]
    pub cgroup: Numbers,
    /// Resource control; empty where the container has no group of it.
    pub intel_rdt: IntelRdt,
    /// The interfaces of a network namespace of its own, except the loopback; null where there are none.
    pub network_interfaces: Option<Vec<Interface>>,
}

impl Container {
    /// What it uses. A number that cannot be read is 0.
    pub fn stats(&self) -> Stats {
        let groups = self.record().groups();
        let intel_rdt = match groups.as_slice() {
            [control, rest @ ..] => stats::stats(control, rest.first().map(std::path::PathBuf::as_path)),
            [] => IntelRdt::default(),
        };
        let network = self.interfaces().filter(|all| !all.is_empty());
        Stats { cgroup: self.cgroup().stats(), intel_rdt, network_interfaces: network }
    }
}
