//! The message for a failed step: `mounts[3]: mount tmpfs on /dev/shm: Unknown parameter 'rox' (EINVAL)`. The runtime
//! has the plan, and writes the message once. The words that engines match are here.

use std::borrow::Cow;
use std::path::Path;

use rustix::io::Errno;

use super::finished::Plan;
use super::seccomp::Denied;
use super::step::{NewMount, Step, What};
use crate::config::distance;
use crate::printable::line;
use crate::sys::errno::{from_number, said_with, words};
use crate::wire::{About, Ending, Failure, Request};

/// The whole message for a failed step. `source` is the path of the file that the step mounts.
pub fn message(step: &Step, failure: &Failure, source: Option<&Path>) -> String {
    let at = step.from.to_string();
    let text = one_is_a_directory(&at, &step.what, failure, source)
        .or_else(|| source_is_not_opened(&at, &step.what, failure, source))
        .unwrap_or_else(|| message_by_step(&at, &step.what, failure, source));
    match &step.what {
        // A missing system call there concerns the program or the hook, not the runtime.
        What::Exec(_) | What::Hooks { .. } => text,
        _ if failure.errno == Errno::NOSYS => text + MISSING,
        _ => text,
    }
}

/// A directory mounted on a file, or the reverse. Docker matches the words "not a directory" to give a hint.
fn one_is_a_directory(at: &str, what: &What, failure: &Failure, source: Option<&Path>) -> Option<String> {
    let (one, other) = match failure.said.subject() {
        About::FileOnDirectory => ("file", "directory"),
        About::DirectoryOnFile => ("directory", "file"),
        _ => return None,
    };
    let source = match (what, source) {
        (What::NewMount(mount), _) => mount.fstype.to_string_lossy().into_owned(),
        (_, Some(source)) => source.display().to_string(),
        (_, None) => "it".to_owned(),
    };
    let target = super::step_text::rooted(&what.target()?.path);
    Some(format!("{at}: mount {source} (a {one}) on {target} (a {other}): {}", words(failure.errno)))
}

/// A source that init opens itself. The words are the same as for sources that the runtime opens before the fork.
fn source_is_not_opened(at: &str, what: &What, failure: &Failure, source: Option<&Path>) -> Option<String> {
    let source = source?.display();
    match what {
        What::Request(Request::Tree(_)) => Some(format!("{at}.source: open {source}: {}", why(failure))),
        What::Copy(..) => Some(format!("{at}: open {source}: {}", why(failure))),
        _ => None,
    }
}

/// docs/kernel.md names these system calls.
const MISSING: &str =
    ": a call of Linux 5.12 is missing: the kernel is older, or a seccomp profile around the runtime hides it";

/// The result of a step that runs under the filter.
#[derive(Clone, Copy, Debug)]
pub enum StepEnd<'f> {
    /// The step failed.
    Errno(&'f Failure),
    /// SIGSYS killed the process.
    Killed,
}

impl Plan {
    /// The likely cause of an exec that was denied, if the container has a Landlock ruleset.
    pub fn denied_by_ruleset(&self, errno: Errno) -> Option<&'static str> {
        let restricted = || self.init.iter().chain(&self.bridge).any(|step| matches!(step.what, What::Restrict(_)));
        (errno == Errno::ACCESS && restricted()).then_some(RULESET_DENIES)
    }

    /// The message for step `n`, if the profile denies its call. `n` counts the bridge's steps, too.
    pub fn denied(&self, n: usize, end: StepEnd<'_>) -> Option<String> {
        let (step, call) = self.after_filter(n, end)?;
        let so = match (end, self.filter.as_ref()?.denies(&call)?) {
            (StepEnd::Errno(failure), Denied::With(errno)) if failure.errno.raw_os_error() == errno => {
                words(failure.errno)
            }
            (StepEnd::Killed, Denied::ByDeath) => KILLED.to_owned(),
            _ => return None,
        };
        Some(profile_denies(step, &call, &so))
    }

    /// The result if the profile always denies the call of step `n`: the errno (0 if the process is killed), and the
    /// message.
    pub fn denied_always(&self, n: usize) -> Option<(i32, String)> {
        let (step, call) = self.after_filter(n, StepEnd::Killed)?;
        let (errno, so) = match self.filter.as_ref()?.denies(&call)? {
            Denied::With(errno) => (errno, words(from_number(errno))),
            Denied::ByDeath => (0, KILLED.to_owned()),
        };
        Some((errno, profile_denies(step, &call, &so)))
    }

    /// A step that comes after the filter is loaded, and its system call.
    fn after_filter(&self, n: usize, end: StepEnd<'_>) -> Option<(&Step, String)> {
        let n = n.checked_sub(self.bridge.len())?;
        let loaded = self.init.iter().position(|step| matches!(step.what, What::Seccomp(_)))?;
        let step = self.init.get(n).filter(|_| n > loaded)?;
        let call = match (&step.what, end) {
            (What::Exec(_), _) => "execve".to_owned(),
            (What::Hooks { .. }, _) => return None,
            (_, StepEnd::Errno(failure)) => failure.said.text().into_owned(),
            // A process that waits is in read(2).
            (_, StepEnd::Killed) => "read".to_owned(),
        };
        Some((step, call))
    }
}

