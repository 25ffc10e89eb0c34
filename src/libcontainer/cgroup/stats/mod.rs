//! What a container has used: the files of its cgroups as numbers, in the shape of runc's `events`, which containerd and
//! others read. The parsers are pure; a file that is not there (a controller that is off) leaves its numbers at nothing.

mod numbers;
mod text;
mod v1;
mod v2;

use std::fs;

use super::Cgroup;

pub use numbers::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Numbers, Pids, Pressure, Psi, Throttling,
};

impl Cgroup {
    /// What has been used so far.
    pub fn stats(&self) -> Numbers {
        let (read, page_sizes) = (&|file: &str| self.read(file), page_sizes());
        if self.is_unified() { v2::stats(read, &page_sizes) } else { v1::stats(read, &page_sizes) }
    }

    /// True where version 2 is all there is.
    pub(super) fn is_unified(&self) -> bool {
        self.paths.len() == 1 && self.paths.contains_key("")
    }

    /// The text of a file of the container's cgroup, in whichever hierarchy it is; a name belongs to one controller.
    pub(super) fn read(&self, file: &str) -> Option<String> {
        let controller = file.split('.').next().unwrap_or_default();
        let by_name = self.paths.get(controller).into_iter();
        by_name.chain(self.paths.values()).find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    }
}

/// Both versions' numbers, with this text in every file: for fuzz/.
#[cfg(any(test, fuzzing))]
pub fn of_text(text: &str) -> (Numbers, Numbers) {
    let (read, sizes) = (&|_: &str| Some(text.to_owned()), ["2MB".to_owned()]);
    (v1::stats(read, &sizes), v2::stats(read, &sizes))
}

/// The page sizes that have files of the form `hugetlb.2MB.SUFFIX`.
fn page_sizes() -> Vec<String> {
    let directories = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut kilobytes: Vec<u64> = directories
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    kilobytes.sort_unstable();
    kilobytes.into_iter().map(page_size).collect()
}

/// As the hugetlb controller names it: the largest unit that fits.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_size_is_named_as_the_controller_names_it() {
        assert_eq!([4, 2048, 1 << 20].map(super::page_size), ["4KB", "2MB", "1GB"]);
    }
}
