//! The errors of cgroup files: what was written, the kernel's error, and what the host has instead.

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::{Error, Kind, Result, error};
use crate::plan::resources::Write;
use crate::sys::errno::in_words;
use crate::sys::kernel_file;

/// A write that failed.
pub(super) struct Refusal {
    pub(super) errno: Option<i32>,
    pub(super) error: Error,
}

impl Refusal {
    pub(super) fn is_forbidden(&self) -> bool {
        is_forbidden(self.errno)
    }
}

/// True if only the permissions are missing.
pub(super) fn is_forbidden(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

/// A write that failed with this error.
pub(super) fn refused(write: &Write, file: &str, value: &str, directory: &Path, error: &io::Error) -> Refusal {
    Refusal { errno: error.raw_os_error(), error: write_failed(write, file, value, directory, error) }
}

fn write_failed(write: &Write, file: &str, value: &str, directory: &Path, error: &io::Error) -> Error {
    let kind = error.raw_os_error().map_or(Kind::Other, Kind::Os);
    let used = match (file, error.raw_os_error()) {
        ("memory.limit_in_bytes", Some(libc::EBUSY)) => fs::read_to_string(directory.join("memory.usage_in_bytes"))
            .map(|usage| format!(": in use: {}", usage.trim()))
            .unwrap_or_default(),
        _ => String::new(),
    };
    // Version 2: if a file is missing, its controller is usually not enabled.
    let controller = file.split('.').next().unwrap_or_default();
    if write.controller.is_empty() && error.kind() == ErrorKind::NotFound && controller != "cgroup" {
        let there = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
        if !there.split_whitespace().any(|one| one == controller) {
            let (path, word) = (directory.join(file), in_words(error));
            return error!(
                kind => "{}: write {value} to {}: {word}: controller {controller:?} not available",
                write.at,
                path.display()
            );
        }
    }
    let path = directory.join(file);
    let has = never(file, value).filter(|_| error.raw_os_error() == Some(libc::EINVAL));
    let has = has.or_else(|| host_has(file, error.raw_os_error())).map(|has| format!(": {has}")).unwrap_or_default();
    error!(kind => "{}: write {value} to {}: {}{used}{has}", write.at, path.display(), in_words(error))
}

/// The least and the largest period, and the least quota, in microseconds (kernel/sched/core.c).
const PERIOD: RangeInclusive<i64> = 1_000..=1_000_000;

/// The reason why no kernel accepts this value in this file. None if a kernel may accept it.
pub fn never(file: &str, value: &str) -> Option<String> {
    let number = |text: &str| text.parse::<i64>().ok();
    match file {
        "cpuset.cpus" | "cpuset.mems" => {
            let what = if file.ends_with("cpus") { "CPUs" } else { "memory nodes" };
            // the kernel also takes `all`, `N` and strides (lib/bitmap-str.c)
            let may_be = value.trim() == "all" || value.chars().all(|c| c.is_ascii_digit() || ",-:/N \n".contains(c));
            (!may_be).then(|| format!("{value:?} is not a list of {what} such as 0-3,7"))
        }
        "cpu.cfs_period_us" => number(value)
            .filter(|period| !PERIOD.contains(period))
            .map(|_| format!("a period has from {} to {} microseconds", PERIOD.start(), PERIOD.end())),
        "cpu.cfs_quota_us" => number(value)
            .filter(|quota| (0..*PERIOD.start()).contains(quota))
            .map(|_| format!("a quota has at least {} microseconds", PERIOD.start())),
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            never("cpu.cfs_period_us", period).or_else(|| never("cpu.cfs_quota_us", quota))
        }
        _ => None,
    }
}

/// The values that the host has, for the message about a value that it does not have.
fn host_has(file: &str, errno: Option<i32>) -> Option<String> {
    let list = |file: &str| Some(kernel_file::read_lossy(Path::new(file)).ok()?.trim().to_owned());
    let refused = matches!(errno, Some(libc::ERANGE | libc::EINVAL | libc::EACCES));
    match file {
        "cpuset.cpus" if refused => Some(format!("this host has the CPUs {}", list("/sys/devices/system/cpu/online")?)),
        "cpuset.mems" if refused => {
            let nodes = list("/sys/devices/system/node/online").unwrap_or_else(|| "0".to_owned());
            Some(format!("this host has the memory nodes {nodes}"))
        }
        _ if file.starts_with("hugetlb.") && errno == Some(libc::ENOENT) => Some(huge_pages()),
        _ => None,
    }
}

/// The page sizes for which files `hugetlb.2MB.SUFFIX` exist.
pub fn page_sizes() -> Vec<String> {
    let directories = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut kilobytes: Vec<u64> = directories
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    kilobytes.sort_unstable();
    kilobytes.into_iter().map(page_size).collect()
}

/// A page size in the hugetlb controller's notation: in the largest unit that fits.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    }
}

/// The sizes of huge pages that the host has.
fn huge_pages() -> String {
    let names = page_sizes();
    if names.is_empty() {
        "this host has no huge pages".to_owned()
    } else {
        format!("this host has huge pages of {}", names.join(", "))
    }
}

/// The largest number of errors in one message.
const MOST_NAMED: usize = 3;

/// Combines several errors into one.
///
/// # Errors
/// `errors` is not empty.
pub(super) fn all_well(errors: Vec<Error>) -> Result<()> {
    let more = errors.len().saturating_sub(MOST_NAMED);
    let mut text = errors.iter().take(MOST_NAMED).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    errors.into_iter().next().map_or(Ok(()), |first| Err(first.reworded(text)))
}

/// The error of a change that failed and was undone, completely or in part.
pub fn undone(error: Error, undone: Result<()>) -> Error {
    match undone {
        Ok(()) => error,
        Err(more) => {
            let text = format!("{error}; and this could not be undone: {more}");
            error.reworded(text)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_size_is_named_as_the_controller_names_it() {
        assert_eq!([4, 2048, 1 << 20].map(super::page_size), ["4KB", "2MB", "1GB"]);
    }
}
