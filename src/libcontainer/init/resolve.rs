//! Places inside the root: finds them, or makes them, through descriptors that the kernel resolved in the root.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::path::DecInt;

use super::prepared::{Late, LateIds, Outcome, Prepared, Trouble};
use super::protocol;
use crate::plan::step::{Last, Missing, Slot, Target, What};
use crate::sys::MAX_LINKS;
use crate::sys::mount::Reach;
use crate::sys::mount_id::mount_id;
use crate::sys::retry::retry;
use crate::wire::About;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// The size of the longest path, PATH_MAX.
const PATH_SIZE: usize = 4096;

/// The rules for the path of a directory in which a file is made: links, and the mounts that the directory may be in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'p> {
    /// Links are followed, into any mount: config.json asks for a mount there.
    Any,
    /// No link is followed, and no file is made in a bind mount of the host.
    Named,
    /// As `Named`, but a bind on this path, or above it, is allowed: config.json asks for both.
    Within(&'p CStr),
    /// Links are followed. No file is made in a bind mount of the host.
    Linked,
}

impl Way<'_> {
    fn resolve(self) -> ResolveFlags {
        if self.follows_links() { IN_ROOT } else { IN_ROOT | ResolveFlags::NO_SYMLINKS }
    }

    fn follows_links(self) -> bool {
        matches!(self, Way::Any | Way::Linked)
    }

    /// Checks that a file may be made in this directory. It is made through this descriptor, so no process can replace the
    /// directory in between.
    fn allows(self, prepared: &Prepared<'_>, directory: BorrowedFd<'_>) -> Outcome {
        match self {
            Way::Any => Ok(()),
            Way::Named => not_in_a_bind(prepared, directory, None, "it is in a bind mount of the host"),
            Way::Within(path) => not_in_a_bind(prepared, directory, Some(path), "it is in a bind mount of the host"),
            Way::Linked => not_in_a_bind(prepared, directory, None, "a link leads into a bind mount of the host"),
        }
    }
}

/// Calls `make` with `way`, which follows no link. If a link of the image is on the path, calls it with `Linked`.
fn no_link_into_binds<T>(way: Way<'_>, make: impl Fn(Way<'_>) -> Outcome<T>) -> Outcome<T> {
    match make(way) {
        Err(Trouble { errno: Errno::LOOP, .. }) => make(Way::Linked),
        other => other,
    }
}

/// As `open_target`, for a file that config.json does not ask to have in a mount of the host.
pub(super) fn open_target_outside_binds(prepared: &Prepared<'_>, target: &Target) -> Outcome<(OwnedFd, bool)> {
    open_or_make(prepared, target, |path| {
        no_link_into_binds(Way::Named, |way| make_path(prepared, path, target.missing, way))
    })
}

/// As `open_target`, for a file that config.json asks for without a mount. It is made where its path leads, but not if a link of
/// the image leads into a mount of the host.
pub(super) fn open_target_without_links_into_binds(
    prepared: &Prepared<'_>,
    target: &Target,
) -> Outcome<(OwnedFd, bool)> {
    open_or_make(prepared, target, |path| {
        no_link_into_binds(Way::Within(&target.path), |way| make_path(prepared, path, target.missing, way))
    })
}

/// The target's descriptor, and whether it was there before.
pub(super) fn open_target(prepared: &Prepared<'_>, target: &Target) -> Outcome<(OwnedFd, bool)> {
    open_or_make(prepared, target, |path| make_path(prepared, path, target.missing, Way::Any))
}

fn open_or_make(prepared: &Prepared<'_>, target: &Target, make: impl Fn(&[u8]) -> Outcome) -> Outcome<(OwnedFd, bool)> {
    let flags = match target.last {
        Last::Any => OFlags::PATH | OFlags::CLOEXEC,
        Last::Itself => OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Last::Ordinary => OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW,
    };
    match open_path(prepared, &target.path, flags) {
        Ok(fd) => not_in_proc(fd, target).map(|fd| (fd, true)),
        Err(Trouble { errno: Errno::NOENT, .. }) => {
            make(target.path.to_bytes()).map_err(|trouble| {
                if trouble.said.is_empty() { Trouble::about(trouble.errno, About::NoPlace) } else { trouble }
            })?;
            not_in_proc(open_path(prepared, &target.path, flags)?, target).map(|fd| (fd, false))
        }
        Err(Trouble { errno: errno @ (Errno::NOTDIR | Errno::LOOP), .. }) if target.last == Last::Ordinary => {
            Err(Trouble::saying(errno, "must be mounted on ordinary directory"))
        }
        Err(other) => Err(other),
    }
}

