//! The container's file tree: mounts, nodes, links and masks. A rootfs is hostile. So every place in it is a descriptor
//! that the kernel resolved inside the root, and every mount is complete before it is attached there.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::prepared::{Outcome, Prepared, Trouble};
use super::resolve::{
    Way, begins_a_mount, make_path, open_existing, open_path, open_target, open_target_outside_binds, parent_of,
    parent_outside_binds,
};
use super::root::{SYSFS_MAGIC, change};
use super::{copy, pids, protocol};
use crate::plan::step::{Content, DeviceNode, Missing, MountChange, NewMount, Other, Remount, Setting, Slot, Target};
use crate::sys::mount::{Attributes, Reach, set_attributes};
use crate::sys::mount_id::{MountId, location_of, mount_id};
use crate::wire::{About, Request, Words};

pub(super) fn new_mount(prepared: &Prepared<'_>, mount: &NewMount) -> Outcome {
    let (target, was_there) = open_target(prepared, &mount.target)?;
    if let Some((flags, data)) = &mount.classic {
        return classic(prepared, mount, target.as_fd(), *flags, data);
    }
    let covered = was_there.then_some(target.as_fd());
    match (detached(prepared, mount, covered), mount.fallback) {
        (Ok(detached), _) => {
            label(detached.as_fd(), mount)?;
            map_ids(prepared, detached.as_fd(), mount.ids)?;
            if let (Content::Copy, Some(covered)) = (mount.content, covered) {
                copy::directory(covered, detached.as_fd())?;
            }
            change(detached.as_fd(), &mount.changes)?;
            prepared.results.remember_new(mount_id(detached.as_fd(), c"")?);
            attach(prepared, detached.as_fd(), target.as_fd())
        }
        (Err(Trouble { errno: Errno::PERM | Errno::BUSY, .. }), Some(tree)) => {
            let tree = prepared.fd(tree)?;
            map_ids(prepared, tree, mount.ids)?;
            let attributes = Attributes { set: mount.attributes, ..Attributes::default() };
            // It is a copy of a mount of the host. Mounts in it must not propagate to the host.
            set_attributes(tree, &Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() }, Reach::Tree)?;
            set_attributes(tree, &attributes, Reach::One)?;
            change(tree, &mount.changes)?;
            attach(prepared, tree, target.as_fd())
        }
        (Err(trouble), _) => Err(trouble),
    }
}

/// SELinux stores a label with its NUL.
fn label(mounted: BorrowedFd<'_>, mount: &NewMount) -> Outcome {
    let Some(label) = &mount.label else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(mounted, c".", flags, Mode::empty())?;
    rustix::fs::fsetxattr(&root, c"security.selinux", label.to_bytes_with_nul(), rustix::fs::XattrFlags::empty())
        .map_err(|errno| Trouble::saying(errno, "its root does not take the label"))
}

/// ORDER: while the mount is detached; later the kernel refuses (mount_setattr(2)).
fn map_ids(prepared: &Prepared<'_>, mount: BorrowedFd<'_>, ids: Option<Slot>) -> Outcome {
    ids.map_or(Ok(()), |namespace| protocol::map_ids(prepared, mount, namespace))
}

/// Calls mount(2) on the working directory, which is the target, so that no path is resolved.
fn classic(prepared: &Prepared<'_>, mount: &NewMount, target: BorrowedFd<'_>, flags: u64, data: &CStr) -> Outcome {
    let source = mount.settings.iter().find(|(key, _)| key.as_c_str() == c"source");
    let source = source.and_then(|(_, value)| value.as_deref()).unwrap_or(c"none");
    rustix::process::fchdir(target)?;
    let mounted = crate::sys::mount::mount(source, c".", &mount.fstype, flags, data);
    rustix::process::chdir(c"/")?;
    mounted?;
    let (on_top, _) = open_target(prepared, &mount.target)?;
    if !begins_a_mount(&on_top)? || mount_id(on_top.as_fd(), c"")? == mount_id(target, c"")? {
        return Err(Trouble::saying(Errno::STALE, "it is another directory now"));
    }
    record_mount(prepared, on_top.as_fd())?;
    prepared.results.remember_new(mount_id(on_top.as_fd(), c"")?);
    let attributes = Attributes { set: mount.attributes, ..Attributes::default() };
    set_attributes(on_top.as_fd(), &attributes, Reach::One)?;
    change(on_top.as_fd(), &mount.changes)
}

