//! The containers on disk: one directory for each container below --root. It has state.json, the config that the
//! container was made from, and, while the container waits for `start`, its fifos.

mod directory;
mod identity;
mod mounted;
mod note;
mod record;
mod remains;
mod status;

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use directory::{Attempt, NOTE, STATE, Unread, Version, version};

pub use directory::Lock;
pub use identity::{has_executed, is_ending, open_process, start_time};
pub use mounted::{Mounted, MountedFile};
pub use note::{MountsBelow, Note, ProcessId};
pub use record::{
    AfterStart, Does, HostMount, OwnRecord, Record, RecordedCgroup, RecordedConfig, RecordedNamespace, RecordedRdt,
};
pub use remains::{Claim, Remains};
pub use status::{Observed, Process, Status, status};

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::wait::limits;

/// The config.json that the container was made from.
const CONFIG: &str = "config.json";
/// Exists while the container waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";
/// The fifo from which `start` reads init's answer.
pub const EXEC_ANSWER: &str = "exec.answer";

/// The directory that holds all containers of one `--root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

/// An existing container.
#[derive(Clone, Debug)]
pub struct Container {
    directory: PathBuf,
    record: Record,
    seen: Version,
}

/// The locked directory of a container that is being made. Drop removes it if nothing was made.
#[derive(Debug)]
pub struct Reserved {
    lock: Option<Lock>,
    note: Note,
}

/// Checks an id: it must be a file name that needs no quoting.
///
/// # Errors
/// `invalid container ID format`, with the id.
pub fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.chars().all(fine) {
        bail!("invalid container ID format: {id:?} (letters, digits, and any of _ + - . are allowed)");
    }
    Ok(())
}

impl Root {
    /// The directory at `path`, which may be missing.
    ///
    /// # Errors
    /// `path` is `/` or empty: everything below it would be a container. Or it is relative, and the current directory
    /// was removed.
    pub fn open(path: impl AsRef<Path>) -> Result<Root> {
        let path = match std::path::absolute(path.as_ref()) {
            Err(error) if error.kind() != std::io::ErrorKind::InvalidInput => {
                bail!("--root: {}: {error}", path.as_ref().display())
            }
            // An empty path has no absolute path.
            absolute => absolute.unwrap_or_default(),
        };
        // Also "/..", which is the same.
        if !path.components().any(|part| matches!(part, Component::Normal(_))) {
            bail!("Option --root argument should not be set to /");
        }
        Ok(Root { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that no other user can put a container there: the directory is ours, only we may write it, and a user who
    /// may write the directory above cannot replace it.
    ///
    /// # Errors
    /// Its owner, or the users who may write it.
    pub fn must_be_ours(&self) -> Result<()> {
        let above = self.path.parent().unwrap_or(&self.path);
        directory::must_stay_in_place(above)?;
        directory::must_be_safe(&self.path, directory::Writable::Never)
    }

    /// Reserves `id` for a new container.
    ///
    /// # Errors
    /// An invalid id, an id in use, or the kernel's error.
    pub fn reserve(&self, id: &str) -> Result<Reserved> {
        check_id(id)?;
        let pid = i32::try_from(std::process::id())?;
        let start = start_time(pid)?
            .ok_or_else(|| error!("read /proc/{pid}/stat: the process of coracle itself is missing"))?;
        let directory = self.path.join(id);
        let make = || DirBuilder::new().mode(0o711).create(&directory);
        let mut made = make();
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            DirBuilder::new().mode(0o700).recursive(true).create(&self.path).context("--root")?;
            // Sticky, so that systemd-tmpfiles does not remove it by age.
            fs::set_permissions(&self.path, Permissions::from_mode(0o1700)).context("--root")?;
            made = make();
        }
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(Kind::Exists => "container with given ID already exists: {id}")
            }
            made => made.with_context(|| format!("mkdir {}", directory.display()))?,
        }
        let note = Note { creator: ProcessId { pid, start }, ..Note::default() };
        Ok(Reserved { lock: Some(Reserved::locked(&directory, id)?), note })
    }

    /// The container `id`.
    ///
    /// # Errors
    /// `container does not exist`, also while it is being made; or its state.json is damaged or unreadable.
    pub fn load(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        self.read(id).map_err(|unread| unread_error(id, unread))
    }

    fn read(&self, id: &str) -> Result<Container, Unread> {
        let directory = self.path.join(id);
        let (text, stat) = directory::read(CWD, &directory.join(STATE))?;
        Container::of(directory, id, text, &stat)
    }

