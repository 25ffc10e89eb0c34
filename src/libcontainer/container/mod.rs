//! An existing container: its directory below --root has state.json, the config that the container was made from, and,
//! while the container waits for `start`, its fifos.

mod added_mounts;
mod directory;
mod entered;
mod liveness;
mod mounted;
mod nested;
mod note;
mod record;
mod remains;
mod reserved;
mod root;
mod root_owner;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use directory::{FileVersion, NOTE, STATE, Unread, version};

pub use directory::Lock;
pub use liveness::{InitThread, has_executed, is_ending, open_process, start_time};
pub use mounted::MountedFile;
pub use note::{MountsBelow, Note, ProcessId};
pub use record::{
    AfterStart, Does, HostMount, OwnRecord, Record, RecordedCgroup, RecordedConfig, RecordedNamespace, RecordedRdt,
};
pub use remains::Claim;
pub use reserved::Reserved;
pub use root::{Root, check_id};

use crate::cgroup::{Cgroup, is_cgroup_file_system, is_frozen};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::Environment;
use crate::status::{Observed, ProcessState, Status, status};

/// The config.json that the container was made from.
const CONFIG: &str = "config.json";
/// Exists while the container waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";
/// The fifo from which `start` reads init's answer.
pub const EXEC_ANSWER: &str = "exec.answer";

/// An existing container.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Root, Status, Stopped};
///
/// let mut container = Root::open("/run/coracle")?.load("box")?;
/// if container.status()? == Status::Created {
///     container.start()?;
/// }
/// container.kill(libcontainer::signal_by_name("TERM")?, Stopped::Refused)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Container {
    directory: PathBuf,
    record: Record,
    seen: FileVersion,
    /// The owner of state.json.
    owner: u32,
    environment: Arc<Environment>,
}

impl Container {
    /// Reads state.json. It must have all required members.
    fn parse(
        directory: PathBuf,
        id: &str,
        (text, stat): (Vec<u8>, Stat),
        environment: &Arc<Environment>,
    ) -> Result<Container, Unread> {
        let damaged = |why: &dyn std::fmt::Display| Unread::Damaged(why.to_string());
        // As bytes: the parser need not check each string for UTF-8.
        let text = String::from_utf8(text).map_err(|error| damaged(&error))?;
        let record: Record = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        record.check(id).map_err(|why| damaged(&why))?;
        Ok(Container {
            directory,
            record,
            seen: version(&stat),
            owner: stat.st_uid,
            environment: Arc::clone(environment),
        })
    }

    /// The record.
    #[doc(hidden)]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record, to change it. `save` writes it.
    pub(crate) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The environment of its root.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The config that it was made from: our own copy, or the bundle's for a container that runc made.
    ///
    /// # Errors
    /// Neither can be read.
    pub(crate) fn config(&self) -> Result<Vec<u8>> {
        let of_bundle = || {
            let path = fs::canonicalize(self.record.bundle().join(CONFIG)).map_err(Unread::Failed)?;
            directory::read_of_anybody(CWD, &path)
        };
        let read = match directory::read(CWD, &self.directory.join(CONFIG)) {
            Err(Unread::Absent) => of_bundle(),
            other => other,
        };
        read.map(|(text, _)| text).map_err(|unread| match unread {
            Unread::Absent => error!("the config of container {:?} is missing", self.record.id),
            Unread::Damaged(why) => error!("read the config of container {:?}: {why}", self.record.id),
            Unread::Failed(error) => {
                Error::from(error).context(format!("read the config of container {:?}", self.record.id))
            }
        })
    }

    /// Its cgroup.
    pub(crate) fn cgroup(&self) -> Cgroup {
        let own = self.record.coracle.as_ref();
        let unit = own.map_or_else(|| self.record.config.cgroups.unit(), |own| own.unit.clone());
        Cgroup::recorded(self.cgroup_directories().into_owned(), unit, &self.environment)
    }

