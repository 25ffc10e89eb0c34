//! The last steps: the working directory, HOME, the hooks, the search for the program, and the exec.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::prepared::{HOME, MOST_OF_HOME, Outcome, Prepared, Trouble};
use super::protocol;
use crate::plan::step::{EnvOf, Execve, HookCommand, Kept, Slot};
use crate::sys;
use crate::sys::bounded::Bounded;
use crate::sys::errno::retry;
use crate::sys::plain::is_plain;
use crate::wire::{About, Ending, HookPoint, WORDS_SIZE, Words};

/// Enters the working directory with the rights of root. `chdir` tries again after the ids have changed: root may not be allowed
/// to enter, or the directory does not exist for the bridge (/proc/self, if it is not in the pid namespace). The check is made
/// here, because later a filter may forbid getcwd(2).
pub(super) fn try_chdir(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    match rustix::process::chdir(path) {
        Ok(()) => {
            prepared.left.arrived.set(true);
            must_be_inside()
        }
        Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// Enters the working directory with the rights of the user, unless `try_chdir` has done it.
pub(super) fn chdir(prepared: &Prepared<'_>, path: &CStr) -> Outcome {
    if prepared.left.arrived.get() {
        return Ok(());
    }
    rustix::process::chdir(path)?;
    must_be_inside()
}

/// A process could leave the container by a working directory outside the root (CVE-2024-21626). getcwd(2) returns
/// `(unreachable)` for such a directory.
fn must_be_inside() -> Outcome {
    let mut buffer = [0u8; 4096];
    match sys::cwd::getcwd(&mut buffer) {
        Ok(cwd) if cwd.starts_with(b"/") => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(Trouble::saying(Errno::NOENT, "the directory is not inside the container")),
        Err(other) => Err(other.into()),
    }
}

/// The largest part of /etc/passwd that is read. The file is hostile, and a hole can make it very large.
const MOST_OF_PASSWD: usize = 16 << 20;

/// The errors of open(2) that mean that the file does not exist for us: no such name, dangling links, a directory that
/// we may not enter, a socket, or a device without a driver.
const NOT_THERE: [Errno; 7] =
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::ACCESS, Errno::NXIO, Errno::NODEV];

/// Reads the home directory from the container's /etc/passwd. The file may be hostile: it must be a regular file in the root, and
/// at most 16 MiB are read. Files of proc are regular files, too, and reading one can have an effect (/proc/kmsg).
pub(super) fn home(prepared: &Prepared<'_>, uid: u32) -> Outcome {
    let mut home = prepared.left.home.borrow_mut();
    home.truncate(0);
    if !b"HOME=/\0".iter().all(|byte| home.push(*byte)) {
        return Err(Trouble::from(Errno::NOBUFS));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // for `exec`, our root is the container's, and the current directory is the program's
    let own = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = prepared.root.is_none().then(|| rustix::fs::openat(CWD, c"/", own, Mode::empty())).transpose()?;
    let root = own.as_ref().map_or_else(|| prepared.root(), |own| Ok(own.as_fd()))?;
    let file = match super::resolve::open_in(root, c"etc/passwd", flags, super::resolve::Way::Any) {
        Ok(file) => file,
        Err(trouble) if NOT_THERE.contains(&trouble.errno) => return Ok(()),
        Err(other) => return Err(other),
    };
    // the image may be on any file system, also on a network or on FUSE
    let readable = is_plain(file.as_fd()) || rustix::fs::fstatfs(&file)?.f_type == rustix::fs::fstatfs(root)?.f_type;
    if !readable || FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let mut text = [0u8; 4096];
    let (mut search, mut left) = (Search::new(uid, &mut home), MOST_OF_PASSWD);
    while search.found.is_none() && left > 0 {
        let length = retry(|| rustix::io::read(&file, &mut text))?;
        if length == 0 {
            break;
        }
        text[..length].iter().for_each(|byte| search.take(*byte));
        left = left.saturating_sub(length);
    }
    search.end()
}

/// The result of parsing the user's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UserEntry {
    /// A home directory.
    Home,
    /// It is too long for a path.
    TooLong,
}

/// Finds the sixth field of the first line whose third field is the uid (passwd(5)). It takes the text byte by byte, and needs
/// little stack, which may be small (`ulimit -s`).
struct Search<'h> {
    uid: u32,
    /// The field of the line, from 0.
    field: usize,
    /// The number in the third field; None if it is not a number.
    id: Option<u32>,
    /// The number of its digits.
    digits: usize,
    /// The entry of the environment, with as much of the sixth field as fits.
    entry: &'h mut Bounded<u8>,
    length: usize,
    found: Option<UserEntry>,
}

