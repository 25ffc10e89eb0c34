//! `mounts`, in their order. SPEC: config.md#mounts.

use std::ffi::{CStr, CString};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::draft::{Draft, Opening};
use super::mount_options::{self, MountOptions, Recursion};
use super::namespaces::{self, CGROUP, IPC, Kinds, NETWORK, PID, USER};
use super::step::{Change, Content, Last, Missing, NewMount, Slot, Target, What};
use super::{Asked, cgroup_mounts, labels, mount_ids, process, rootfs};
use crate::config::At;
use crate::host::Mounts;
use crate::sys::mount::{Attributes, Reach};
use crate::wire::Ask;

/// The only places under /proc that may be mounted over: what lxcfs and the like provide.
const PROC_FILES: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];
/// File systems whose superblock the mount shares with others: read-only is a matter of the mount alone.
const SHARED_SUPERBLOCKS: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"];

/// The longest value that fsconfig(2) takes.
const MAX_SETTING: usize = 255;
/// The longest text that mount(2) takes: a page with its NUL.
const MAX_DATA: usize = 4095;
/// Flags of the superblock as fsconfig(2) and as mount(2) name them.
const SUPERBLOCK: [(&CStr, u64); 5] = [
    (c"ro", libc::MS_RDONLY),
    (c"sync", libc::MS_SYNCHRONOUS),
    (c"dirsync", libc::MS_DIRSYNC),
    (c"mand", libc::MS_MANDLOCK),
    (c"lazytime", 1 << 25),
];

/// One mount, as far as it is understood.
pub(super) struct Entry<'a> {
    pub(super) mount: &'a Mount,
    pub(super) at: At,
    /// Clean, relative to the root.
    pub(super) destination: String,
    pub(super) options: MountOptions,
}

pub(super) fn all(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let list = ask.config.spec.mounts().as_deref().unwrap_or_default();
    let mut in_cgroup = false;
    for (n, mount) in list.iter().enumerate() {
        let at = At::new("mounts").index(n);
        let Some(entry) = entry(mount, at, plan) else { continue };
        close_below(&entry, plan);
        if entry.options.bind.is_some() {
            bind(ask, kinds, &entry, plan);
        } else if entry.options.remount {
            remount(&entry, plan);
        } else if matches!(entry.mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            if !std::mem::replace(&mut in_cgroup, true) {
                cgroup_namespace(kinds, plan);
            }
            cgroup_mounts::mount(ask, kinds, &entry, plan);
        } else {
            new(ask, kinds, &entry, plan);
        }
    }
    notify(ask, plan);
    if !in_cgroup {
        cgroup_namespace(kinds, plan);
    }
}

/// A read-only tmpfs becomes so at the end, when all in it has been made. What is mounted on the same place covers it, and a
/// remount has the last word: it is closed before.
fn close_below(entry: &Entry<'_>, plan: &mut Draft) {
    let here = |(path, ..): &(CString, At, Attributes)| path.to_bytes() == entry.destination.as_bytes();
    while let Some(n) = plan.closing.iter().position(here) {
        let (path, at, attributes) = plan.closing.remove(n);
        plan.at(&at, What::Finish(path, attributes));
    }
}

/// ORDER: only inside its cgroup, or the namespace would have another root (cgroup_namespaces(7)).
fn cgroup_namespace(kinds: &Kinds, plan: &mut Draft) {
    if kinds.new.has(CGROUP) {
        let at = At::new("linux.namespaces");
        plan.at(&at, What::Ask(Ask::Cgroup));
        plan.at(&at, What::Unshare(super::step::Namespaces(namespaces::bit(LinuxNamespaceType::Cgroup))));
    }
}

fn entry<'a>(mount: &'a Mount, at: At, plan: &mut Draft) -> Option<Entry<'a>> {
    let options = mount.options().as_deref().unwrap_or_default();
    let (options, warnings) = mount_options::parse(options, &at.key("options"));
    plan.warnings(warnings);
    let place = at.key("destination");
    let text = mount.destination().to_str().unwrap_or_default();
    if text.is_empty() || text.contains('\0') {
        plan.fault(&place, "is empty or no text");
        return None;
    }
    if !mount.destination().is_absolute() {
        // SPEC: config.md#mounts: relative destinations are deprecated and begin at the root
        plan.warn(&place, format!("{text:?} is not absolute; it is taken from the root"));
    }
    let destination = clean(Path::new(text));
    if destination == "." {
        plan.fault(&place, "nothing may be mounted on the root itself");
        return None;
    }
    if let Some(n) = mount_ids::own_form(mount) {
        let said = "mappings in an option are crun's own: write them to uidMappings and gidMappings";
        plan.fault(&at.key("options").index(n), said);
    }
    let entry = Entry { mount, at, destination, options };
    proc_is_safe(&entry, plan);
    Some(entry)
}