const RULESET_DENIES: &str = "the Landlock ruleset does not allow to execute it, or its interpreter";
const KILLED: &str = "killed by SIGSYS";

fn profile_denies(step: &Step, call: &str, so: &str) -> String {
    let name = match &step.what {
        What::Exec(exec) => exec.args.iter().next().map(|name| format!(" {:?}", name.to_string_lossy())),
        _ => None,
    };
    format!("linux.seccomp: {call}{}: {so}: the profile denies it", name.unwrap_or_default())
}

fn message_by_step(at: &str, what: &What, failure: &Failure, source: Option<&Path>) -> String {
    match what {
        What::FindProgram(exec) | What::Exec(exec) => {
            let name = exec.args.iter().next().map(|name| name.to_string_lossy()).unwrap_or_default();
            format!("{at}: {}", exec_message(&name, failure.errno))
        }
        What::Hooks { point, .. } => hook_message(at, point.name(), failure),
        What::Chdir(path) | What::TryChdir(path) if failure.said.is_empty() => {
            format!("{at}: chdir to cwd ({:?}) set in config.json: {}", path.to_string_lossy(), words(failure.errno))
        }
        What::NewMount(mount) => {
            let (fstype, target) = (mount.fstype.to_string_lossy(), super::step_text::rooted(&mount.target.path));
            let unclear = matches!(failure.errno, Errno::NOENT | Errno::INVAL) && failure.said.is_empty();
            let with = if unclear { settings(mount) } else { String::new() };
            let hint = hint(&fstype, failure).map(|hint| format!(": {hint}")).unwrap_or_default();
            format!("{at}: mount {fstype} on {target}: {}{hint}{with}", why(failure))
        }
        // The plan's slot number means nothing to the user. The message shows the source's path instead.
        What::Bind(_, changes, target) | What::BindOrLink(_, changes, target) => {
            let no_place = failure.said.subject() == About::NoPlace;
            let changes: &[_] = if no_place { &[] } else { changes };
            let source =
                source.filter(|_| !no_place).map(|source| format!("{} ", source.display())).unwrap_or_default();
            format!("{at}: bind {source}{}: {}", super::step_text::onto(target, changes), why(failure))
        }
        // The kernel admits such a task to a whole root domain alone (sched(7)).
        What::Scheduler(attr) if attr.policy.cast_signed() == libc::SCHED_DEADLINE && failure.errno == Errno::PERM => {
            let cause = "SCHED_DEADLINE needs CAP_SYS_NICE and all CPUs";
            let words_of_runc = "process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)";
            format!("{at}: {what}: {}: {cause}: {words_of_runc}", why(failure))
        }
        What::Remount(..) if failure.errno == Errno::INVAL && failure.said.is_empty() => {
            format!("{at}: {what}: {}: is there a mount at this place?", why(failure))
        }
        other => format!("{at}: {other}: {}", why(failure)),
    }
}

/// The longest list of options in a message, in characters.
const MAX_SETTINGS: usize = 200;