    /// Its cgroup's directories. For an ordinary user, runc also records those that it could not enter.
    fn cgroup_directories(&self) -> Cow<'_, BTreeMap<String, PathBuf>> {
        let recorded = &self.record.cgroup_paths;
        if !self.record.rootless {
            return Cow::Borrowed(recorded);
        }
        let entered = recorded.iter().filter(|(_, path)| path.is_dir());
        Cow::Owned(entered.map(|(key, path)| (key.clone(), path.clone())).collect())
    }

    /// Checks that we or root have written its record. Commands that only print it do not need this check.
    ///
    /// # Errors
    /// The owner.
    pub(crate) fn must_be_ours(&self) -> Result<()> {
        directory::must_be_own(Path::new(STATE), self.owner).with_context(|| format!("container {:?}", self.record.id))
    }

    /// Checks that its cgroups are cgroups, and not the root of a hierarchy with all of the host's processes: `delete`
    /// and `kill` kill the processes in them. A sealed record has only what we wrote.
    ///
    /// # Errors
    /// The wrong path.
    pub(crate) fn check_cgroups(&self) -> Result<()> {
        if self.record.seal().is_some() {
            return Ok(());
        }
        let id = &self.record.id;
        self.record.cgroup_paths.iter().try_for_each(|(key, path)| {
            let is_one = path.as_os_str().is_empty() || is_cgroup(path);
            if is_one {
                Ok(())
            } else {
                bail!("container {id:?}: cgroup_paths.{key}: {path:?} is not a container's cgroup")
            }
        })
    }

    /// True if all processes of the container die with its init.
    pub fn has_own_pids(&self) -> bool {
        self.record.config.namespaces.iter().any(|namespace| namespace.kind == "NEWPID" && namespace.path.is_empty())
    }

    /// Its processes, with their pids in our pid namespace: those of its cgroup or, if it has no cgroup, those of its
    /// own pid namespace.
    ///
    /// # Errors
    /// It has neither, or the kernel's error.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let cgroup = self.cgroup();
        if !cgroup.paths().is_empty() {
            return cgroup.processes();
        }
        if !self.has_own_pids() {
            bail!("container has neither a cgroup nor a pid namespace of its own, so its processes cannot be found");
        }
        match self.status()? {
            Status::Stopped => Ok(Vec::new()),
            Status::Created | Status::Running | Status::Paused => {
                liveness::with_pids_of(self.record.init_process_pid).context("look at /proc")
            }
        }
    }

    /// Its status.
    ///
    /// # Errors
    /// Its init, its freezer or its exec fifo cannot be examined. Only a process that has ended is "stopped", because
    /// `delete` relies on this.
    pub fn status(&self) -> Result<Status> {
        let process = liveness::observe(self.record.init_process_pid, self.record.init_process_start)?;
        let lives = process == ProcessState::Alive;
        Ok(status(Observed {
            process,
            frozen: lives && is_frozen(&self.cgroup_directories())?,
            waiting: lives && self.waits().context("exec fifo")?,
        }))
    }

    /// True while init has its end of the exec fifo open. A `start` that was killed may leave the file.
    fn waits(&self) -> io::Result<bool> {
        let fifo = self.directory.join(EXEC_FIFO);
        match self.record.coracle {
            Some(_) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(CWD, &fifo, flags, Mode::empty()).and_then(rustix::fs::fstat) {
                    Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo),
                    // ENXIO: no reader (fifo(7)). The last two: another file has replaced the fifo.
                    Err(Errno::NOENT | Errno::NXIO | Errno::ISDIR | Errno::LOOP) => Ok(false),
                    Err(errno) => Err(errno.into()),
                }
            }
            // runc's init waits in open(2), so only the file can be examined.
            None => fifo.try_exists(),
        }
    }

    /// A pidfd of its init: while it is open, it refers to this process only.
    ///
    /// # Errors
    /// `container not running`, or its init cannot be examined.
    pub fn process(&self) -> Result<OwnedFd> {
        open_process(self.record.init_process_pid, self.record.init_process_start)?.ok_or_else(not_running)
    }

    /// The thread of its init whose namespaces an `exec` joins.
    ///
    /// # Errors
    /// `container not running`, or its init cannot be examined.
    pub(crate) fn thread(&self) -> Result<InitThread> {
        let pid = self.record.init_process_pid;
        let found = liveness::living_thread(pid).with_context(|| format!("read /proc/{pid}/stat"))?;
        found.ok_or_else(not_running)
    }

    /// Checks that a thread still belongs to its init. Another process may have got its id, or that of init.
    ///
    /// # Errors
    /// `container not running`, or its init cannot be examined.
    pub(crate) fn must_have(&self, thread: InitThread) -> Result<()> {
        let pid = self.record.init_process_pid;
        let lives = liveness::lives_on(pid, thread).with_context(|| format!("read /proc/{pid}/task"))?;
        let state = liveness::observe(pid, self.record.init_process_start)?;
        if lives && state == ProcessState::Alive { Ok(()) } else { Err(not_running()) }
    }

    /// Takes the lock: no other process changes the container while it is held. The record is read again, because it
    /// may have changed before.
    ///
    /// # Errors
    /// The container does not exist any more, the lock is still held when the time is over, or the kernel's error.
    pub(crate) fn lock(&mut self) -> Result<Lock> {
        let lock = self.lock_if_there()?;
        lock.ok_or_else(|| Unread::Absent.error(&self.record.id))
    }

    /// The same. None if the container does not exist any more.
    ///
    /// # Errors
    /// The lock is still held when the time is over, or the kernel's error.
    pub(crate) fn lock_if_there(&mut self) -> Result<Option<Lock>> {
        self.lock_or(|_| ())
    }

    /// The same. Calls `while_held` again and again while another process holds it.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn lock_or(&mut self, while_held: impl Fn(&Container)) -> Result<Option<Lock>> {
        self.must_be_ours()?;
        let id = self.record.id.clone();
        let Some(lock) = directory::lock(&self.directory, &id, || while_held(self))? else { return Ok(None) };
        match lock.stat(STATE) {
            Ok(stat) if version(&stat) == self.seen => {}
            Err(Errno::NOENT) => return Ok(None),
            _ => {
                let read = directory::opened(&self.directory)
                    .and_then(|own| directory::read_of_anybody(own, Path::new(STATE)));
                let read = read.and_then(|read| Container::parse(self.directory.clone(), &id, read, &self.environment));
                *self = read.map_err(|unread| unread.error(&id))?;
                self.must_be_ours()?;
            }
        }
        Ok(Some(lock))
    }

    /// The current `linux.resources`: those of the last update, or those of the config.
    ///
    /// # Errors
    /// The config cannot be read.
    pub(crate) fn resources(&self) -> Result<serde_json::Value> {
        if let Some(resources) = &self.record.resources_in_force {
            return Ok(resources.clone());
        }
        let mut config: serde_json::Value = serde_json::from_slice(&self.config()?).context("read the config")?;
        Ok(config.pointer_mut("/linux/resources").map(serde_json::Value::take).unwrap_or_default())
    }

    /// Writes state.json, completely or not at all. Members that we do not know are kept.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn save(&mut self, lock: &Lock) -> Result<()> {
        let mut record = serde_json::to_value(&self.record)?;
        if let Ok(there) = lock.read(STATE)
            && let Ok(there) = serde_json::from_slice(&there)
        {
            keep_unknown(&mut record, there);
        }
        lock.write(STATE, &serde_json::to_vec(&record)?)?;
        self.seen = lock.stat(STATE).map(|stat| version(&stat)).unwrap_or_default();
        Ok(())
    }

    /// Removes its directory. The container then does not exist any more.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn remove(self, lock: &Lock) -> Result<()> {
        lock.remove(&[STATE, NOTE])
    }
}