    /// The ids of all directories, sorted. Empty if the root does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("--root {}", self.path.display())),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("--root {}", self.path.display()))?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            // ".cache": where an older version has put compiled filters.
            if check_id(&id).is_ok() && (id != ".cache" || self.path.join(&id).join(STATE).exists()) {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

/// The error for an unreadable state.json.
fn unread_error(id: &str, unread: Unread) -> Error {
    match unread {
        Unread::Absent => error!(Kind::NotFound => "container {id:?}: container does not exist"),
        Unread::Damaged(why) => error!("container {id:?}: state.json is damaged: {why}"),
        Unread::Failed(error) => Error::from(error).context(format!("container {id:?}: read its state")),
    }
}

impl Reserved {
    /// Whether the new directory is ours: it is the one at its path, and no other process has begun to make a container
    /// in it.
    fn locked(directory: &Path, id: &str) -> Result<Lock> {
        // While it is open, no other directory has its inode number.
        let own = rustix::fs::open(directory, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let opened = match &own {
            Err(Errno::NOENT) => Ok(Attempt::Gone),
            Err(errno) => Err(error!("open {}: {errno}", directory.display())),
            Ok(own) => directory::open_to_mapped(own)
                .with_context(|| format!("chmod {}", directory.display()))
                .and_then(|()| Lock::take(directory, Instant::now() + limits::LOCK)),
        };
        let lock = match opened {
            Ok(Attempt::Locked(lock)) => lock,
            // The process that holds it, or has removed it, may have made room for another creator: the directory at
            // the path is not ours.
            Ok(Attempt::Gone) => bail!("container {id:?} was deleted while it was made"),
            Ok(Attempt::Held) => bail!("container {id:?}: {} has held its lock for 10 s", directory::holder(directory)),
            Err(error) => {
                // It cannot be locked. An empty directory must not stay.
                if own.is_ok_and(|own| directory::is_at(&own, directory) == Ok(true)) {
                    let _ = fs::remove_dir(directory);
                }
                return Err(error);
            }
        };
        if !matches!((lock.stat(NOTE), lock.stat(STATE)), (Err(Errno::NOENT), Err(Errno::NOENT))) {
            // If it cannot be examined, it may be empty.
            let _ = fs::remove_dir(directory);
            bail!(Kind::Exists => "container with given ID already exists: {id}");
        }
        Ok(lock)
    }

    pub(crate) fn lock(&self) -> Result<&Lock> {
        self.lock.as_ref().ok_or_else(|| error!("the container's directory is not locked"))
    }

    /// A `delete --force` during the making ends only the container's processes, and not its creator.
    pub fn spare_creator(&mut self) {
        self.note.creator = ProcessId::default();
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.lock.as_ref().map_or(Path::new(""), Lock::path)
    }

    /// What must be undone so far.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Writes to the note what will be made. If we are killed now, `delete --force` finds it there.
    ///
    /// # Errors
    /// The kernel's error. The value has the entry all the same.
    pub fn take_note(&mut self, change: impl FnOnce(&mut Note)) -> Result<()> {
        change(&mut self.note);
        let (lock, text) = (self.lock()?, self.note.encode()?);
        match lock.stat(NOTE) {
            Err(Errno::NOENT) => lock.write(NOTE, &text),
            // ext4 writes a file that is renamed over another to the disk at once (auto_da_alloc).
            _ => lock.append(NOTE, &text),
        }
    }

    /// Stores a copy of the config: later changes of the bundle do not affect this container.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn keep_config(&self, text: &[u8]) -> Result<()> {
        self.lock()?.write(CONFIG, text).context("keep the config")
    }

    /// Writes state.json: from now on the container exists.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn record(&self, mut record: Record) -> Result<Container> {
        record.set_seal()?;
        let mut container = Container { directory: self.path().to_path_buf(), record, seen: (0, 0, 0, 0) };
        container.save(self.lock()?)?;
        Ok(container)
    }

    /// The container is complete. No other process changes it before the lock is dropped.
    ///
    /// # Errors
    /// It was not locked.
    pub fn made(mut self) -> Result<Lock> {
        self.lock.take().ok_or_else(|| error!("the container's directory is not locked"))
    }

    /// Everything in the note is undone: the id is free.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn give_up(mut self) -> Result<()> {
        self.lock.take().map_or(Ok(()), |lock| lock.remove(&[STATE, NOTE]))
    }

    /// Something remains, and is in the note: the directory stays for `delete --force`.
    pub fn leave(mut self) {
        drop(self.lock.take());
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let nothing_made = Note { creator: self.note.creator, ..Note::default() } == self.note;
        if let Some(lock) = self.lock.take().filter(|_| nothing_made) {
            let _ = lock.remove(&[STATE, NOTE]);
        }
    }
}