/// `path` relative to the root, `..` taken literally and never above it. `.` for the root.
pub(super) fn clean(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// What lies on /proc decides what labels and limits are written to (CVE-2019-16884, CVE-2019-19921).
fn proc_is_safe(entry: &Entry<'_>, plan: &mut Draft) {
    let place = entry.at.key("destination");
    let procfs = entry.mount.typ().as_deref() == Some("proc") && entry.options.bind.is_none();
    // a bind of the host's /proc is checked where its source is opened
    if entry.destination == "proc" && !procfs && entry.options.bind.is_none() && !entry.options.remount {
        plan.fault(&place, "only a proc file system may be mounted on /proc");
    }
    if let Some(below) = entry.destination.strip_prefix("proc/")
        && !PROC_FILES.contains(&below)
        && !entry.options.remount
    {
        plan.fault(&place, format!("{:?} is inside /proc", format!("/{}", entry.destination)));
    }
}

fn target(entry: &Entry<'_>, missing: Missing, last: Last, plan: &mut Draft) -> Option<Target> {
    let path = process::c_string(&entry.destination, &entry.at.key("destination"), plan)?;
    Some(Target { path, missing, last })
}

/// What is changed on a detached mount before it is attached: flags of the whole tree, then each propagation in order.
pub(super) fn changes(options: &MountOptions) -> Vec<Change> {
    let mut list = Vec::new();
    if options.set_recursive != 0 || options.clear_recursive != 0 {
        let attributes =
            Attributes { set: options.set_recursive, clear: options.clear_recursive, ..Attributes::default() };
        list.push(Change { attributes, reach: Reach::Tree });
    }
    for propagation in &options.propagation {
        let attributes = Attributes { propagation: propagation.kind, ..Attributes::default() };
        let reach = if propagation.recursion == Recursion::Recursive { Reach::Tree } else { Reach::One };
        list.push(Change { attributes, reach });
    }
    list
}

fn new(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) {
    let Some(fstype) = entry.mount.typ().as_deref().filter(|fstype| !fstype.is_empty() && *fstype != "none") else {
        let is = if entry.mount.typ().as_deref() == Some("none") { "is \"none\"" } else { "is missing" };
        plan.fault(&entry.at.key("type"), format!("{is}, and the options say neither bind nor rbind"));
        return;
    };
    let last = if ["proc", "sysfs"].contains(&fstype) { Last::Ordinary } else { Last::Any };
    let Some(target) = target(entry, Missing::Directory, last, plan) else { return };
    let Some(settings) = settings(ask, entry, fstype, plan) else { return };
    let Some(fstype_c) = process::c_string(fstype, &entry.at.key("type"), plan) else { return };
    let content = match (fstype, entry.options.copy_up) {
        ("tmpfs", true) => Content::Copy,
        ("tmpfs", false) if !entry.options.data.iter().any(|(key, _)| key == "mode") => Content::EmptyWithMode,
        (_, true) => {
            plan.warn(&entry.at.key("options"), "tmpcopyup is for a tmpfs only: ignored");
            Content::Empty
        }
        _ => Content::Empty,
    };
    let mut attributes = entry.options.set;
    // ORDER: /dev gets its nodes, and whatever covers it its mount points, before it is closed to writing
    let read_only = libc::MOUNT_ATTR_RDONLY;
    if fstype == "tmpfs" && attributes & read_only != 0 {
        attributes &= !read_only;
        plan.closing.push((
            target.path.clone(),
            entry.at.key("options"),
            Attributes { set: read_only, ..Attributes::default() },
        ));
    }
    let classic = classic(entry, &settings, plan);
    let ids = mount_ids::of_new(ask, kinds, entry, plan);
    if ids.is_some() && classic.is_some() {
        plan.fault(
            &entry.at.key("options"),
            format!("more than {MAX_SETTING} bytes in one option do not go with mapped ids"),
        );
    }
    let mount = NewMount {
        fstype: fstype_c,
        settings,
        attributes,
        changes: changes(&entry.options),
        target,
        content,
        classic,
        ids,
        label: labels::of_root(ask, fstype, plan),
        fallback: instead(ask, kinds, fstype).map(|opening| plan.open(&entry.at, opening)),
        pid_namespace: None,
    };
    mount.fallback.iter().for_each(|slot| plan.copy(&entry.at, *slot));
    plan.at(&entry.at, What::NewMount(mount));
}

/// What is bound where the kernel refuses a mount: the host's own of the kind. A proc shows a pid namespace, a sysfs a network
/// namespace, an mqueue one of ipc, and only who owns that one may mount it; and only who sees all of one that is there already may mount another
/// (mount_namespaces(7)), which in a container nobody does.
fn instead(ask: &Asked<'_>, kinds: &Kinds, fstype: &str) -> Option<Opening> {
    let bounded = kinds.private(USER) || !ask.host.me.is_root();
    match fstype {
        // the host's shows the wrong processes to who has a pid namespace of their own
        "proc" if bounded && !kinds.private(PID) => Some(Opening::ProcTree("/proc".into())),
        "mqueue" if bounded && !kinds.private(IPC) => Some(Opening::Tree("/dev/mqueue".into(), Reach::One)),
        "sysfs" if bounded && !(kinds.new.has(NETWORK) && ask.host.me.is_root()) => Some(Opening::Sysfs),
        _ => None,
    }
}

/// fsconfig(2)'s keys: the source, the superblock's flags, the file system's own options.
pub(super) fn settings(
    ask: &Asked<'_>,
    entry: &Entry<'_>,
    fstype: &str,
    plan: &mut Draft,
) -> Option<Vec<(CString, Option<CString>)>> {
    let at = entry.at.key("options");
    let mut settings = Vec::new();
    if let Some(source) = entry.mount.source().as_ref().and_then(|source| source.to_str()).filter(|s| !s.is_empty()) {
        settings.push((CString::from(c"source"), Some(process::c_string(source, &entry.at.key("source"), plan)?)));
    }
    for flag in &entry.options.superblock {
        settings.push((process::c_string(flag, &at, plan)?, None));
    }
    let own_superblock = !SHARED_SUPERBLOCKS.contains(&fstype) && fstype != "tmpfs";
    if own_superblock && entry.options.set & libc::MOUNT_ATTR_RDONLY != 0 {
        settings.push((CString::from(c"ro"), None));
    }
    let label = labels::of_mount(ask, fstype, &entry.options.data);
    let label = label.map(|label| ("context".to_owned(), Some(label.to_owned())));
    for (key, value) in entry.options.data.iter().chain(&label) {
        let key = process::c_string(key, &at, plan)?;
        let value = match value {
            Some(value) => Some(process::c_string(value, &at, plan)?),
            None => None,
        };
        settings.push((key, value));
    }
    Some(settings)
}

/// Settings too long for fsconfig(2) go through mount(2), as one text.
fn classic(entry: &Entry<'_>, settings: &[(CString, Option<CString>)], plan: &mut Draft) -> Option<(u64, CString)> {
    if settings.iter().flat_map(|(_, value)| value).all(|value| value.count_bytes() <= MAX_SETTING) {
        return None;
    }
    let mut flags = 0;
    let mut data = Vec::new();
    for (key, value) in settings.iter().filter(|(key, _)| key.as_c_str() != c"source") {
        match (SUPERBLOCK.iter().find(|(word, _)| *word == key.as_c_str()), value) {
            (Some((_, flag)), None) => flags |= flag,
            (None, None) => data.push(key.to_bytes().to_vec()),
            // a label's categories have commas between them, and SELinux reads it in quotes
            (_, Some(value)) if key.to_bytes().ends_with(b"context") => {
                data.push([key.to_bytes(), b"=\"", value.to_bytes(), b"\""].concat());
            }
            (_, Some(value)) => data.push([key.to_bytes(), b"=", value.to_bytes()].concat()),
        }
    }
    let data = data.join(&b',');
    if data.len() > MAX_DATA {
        let problem = format!("{} bytes, and {MAX_DATA} is the most that mount(2) takes", data.len());
        plan.fault(&entry.at.key("options"), problem);
    }
    Some((flags, CString::new(data).unwrap_or_default()))
}

fn remount(entry: &Entry<'_>, plan: &mut Draft) {
    if mount_ids::asked(entry) {
        plan.fault(&entry.at, "the ids of an existing mount cannot be mapped (remount)");
    }
    let Some(target) = target(entry, Missing::Directory, Last::Any, plan) else { return };
    let attributes = Attributes { set: entry.options.set, clear: entry.options.clear, ..Attributes::default() };
    let mut list = vec![Change { attributes, reach: Reach::One }];
    list.extend(changes(&entry.options));
    plan.at(&entry.at, What::Remount(list, target));
}

fn bind(ask: &Asked<'_>, kinds: &Kinds, entry: &Entry<'_>, plan: &mut Draft) {
    let place = entry.at.key("source");
    let Some(source) = entry.mount.source().as_ref().filter(|source| !source.as_os_str().is_empty()) else {
        plan.fault(&place, "is missing, and a bind mount needs one");
        return;
    };
    let reach = if entry.options.bind == Some(Recursion::Recursive) { Reach::Tree } else { Reach::One };
    let links = entry.options.links;
    let path = ask.flags.bundle.join(source);
    let ids = mount_ids::of(ask, kinds, entry, plan);
    let opening = if entry.destination == "proc" {
        Opening::ProcTree(path)
    } else if links.source_itself || links.copied {
        Opening::LinkTree(path, reach)
    } else {
        Opening::Source(path, reach, ids)
    };
    if ids.is_some() && !matches!(opening, Opening::Source(..)) {
        plan.fault(&entry.at, "the ids of a link or of a proc file system cannot be mapped");
    }
    let later = matches!(opening, Opening::Source(..));
    let slot = plan.open(&place, opening);
    let last = if links.destination_itself { Last::Itself } else { Last::Any };
    let Some(target) = target(entry, Missing::LikeSource(slot), last, plan) else { return };
    if ask.host.me.mounts == Mounts::Inside {
        plan.copy(&entry.at, slot);
    } else if later {
        // KERNEL(6.8): mountinfo(5) lists mounts by their age, so a tree is not to be older than what is mounted before it
        match u32::try_from(slot.0) {
            Ok(slot) => plan.at(&entry.at, What::Ask(Ask::Tree(slot))),
            Err(_) => plan.fault(&entry.at, "is one mount too many"),
        }
    }
    attach(ask, entry, slot, target, plan);
}

/// The detached tree gets the propagation that a mount made inside would have had, its own flags, and its place.
pub(super) fn attach(ask: &Asked<'_>, entry: &Entry<'_>, slot: Slot, target: Target, plan: &mut Draft) {
    let mut list = inherited_propagation(ask);
    if list.is_empty() && mount_ids::asked(entry) {
        // a peer of the host's mount would carry our ids there, and bring foreign ones here
        let attributes = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
        list.push(Change { attributes, reach: Reach::Tree });
    }
    let (set, clear) = (entry.options.set, entry.options.clear);
    if set | clear != 0 {
        list.push(Change { attributes: Attributes { set, clear, ..Attributes::default() }, reach: Reach::One });
    }
    list.extend(changes(&entry.options));
    let what = if entry.options.links.copied { What::BindOrLink } else { What::Bind };
    plan.at(&entry.at, what(slot, list, target));
}

/// A tree copied on the host is still a peer of the host's mounts: it is made what everything below `/` was made, before
/// it is attached, or what is mounted in it would appear on the host.
pub(super) fn inherited_propagation(ask: &Asked<'_>) -> Vec<Change> {
    let flags = rootfs::propagation(ask).0 & !libc::MS_REC;
    if flags == libc::MS_SHARED {
        return Vec::new();
    }
    let attributes = Attributes { propagation: flags, ..Attributes::default() };
    vec![Change { attributes, reach: Reach::Tree }]
}

/// The directory of the sd_notify proxy's socket (NOTIFY_SOCKET).
fn notify(ask: &Asked<'_>, plan: &mut Draft) {
    let Some(directory) = &ask.flags.notify else { return };
    let at = At::new("NOTIFY_SOCKET");
    let slot = plan.open(&at, Opening::Tree(PathBuf::from(directory), Reach::One));
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
    let mut list = inherited_propagation(ask);
    list.push(Change { attributes: Attributes { set, ..Attributes::default() }, reach: Reach::One });
    plan.copy(&at, slot);
    let target = Target { path: CString::from(c"run/notify"), missing: Missing::Directory, last: Last::Any };
    plan.at(&at, What::Bind(slot, list, target));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_never_climbs_above_the_root() {
        for (given, wanted) in
            [("/a/b", "a/b"), ("a//b/", "a/b"), ("/../../x", "x"), ("/a/../b/./c", "b/c"), ("/", "."), ("/..", ".")]
        {
            assert_eq!(clean(Path::new(given)), wanted, "{given}");
        }
    }
}
