//! The text of a step and of its arguments: a man page's word, on one line. Plans and error messages quote it.

use std::ffi::{CStr, CString};
use std::fmt;

use super::finished::{OomScore, Opening};
use super::mount_options::{self, PROPAGATION};
use super::namespaces;
use super::ruleset::fs_names;
use super::step::{
    Absent, CallersGroups, CapabilitySets, ConsoleDevice, Content, Kept, MountChange, Namespaces, NewMount, Origin,
    Pty, Remount, Role, Setting, Slot, Step, Target, What,
};
use crate::host::IdMap;
use crate::sys::mount::{Attributes, Reach};
use crate::sys::sched::SchedAttr;
use crate::wire::Request;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.what, self.from)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::At(at) => at.fmt(f),
            Origin::Runtime(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = namespaces::names(*self).collect();
        f.write_str(if words.is_empty() { "nothing new".to_owned() } else { words.join(" ") }.as_str())
    }
}

impl fmt::Display for OomScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OomScore::OfInit(score) => write!(f, "write oom_score_adj = {score}"),
            OomScore::Inherited(score) => write!(f, "write its own oom_score_adj = {score} for the clone"),
            OomScore::InheritedIfAllowed(score) => {
                write!(f, "write its own oom_score_adj = {score} for the clone, if it may")
            }
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opening::Tree(path, Reach::One) => write!(f, "mount {}", path.display()),
            Opening::Tree(path, Reach::Tree) => write!(f, "mounts {}", path.display()),
            Opening::Source(path, ..) => write!(f, "{}", path.display()),
            Opening::IdMaps(maps) => {
                write!(f, "user namespace with uids {} gids {}", map_lines(&maps.uids), map_lines(&maps.gids))
            }
            Opening::LinkTree(path, Reach::One) => write!(f, "mount {}, the link itself", path.display()),
            Opening::LinkTree(path, Reach::Tree) => write!(f, "mounts {}, the link itself", path.display()),
            Opening::ProcTree(path) => write!(f, "proc file system {}", path.display()),
            Opening::Device(path, ..) => write!(f, "device {}", path.display()),
            Opening::Sysfs => f.write_str("mounts /sys"),
            Opening::CgroupTree(path, None) => write!(f, "cgroup {}", path.display()),
            Opening::CgroupTree(path, Some(instead)) => {
                write!(f, "cgroup {}, or if it does not exist {}", path.display(), instead.display())
            }
            Opening::Found(inner) => write!(f, "only the place: {inner}"),
            Opening::Directory(path) => write!(f, "directory {}", path.display()),
            Opening::Namespace(path, kind) => write!(f, "{} namespace {}", Namespaces(*kind), path.display()),
            Opening::Process(pid) => write!(f, "process {pid}"),
            Opening::RootOf(pid) => write!(f, "root of process {pid}"),
            Opening::Landlock(ruleset) => ruleset.fmt(f),
            Opening::FilesOfRuleset => f.write_str("files of the ruleset"),
            Opening::Null => f.write_str("null device"),
            Opening::Empty(label) => write!(f, "empty directory{}", labelled(label.as_ref())),
            Opening::HookState(status) => write!(f, "state for hooks, {status}"),
            Opening::HookOutput => f.write_str("output of hooks"),
            Opening::Terminal => f.write_str("socket for the terminal"),
            Opening::StartFifo => f.write_str("exec fifo"),
            Opening::AnswerFifo => f.write_str("answer fifo"),
        }
    }
}