/// Calls fsconfig(2) for every setting, then makes the mount. KERNEL(5.2). After an error, the context has the kernel's message.
fn detached(prepared: &Prepared<'_>, mount: &NewMount, covered: Option<BorrowedFd<'_>>) -> Outcome<OwnedFd> {
    let fs = &match mount.pid_namespace {
        None => rustix::mount::fsopen(mount.fstype.as_c_str(), FsOpenFlags::FSOPEN_CLOEXEC)?,
        Some(slot) => pids::open_proc(prepared, prepared.fd(slot)?, &mount.fstype)?,
    };
    let words = |errno: Errno| Trouble { errno, said: kernel_words(fs) };
    if let (Content::EmptyWithMode | Content::Copy, Some(covered)) = (mount.content, covered) {
        let mut text = [0u8; 8];
        let mode = rustix::fs::fstat(covered)?.st_mode;
        rustix::mount::fsconfig_set_string(fs, c"mode", octal(mode & 0o7777, &mut text)?).map_err(words)?;
    }
    configure(fs, &mount.settings)?;
    rustix::mount::fsconfig_create(fs).map_err(words)?;
    // fsmount(2) takes 32 bits of them
    let attributes = u32::try_from(mount.attributes).map_err(|_| Errno::INVAL)?;
    let mounted =
        rustix::mount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes))
            .map_err(words)?;
    // Other processes could see the process that made the context.
    if mount.pid_namespace.is_some() && rustix::fs::fstatfs(&mounted)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Trouble::saying(Errno::STALE, "it is another file system"));
    }
    Ok(mounted)
}

/// The kernel's message without its level letter: `e tmpfs: Unknown parameter 'rox'`.
fn kernel_words(fs: &OwnedFd) -> Words {
    let mut message = [0u8; 256];
    match rustix::io::read(fs, &mut message) {
        Ok(length @ 3..) => Words::of(message[2..length].trim_ascii_end()),
        _ => Words::NONE,
    }
}

/// `mode` in octal digits, NUL-terminated.
fn octal(mut mode: u32, text: &mut [u8; 8]) -> Outcome<&CStr> {
    let mut first = text.len() - 1;
    loop {
        first -= 1;
        text[first] = b'0' + (mode & 7).to_le_bytes()[0];
        mode >>= 3;
        if mode == 0 || first == 0 {
            break;
        }
    }
    Ok(CStr::from_bytes_until_nul(&text[first..]).map_err(|_| Errno::INVAL)?)
}

/// Records a mount that is about to be attached. Without a mount namespace it stays on the host when we end.
///
/// ORDER: before it is attached, so that no unknown mount is left if init is killed in between.
pub(super) fn record_mount(prepared: &Prepared<'_>, mount: BorrowedFd<'_>) -> Outcome {
    let Some(file) = prepared.mounted else { return Ok(()) };
    let id = MountId::of(mount)?.encode();
    match crate::sys::retry::retry(|| rustix::io::write(file, &id)) {
        Ok(length) if length == id.len() => Ok(()),
        Ok(_) => Err(Trouble::saying(Errno::NOSPC, "note which mount it is")),
        Err(errno) => Err(Trouble::saying(errno, "note which mount it is")),
    }
}

fn attach(prepared: &Prepared<'_>, mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Outcome {
    record_mount(prepared, mount)?;
    let both_fds = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match rustix::mount::move_mount(mount, c"", target, c"", both_fds) {
        // the kernel returns the same error for other reasons
        Err(Errno::INVAL) => match (is_directory(mount)?, is_directory(target)?) {
            (false, true) => Err(Trouble::about(Errno::NOTDIR, About::FileOnDirectory)),
            (true, false) => Err(Trouble::about(Errno::NOTDIR, About::DirectoryOnFile)),
            _ => Err(Errno::INVAL.into()),
        },
        other => Ok(other?),
    }
}

