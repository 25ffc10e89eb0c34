//! The files and directories of one cgroup: one write, one removal, and the kernel's errors.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::rights;
use super::tree::{self, WalkEnd};
use crate::error::{Context, Error, Result, bail, error};
use crate::host::cgroups;
use crate::plan::resources::Write;
use crate::sys::errno::in_words;
use crate::sys::kernel_file;
use crate::wait::limits;

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

pub(super) fn is_forbidden(errno: Option<i32>) -> bool {
    matches!(errno, Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

/// Refuses a limit below the current use if `checkBeforeUpdate` is set: on version 2 the kernel would kill processes.
pub(super) fn must_fit(write: &Write, limit: u64, directory: &Path) -> Result<(), Refusal> {
    let used = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    match used("memory.current") {
        Some(used) if used >= limit => {
            Err(Refusal { errno: None, error: error!("{}: {limit} is not above the current use: {used}", write.at) })
        }
        _ => Ok(()),
    }
}

pub(super) fn refused(write: &Write, file: &str, value: &str, directory: &Path, error: &io::Error) -> Refusal {
    Refusal { errno: error.raw_os_error(), error: write_failed(write, file, value, directory, error) }
}

pub(super) fn write_failed(write: &Write, file: &str, value: &str, directory: &Path, error: &io::Error) -> Error {
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
            let (place, word) = (directory.join(file), in_words(error));
            return error!(
                "{}: write {value} to {}: {word}: controller {controller:?} not available",
                write.at,
                place.display()
            );
        }
    }
    let place = directory.join(file);
    let has = never(file, value).filter(|_| error.raw_os_error() == Some(libc::EINVAL));
    let has = has.or_else(|| host_has(file, error.raw_os_error())).map(|has| format!(": {has}")).unwrap_or_default();
    error!("{}: write {value} to {}: {}{used}{has}", write.at, place.display(), in_words(error))
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
            let text = format!("{error}; and the earlier values could not be restored: {more}");
            error.reworded(text)
        }
    }
}

/// Writes the whole value in one write(2), as cgroup files need it.
pub(crate) fn put(file: &Path, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = rights::of(file, || rustix::fs::openat(CWD, file, flags, Mode::empty()))?;
    fs::File::from(opened).write_all(value.as_bytes())
}

/// Checks that a missing cgroup directory was removed: its hierarchy is mounted, or the kernel does not have the hierarchy
/// (any more). Otherwise the directory may exist, and we cannot see it.
///
/// # Errors
/// The kernel has the hierarchy, but the mount at that place is not a cgroup file system.
pub(super) fn gone(key: &str, directory: &Path) -> Result<()> {
    let above = directory.ancestors().find(|above| above.exists());
    if matches!(above.map(rustix::fs::statfs), Some(Ok(there)) if is_cgroup_file_system(&there)) {
        return Ok(());
    }
    let ours = kernel_file::read_lossy(Path::new("/proc/self/cgroup")).context("/proc/self/cgroup")?;
    if cgroups::has_hierarchy(&ours, key) {
        bail!("no cgroup file system is mounted there, so its processes cannot be seen");
    }
    Ok(())
}

/// True if statfs(2) returns the type of cgroup v1 or v2.
// The integer type differs between C libraries.
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss)]
pub(crate) fn is_cgroup_file_system(there: &rustix::fs::StatFs) -> bool {
    [libc::CGROUP_SUPER_MAGIC as u64, libc::CGROUP2_SUPER_MAGIC as u64].contains(&(there.f_type as u64))
}

/// Returns true if it is removed, false if it is still in use. The levels below are removed only if rmdir(2) fails,
/// and those in `spared` never.
pub(super) fn remove(key: &str, directory: &Path, spared: &[PathBuf]) -> Result<bool> {
    match fs::remove_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => gone(key, directory).map(|()| true),
            // rmdir(2) returns this error before it looks up the name. So the directory may not exist, because it could not be
            // made there.
            Some(libc::EROFS) if !directory.exists() => Ok(true),
            Some(libc::EBUSY | libc::ENOTEMPTY) => {
                match tree::remove_below(directory, spared) {
                    // The next attempt has less to do.
                    Err(WalkEnd::TooMany) => Ok(false),
                    done => done.map(|()| fs::remove_dir(directory).is_ok()).map_err(|end| error!("{end}")),
                }
            }
            _ => Err(error!(in_words(&error))),
        },
    }
}

/// Calls `done` after growing pauses, until it returns true or the time is over.
pub(super) fn wait_for(done: impl FnMut() -> Result<bool>) -> Result<bool> {
    wait_at_most(limits::CGROUP, done)
}

pub(super) fn wait_at_most(time: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if done()? {
            return Ok(true);
        }
        if started.elapsed() > time {
            return Ok(false);
        }
        // SIGTERM and the like do not interrupt an undo or a removal. The caller reports the signal afterwards.
        let _ = crate::wait::pause(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// True if the processes in the directory are frozen, by its own file or by that of an ancestor.
pub(super) fn directory_is_frozen(directory: &Path) -> Result<bool> {
    let file = directory.join("freezer.state");
    match value(&file) {
        Ok(state) => Ok(matches!(state.trim(), "FROZEN" | "FREEZING")),
        Err(errno) if !is_gone(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
        Err(_) => event(&directory.join("cgroup.events"), "frozen 1"),
    }
}

/// The contents of a short file.
fn value(file: &Path) -> Result<String, Errno> {
    rights::of(file, || kernel_file::read_value(file, &mut [0; 256]).map(str::to_owned))
}

pub(super) fn event(file: &Path, line: &str) -> Result<bool> {
    match value(file) {
        Ok(text) => Ok(text.lines().any(|there| there == line)),
        Err(errno) if is_gone(errno) => Ok(false),
        Err(errno) => Err(errno).with_context(|| format!("read {}", file.display())),
    }
}

/// The file does not exist, or its cgroup was removed after it was opened.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::NODEV)
}

/// The nearest ancestor that is frozen by its own file. The root of a hierarchy has no such file.
pub(super) fn frozen_above(directory: &Path) -> Option<PathBuf> {
    directory.parent().and_then(frozen_from)
}

/// The directory or its nearest ancestor that is frozen by its own file.
pub(super) fn frozen_from(directory: &Path) -> Option<PathBuf> {
    let says_one = |file: &Path| kernel_file::read_value(file, &mut [0; 32]).is_ok_and(|text| text.trim() == "1");
    let frozen =
        |above: &&Path| ["cgroup.freeze", "freezer.self_freezing"].iter().any(|file| says_one(&above.join(file)));
    directory.ancestors().find(frozen).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_size_is_named_as_the_controller_names_it() {
        assert_eq!([4, 2048, 1 << 20].map(super::page_size), ["4KB", "2MB", "1GB"]);
    }
}