impl Container {
    /// Reads state.json. It must have all required members.
    fn of(directory: PathBuf, id: &str, text: Vec<u8>, stat: &Stat) -> Result<Container, Unread> {
        let damaged = |why: &dyn std::fmt::Display| Unread::Damaged(why.to_string());
        // As bytes: the parser need not check each string for UTF-8.
        let text = String::from_utf8(text).map_err(|error| damaged(&error))?;
        let record: Record = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        record.check(id).map_err(|why| damaged(&why))?;
        Ok(Container { directory, record, seen: version(stat) })
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record, to change it. `save` writes it.
    pub fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The config that it was made from: our own copy, or the bundle's for a container that runc made.
    ///
    /// # Errors
    /// Neither can be read.
    pub fn config(&self) -> Result<Vec<u8>> {
        let of_bundle = || {
            let path = fs::canonicalize(self.record.bundle().join(CONFIG)).map_err(Unread::Failed)?;
            directory::read(CWD, &path)
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
    pub fn cgroup(&self) -> Cgroup {
        let own = self.record.coracle.as_ref();
        let unit = own.map_or_else(|| self.record.config.cgroups.unit(), |own| own.unit.clone());
        let mut paths = self.record.cgroup_paths.clone();
        if self.record.rootless {
            // runc also records directories that it could not enter.
            paths.retain(|_, path| path.is_dir());
        }
        Cgroup::open(paths, unit)
    }

    /// Checks that its cgroups are cgroups, and not the root of a hierarchy with all of the host's processes: `delete`
    /// and `kill` kill the processes in them. A sealed record has only what we wrote.
    ///
    /// # Errors
    /// The wrong path.
    pub fn check_cgroups(&self) -> Result<()> {
        if self.record.seal().is_some() {
            return Ok(());
        }
        let id = &self.record.id;
        self.record.cgroup_paths.iter().try_for_each(|(key, path)| {
            let is_one = path.as_os_str().is_empty() || directory::is_cgroup(path);
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
                identity::with_pids_of(self.record.init_process_pid).context("look at /proc")
            }
        }
    }

    /// Its status.
    ///
    /// # Errors
    /// Its init, its freezer or its exec fifo cannot be examined. Only a process that has ended is "stopped", because
    /// `delete` relies on this.
    pub fn status(&self) -> Result<Status> {
        let process = identity::observe(self.record.init_process_pid, self.record.init_process_start)?;
        let lives = process == Process::Alive;
        Ok(status(Observed {
            process,
            frozen: lives && self.cgroup().is_frozen()?,
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
        open_process(self.record.init_process_pid, self.record.init_process_start)?
            .ok_or_else(|| error!(Kind::State(Status::Stopped) => "container not running"))
    }

    /// Takes the lock: no other process changes the container while it is held. The record is read again, because it
    /// may have changed before.
    ///
    /// # Errors
    /// The container does not exist any more, the lock is still held when the time is over, or the kernel's error.
    pub fn lock(&mut self) -> Result<Lock> {
        let lock = self.lock_if_there()?;
        lock.ok_or_else(|| unread_error(&self.record.id, Unread::Absent))
    }

    /// The same. None if the container does not exist any more.
    ///
    /// # Errors
    /// The lock is still held when the time is over, or the kernel's error.
    pub fn lock_if_there(&mut self) -> Result<Option<Lock>> {
        let id = self.record.id.clone();
        let Some(lock) = directory::lock(&self.directory, &id)? else { return Ok(None) };
        match lock.stat(STATE) {
            Ok(stat) if version(&stat) == self.seen => {}
            Err(Errno::NOENT) => return Ok(None),
            _ => {
                let read = directory::read(CWD, &self.directory.join(STATE));
                let read = read.and_then(|(text, stat)| Container::of(self.directory.clone(), &id, text, &stat));
                *self = read.map_err(|unread| unread_error(&id, unread))?;
            }
        }
        Ok(Some(lock))
    }

    /// The current `linux.resources`: those of the last update, or those of the config.
    ///
    /// # Errors
    /// The config cannot be read.
    pub fn resources(&self) -> Result<serde_json::Value> {
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
    pub fn save(&mut self, lock: &Lock) -> Result<()> {
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
    pub fn remove(self, lock: &Lock) -> Result<()> {
        lock.remove(&[STATE, NOTE])
    }
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
    fn an_id_is_a_plain_name() {
        for good in ["a", "A-b_c.d+e", "0", "...", "-x"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", "a:b"] {
            assert!(check_id(bad).unwrap_err().to_string().contains("invalid container ID format"), "{bad}");
        }
    }

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

    #[test]
    fn an_id_is_taken_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path().join("r")).unwrap();
        let reserved = root.reserve("x").unwrap();
        assert!(root.reserve("x").unwrap_err().to_string().contains("container with given ID already exists"));
        assert!(root.load("x").unwrap_err().to_string().contains("container does not exist"));
        drop(reserved);
        assert!(root.reserve("x").is_ok());
        assert!(Root::open(Path::new("/")).is_err());
    }

    #[test]
    fn a_creator_whose_directory_was_deleted_leaves_that_of_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path().join("r")).unwrap();
        let gone = Reserved::locked(&root.path().join("x"), "x").unwrap_err().to_string();
        assert!(gone.contains("was deleted while it was made"), "{gone}");
        let create = || match root.reserve("x") {
            Ok(mut reserved) => reserved.take_note(|note| note.init = Some(note.creator)).unwrap(),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("already exists") || said == gone, "{error:#}");
            }
        };
        let delete = || {
            let taken = directory::Lock::take(&root.path().join("x"), Instant::now()).unwrap();
            if let Attempt::Locked(lock) = taken {
                lock.remove(&[]).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..3000).for_each(|_| create()));
            }
            (0..6000).for_each(|_| delete());
        });
    }
}