/// The source and the options, for a message without the kernel's own words: the kernel does not say which of them it
/// refuses.
fn settings(mount: &NewMount) -> String {
    let all: Vec<_> = super::step_text::settings(&mount.settings).collect();
    if all.is_empty() {
        return String::new();
    }
    let text = format!(": with {}", all.join(", "));
    match text.char_indices().nth(MAX_SETTINGS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A hint that the errno does not give: the mount would show files of another user namespace, or more than this mount namespace
/// shows (mount_namespaces(7)).
fn hint(fstype: &str, failure: &Failure) -> Option<Cow<'static, str>> {
    let said = match (fstype, failure.errno) {
        _ if failure.said.text().contains("too revealing") => {
            "the one that is mounted here is covered in part, and a new one would show the covered files"
        }
        (_, Errno::NODEV) if failure.said.is_empty() => return Some(unknown_file_system(fstype).into()),
        (_, Errno::PERM) if ON_A_DEVICE.contains(&fstype) => {
            "it is on a block device, and only root of the initial user namespace mounts one"
        }
        ("mqueue", Errno::PERM) => "the ipc namespace belongs to another user namespace",
        ("proc", Errno::PERM) => {
            "the pid namespace belongs to another user namespace, or this /proc is covered in part"
        }
        ("devpts" | "tmpfs", Errno::INVAL) if is_of_ids(&failure.said.text()) => {
            "the user namespace does not map this id (linux.uidMappings, linux.gidMappings)"
        }
        _ => return None,
    };
    Some(said.into())
}

/// The kernel's words about a uid or gid that the user namespace does not have.
fn is_of_ids(said: &str) -> bool {
    ["gid", "uid"].iter().any(|name| said.contains(name))
}

/// File systems that the kernel does not mount in a user namespace.
const ON_A_DEVICE: [&str; 8] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "iso9660", "squashfs"];

/// File systems that a config.json can mount.
const FILE_SYSTEMS: [&str; 21] = [
    "tmpfs",
    "proc",
    "sysfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "overlay",
    "ext4",
    "xfs",
    "btrfs",
    "nfs",
    "9p",
    "virtiofs",
    "securityfs",
    "debugfs",
    "tracefs",
    "bpf",
    "ramfs",
    "hugetlbfs",
    "fuse",
];

fn unknown_file_system(fstype: &str) -> String {
    let near = |known: &&&str| distance(known, fstype) == 1;
    match FILE_SYSTEMS.iter().find(near) {
        _ if FILE_SYSTEMS.contains(&fstype) => {
            format!("this kernel has no {fstype} now (modprobe {fstype} loads it, if the module is installed)")
        }
        Some(meant) => format!("this kernel does not know the file system: did you mean {meant:?}?"),
        None => "this kernel does not know the file system".to_owned(),
    }
}

/// The kernel's own words, if there are any; otherwise the errno's.
fn why(failure: &Failure) -> String {
    let errno = failure.errno;
    match failure.said.subject() {
        _ if failure.said.is_empty() => words(errno),
        About::Candidate(_) => words(errno),
        About::Text => said_with(&detail(failure), errno),
        _ => format!("{}: {}", detail(failure), words(errno)),
    }
}

/// The text that a failure adds to its errno. Empty without one.
pub fn detail(failure: &Failure) -> String {
    let said = match failure.said.subject() {
        About::Text => failure.said.text().into_owned(),
        About::NoPlace => "the mount point is missing, and cannot be made".to_owned(),
        About::FileOnDirectory => "a file on a directory".to_owned(),
        About::DirectoryOnFile => "a directory on a file".to_owned(),
        About::Copy => format!("tmpcopyup: copy {}", failure.said.text()),
        About::Candidate(_) => String::new(),
        About::Hook(_, ending) => ended(ending, failure),
    };
    // A process that traces init can choose its words.
    line(&said).into_owned()
}

/// Engines match these words to return exit status 126 or 127: `executable file not found in $PATH`, `no such file or
/// directory`, `permission denied`, `is a directory`, `not a directory`.
pub fn exec_message(name: &str, errno: Errno) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR if !name.contains('/') => {
            let hint =
                if name.contains(char::is_whitespace) { ": each word of a command is one element of args" } else { "" };
            format!("exec: {name:?}: executable file not found in $PATH{hint}")
        }
        Errno::NOENT => format!("exec: {name:?}: stat {name}: {}", words(errno)),
        // execve(2) fails with EACCES on a directory. Older Docker clients return 126 only for that word.
        Errno::ISDIR => format!("exec: {name:?}: is a directory: {}", words(Errno::ACCESS)),
        other => format!("exec: {name:?}: {}", words(other)),
    }
}

