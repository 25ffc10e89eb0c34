//! The standard streams of a container that are files or devices of the host. The images do not contain them: CRIU gets a name for
//! each, and the restore replaces it by the caller's stream.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::FileType;

use super::images::{FILE, NULL};
use super::record::descriptors;
use crate::container::Container;
use crate::error::{Context, Result};
use crate::host::{Namespace, mountinfo};
use crate::sys::kernel_file::keyed_number;
use crate::sys::mount_id::statx;

/// The major number of /dev/null, /dev/zero and the like.
const MEMORY_DEVICES: u32 = 1;

/// The names of the first three descriptors in the images. A pipe is named by its number. A file or device of the host,
/// on a mount that the container does not have, gets a name that the restore can replace.
///
/// # Errors
/// The mounts of the container cannot be read.
pub(super) fn criu_names(container: &Container) -> Result<Vec<String>> {
    let record = container.record();
    let init = record.init_process_pid;
    let path = format!("/proc/{init}/mountinfo");
    let mounts = mountinfo::parse(&fs::read(&path).with_context(|| format!("read {path}"))?);
    let known = &record.external_descriptors;
    // The state of an older runtime may not have them.
    let begun = if known.len() < 3 { descriptors(init) } else { known.clone() };
    let mut all = begun.clone();
    for (number, (name, link)) in all.iter_mut().zip(&begun).enumerate() {
        // A program may have moved it (`exec 5>&1`), or have replaced it by another one of them (`exec 1>&2`).
        let descriptor = find_descriptor(container, link).or_else(|| {
            let now = format!("/proc/{init}/fd/{number}");
            let is_another = fs::read_link(&now).is_ok_and(|now| begun.iter().any(|other| now.as_os_str() == &**other));
            (!is_another).then_some((init, number.to_string()))
        });
        if let Some(found) = descriptor.and_then(|(pid, number)| name_of(pid, &number, &mounts)) {
            *name = found;
        }
    }
    Ok(all)
}

/// A descriptor of this file of the host, in a process of the container. Pipes and the like have the same name everywhere.
fn find_descriptor(container: &Container, link: &str) -> Option<(i32, String)> {
    if !link.starts_with('/') {
        return None;
    }
    let init = container.record().init_process_pid;
    let mounts = Namespace::of(init, "mnt").ok()?;
    let others = container.cgroup().all_processes().unwrap_or_default().into_iter().filter(|pid| *pid != init);
    // In another mount namespace, the same path may be another file.
    let others = others.filter(|pid| Namespace::of(*pid, "mnt").is_ok_and(|theirs| theirs == mounts));
    [init].into_iter().chain(others).find_map(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut same = open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.as_os_str() == link));
        let number = same.next()?.file_name().into_string().ok()?;
        Some((pid, number))
    })
}

/// The name of a descriptor, if it is a file or a device of the host.
fn name_of(pid: i32, number: &str, mounts: &[mountinfo::Mount]) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    // ORDER: a file on a mount of the container is not looked at: its file system may never answer.
    let mount = keyed_number(&info, "mnt_id").filter(|id| mounts.iter().all(|there| there.id != *id))?;
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{pid}/fd/{number}")).ok()?;
    let stat = statx(file.as_fd(), c"").ok()?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
    let is_memory = kind.is_char_device() && device.0 == MEMORY_DEVICES;
    let null = if device == (MEMORY_DEVICES, 3) { NULL } else { "" };
    (kind.is_file() || is_memory).then(|| format!("{null}{FILE}{mount:x}:{:x}]", stat.stx_ino))
}