impl fmt::Display for What {
    /// The man page's word and its arguments, on one line.
    #[expect(clippy::too_many_lines, reason = "a table: the text of each step")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Request(request) => write!(f, "ask {}", request_words(*request)),
            What::Join(file, namespaces) => write!(f, "setns {namespaces} of {file}"),
            What::Unshare(namespaces) => write!(f, "unshare {namespaces}"),
            What::EnterTime => f.write_str("setns time of itself"),
            What::Loopback => f.write_str("lo up"),
            What::BecomeRoot(CallersGroups::Dropped) => f.write_str("setuid 0 setgid 0"),
            What::BecomeRoot(CallersGroups::Kept) => f.write_str("setuid 0 setgid 0, with the groups of the caller"),
            What::Spawn(new) => write!(f, "clone {new}, init is the sibling"),
            What::Signals => f.write_str("signals to default"),
            What::ExitOnSignals => f.write_str("exit on SIGTERM, SIGINT, SIGHUP, SIGQUIT"),
            What::Undumpable => f.write_str("not dumpable"),
            What::Session => f.write_str("setsid"),
            What::ControllingTerminal => f.write_str("controlling terminal of the session"),
            What::Keyring(name) => write!(f, "session keyring {}", text(name)),
            What::Label { file, value } => write!(f, "label {} in /proc/self/{}", text(value), text(file)),
            What::Propagate { path, flags } => write!(f, "propagation of {} {}", text(path), propagation(*flags)),
            What::PrivateAbove(path) => write!(f, "propagation of the mount that holds {} private", text(path)),
            What::AttachRoot { tree, path, changes } => write!(f, "mount {tree} on {}{}", text(path), changed(changes)),
            What::NewMount(mount) => new_mount(mount, f),
            What::Find(slot) => write!(f, "find {slot} in our own mount namespace"),
            What::Copy(slot, Reach::One) => write!(f, "copy the mount of {slot}"),
            What::Copy(slot, Reach::Tree) => write!(f, "copy the mounts of {slot}"),
            What::EmptyDirectory(slot, label) => write!(f, "{slot} is an empty tmpfs{}", labelled(label.as_ref())),
            What::Bind(tree, changes, target) => write!(f, "bind {tree} {}", onto(target, changes)),
            What::BindOrLink(tree, changes, target) => {
                write!(f, "bind {tree}, or link as it is, {}", onto(target, changes))
            }
            What::Remount(change) => remount(change, f),
            What::Mknod(node) => write!(
                f,
                "mknod /{} {:o} {}:{} owner {}:{}",
                text(&node.path),
                node.mode,
                rustix::fs::major(node.device),
                rustix::fs::minor(node.device),
                node.uid,
                node.gid
            ),
            What::Symlink { to, path } => write!(f, "symlink /{} to {}", text(path), text(to)),
            What::Replace { to, path } => write!(f, "symlink /{} to {}, replaced", text(path), text(to)),
            What::Pivot => f.write_str("pivot_root, unmount the old root"),
            What::Unmount(path) => write!(f, "umount {}, or cover it", text(path)),
            What::MoveRoot => f.write_str("move the root to /, chroot"),
            What::Chroot(directory) => write!(f, "chroot {directory}"),
            What::Mask { path, .. } => write!(f, "mask {}", rooted(path)),
            What::ReadOnly(path) => write!(f, "read-only {}", rooted(path)),
            What::Finish { path, attributes } => write!(f, "set {} on {}", flags(attributes), rooted(path)),
            What::Sysctl { name, value } => write!(f, "write /proc/sys/{} = {}", text(name), text(value)),
            What::Hostname(name) => write!(f, "sethostname {}", text(name)),
            What::Domainname(name) => write!(f, "setdomainname {}", text(name)),
            What::Console(console) => terminal(console, f),
            What::Umask(mask) => write!(f, "umask {mask:04o}"),
            What::Groups(groups) => {
                write!(f, "setgroups {:?}", groups.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>())
            }
            What::OwnStdio(uid) => write!(f, "fchown stdio to {uid}"),
            What::Bounding(u64::MAX) => f.write_str("drop the whole bounding set"),
            What::Bounding(drop) => write!(f, "drop {} capabilities from the bounding set", drop.count_ones()),
            What::Ids { uid, gid } => write!(f, "setresgid {gid} setresuid {uid}"),
            What::Capabilities(sets) => {
                let CapabilitySets { effective, permitted, inheritable, ambient, until_exec, .. } = sets;
                write!(
                    f,
                    "capset effective {effective:x} permitted {permitted:x} inheritable {inheritable:x} ambient {ambient:x}"
                )?;
                if *until_exec == 0 { Ok(()) } else { write!(f, ", and {until_exec:x} until the exec") }
            }
            What::NoNewPrivs => f.write_str("no_new_privs"),
            What::Allow { path, access, absent, role, .. } => {
                let optional = if *absent == Absent::Skipped { ", if it exists" } else { "" };
                let same = if *role == Role::Further { ", if it is the file of create" } else { "" };
                write!(f, "allow {} beneath {}{optional}{same}", fs_names(*access).join(","), rooted(path))
            }
            What::Restrict(ruleset) => write!(f, "landlock_restrict_self {ruleset}"),
            What::Seccomp(flags) => write!(f, "seccomp filter, flags {flags:#x}"),
            What::Scheduler(attr) => scheduler(attr, f),
            What::Processes { soft, hard } => write!(f, "setrlimit RLIMIT_NPROC {soft}:{hard}"),
            What::IoPriority(value) => write!(f, "ioprio_set class {} level {}", value >> 13, value & 7),
            What::Personality(persona) => write!(f, "personality {persona:#x}"),
            What::MemoryPolicy { mode, nodes } => write!(f, "set_mempolicy {mode:#x} nodes {nodes:x?}"),
            What::DeathSignal(0) => f.write_str("no parent-death signal"),
            What::DeathSignal(signal) => write!(f, "parent-death signal {signal}"),
            What::AllCpus => f.write_str("sched_setaffinity to all"),
            What::Affinity(cpus) => write!(f, "sched_setaffinity {cpus:x?}"),
            What::MakeCwd(path) => write!(f, "mkdir {} where missing", rooted(path)),
            What::TryChdir(path) => write!(f, "chdir {} as root", text(path)),
            What::Chdir(path) => write!(f, "chdir {}, inside the root", text(path)),
            What::Home(uid) => write!(f, "HOME of uid {uid} from /etc/passwd"),
            What::CloseFds { first, kept } => closed(*first, kept, f),
            What::FindProgram(exec) => write!(f, "find {}", exec.args.iter().next().map(text).unwrap_or_default()),
            What::Ready => f.write_str("ready"),
            What::AwaitStart { .. } => f.write_str("await start"),
            What::Hooks { point, commands: hooks, .. } => {
                let confined = hooks.iter().any(|hook| hook.filter.is_some());
                let under = if confined { ", under the filter" } else { "" };
                write!(f, "run {} {} hooks{under}", hooks.len(), point.name())
            }
            What::AboutToExec(_) => f.write_str("tell start that the exec is next"),
            What::Exec(exec) => {
                write!(f, "execve {}", exec.args.iter().map(word).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

fn closed(first: u32, kept: &Kept, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "close from {first} up")?;
    let kept = kept.slots.iter().map(Slot::to_string).chain(kept.host_proc.then(|| "the host's /proc".to_owned()));
    let kept: Vec<_> = kept.collect();
    if kept.is_empty() { Ok(()) } else { write!(f, " but {}", kept.join(", ")) }
}

fn request_words(request: Request) -> String {
    match request {
        Request::IdMaps => "write uid_map and gid_map".to_owned(),
        Request::TimeOffsets => "write timens_offsets".to_owned(),
        Request::Limits => "set the resource limits".to_owned(),
        Request::Scheduler => "set the scheduler".to_owned(),
        Request::Cgroup => "be in the cgroup".to_owned(),
        Request::Delegate => "be in the delegated cgroup".to_owned(),
        Request::Hooks(_) => "run prestart, createRuntime hooks".to_owned(),
        Request::SeccompListener => "pass the seccomp listener on".to_owned(),
        Request::NetDevices => "move the network devices".to_owned(),
        Request::Tree(slot) => format!("send the mounts of #{slot}"),
        Request::MapIds(slot) => format!("idmap by #{slot}"),
        Request::CheckViews => "look for another proc or sysfs of the host".to_owned(),
        Request::Kept(device) => format!("warn that default device {device} is not made"),
    }
}

/// `0:1000:1,1:3000:10`: the first id in the container, the first id on the host, the size.
fn map_lines(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{}:{}:{}", map.container, map.host, map.size)).collect::<Vec<_>>().join(",")
}

fn labelled(label: Option<&CString>) -> String {
    label.map(|label| format!(" labelled {}", text(label))).unwrap_or_default()
}

fn scheduler(attr: &SchedAttr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let SchedAttr { policy, nice, priority, flags, .. } = attr;
    write!(f, "sched_setattr policy {policy} nice {nice} priority {priority} flags {flags:#x}")?;
    match (attr.runtime, attr.deadline, attr.period) {
        (0, 0, 0) => Ok(()),
        (runtime, deadline, period) => write!(f, " runtime {runtime} deadline {deadline} period {period}"),
    }
}

fn terminal(console: &Pty, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("terminal")?;
    if let Some((rows, columns)) = console.size {
        write!(f, " {rows}x{columns}")?;
    }
    write!(f, " of uid {}, master to {}", console.uid, console.socket)?;
    f.write_str(if matches!(console.device, ConsoleDevice::Bound(_)) { ", slave on /dev/console" } else { "" })
}

/// A word of a command line. It gets quotes if a reader could not see its end.
fn word(value: &CStr) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"';
    match text(value) {
        word if !word.is_empty() && word.chars().all(plain) => word,
        other => format!("{other:?}"),
    }
}

pub(super) fn text(value: &CStr) -> String {
    value.to_string_lossy().into_owned()
}

pub(super) fn rooted(path: &CString) -> String {
    if path.as_c_str() == c"." { "/".to_owned() } else { format!("/{}", text(path)) }
}

fn target_path(target: &Target) -> String {
    rooted(&target.path)
}

/// Where a tree is mounted, and which attributes are changed there.
pub(super) fn onto(target: &Target, changes: &[MountChange]) -> String {
    format!("on {}{}", target_path(target), changed(changes))
}

pub(super) fn settings(list: &[Setting]) -> impl Iterator<Item = String> {
    list.iter().map(|(key, value)| match value {
        Some(value) => format!("{}={}", text(key), text(value)),
        None => text(key),
    })
}

fn remount(remount: &Remount, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "remount {}", target_path(&remount.target))?;
    if !remount.settings.is_empty() {
        write!(f, " {}", settings(&remount.settings).collect::<Vec<_>>().join(","))?;
    }
    f.write_str(&changed(&remount.changes))
}