/// A program that exists and cannot be executed, and the cause.
pub fn exec_message_with_cause(name: &str, errno: Errno, cause: &str) -> String {
    // The message has the name already.
    let own = format!("{name:?} ");
    let cause = cause.strip_prefix(&own).unwrap_or(cause);
    match errno {
        // The file exists, and execve(2) refuses it. These are runc's words for this.
        Errno::NOENT | Errno::NOEXEC => format!("exec {name}: {}: {cause}", words(errno)),
        _ => format!("exec: {name:?}: {}: {cause}", words(errno)),
    }
}

/// The message for a hook of the list at `at`.
pub fn hook_message(at: &str, name: &str, failure: &Failure) -> String {
    match failure.said.subject() {
        About::Hook(n, ending) => {
            format!("{at}[{n}]: error running {name} hook #{n}: {}", ended(ending, failure))
        }
        // The init of another version.
        _ => format!("{at}: error running {name} hook: {}", why(failure)),
    }
}

/// `signal: killed (SIGKILL)`: Go's words, and the name.
pub fn signal_words(signal: i32) -> String {
    let words = match signal {
        libc::SIGKILL => "killed",
        libc::SIGTERM => "terminated",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGINT => "interrupt",
        libc::SIGHUP => "hangup",
        libc::SIGPIPE => "broken pipe",
        other => return format!("signal: signal {other}"),
    };
    let name = nix::sys::signal::Signal::try_from(signal).map_or("", nix::sys::signal::Signal::as_str);
    format!("signal: {words} ({name})")
}

