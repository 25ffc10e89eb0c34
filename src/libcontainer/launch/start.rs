//! `start`: tells a waiting init to continue, reads its answer, and runs the poststart hooks.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::cause::Waiting;
use super::failure::{denial, ends_within, lives, must_not_have_starved};
use super::hook_files::HookFiles;
use super::hooks::{self, HookList};
use super::identity::Identity;
use super::runc;
use crate::config::{self, At};
use crate::container::{AfterStart, Container, Does, EXEC_ANSWER, EXEC_FIFO, has_executed};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::plan;
use crate::plan::failure;
use crate::status::Status;
use crate::sys::errno::words;
use crate::sys::signals;
use crate::wait::{self, limits};
use crate::wire::{Failure, GO, UP_SIZE, Up};

/// What `start` has started.
///
/// ```no_run
/// let mut container = libcontainer::Root::open("/run/coracle")?.load("box")?;
/// if container.start()? == libcontainer::Began::Nothing {
///     println!("its config.json has no process");
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// The program.
    Program,
    /// No program, because `process` is not set. The container has stopped.
    Nothing,
}

/// Tells a waiting container to continue, and returns when its program runs.
///
/// # Errors
/// It does not wait; a startContainer hook fails; its program cannot be executed; or a poststart hook fails, and the container
/// is stopped.
pub fn start(container: &mut Container) -> Result<Began> {
    let poststart = if runc::waits(container)? {
        let poststart = PoststartHooks::prepare(container)?;
        runc::start(container)?;
        poststart
    } else {
        continue_init(container)?
    };
    // ORDER: after the lock is released: a hook that never ends must not block `delete --force`.
    if has_no_process(container) {
        return Ok(Began::Nothing);
    }
    poststart.run(container).map(|()| Began::Program)
}

fn has_no_process(container: &Container) -> bool {
    container.record().coracle.is_some() && after_its_start(container).iter().all(|after| after.act() != Does::Program)
}

/// Tells our init to continue, and waits for its answer. Returns the hooks that run after the program has begun.
fn continue_init(container: &mut Container) -> Result<PoststartHooks> {
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created => {}
        Status::Running => bail!(Kind::State(Status::Running) => why_running(container)),
        Status::Paused => bail!(Kind::State(Status::Paused) => "cannot start a container in the paused state"),
        Status::Stopped => bail!(Kind::State(Status::Stopped) => "cannot start a container that has stopped"),
    }
    // ORDER: before the container continues. After an error here, it still waits.
    let poststart =
        if has_no_process(container) { PoststartHooks::default() } else { PoststartHooks::prepare(container)? };
    let directory = container.directory();
    let (last, cause) = send_go(container).context("exec fifo")?;
    for name in [EXEC_FIFO, EXEC_ANSWER] {
        // Init does not read the fifo any more. `delete` removes the file.
        let _ = fs::remove_file(directory.join(name));
    }
    must_have_begun(container, last, cause).map(|()| poststart)
}

/// Checks that the program has begun. `last` is the last packet of the answer, and `cause` the cause of a failed execve(2).
fn must_have_begun(container: &Container, last: Option<Up>, cause: Option<String>) -> Result<()> {
    match last {
        None if has_no_process(container) => Ok(()),
        None => {
            must_not_be_denied(container)?;
            must_not_have_starved(container)?;
            // Another `start` has sent the message and received the answer, and was killed before the program began.
            if lives(container) { Ok(()) } else { bail!("container init was killed before its program began") }
        }
        Some(Up::Ready) => {
            must_not_be_denied(container)?;
            must_not_have_starved(container)
        }
        Some(Up::Failed(failed)) => {
            let step = after_its_start(container).iter().find(|after| after.step == failed.step);
            let AfterStart { from, name, denied, .. } = step.cloned().unwrap_or_default();
            match denied {
                Some((errno, said)) if errno == failed.errno.raw_os_error() => bail!(said),
                _ if is_exec(container, &failed) => {
                    let because = |cause: String| failure::exec_message_with_cause(&name, failed.errno, &cause);
                    bail!("{from}: {}", cause.map_or_else(|| failure::exec_message(&name, failed.errno), because))
                }
                _ if failed.said.is_empty() => bail!("{from}: {name}: {}", words(failed.errno)),
                _ => Err(error!(Kind::Hook => failure::hook_message(&from, &name, &failed))),
            }
        }
        Some(Up::Request(_)) => bail!("unexpected packet from init"),
    }
}

/// The poststart hooks of a container, and the open files for their output.
#[derive(Debug, Default)]
pub struct PoststartHooks {
    list: Vec<Hook>,
    files: HookFiles,
}

impl PoststartHooks {
    /// Reads them from the container's config, before its program begins.
    ///
    /// # Errors
    /// The config cannot be read, or a file for the output cannot be opened.
    pub fn prepare(container: &Container) -> Result<PoststartHooks> {
        let hooks = hooks::of_container(container)?;
        let list = hooks.and_then(|hooks| hooks.poststart().clone()).unwrap_or_default();
        if list.is_empty() {
            return Ok(PoststartHooks::default());
        }
        let files = HookFiles::open(&container.record().annotations())?;
        Ok(PoststartHooks { list, files })
    }