impl<'h> Search<'h> {
    fn new(uid: u32, entry: &'h mut Bounded<u8>) -> Search<'h> {
        entry.truncate(HOME.len());
        Search { uid, field: 0, id: Some(0), digits: 0, entry, length: 0, found: None }
    }

    fn take(&mut self, byte: u8) {
        match (byte, self.field) {
            _ if self.found.is_some() => {}
            (b'\n', _) => self.end_line(),
            (b':', _) => self.field += 1,
            (_, 2) => {
                let digit = char::from(byte).to_digit(10);
                self.id = self.id.and_then(|id| id.checked_mul(10)?.checked_add(digit?));
                self.digits += 1;
            }
            (_, 5) => {
                if self.length < MOST_OF_HOME {
                    self.entry.push(byte);
                }
                self.length += 1;
            }
            _ => {}
        }
    }

    fn end_line(&mut self) {
        let is_theirs = self.field >= 5 && self.digits > 0 && self.id == Some(self.uid);
        if is_theirs && self.entry.get(HOME.len()) == Some(&b'/') {
            self.found = Some(if self.length <= MOST_OF_HOME { UserEntry::Home } else { UserEntry::TooLong });
            return;
        }
        self.entry.truncate(HOME.len());
        (self.field, self.id, self.digits, self.length) = (0, Some(0), 0, 0);
    }

    /// The end of the text: the entry is what was found, or `/`.
    fn end(mut self) -> Outcome {
        // the last line may have no newline
        self.take(b'\n');
        if self.found != Some(UserEntry::Home) {
            self.entry.truncate(HOME.len());
            self.entry.push(b'/');
        }
        self.entry.push(0);
        match self.found {
            Some(UserEntry::TooLong) => Err(Trouble::saying(Errno::NAMETOOLONG, "it is longer than 4095 bytes")),
            Some(UserEntry::Home) | None => Ok(()),
        }
    }
}

/// The descriptors that are kept are close-on-exec already.
pub(super) fn close_fds(prepared: &Prepared<'_>, first: u32, kept: &Kept) -> Outcome {
    let opened = kept.slots.iter().filter_map(|slot: &Slot| prepared.fd(*slot).ok());
    let host_proc = kept.host_proc.then(|| prepared.proc.as_fd());
    let kept = opened.chain(host_proc).chain([prepared.talk.as_fd()]);
    sys::fds::close_but(prepared.alone, first, kept)?;
    if let Some((soft, hard)) = prepared.nofile {
        sys::sched::set_limit(0, libc::RLIMIT_NOFILE, soft, hard)?;
    }
    Ok(())
}

/// Reports errors at `create` that `exec` would report only at `start`.
pub(super) fn find(exec: &Execve) -> Outcome {
    let mut found = Trouble::from(Errno::NOENT);
    for (n, path) in exec.candidates.iter().enumerate() {
        match rustix::fs::statat(CWD, path, AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                found = of_candidate(n, Errno::ISDIR)
            }
            Ok(_) => match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
                Ok(()) => return Ok(()),
                // KERNEL(5.8): faccessat2; if it is missing, or the filter does not know it, the exec itself reports
                // the error
                Err(Errno::NOSYS | Errno::PERM) => return Ok(()),
                Err(errno) => found = of_candidate(n, errno),
            },
            Err(errno) if goes_on(exec, errno) => {}
            Err(errno) => found = of_candidate(n, errno),
        }
    }
    Err(found)
}

