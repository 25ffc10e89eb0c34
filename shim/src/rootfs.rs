//! The root file system of a container. containerd describes it as mounts; the shim mounts it at BUNDLE/rootfs and
//! unmounts it.

use libcontainer::{LoopDevice, in_words};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::messages::task::Mount;

/// Options that are flags of mount(2), and whether they set or clear the flag.
const FLAGS: [(&str, bool, MsFlags); 27] = [
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("atime", false, MsFlags::MS_NOATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("defaults", true, MsFlags::empty()),
    ("dev", false, MsFlags::MS_NODEV),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodev", true, MsFlags::MS_NODEV),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("remount", true, MsFlags::MS_REMOUNT),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("rslave", true, MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("rprivate", true, MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
];
/// OVERLAYFS_SUPER_MAGIC
const OVERLAYFS: i64 = 0x794c_7630;
/// A page, minus the part that the kernel uses.
const DATA: usize = 4096 - 512;

/// What a mount is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MountSource {
    /// What the request names.
    Named,
    /// A file, on a loop device.
    File,
}

/// The parsed fields of one mount.
#[derive(Debug, PartialEq)]
struct MountOptions {
    flags: MsFlags,
    propagation: MsFlags,
    source: MountSource,
    data: Vec<String>,
}

fn parse_options(options: &[String]) -> MountOptions {
    let propagations = MsFlags::MS_SHARED | MsFlags::MS_PRIVATE | MsFlags::MS_SLAVE | MsFlags::MS_UNBINDABLE;
    let (flags, propagation) = (MsFlags::empty(), MsFlags::empty());
    let mut parsed = MountOptions { flags, propagation, source: MountSource::Named, data: Vec::new() };
    for option in options {
        match FLAGS.iter().find(|(name, ..)| name == option) {
            Some((_, true, flag)) if flag.intersects(propagations) => parsed.propagation |= *flag,
            Some((_, true, flag)) => parsed.flags |= *flag,
            Some((_, false, flag)) => parsed.flags &= !*flag,
            None if option == "loop" => parsed.source = MountSource::File,
            // words that are only for containerd itself
            None if option.starts_with("X-containerd.") => {}
            None => parsed.data.push(option.clone()),
        }
    }
    parsed
}