/// True for a cgroup below the root of its hierarchy, and for a missing directory.
fn is_cgroup(path: &Path) -> bool {
    let plain = path.is_absolute() && path.components().all(|part| !matches!(part, Component::ParentDir));
    let device = |path: &Path| rustix::fs::lstat(path).map(|stat| stat.st_dev);
    match rustix::fs::statfs(path) {
        Err(errno) => plain && errno == Errno::NOENT,
        Ok(there) => {
            plain && is_cgroup_file_system(&there) && path.parent().is_some_and(|above| device(above) == device(path))
        }
    }
}

fn not_running() -> Error {
    error!(Kind::State(Status::Stopped) => "container not running")
}

/// Copies the members of `there` that `record` does not know.
fn keep_unknown(record: &mut serde_json::Value, there: serde_json::Value) {
    let (Some(record), serde_json::Value::Object(there)) = (record.as_object_mut(), there) else { return };
    for (key, value) in there {
        match record.get_mut(&key) {
            Some(known) => keep_unknown(known, value),
            None => drop(record.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runc_wrote_and_we_do_not_know_stays() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("x")).unwrap();
        let runcs = r#"{"id":"x","init_process_pid":7,"config":{"rootfs":"/r","rlimits":null,"cgroups":{"path":"/x","freezer":7}},"time":1}"#;
        fs::write(directory.path().join("x").join(STATE), runcs).unwrap();
        let mut container = root.load("x").unwrap();
        let lock = container.lock().unwrap();
        container.record_mut().resources_in_force = Some(serde_json::json!({"pids": {"limit": 5}}));
        container.save(&lock).unwrap();
        let text = fs::read(directory.path().join("x").join(STATE)).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&state["config"]["cgroups"]["freezer"], &state["time"]), (&7.into(), &1.into()));
        assert!(state["config"].as_object().unwrap().contains_key("rlimits") && state["coracle"].is_null());
        assert_eq!(root.load("x").unwrap().resources().unwrap()["pids"]["limit"], 5);
    }
}
