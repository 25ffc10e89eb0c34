//! Hooks in the runtime's namespaces: prestart, createRuntime, poststart, poststop. SPEC: config.md#posix-platform-hooks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::PollFlags;
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};

use super::child::{has_ended, status_of};
use super::hook_files::{HookFile, HookFiles};
use super::identity::Identity;
use crate::config::At;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::plan::annotations::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::plan::failure::signal_words;
use crate::sys::errno::in_words;
use crate::wait;

/// The longest quote of a hook's output.
const QUOTED: u64 = 4096;

/// Runs all `hooks`, and returns all failures. The specification demands this for poststop. A hook also runs if the file for
/// its output cannot be opened, because it may have something to remove.
pub(super) fn run_all(hooks: &[Hook], state: &[u8], identity: &Identity<'_>, at: &At) -> Vec<Error> {
    let mut failed: Vec<Error> = Vec::new();
    let mut file = |name| {
        let path = identity.annotations.get(name)?;
        HookFile::open(name, path).map_err(|error| failed.push(error)).ok()
    };
    let files = HookFiles { stdout: file(HOOKS_STDOUT), stderr: file(HOOKS_STDERR) };
    let list = HookList { hooks, state, identity, at, files: &files, init: None };
    failed.extend(hooks.iter().enumerate().filter_map(|(n, hook)| list.run_one(hook, n).err()));
    failed
}

/// The hooks of an existing container, from the config that it was made with. None if it has neither poststart nor
/// poststop hooks.
///
/// # Errors
/// Its config cannot be read.
pub(super) fn of_container(container: &Container) -> Result<Option<Hooks>> {
    /// Reads only the hooks of the config.
    #[derive(serde::Deserialize)]
    struct HooksMember {
        hooks: Option<Hooks>,
    }
    if container.record().coracle.as_ref().is_some_and(|own| own.without_late_hooks) {
        return Ok(None);
    }
    let text = container.config()?;
    let only: HooksMember = serde_json::from_slice(&text).context("read the container's config")?;
    Ok(only.hooks)
}

/// The hooks of one list, and what they have in common.
pub(super) struct HookList<'a> {
    pub(super) hooks: &'a [Hook],
    /// The state of the container, for their standard input.
    pub(super) state: &'a [u8],
    /// The container. Each hook runs in its bundle.
    pub(super) identity: &'a Identity<'a>,
    /// The place of the list in config.json.
    pub(super) at: &'a At,
    /// The files for their output.
    pub(super) files: &'a HookFiles,
    /// If it is set, a hook is killed when this init ends: `delete --force` has killed init, so the hook is not needed any more.
    pub(super) init: Option<BorrowedFd<'a>>,
}

impl HookList<'_> {
    /// Runs the hooks in their order.
    ///
    /// # Errors
    /// The first failure, with the output of the hook.
    pub(super) fn run(&self) -> Result<()> {
        self.hooks.iter().enumerate().try_for_each(|(n, hook)| self.run_one(hook, n))
    }

    /// Runs the hook with this number.
    fn run_one(&self, hook: &Hook, n: usize) -> Result<()> {
        self.run_to_end(hook, n).map_err(|error| error.or_kind(Kind::Hook))
    }

    fn run_to_end(&self, hook: &Hook, n: usize) -> Result<()> {
        let name = self.at.as_str().rsplit('.').next().unwrap_or_default();
        let failed = || format!("{}: error running {name} hook #{n}", self.at.index(n));
        let (mut out, mut err) = (Output::new(&self.files.stdout)?, Output::new(&self.files.stderr)?);
        let child = spawn(hook, self.state, self.identity, out.file(), err.file()).with_context(failed)?;
        let status = match wait_for(child, hook.timeout(), self.init).with_context(failed)? {
            HookEnd::Itself(status) => status,
            HookEnd::TooLate => {
                let seconds = hook.timeout().unwrap_or(0);
                bail!(Kind::Hook => "{}: hook ran past specified timeout of {seconds}.0s", failed())
            }
            HookEnd::WithInit => bail!(Kind::Hook => "{}: the container's init was killed meanwhile", failed()),
        };
        if status.success() {
            return Ok(());
        }
        let ending = match status.signal() {
            Some(signal) => signal_words(signal),
            None => format!("exit status {}", status.code().unwrap_or(-1)),
        };
        bail!(Kind::Hook => "{}: {ending}, stdout: {}, stderr: {}", failed(), out.quoted(), err.quoted())
    }
}