fn is_directory(file: BorrowedFd<'_>) -> Outcome<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) == FileType::Directory)
}

pub(super) fn bind(prepared: &Prepared<'_>, tree: Slot, changes: &[MountChange], target: &Target) -> Outcome {
    let (target, _) = match target.missing {
        // a device of the plan, in a place where nodes cannot be made
        Missing::File => open_target_outside_binds(prepared, target)?,
        Missing::Directory | Missing::LikeSource(_) => open_target(prepared, target)?,
    };
    let tree = prepared.fd(tree)?;
    change(tree, changes)?;
    attach(prepared, tree, target.as_fd())
}

/// The source is a symbolic link: makes the same link at the target. It may exist already.
pub(super) fn bind_or_link(prepared: &Prepared<'_>, tree: Slot, changes: &[MountChange], target: &Target) -> Outcome {
    let source = prepared.fd(tree)?;
    if FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode) != FileType::Symlink {
        return bind(prepared, tree, changes, target);
    }
    let mut text = [0u8; 4096];
    let length = rustix::fs::readlinkat_raw(source, c"", &mut text[..4095])?;
    text[length] = 0;
    let to = CStr::from_bytes_until_nul(&text).map_err(|_| Errno::INVAL)?;
    let (parent, name) = parent_of(prepared, &target.path)?;
    match rustix::fs::symlinkat(to, &parent, name) {
        Err(Errno::EXIST) => {
            let mut there = [0u8; 4096];
            match rustix::fs::readlinkat_raw(&parent, name, &mut there[..]) {
                Ok(length) if there[..length] == *to.to_bytes() => Ok(()),
                _ => Err(Trouble::saying(Errno::EXIST, "another file exists there")),
            }
        }
        other => Ok(other?),
    }
}

pub(super) fn remount(prepared: &Prepared<'_>, remount: &Remount) -> Outcome {
    let (target, _) = open_target(prepared, &remount.target)?;
    if !remount.settings.is_empty() {
        reconfigure(prepared, &target, &remount.settings)?;
    }
    change(target.as_fd(), &remount.changes)
}

/// File systems that have the same superblock as the host's mounts, unless the container has its own namespace for them.
const SHARED: [rustix::fs::FsWord; 4] = [
    SYSFS_MAGIC,
    0x0027_e0eb, // CGROUP_SUPER_MAGIC
    0x6367_7270, // CGROUP2_SUPER_MAGIC
    0x1980_0202, // MQUEUE_MAGIC (ipc/mqueue.c)
];

/// fspick(2), and fsconfig(2) for every setting. KERNEL(5.2). A mount of the host is not changed: a link of the image may lead
/// to it. A block device that config.json mounts has one superblock, on the host as well.
fn reconfigure(prepared: &Prepared<'_>, mount_point: &OwnedFd, settings: &[Setting]) -> Outcome {
    if !begins_a_mount(mount_point)? {
        return Err(Errno::INVAL.into());
    }
    if !prepared.results.is_new(mount_id(mount_point.as_fd(), c"")?) {
        return Err(Trouble::saying(Errno::PERM, "options are allowed only for a file system that config.json mounts"));
    }
    if SHARED.contains(&rustix::fs::fstatfs(mount_point)?.f_type) {
        return Err(Trouble::saying(Errno::PERM, "the host's mounts of this file system would change too"));
    }
    let fs = rustix::mount::fspick(mount_point, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    configure(&fs, settings)?;
    rustix::mount::fsconfig_reconfigure(&fs).map_err(|errno| Trouble { errno, said: kernel_words(&fs) })
}

/// fsconfig(2) for every setting.
fn configure(fs: &OwnedFd, settings: &[Setting]) -> Outcome {
    for (key, value) in settings {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(fs, key.as_c_str(), value.as_c_str()),
            None => rustix::mount::fsconfig_set_flag(fs, key.as_c_str()),
        }
        .map_err(|errno| Trouble { errno, said: kernel_words(fs) })?;
    }
    Ok(())
}