/// Tries the candidates as execvp(3) does. The result is the last error that is not just "not found".
pub(super) fn exec(prepared: &Prepared<'_>, exec: &Execve) -> Outcome {
    let home = prepared.left.home.borrow();
    let home = CStr::from_bytes_until_nul(&home).ok();
    let mut error = Trouble::from(Errno::NOENT);
    for (n, path) in exec.candidates.iter().enumerate() {
        match sys::exec::execve(path, &exec.args, &exec.env, home) {
            errno if goes_on(exec, errno) => {}
            errno => error = of_candidate(n, errno),
        }
    }
    Err(error)
}

/// True if `errno` says only that the program does not exist. ENOTDIR of a single candidate is reported: its path leads below a file.
fn goes_on(exec: &Execve, errno: Errno) -> bool {
    errno == Errno::NOENT || errno == Errno::NOTDIR && exec.candidates.len() > 1
}

/// The error, and the number of the candidate. The runtime looks for the cause there only.
fn of_candidate(n: usize, errno: Errno) -> Trouble {
    u32::try_from(n).map_or(errno.into(), |n| Trouble::about(errno, About::Candidate(n)))
}

/// Runs each hook in turn. It gets the state on its standard input. The runtime can read its output.
pub(super) fn hooks(
    prepared: &Prepared<'_>,
    point: HookPoint,
    hooks: &[HookCommand],
    state: Slot,
    output: Slot,
) -> Outcome {
    let around = Around {
        root: match point {
            HookPoint::CreateContainer => Some(prepared.root()?),
            HookPoint::CreateRuntime | HookPoint::StartContainer => None,
        },
        state: prepared.fd(state)?,
        output: prepared.fd(output)?,
    };
    for (n, hook) in hooks.iter().enumerate() {
        if let Some((ending, failed)) = run_hook(prepared, hook, &around)? {
            let n = u32::try_from(n).map_err(|_| Errno::RANGE)?;
            return Err(Trouble { said: failed.said.about(About::Hook(n, ending)), ..failed });
        }
    }
    Ok(())
}

/// The values that all hooks of one point get.
struct Around<'a> {
    /// The container's root, as long as it is not `/`: before pivot_root(2).
    root: Option<BorrowedFd<'a>>,
    /// Their standard input.
    state: BorrowedFd<'a>,
    /// Their standard output and error.
    output: BorrowedFd<'a>,
}

/// Returns how it failed, with the error of the call that failed before it began.
fn run_hook(prepared: &Prepared<'_>, hook: &HookCommand, around: &Around<'_>) -> Outcome<Option<(Ending, Trouble)>> {
    rustix::fs::seek(around.state, rustix::fs::SeekFrom::Start(0))?;
    let pid = sys::clone::fork(|_| {
        let Err((call, errno)) = become_hook(prepared, hook, around);
        prepared.page.hook_has_not_begun(call, errno);
        sys::clone::exit(if errno == Errno::NOENT { 127 } else { 126 })
    })?;
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = hook.timeout.map(|seconds| Timespec { tv_sec: seconds.into(), tv_nsec: 0 });
    let ended = retry(|| rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], deadline.as_ref()))?;
    if ended == 0 {
        // the hook leads its own process group, so that what it started is killed with it
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        // it may have left its group
        let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        let _ = reap(pidfd.as_fd());
        return Ok(Some((Ending::Late(hook.timeout.unwrap_or(0)), Errno::TIMEDOUT.into())));
    }
    let status = reap(pidfd.as_fd())?;
    if let Some((call, errno)) = prepared.page.hook_failure() {
        let (mut said, call) = ([0; WORDS_SIZE], CALLS[call]);
        let text = [call.as_bytes(), b" ", hook.path.to_bytes()].into_iter().flatten();
        let length = said.iter_mut().zip(text).map(|(into, byte)| *into = *byte).count();
        let said = Words::of(&said[..length]);
        return Ok(Some((Ending::Call, Trouble { said, ..errno.into() })));
    }
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => None,
        (_, Some(signal)) => Some((Ending::Signal(signal), Errno::CANCELED.into())),
        (status, None) => Some((Ending::Status(status.unwrap_or(1)), Errno::CANCELED.into())),
    }))
}

