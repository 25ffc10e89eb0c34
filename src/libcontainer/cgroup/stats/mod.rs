//! The statistics of a container: the files of its cgroups as numbers, in the form of runc's `events`, which containerd
//! and others read. The parsers are pure. If a file is missing (its controller is off), its numbers are 0.

mod numbers;
mod parse;
mod v1;
mod v2;

use std::fs;

use super::Cgroup;
use super::refusal::page_sizes;

pub use numbers::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Numbers, Pids, Pressure, Psi, Throttling,
};

impl Cgroup {
    /// The statistics at this moment.
    pub fn stats(&self) -> Numbers {
        let (read, page_sizes) = (&|file: &str| self.read_file(file), page_sizes());
        if self.is_unified() { v2::stats(read, &page_sizes) } else { v1::stats(read, &page_sizes) }
    }

    /// The text of a file of the container's cgroup. Only one hierarchy has a file with this name, because each name
    /// belongs to one controller.
    pub(super) fn read_file(&self, file: &str) -> Option<String> {
        let controller = file.split('.').next().unwrap_or_default();
        let by_name = self.paths.get(controller).into_iter();
        by_name.chain(self.paths.values()).find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    }
}

/// The numbers of both versions, with this text in every file: for fuzz/.
#[cfg(any(test, fuzzing))]
pub fn of_text(text: &str) -> (Numbers, Numbers) {
    let (read, sizes) = (&|_: &str| Some(text.to_owned()), ["2MB".to_owned()]);
    (v1::stats(read, &sizes), v2::stats(read, &sizes))
}