fn new_mount(mount: &NewMount, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "mount {} on {}", text(&mount.fstype), target_path(&mount.target))?;
    let words: Vec<String> = named(mount.attributes).chain(settings(&mount.settings)).collect();
    if !words.is_empty() {
        write!(f, " {}", words.join(","))?;
    }
    match mount.content {
        Content::Empty => {}
        Content::EmptyWithMode => f.write_str(" mode as below")?,
        Content::Copy => f.write_str(" filled from below")?,
    }
    if let Some(namespace) = mount.ids {
        write!(f, ", idmap by {namespace}")?;
    }
    if let Some(namespace) = mount.pid_namespace {
        write!(f, ", pids of {namespace}")?;
    }
    f.write_str(&labelled(mount.label.as_ref()))?;
    f.write_str(&changed(&mount.changes))
}

fn named(attributes: u64) -> impl Iterator<Item = String> {
    mount_options::words_that_set(attributes).map(str::to_owned)
}

fn propagation(flags: u64) -> String {
    let word = PROPAGATION.iter().find(|(_, kind)| flags & kind != 0).map_or("unchanged", |(word, _)| *word);
    if flags & libc::MS_REC == 0 { word.to_owned() } else { format!("{word}, and below") }
}

fn flags(attributes: &Attributes) -> String {
    let set = named(attributes.set);
    let atime = libc::MOUNT_ATTR__ATIME;
    let relatime = (attributes.clear & atime == atime && attributes.set & atime == 0).then(|| "relatime".to_owned());
    let cleared = named(attributes.clear & !atime).map(|name| format!("not {name}")).chain(relatime);
    let propagation = (attributes.propagation != 0).then(|| propagation(attributes.propagation));
    set.chain(cleared).chain(propagation).collect::<Vec<_>>().join(",")
}

fn changed(changes: &[MountChange]) -> String {
    changes
        .iter()
        .map(|change| {
            let below = if change.reach == Reach::Tree { " (all)" } else { "" };
            format!(", {}{below}", flags(&change.attributes))
        })
        .collect()
}