/// The status of a hook that has ended or was killed. A process that traces it can keep its end.
fn reap(hook: BorrowedFd<'_>) -> Outcome<Option<rustix::process::WaitIdStatus>> {
    let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    let end = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    for _ in 0..200 {
        if let Some(status) = retry(|| rustix::process::waitid(WaitId::PidFd(hook), end))? {
            return Ok(Some(status));
        }
        retry(|| rustix::event::poll(&mut [], Some(&moment)))?;
    }
    Err(Trouble::saying(Errno::TIMEDOUT, "a process that traces the hook has not released its exit status"))
}

/// The calls of a hook's process before the hook begins. The index is the number in the shared page.
const CALLS: [&str; 5] = ["chdir", "its standard streams", "close_range", "seccomp", "execve"];

/// Returns only if a call fails: its number, and the error.
fn become_hook(prepared: &Prepared<'_>, hook: &HookCommand, around: &Around<'_>) -> Result<Infallible, (u16, Errno)> {
    let _ = rustix::process::setpgid(None, None);
    // until pivot_root(2) we work with umask 0, and a hook has the caller's, as the hooks of the runtime
    if let Some(mask) = around.root.and_then(|_| prepared.left.umask.get()) {
        rustix::process::umask(mask);
    }
    // a hook runs in the container's root, as with runc
    around.root.map_or_else(|| rustix::process::chdir(c"/"), rustix::process::fchdir).map_err(|errno| (0, errno))?;
    dup2_stdin(around.state)
        .and_then(|()| dup2_stdout(around.output))
        .and_then(|()| dup2_stderr(around.output))
        .map_err(|errno| (1, errno))?;
    // ORDER: before the exec: a hook gets its three streams and no descriptor of ours (CVE-2024-21626)
    sys::fds::close_on_exec_from(3).map_err(|errno| (2, errno))?;
    if let Some(flags) = hook.filter {
        protocol::load_filter(prepared, flags).map_err(|trouble| (3, trouble.errno))?;
    }
    let home = prepared.left.home.borrow();
    let home = CStr::from_bytes_until_nul(&home).ok().filter(|_| hook.env_of == EnvOf::Process);
    Err((4, sys::exec::execve(&hook.path, &hook.args, &hook.env, home)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::prepared::ROOM_FOR_HOME;

    #[test]
    fn home_is_the_sixth_field_of_the_users_line() {
        let long = format!("long:{}:7:7:{}:/{}:\n", "x".repeat(9000), "g".repeat(9000), "h".repeat(MOST_OF_HOME));
        let text = "root:x:0:0:root:/root:/bin/sh\nbad\n:::\nu:x:1000:1000::/home/u:/bin/sh\nv:x:1001:1:::\n";
        let text = format!(
            "{text}{long}s::6:7::relative:\nten::10:1::{}\ne:::9::/empty\nbig:x:4294967304:1::/big:\nlast:x:8:8::/last",
            "/h".repeat(2000)
        );
        let entry_of = |uid| {
            let mut entry = Bounded::with_capacity(ROOM_FOR_HOME);
            HOME.iter().for_each(|byte| assert!(entry.push(*byte)));
            let mut search = Search::new(uid, &mut entry);
            text.bytes().for_each(|byte| search.take(byte));
            let errno = search.end().err().map(|trouble| trouble.errno);
            (String::from_utf8(entry.to_vec()).unwrap(), errno)
        };
        let home = |home: &str| (format!("HOME={home}\0"), None);
        for (uid, wanted) in [(0, home("/root")), (1000, home("/home/u")), (8, home("/last")), (1001, home("/"))] {
            assert_eq!(entry_of(uid), wanted, "{uid}");
        }
        for (uid, wanted) in [(6, home("/")), (9, home("/")), (10, home(&"/h".repeat(2000)))] {
            assert_eq!(entry_of(uid), wanted, "{uid}");
        }
        assert_eq!(entry_of(7), ("HOME=/\0".to_owned(), Some(Errno::NAMETOOLONG)));
    }
}