/// Makes the mounts at `rootfs`. It runs in a thread of its own, because it may change the current directory.
///
/// # Errors
/// The mount that failed, and the reason. The mounts before it are unmounted.
pub fn make(mounts: &[Mount], rootfs: &Path) -> Result<(), String> {
    if mounts.first().is_some_and(|first| !first.target.trim_matches('/').is_empty()) {
        // one mount at the top: unmounting it unmounts everything below (`take_away`)
        let bound = mount(Some(rootfs), rootfs, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        bound.map_err(|errno| format!("bind {}: {errno}", rootfs.display(), errno = in_words(&errno)))?;
    }
    for entry in mounts {
        if let Err(error) = make_one(entry, rootfs) {
            drop(take_away(rootfs));
            return Err(format!(
                "failed to mount rootfs component: mount {} at {}: {error}",
                entry.source,
                rootfs.join(entry.target.trim_start_matches('/')).display(),
                error = in_words(&error)
            ));
        }
    }
    Ok(())
}

/// A target in the root file system. A symbolic link of an image does not lead out of it (openat2(2), RESOLVE_IN_ROOT).
fn inside(rootfs: &Path, target: &str) -> io::Result<OwnedFd> {
    let root = rustix::fs::openat(CWD, rootfs, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let below = target.trim_matches('/');
    if below.is_empty() {
        return Ok(root);
    }
    if Path::new(below).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(io::Error::other("not below the root file system"));
    }
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(&root, below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?)
}

fn make_one(entry: &Mount, rootfs: &Path) -> io::Result<()> {
    let MountOptions { flags, propagation, source, data } = parse_options(&entry.options);
    // ORDER: the mount keeps the device, and it is free when the mount ends
    let device = (source == MountSource::File).then(|| loop_device(&entry.source, flags)).transpose()?;
    let source = device.as_ref().map_or(Path::new(&entry.source), LoopDevice::path);
    let (shorter, base) = if entry.r#type == "overlay" { shortened(&data) } else { (data.join(","), None) };
    // it is looked up again after a mount: then it is the mount's root
    let at = |kind: Option<&str>, source: Option<&Path>, flags: MsFlags, data: Option<&str>| -> io::Result<()> {
        let target = inside(rootfs, &entry.target)?;
        let path = format!("/proc/self/fd/{}", target.as_raw_fd());
        Ok(mount(source, path.as_str(), kind, flags, data)?)
    };
    if let Some(base) = &base {
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(base)?;
    }
    let kind = (!flags.contains(MsFlags::MS_BIND)).then_some(entry.r#type.as_str());
    let text = (!shorter.is_empty()).then_some(shorter.as_str());
    // the other flags of a bind mount need a second call
    at(kind, Some(source), flags, text)?;
    if !propagation.is_empty() {
        at(None, None, propagation, None)?;
    }
    let second = flags & !(MsFlags::MS_BIND | MsFlags::MS_REC);
    if flags.contains(MsFlags::MS_BIND) && !second.is_empty() {
        at(None, None, flags | MsFlags::MS_REMOUNT, None)?;
    }
    Ok(())
}

/// A loop device of a file. It is read-only if the mount is.
fn loop_device(file: &str, flags: MsFlags) -> io::Result<LoopDevice> {
    let open = File::options().read(true).write(!flags.contains(MsFlags::MS_RDONLY)).open(file)?;
    LoopDevice::of(&open, file.as_bytes())
}

/// Shortens the options of an overlay whose layers do not fit in a page: the common prefix of the layers becomes the
/// current directory of the mount.
fn shortened(data: &[String]) -> (String, Option<PathBuf>) {
    let whole = data.join(",");
    let lower = |option: &String| option.strip_prefix("lowerdir=").map(str::to_owned);
    let Some(layers) = data.iter().find_map(lower).filter(|_| whole.len() > DATA) else { return (whole, None) };
    let layers: Vec<&str> = layers.split(':').collect();
    let Some(base) = Path::new(layers[0])
        .ancestors()
        .skip(1)
        .find(|base| base.parent().is_some() && layers.iter().all(|layer| Path::new(layer).strip_prefix(base).is_ok()))
    else {
        return (whole, None);
    };
    let short = |layer: &&str| Path::new(layer).strip_prefix(base).unwrap_or(Path::new(layer)).display().to_string();
    let layers = layers.iter().map(short).collect::<Vec<_>>().join(":");
    let options = data.iter().map(|option| match option.starts_with("lowerdir=") {
        true => format!("lowerdir={layers}"),
        false => option.clone(),
    });
    (options.collect::<Vec<_>>().join(","), Some(base.to_owned()))
}

/// Unmounts `rootfs` and everything below. An overlay lives on until the result is dropped: the kernel then writes the
/// file system below it to the disk, which may take long.
#[must_use]
pub fn take_away(rootfs: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, rootfs, flags, Mode::empty()).ok();
    let overlay = top.filter(|top| rustix::fs::fstatfs(top).is_ok_and(|stat| stat.f_type == OVERLAYFS));
    // KERNEL(2.4.11): a mount that is busy, or has others below, is detached, and disappears when it is free
    while umount2(rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    overlay
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_flags_or_data() {
        let read = parse_options(&words("rbind ro rprivate index=off X-containerd.x=y rw"));
        assert_eq!(read.flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(read.propagation, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        assert_eq!((read.source, &read.data[..]), (MountSource::Named, &["index=off".to_owned()][..]));
        let read = parse_options(&words("ro loop noload"));
        assert_eq!((read.source, read.flags, &*read.data[0]), (MountSource::File, MsFlags::MS_RDONLY, "noload"));
    }

    #[test]
    fn many_layers_are_named_from_the_directory_that_they_are_in() {
        let layers: Vec<String> = (0..200).map(|n| format!("/var/lib/snapshots/{n}/fs")).collect();
        let data = [format!("lowerdir={}", layers.join(":")), "upperdir=/u".to_owned()];
        let (text, base) = shortened(&data);
        assert_eq!(base.as_deref(), Some(Path::new("/var/lib/snapshots")));
        assert!(text.starts_with("lowerdir=0/fs:1/fs:") && text.ends_with(":199/fs,upperdir=/u"), "{text}");
        let few = [format!("lowerdir={}", layers[..3].join(":"))];
        assert_eq!(shortened(&few), (few[0].clone(), None));
    }

    #[test]
    fn a_target_stays_inside() {
        let directory = tempfile::tempdir().expect("a directory");
        let rootfs = directory.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("x")).expect("a directory");
        std::os::unix::fs::symlink("/x", rootfs.join("link")).expect("a link");
        std::os::unix::fs::symlink(directory.path(), rootfs.join("out")).expect("a link");
        let resolved = |target: &str| {
            let found = inside(&rootfs, target)?;
            std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        };
        let expected = std::fs::canonicalize(&rootfs).expect("its path");
        assert_eq!(resolved("").expect("the root"), expected);
        assert_eq!(resolved("/x").expect("a directory"), expected.join("x"));
        assert_eq!(resolved("link").expect("a link"), expected.join("x"));
        // a link of an image to a directory of the host
        assert_eq!(resolved("out").expect_err("it is outside").kind(), io::ErrorKind::NotFound);
        assert!(resolved("../x").is_err());
    }
}