pub(super) fn mknod(prepared: &Prepared<'_>, node: &DeviceNode) -> Outcome {
    let (parent, name) = parent_outside_binds(prepared, &node.path)?;
    let kind = FileType::from_raw_mode(node.mode);
    match rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(node.mode), node.device) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same_device = kind == FileType::Fifo || stat.st_rdev == node.device;
            if FileType::from_raw_mode(stat.st_mode) != kind || !same_device {
                return match node.other {
                    Other::Refuse => Err(Trouble::saying(Errno::EXIST, "another file exists there")),
                    Other::Keep(n) => protocol::request(prepared, Request::Kept(n)),
                };
            }
        }
        Err(other) => return Err(other.into()),
    }
    if node.uid != 0 || node.gid != 0 {
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

pub(super) fn symlink(prepared: &Prepared<'_>, to: &CStr, path: &CStr) -> Outcome {
    let (parent, name) = parent_outside_binds(prepared, path)?;
    match rustix::fs::symlinkat(to, &parent, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

pub(super) fn replace(prepared: &Prepared<'_>, to: &CStr, path: &CStr) -> Outcome {
    let (parent, name) = parent_outside_binds(prepared, path)?;
    match rustix::fs::symlinkat(to, &parent, name) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
            Ok(rustix::fs::symlinkat(to, &parent, name)?)
        }
        other => Ok(other?),
    }
}

/// The kernel says whether a file exists at the path, and of which type. A missing file is not an error (ENOENT only).
pub(super) fn mask(prepared: &Prepared<'_>, path: &CStr, null: Slot, empty: Slot) -> Outcome {
    let Some(target) = open_existing(prepared, path)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&target)?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let cover = prepared.fd(if directory { empty } else { null })?;
    let covered_by = rustix::fs::fstat(cover)?;
    if (stat.st_dev, stat.st_ino) == (covered_by.st_dev, covered_by.st_ino) {
        // Two paths lead to the file, and the other one was masked first.
        return Ok(());
    }
    if directory && is_root(prepared, target.as_fd())? {
        return Err(Trouble::saying(Errno::INVAL, "it is the container's root"));
    }
    let attached = if directory { &prepared.results.empty_attached } else { &prepared.results.null_attached };
    if !attached.replace(true) {
        // If a mount was never attached, the close(2) of its last descriptor waits for all CPUs: some milliseconds on a busy
        // host. KERNEL(6.15): a copy of a detached mount. Every kernel can copy an attached one.
        return attach(prepared, cover, target.as_fd());
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = rustix::mount::open_tree(cover, c"", flags)?;
    attach(prepared, copy.as_fd(), target.as_fd())
}

pub(super) fn read_only(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    let Some(target) = open_existing(prepared, path)? else { return Ok(()) };
    let attributes = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
    if is_root(prepared, target.as_fd())? {
        // Processes that join later would see a mount on the root, but this process would not.
        return Ok(set_attributes(prepared.root()?, &attributes, Reach::Tree)?);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(&target, c"", flags)?;
    set_attributes(tree.as_fd(), &attributes, Reach::Tree)?;
    attach(prepared, tree.as_fd(), target.as_fd())
}

fn is_root(prepared: &Prepared<'_>, file: BorrowedFd<'_>) -> Outcome<bool> {
    Ok(location_of(file)? == prepared.root_location()?)
}

pub(super) fn finish(prepared: &Prepared<'_>, path: &CStr, attributes: &Attributes) -> Outcome {
    let target = open_path(prepared, path, OFlags::PATH | OFlags::CLOEXEC)?;
    Ok(set_attributes(target.as_fd(), attributes, Reach::One)?)
}

/// Makes the working directory of config.json (mode 0755), inside the root, if it does not exist.
pub(super) fn make_cwd(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    match open_path(prepared, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
        Err(Trouble { errno: Errno::NOENT, .. }) => make_path(prepared, path.to_bytes(), Missing::Directory, Way::Any),
        // `chdir` reports it, with the rights of the user
        _ => Ok(()),
    }
}