/// The plan refuses a path in /proc. A link in the root must not lead there either.
fn not_in_proc(fd: OwnedFd, target: &Target) -> Outcome<OwnedFd> {
    let named = target.path.to_bytes().starts_with(b"proc/") || target.path.as_c_str() == c"proc";
    if !named && rustix::fs::fstatfs(&fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(Trouble::saying(Errno::PERM, "a link leads inside /proc"));
    }
    Ok(fd)
}

pub(super) fn open_existing(prepared: &Prepared<'_>, path: &CStr) -> Outcome<Option<OwnedFd>> {
    match open_path(prepared, path, OFlags::PATH | OFlags::CLOEXEC) {
        Ok(fd) => Ok(Some(fd)),
        Err(Trouble { errno: Errno::NOENT | Errno::NOTDIR, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

pub(super) fn open_path(prepared: &Prepared<'_>, path: &CStr, flags: OFlags) -> Outcome<OwnedFd> {
    open_in(prepared.root()?, path, flags, Way::Any)
}

pub(super) fn open_in(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, way: Way<'_>) -> Outcome<OwnedFd> {
    loop {
        match retry(|| rustix::fs::openat2(root, path, flags, Mode::empty(), way.resolve())) {
            // KERNEL(5.6): openat2. EAGAIN: something was renamed in the meantime, so the kernel is not sure of the result (openat2(2))
            Err(Errno::AGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// The directory that contains `path` (it is made if it does not exist), and the last component.
pub(super) fn parent_of<'p>(prepared: &Prepared<'_>, path: &'p CStr) -> Outcome<(OwnedFd, &'p CStr)> {
    parent_by(prepared, path, Way::Any)
}

/// As `parent_of`, for a file that config.json does not ask to have in a mount of the host.
pub(super) fn parent_outside_binds<'p>(prepared: &Prepared<'_>, path: &'p CStr) -> Outcome<(OwnedFd, &'p CStr)> {
    no_link_into_binds(Way::Named, |way| parent_by(prepared, path, way))
}

fn parent_by<'p>(prepared: &Prepared<'_>, path: &'p CStr, way: Way<'_>) -> Outcome<(OwnedFd, &'p CStr)> {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes.iter().rposition(|byte| *byte == b'/');
    let (above, name) = slash.map_or((&b"."[..], bytes), |slash| (&bytes[..slash], &bytes[slash + 1..]));
    let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::INVAL)?;
    let mut buffer = [0u8; PATH_SIZE];
    let above = c_string(above, &mut buffer)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match open_in(prepared.root()?, above, directory, way) {
        Err(Trouble { errno: Errno::NOENT, .. }) => {
            make_path(prepared, above.to_bytes(), Missing::Directory, way)?;
            open_in(prepared.root()?, above, directory, way)?
        }
        other => other?,
    };
    way.allows(prepared, parent.as_fd())?;
    Ok((parent, name))
}

/// The largest number of mounts that are climbed.
const MAX_MOUNTS: u32 = 100;

/// The plan makes sure, by path names, that nothing is made in a bind mount of the host. But a link of the image may lead
/// elsewhere, and a directory may have been renamed since (a mount moves with it). So this checks the mount itself. It must
/// be the root's mount, or a new file system of ours. Other mounts with unknown ids may be below a bind (`rbind`) or below
/// the root, and the mounts above them show which.
fn not_in_a_bind(
    prepared: &Prepared<'_>,
    directory: BorrowedFd<'_>,
    within: Option<&CStr>,
    refused: &'static str,
) -> Outcome {
    let id = mount_id(directory, c"")?;
    if prepared.results.not_bound.get() == Some(id) {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = mount_id(prepared.root()?, c"")?;
    let mut level = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
    for _ in 0..MAX_MOUNTS {
        let here = mount_id(level.as_fd(), c"")?;
        if here == root || prepared.results.is_new(here) {
            prepared.results.not_bound.set(Some(id));
            return Ok(());
        }
        if let Some((_, target)) = binds(prepared).find(|(tree, _)| mount_id(*tree, c"") == Ok(here)) {
            let requested = within.is_some_and(|path| is_at_or_above(target, path));
            return if requested { Ok(()) } else { Err(Trouble::saying(Errno::PERM, refused)) };
        }
        while !begins_a_mount(&level)? {
            level = rustix::fs::openat(&level, c"..", flags, Mode::empty())?;
        }
        level = rustix::fs::openat(&level, c"..", flags, Mode::empty())?;
    }
    Err(Errno::LOOP.into())
}

fn is_at_or_above(target: &Target, path: &CStr) -> bool {
    let rest = path.to_bytes().strip_prefix(target.path.to_bytes());
    target.path.as_c_str() == c"." || rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// The bind mounts of the host that the steps make: the copy that is mounted, and its mount point.
fn binds<'a>(prepared: &'a Prepared<'_>) -> impl Iterator<Item = (BorrowedFd<'a>, &'a Target)> {
    let steps = prepared.steps.iter().flat_map(|list| list.iter());
    steps.filter_map(|step| match &step.what {
        What::Bind(slot, _, target) | What::BindOrLink(slot, _, target) => Some((prepared.fd(*slot).ok()?, target)),
        What::NewMount(mount) => Some((prepared.fd(mount.fallback?).ok()?, &mount.target)),
        _ => None,
    })
}

/// True for the root directory of a mount.
pub(super) fn begins_a_mount(directory: &OwnedFd) -> Outcome<bool> {
    let stat = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Makes `path` and the directories above it. Each component is made in a descriptor of its parent that was resolved in
/// the root, so nothing is ever made outside (CVE-2024-45310). For a dangling link, makes its target, again inside the root,
/// unless `way` follows no links.
pub(super) fn make_path(prepared: &Prepared<'_>, path: &[u8], missing: Missing, way: Way<'_>) -> Outcome {
    if make_last(prepared, path, missing, way)? {
        return Ok(());
    }
    let mut current = [0u8; PATH_SIZE];
    let mut length = path.len();
    current.get_mut(..length).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(path);
    for _ in 0..MAX_LINKS {
        let mut next = [0u8; PATH_SIZE];
        match make_components(prepared, &current[..length], missing, way, &mut next)? {
            None => return Ok(()),
            Some(new_length) => (current, length) = (next, new_length),
        }
    }
    Err(Errno::LOOP.into())
}

/// The common case, in three system calls: only the last component is missing. False if it is another case.
fn make_last(prepared: &Prepared<'_>, path: &[u8], missing: Missing, way: Way<'_>) -> Outcome<bool> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = slash.map_or((&b"."[..], path), |slash| (&path[..slash], &path[slash + 1..]));
    if above.is_empty() || name.is_empty() {
        return Ok(false);
    }
    let (mut above_text, mut name_text) = ([0u8; PATH_SIZE], [0u8; 256]);
    let (above, name) = (c_string(above, &mut above_text)?, c_string(name, &mut name_text)?);
    let parent = match open_in(prepared.root()?, above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, way) {
        Err(Trouble { errno: Errno::NOENT, .. }) => return Ok(false),
        other => other?,
    };
    match make_file(prepared, parent.as_fd(), name, missing, way) {
        // a dangling link
        Err(Trouble { errno: Errno::EXIST, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}

/// One pass over the components. At a dangling link, puts the path to continue with into `next`.
fn make_components(
    prepared: &Prepared<'_>,
    path: &[u8],
    missing: Missing,
    way: Way<'_>,
    next: &mut [u8; PATH_SIZE],
) -> Outcome<Option<usize>> {
    let root = prepared.root()?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = open_in(root, c".", directory, way)?;
    let mut start = 0;
    while start < path.len() {
        let end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |slash| start + slash);
        let last = path[end..].iter().all(|byte| *byte == b'/');
        let (mut prefix, mut name) = ([0u8; PATH_SIZE], [0u8; 256]);
        let (prefix, name) = (c_string(&path[..end], &mut prefix)?, c_string(&path[start..end], &mut name)?);
        let wanted = if last { missing } else { Missing::Directory };
        let flags = if last { OFlags::PATH | OFlags::CLOEXEC } else { directory };
        let opened = match open_in(root, prefix, flags, way) {
            Err(Trouble { errno: Errno::NOENT, .. }) => match make_file(prepared, parent.as_fd(), name, wanted, way) {
                // another process has made it meanwhile, and it may be a link
                Err(Trouble { errno: Errno::EXIST, .. }) if !way.follows_links() => return Err(Errno::LOOP.into()),
                Err(Trouble { errno: Errno::EXIST, .. }) => {
                    return link_target(parent.as_fd(), name, &path[..start], &path[end..], next).map(Some);
                }
                made => made.and_then(|()| open_in(root, prefix, flags, way)),
            },
            other => other,
        };
        parent = opened?;
        start = end + 1;
    }
    Ok(None)
}

/// Makes a file or a directory in `parent`, if `way` allows it.
fn make_file(prepared: &Prepared<'_>, parent: BorrowedFd<'_>, name: &CStr, missing: Missing, way: Way<'_>) -> Outcome {
    way.allows(prepared, parent)?;
    let directory = match missing {
        Missing::Directory => true,
        Missing::File => false,
        Missing::LikeSource(slot) => {
            FileType::from_raw_mode(rustix::fs::fstat(prepared.fd(slot)?)?.st_mode) == FileType::Directory
        }
    };
    if directory {
        return Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)?)
}

/// Puts before/LINK/after into `next`, with the link replaced by its target, and returns the length. It is an error if that
/// component is not a link.
fn link_target(
    parent: BorrowedFd<'_>,
    name: &CStr,
    before: &[u8],
    after: &[u8],
    next: &mut [u8; PATH_SIZE],
) -> Outcome<usize> {
    let mut content = [0u8; PATH_SIZE];
    let length = match rustix::fs::readlinkat_raw(parent, name, &mut content[..]) {
        Err(Errno::INVAL) => return Err(Errno::EXIST.into()),
        other => other?,
    };
    let content = &content[..length];
    let absolute = content.first() == Some(&b'/');
    let mut length = 0;
    for part in [if absolute { b"" } else { before }, without_leading_slashes(content), after] {
        next.get_mut(length..length + part.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(part);
        length += part.len();
    }
    Ok(length)
}

fn without_leading_slashes(path: &[u8]) -> &[u8] {
    &path[path.iter().take_while(|byte| **byte == b'/').count()..]
}

/// Copies `bytes` into `buffer`, with a NUL at the end.
fn c_string<'b>(bytes: &[u8], buffer: &'b mut [u8]) -> Outcome<&'b CStr> {
    if bytes.len() >= buffer.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer[bytes.len()] = 0;
    Ok(CStr::from_bytes_until_nul(&buffer[..=bytes.len()]).map_err(|_| Errno::INVAL)?)
}

/// Opens a source in the container's root, and copies it. A link of the image must not lead to another place: an `rbind` would
/// include proc and sysfs, and a bind of a read-only volume would become writable.
pub(super) fn open_late(prepared: &Prepared<'_>, late: &Late) -> Outcome {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = match open_in(prepared.root()?, &late.path, flags, Way::Named) {
        Err(Trouble { errno: Errno::LOOP, .. }) => {
            return Err(Trouble::saying(Errno::LOOP, "the path has a link inside the container's root"));
        }
        other => other?,
    };
    prepared.replace(late.slot, &file)?;
    copy(prepared, late.slot, late.reach)?;
    match late.ids {
        LateIds::Own => Ok(()),
        LateIds::Mapped => protocol::map_ids(prepared, prepared.fd(late.slot)?, late.slot),
    }
}

/// Opens again, in our mount namespace, a file that the runtime has opened in the host's. It must be the same file.
pub(super) fn reopen(prepared: &Prepared<'_>, slot: Slot) -> Outcome {
    let there = prepared.fd(slot)?;
    let (mut link, mut path) = ([0u8; 32], [0u8; PATH_SIZE]);
    let length = rustix::fs::readlinkat_raw(CWD, own_link(there.as_raw_fd(), &mut link)?, &mut path[..PATH_SIZE - 1])?;
    path[length] = 0;
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let here = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let (was, is) = (rustix::fs::fstat(there)?, rustix::fs::fstat(&here)?);
    if (was.st_dev, was.st_ino) != (is.st_dev, is.st_ino) {
        return Err(Trouble::saying(Errno::STALE, "it is another file now"));
    }
    prepared.replace(slot, &here)
}

/// `/proc/self/fd/N`.
fn own_link(number: i32, text: &mut [u8; 32]) -> Outcome<&CStr> {
    const BEGINNING: &[u8] = b"/proc/self/fd/";
    let number = DecInt::new(number.unsigned_abs());
    let digits = number.as_bytes();
    text[..BEGINNING.len()].copy_from_slice(BEGINNING);
    text[BEGINNING.len()..BEGINNING.len() + digits.len()].copy_from_slice(digits);
    text[BEGINNING.len() + digits.len()] = 0;
    Ok(CStr::from_bytes_until_nul(text).map_err(|_| Errno::INVAL)?)
}

/// Puts a detached copy of the source into its slot.
pub(super) fn copy(prepared: &Prepared<'_>, slot: Slot, reach: Reach) -> Outcome {
    let source = prepared.fd(slot)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let below = if reach == Reach::Tree { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    match rustix::mount::open_tree(source, c"", flags | below) {
        Ok(tree) => prepared.replace(slot, &tree),
        // a locked mount must not be removed from the directory that it covers (mount_namespaces(7))
        Err(Errno::INVAL) if reach == Reach::One => {
            Err(Trouble::saying(Errno::INVAL, "something is mounted below it, and only rbind includes that"))
        }
        Err(other) => Err(other.into()),
    }
}

/// Puts an empty directory, which stays empty, into the slot.
pub(super) fn open_empty_tmpfs(prepared: &Prepared<'_>, slot: Slot, label: Option<&CStr>) -> Outcome {
    let tree = crate::sys::mount::empty_tmpfs(label)?;
    prepared.replace(slot, &tree)
}