fn ended(ending: Ending, failure: &Failure) -> String {
    match ending {
        Ending::Call => format!("{}: {}", failure.said.text(), words(failure.errno)),
        Ending::Status(status) => format!("exit status {status}"),
        Ending::Signal(libc::SIGSYS) => {
            "signal: bad system call (SIGSYS): linux.seccomp denies one of its calls".to_owned()
        }
        Ending::Signal(signal) => signal_words(signal),
        Ending::Late(seconds) => format!("hook ran past specified timeout of {seconds}.0s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::At;
    use crate::plan::step::{Execve, Last, Missing, MountChange, Slot, Target};
    use crate::sys::exec::Strings;
    use crate::sys::mount::{Attributes, Reach};
    use crate::wire::Words;

    fn failure(errno: Errno, said: &str) -> Failure {
        Failure { step: 0, errno, said: Words::of(said.as_bytes()) }
    }

    #[test]
    fn what_init_says_cannot_act_on_a_terminal() {
        let step = Step::new(&At::new("hostname"), What::Hostname(c"x".to_owned()));
        let hostile = failure(Errno::NOENT, "\x1b[31mEVIL\x07\ncoracle: error: no");
        let expected = "hostname: sethostname x: \\u{1b}[31mEVIL\\u{7}\\ncoracle: error: no (ENOENT)";
        assert_eq!(message(&step, &hostile, None), expected);
    }

    fn about(errno: Errno, about: About) -> Failure {
        Failure { step: 0, errno, said: Words::NONE.about(about) }
    }

    #[test]
    fn a_missing_program_is_reported_in_the_words_that_engines_match() {
        let exec = |name: &str| {
            let args = Strings::new(&[name]).unwrap();
            Step::new(
                &At::new("process.args"),
                What::Exec(Execve { candidates: vec![], args: args.clone(), env: args }),
            )
        };
        let text = |name, errno| message(&exec(name), &failure(errno, ""), None);
        assert_eq!(text("nope", Errno::NOENT), "process.args: exec: \"nope\": executable file not found in $PATH");
        assert_eq!(text("nope", Errno::NOTDIR), "process.args: exec: \"nope\": executable file not found in $PATH");
        assert_eq!(text("/f/x", Errno::NOTDIR), "process.args: exec: \"/f/x\": not a directory (ENOTDIR)");
        assert_eq!(
            text("/nope", Errno::NOENT),
            "process.args: exec: \"/nope\": stat /nope: no such file or directory (ENOENT)"
        );
        assert!(text("/x", Errno::ACCESS).contains("permission denied"));
        assert_eq!(
            text("/etc", Errno::ISDIR),
            "process.args: exec: \"/etc\": is a directory: permission denied (EACCES)"
        );
    }

    #[test]
    fn a_missing_place_is_reported_with_the_kernels_word_and_a_tree_without_its_number() {
        let target = Target { path: c"x".to_owned(), missing: Missing::File, last: Last::Any };
        let attributes = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
        let change = MountChange { attributes, reach: Reach::Tree };
        let step = Step::new(&At::new("mounts[1]"), What::Bind(Slot(2), vec![change], target));
        assert_eq!(
            message(&step, &about(Errno::ROFS, About::NoPlace), None),
            "mounts[1]: bind on /x: the mount point is missing, and cannot be made: read-only file system (EROFS)"
        );
        assert_eq!(
            message(&step, &failure(Errno::PERM, ""), Some(Path::new("/src"))),
            "mounts[1]: bind /src on /x, slave (all): operation not permitted (EPERM)"
        );
    }

    #[test]
    fn a_directory_and_a_file_are_reported_with_both_sides() {
        let target = Target { path: c"dst".to_owned(), missing: Missing::File, last: Last::Any };
        let step = Step::new(&At::new("mounts[3]"), What::Bind(Slot(2), Vec::new(), target));
        let text = |subject| message(&step, &about(Errno::NOTDIR, subject), Some(Path::new("/src")));
        assert_eq!(
            text(About::FileOnDirectory),
            "mounts[3]: mount /src (a file) on /dst (a directory): not a directory (ENOTDIR)"
        );
        assert_eq!(
            text(About::DirectoryOnFile),
            "mounts[3]: mount /src (a directory) on /dst (a file): not a directory (ENOTDIR)"
        );
    }

    #[test]
    fn a_hook_is_named_by_its_number_and_its_end_and_words_decide_nothing() {
        let made = |errno, said: &str, subject| {
            let said = Words::of(said.as_bytes()).about(subject);
            hook_message("hooks.createContainer", "createContainer", &Failure { step: 0, errno, said })
        };
        let ended = |ending| made(Errno::CANCELED, "", About::Hook(2, ending));
        let start = "hooks.createContainer[2]: error running createContainer hook #2: ";
        assert_eq!(ended(Ending::Status(3)), format!("{start}exit status 3"));
        assert_eq!(ended(Ending::Signal(9)), format!("{start}signal: killed (SIGKILL)"));
        assert!(ended(Ending::Signal(libc::SIGSYS)).ends_with("(SIGSYS): linux.seccomp denies one of its calls"));
        assert_eq!(ended(Ending::Late(10)), format!("{start}hook ran past specified timeout of 10.0s"));
        let call = made(Errno::NOENT, "signal 31", About::Hook(2, Ending::Call));
        assert_eq!(call, format!("{start}signal 31: no such file or directory (ENOENT)"));
        let other = made(Errno::CANCELED, "0 exit status 1", About::Text);
        assert!(other.starts_with("hooks.createContainer: error running createContainer hook: 0 exit status 1 ("));
    }

    #[test]
    fn the_kernels_own_words_come_before_the_errno() {
        let step = Step::new(&At::new("hostname"), What::Hostname(c"x".to_owned()));
        assert_eq!(
            message(&step, &failure(Errno::PERM, ""), None),
            "hostname: sethostname x: operation not permitted (EPERM)"
        );
        assert_eq!(message(&step, &failure(Errno::INVAL, "no"), None), "hostname: sethostname x: no (EINVAL)");
        // The same words from the kernel do not change the message.
        let words = failure(Errno::INVAL, "copy a file on a directory");
        assert_eq!(message(&step, &words, None), "hostname: sethostname x: copy a file on a directory (EINVAL)");
        let copy = Failure { said: Words::of(b"/a").about(About::Copy), ..words };
        assert_eq!(
            message(&step, &copy, None),
            "hostname: sethostname x: tmpcopyup: copy /a: invalid argument (EINVAL)"
        );
    }
}