    /// Runs the hooks, when the program runs. A hook that fails stops the container (runtime.md#lifecycle, step 9).
    ///
    /// # Errors
    /// The failure of the hook.
    pub fn run(self, container: &Container) -> Result<()> {
        if self.list.is_empty() {
            return Ok(());
        }
        let record = container.record();
        let annotations = record.annotations();
        let identity = Identity::of_record(record, &annotations, container.environment());
        let state = identity.state("running", record.init_process_pid);
        let at = At::new("hooks.poststart");
        let hooks =
            HookList { hooks: &self.list, state: &state, identity: &identity, at: &at, files: &self.files, init: None };
        hooks.run().inspect_err(|_| {
            if let Ok(process) = container.process() {
                // It may have ended already. The container must be stopped when the error is reported.
                let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
                let _ = ends_within(&process, limits::KILLED);
            }
        })
    }
}

/// Sends one byte, and reads the answer. If the program begins, the answer is `Ready`, and then the end of the stream, because
/// the execve(2) has closed the other end. Otherwise it is the failure. If the stream ends without an answer, init was killed
/// before, or had got the byte before. If the program cannot be executed, this also returns the cause, if it can be found.
fn send_go(container: &Container) -> Result<(Option<Up>, Option<String>)> {
    let directory = container.directory();
    let open = |name: &str, flags| {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let opened = rustix::fs::openat(CWD, directory.join(name), flags, Mode::empty())?;
        match FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) {
            FileType::Fifo => Ok(opened),
            // Init does not read bytes that are written there.
            _ => Err(Errno::INVAL),
        }
    };
    let answer = open(EXEC_ANSWER, OFlags::RDONLY).map_err(Error::from)?;
    let fifo = match open(EXEC_FIFO, OFlags::WRONLY) {
        Err(Errno::NXIO) => bail!(Kind::State(Status::Stopped) => "cannot start a container that has stopped"),
        other => other.map_err(Error::from)?,
    };
    rustix::io::write(&fifo, &GO).map_err(Error::from)?;
    let init = container.process().ok();
    let mut packet = [0u8; UP_SIZE];
    let (mut last, mut cause, mut packets, mut over) = (None, None, 0, false);
    loop {
        match rustix::io::read(&answer, &mut packet) {
            Ok(0) => return Ok((last, cause)),
            Err(Errno::AGAIN) if over => return Ok((last, cause)),
            Err(Errno::AGAIN) => over = is_over(container, &answer, init.as_ref())?,
            Ok(_) if packets == MOST_PACKETS => bail!("unexpected packet from init"),
            Ok(length) => {
                packets += 1;
                let up = Up::decode(&packet[..length]).ok_or_else(|| error!("unknown packet from init"))?;
                if let Up::Failed(failed) = &up {
                    cause = if is_exec(container, failed) { cause_of(container, failed) } else { None };
                    // Init waits for it, or has ended.
                    let _ = rustix::io::write(&fifo, &GO);
                }
                last = Some(up);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The largest number of packets in an answer: `Ready`, the failure of the exec, and one more from another version.
const MOST_PACKETS: u32 = 3;

/// Waits for the answer for `limits::MOMENT` at most. Returns true if no answer can come any more: init has ended, or has become the
/// program. In these cases the stream may not end, because a process of the container may have opened the fifo by /proc/PID/fd.
fn is_over(container: &Container, answer: &OwnedFd, init: Option<&OwnedFd>) -> Result<bool> {
    let moment = wait::timespec(limits::MOMENT);
    let mut fds: Vec<_> = [Some(answer), init].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut fds, Some(&moment)) {
        Ok(0) => Ok(has_executed(container.record().init_process_pid) != Some(false)),
        Ok(_) => Ok(fds.get(1).is_some_and(|init| !init.revents().is_empty())),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::from(errno).context("poll")),
    }
}

/// The reason why the program cannot be executed, while its init waits.
fn cause_of(container: &Container, failed: &Failure) -> Option<String> {
    let process = container.process().ok()?;
    let config = config::load(&container.config().ok()?).ok()?;
    let requested = config.spec.process().as_ref()?;
    let waiting = Waiting::of(container.record().init_process_pid, requested.cwd())?;
    // No other process had this pid during the read.
    signals::send(process.as_fd(), 0).ok()?;
    let paths = plan::candidates(requested);
    waiting.cause(paths.iter().map(OsStr::new), failed)
}

/// Whether the failed step is the execve(2), which is the last step.
fn is_exec(container: &Container, failed: &Failure) -> bool {
    after_its_start(container).last().is_some_and(|last| last.step == failed.step)
}

fn after_its_start(container: &Container) -> &[AfterStart] {
    container.record().coracle.as_ref().map(|own| own.after_start.as_slice()).unwrap_or_default()
}

/// After the filter is loaded, init may end without a report. If it has not executed anything by then, the program has
/// not begun.
fn must_not_be_denied(container: &Container) -> Result<()> {
    let after = after_its_start(container);
    if !after.iter().any(|after| after.act() == Does::Filter || after.denied.is_some()) {
        return Ok(());
    }
    // ORDER: by its pid, as soon as the answer has ended: the parent may reap it soon.
    match denial(after, has_executed(container.record().init_process_pid)) {
        Some(said) => bail!("{said}"),
        None => Ok(()),
    }
}

/// The reason why a container that does not wait on its fifo cannot be started. Our init keeps its end open until the
/// execve(2) has closed it.
fn why_running(container: &Container) -> String {
    let record = container.record();
    if record.coracle.is_none() || has_executed(record.init_process_pid) != Some(false) {
        return "cannot start an already running container".to_owned();
    }
    // A killed process closes its end a moment before its death can be seen.
    if !lives(container) {
        return "cannot start a container that has stopped".to_owned();
    }
    let fifo = container.directory().join(EXEC_FIFO);
    format!("container init has not executed its program, and does not wait on {}: was it replaced?", fifo.display())
}