/// A file in memory. With a pipe, a process that the hook leaves behind could block us.
fn memfd() -> Result<File> {
    let fd = rustix::fs::memfd_create(c"hook", MemfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
    Ok(File::from(fd))
}

/// The file to which a stream of a hook is written.
enum Output<'f> {
    /// A file in memory, which a failure quotes.
    Memory(File),
    /// The file of an annotation.
    File(&'f HookFile),
}

impl Output<'_> {
    fn new(file: &Option<HookFile>) -> Result<Output<'_>> {
        file.as_ref().map_or_else(|| memfd().map(Output::Memory), |file| Ok(Output::File(file)))
    }

    fn file(&self) -> &File {
        match self {
            Output::Memory(file) => file,
            Output::File(of) => &of.file,
        }
    }

    /// The beginning of the output of a hook, or the path of the file that has it.
    fn quoted(&mut self) -> String {
        let file = match self {
            Output::Memory(file) => file,
            Output::File(of) => return format!("(in {})", of.path),
        };
        let mut text = Vec::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(QUOTED).read_to_end(&mut text));
        match read {
            Ok(_) => String::from_utf8_lossy(&text).trim_end().to_owned(),
            Err(error) => format!("(unreadable: {error})", error = in_words(&error)),
        }
    }
}

fn spawn(hook: &Hook, state: &[u8], identity: &Identity<'_>, out: &File, err: &File) -> Result<Child> {
    let mut input = memfd()?;
    input.write_all(state)?;
    input.seek(SeekFrom::Start(0))?;
    let mut command = Command::new(hook.path());
    if let Some([name, args @ ..]) = hook.args().as_deref() {
        command.arg0(name).args(args);
    }
    // As with runc: a hook gets the environment of the config. Without `env`, it gets that of our caller.
    match hook.env() {
        Some(env) => drop(command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')))),
        None => identity.environment.give_to(&mut command),
    }
    let bundle = identity.bundle;
    // The caller may have removed the bundle before poststop hooks run.
    command.current_dir(if bundle.is_dir() { bundle } else { Path::new("/") });
    // A process group of its own, so that the children of the hook can be killed with it.
    command.process_group(0).stdin(input).stdout(out.try_clone()?).stderr(err.try_clone()?);
    // A hook does not inherit the descriptors of our caller.
    crate::sys::fds::keep_only_stdio(&mut command);
    crate::sys::fds::spawn(&mut command)
        .map_err(|error| error!(Kind::Hook => "{}: {error}", hook.path().display(), error = in_words(&error)))
}

/// How the wait for a hook has ended.
enum HookEnd {
    Itself(ExitStatus),
    /// The time is over.
    TooLate,
    /// Init has ended before.
    WithInit,
}

/// Waits for the end of the hook. After its timeout, the end of init or a signal that asks us to end, kills the hook and its group.
fn wait_for(mut child: Child, timeout: Option<i64>, init: Option<BorrowedFd<'_>>) -> Result<HookEnd> {
    let (pid, pidfd) = (Pid::from_child(&child), crate::sys::fds::pidfd_of(&mut child)?);
    let time = timeout.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    let deadline = time.and_then(|time| Instant::now().checked_add(time));
    let fds: Vec<_> = [pidfd.as_fd()].into_iter().chain(init).map(|fd| (fd, PollFlags::IN)).collect();
    let one_has_ended = wait::ready(&fds, deadline);
    if one_has_ended.is_ok() && has_ended(pidfd.as_fd()) {
        return Ok(HookEnd::Itself(status_of(pidfd.as_fd())?));
    }
    // Both may have ended already.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    // It may have left its group.
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    status_of(pidfd.as_fd())?;
    Ok(if one_has_ended? { HookEnd::WithInit } else { HookEnd::TooLate })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::LazyLock;

    use super::*;
    use crate::host::{Environment, ProgramEnvironment};

    fn hook(json: &str) -> Vec<Hook> {
        serde_json::from_str(json).unwrap()
    }

    fn identity(bundle: &Path) -> Identity<'_> {
        static NONE: LazyLock<HashMap<String, String>> = LazyLock::new(HashMap::new);
        static GIVEN: LazyLock<Environment> = LazyLock::new(|| Environment {
            programs: ProgramEnvironment::Given(vec![("PATH".into(), "/usr/bin:/bin".into())]),
            ..Environment::default()
        });
        Identity { id: "x", bundle, version: "1.2.0", annotations: &NONE, init: None, environment: &GIVEN }
    }

    fn at() -> At {
        At::new("hooks.createRuntime")
    }

    /// Runs these hooks of createRuntime.
    fn run(json: &str, state: &[u8], bundle: &Path, init: Option<BorrowedFd<'_>>) -> Result<()> {
        let (hooks, identity, at, files) = (hook(json), identity(bundle), at(), HookFiles::default());
        HookList { hooks: &hooks, state, identity: &identity, at: &at, files: &files, init }.run()
    }

    #[test]
    fn a_hook_runs_in_the_bundle_with_the_environment_that_we_were_given_unless_it_has_one() {
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().canonicalize().unwrap();
        for (env, seen) in [("null", "/usr/bin:/bin"), (r#"["PATH=/x"]"#, "/x")] {
            let script = "{ /bin/pwd; echo $PATH$HOME; } > seen";
            let json = format!(r#"[{{"path":"/bin/sh","args":["sh","-c","{script}"],"env":{env}}}]"#);
            run(&json, b"", &bundle, None).unwrap();
            let found = std::fs::read_to_string(bundle.join("seen")).unwrap();
            assert_eq!(found, format!("{}\n{seen}\n", bundle.display()));
        }
        let gone = bundle.join("gone");
        run(r#"[{"path":"/bin/true","env":[]}]"#, b"", &gone, None).unwrap();
    }

    #[test]
    fn the_state_comes_in_and_the_environment_is_only_what_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seen");
        let script = format!("cat > {0}; echo \" $X $HOME\" >> {0}", file.display());
        let json = serde_json::json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["X=1", "PATH=/bin"]}]);
        run(&json.to_string(), b"STATE", Path::new("/tmp"), None).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "STATE 1 \n");
    }

    #[test]
    fn a_failure_quotes_what_was_printed_and_stops_the_rest() {
        let json = r#"[{"path":"/bin/sh","args":["sh","-c","echo out; echo err >&2; exit 3"]},{"path":"/nope"}]"#;
        assert_eq!(
            format!("{:#}", run(json, b"", Path::new("/tmp"), None).unwrap_err()),
            "hooks.createRuntime[0]: error running createRuntime hook #0: exit status 3, stdout: out, stderr: err"
        );
    }

    #[test]
    fn time_is_up_for_the_hook_and_its_children() {
        let json = r#"[{"path":"/bin/sh","args":["sh","-c","sleep 77.25 & sleep 77.25"],"timeout":1}]"#;
        let error = format!("{:#}", run(json, b"", Path::new("/tmp"), None).unwrap_err());
        assert!(error.contains("hook ran past specified timeout of 1.0s"), "{error}");
    }

    #[test]
    fn a_hook_is_killed_with_init_and_when_its_time_is_over_also_outside_of_its_group() {
        // a process of ours in the place of init, and a hook in our process group
        let mut init = Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(init.id()).unwrap()).unwrap();
        let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let json = r#"[{"path":"/bin/sh","args":["sh","-c","exec sleep 1000"]}]"#;
        let error = run(json, b"", Path::new("/tmp"), Some(ended.as_fd()));
        assert!(error.unwrap_err().to_string().contains("the container's init was killed meanwhile"));
        init.wait().unwrap();
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        assert!(matches!(wait_for(child, Some(0), None), Ok(HookEnd::TooLate)));
    }

    #[test]
    fn a_hook_that_the_caller_ends_is_not_said_to_have_failed_before_its_program() {
        let stop = wait::Stop::new().unwrap();
        stop.interrupt();
        let json = r#"[{"path":"/bin/sh","args":["sh","-c","exec sleep 1000"]}]"#;
        let error = stop.over(|| run(json, b"", Path::new("/tmp"), None)).unwrap_err();
        let expected = "hooks.createRuntime[0]: error running createRuntime hook #0: interrupted by the caller";
        assert_eq!((error.to_string().as_str(), error.kind()), (expected, &Kind::Interrupted(libc::SIGKILL)));
    }

    #[test]
    fn a_background_process_of_a_hook_does_not_block_us() {
        let started = std::time::Instant::now();
        run(r#"[{"path":"/bin/sh","args":["sh","-c","sleep 3 &"]}]"#, b"", Path::new("/tmp"), None).unwrap();
        assert!(started.elapsed().as_secs() < 2);
    }

    #[test]
    fn run_stops_at_a_missing_program_and_run_all_runs_every_hook() {
        let json = r#"[{"path":"/nope"},{"path":"/bin/false"},{"path":"/bin/true"}]"#;
        assert!(run(json, b"", Path::new("/tmp"), None).is_err());
        assert_eq!(run_all(&hook(json), b"", &identity(Path::new("/tmp")), &at()).len(), 2);
    }

    #[test]
    fn a_late_hook_runs_without_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let annotations = [(HOOKS_STDOUT.to_owned(), "/nope/file".to_owned())].into();
        let identity = Identity { annotations: &annotations, ..identity(directory.path()) };
        let json = r#"[{"path":"/bin/sh","args":["sh","-c","echo >> ran"]},{"path":"/bin/sh","args":["sh","-c","echo >> ran"]}]"#;
        let warnings: Vec<_> = run_all(&hook(json), b"", &identity, &at()).iter().map(ToString::to_string).collect();
        let open = "annotations[\"run.oci.hooks.stdout\"]: open /nope/file: ";
        assert!(warnings.len() == 1 && warnings[0].starts_with(open), "{warnings:?}");
        assert_eq!(std::fs::read_to_string(directory.path().join("ran")).unwrap(), "\n\n");
        // one of create is an error
        assert!(HookFiles::open(&annotations).unwrap_err().to_string().contains(open));
    }
}
