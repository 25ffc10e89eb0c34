//! What remains on disk: one directory per container below --root, with state.json, the config it was made from, and,
//! while it waits for `start`, its fifos.

mod identity;
mod record;
mod status;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use rustix::fs::OFlags;

pub use identity::{open_process, start_time};
pub use record::{AfterStart, OwnRecord, Record, RecordedCgroup, RecordedConfig, RecordedNamespace, RecordedRdt};
pub use status::{Observed, Process, Status, status};

use crate::cgroup::Cgroup;

/// state.json, which makes a directory a container.
const STATE: &str = "state.json";
/// The cgroup of a container that is still being made, for whoever must clean up after us.
const CREATING: &str = "creating.json";
/// The config.json the container was made from.
const CONFIG: &str = "config.json";
/// There while the container waits for `start`.
pub const EXEC_FIFO: &str = "exec.fifo";
/// Where `start` hears how it went.
pub const EXEC_ANSWER: &str = "exec.answer";

/// The directory that holds all containers of one `--root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

/// A container that is there.
#[derive(Clone, Debug)]
pub struct Container {
    directory: PathBuf,
    record: Record,
}

/// The directory of a container that is being made. Dropped, it is removed.
#[derive(Debug)]
pub struct Reserved {
    directory: Option<PathBuf>,
}

/// One process at a time may change a container (flock(2)); released when dropped or when we end.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

/// An id is a file name that needs no quoting anywhere.
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
    /// The directory at `path`, whether it is there or not.
    ///
    /// # Errors
    /// `/` and nothing are refused, as everything below would be a container.
    pub fn at(path: &Path) -> Result<Root> {
        let path = std::path::absolute(path).unwrap_or_default();
        // also "/..", which is the same
        if !path.components().any(|part| matches!(part, Component::Normal(_))) {
            bail!("Option --root argument should not be set to /");
        }
        Ok(Root { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes `id` for a new container.
    ///
    /// # Errors
    /// A bad id, one that is taken, or the kernel's word.
    pub fn reserve(&self, id: &str) -> Result<Reserved> {
        check_id(id)?;
        let directory = self.path.join(id);
        let make = || DirBuilder::new().mode(0o711).create(&directory);
        match make() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).recursive(true).create(&self.path).context("--root")?;
                // sticky, so that systemd-tmpfiles does not age it away
                fs::set_permissions(&self.path, Permissions::from_mode(0o1700)).context("--root")?;
                make().with_context(|| format!("mkdir {}", directory.display()))?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("container with given ID already exists: {id}")
            }
            Err(error) => return Err(error).with_context(|| format!("mkdir {}", directory.display())),
        }
        // the mode that was asked for, whatever our umask is: a mapped root must get through
        fs::set_permissions(&directory, Permissions::from_mode(0o711))?;
        Ok(Reserved { directory: Some(directory) })
    }

    /// The container `id`.
    ///
    /// # Errors
    /// `container does not exist`, also while it is being made.
    pub fn load(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        let directory = self.path.join(id);
        // as text: its strings are not looked at for UTF-8 one by one
        let text = match fs::read_to_string(directory.join(STATE)) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                bail!("container {id:?}: container does not exist")
            }
            Err(error) => return Err(error).with_context(|| format!("container {id:?}: read its state")),
        };
        let record = serde_json::from_str(&text).with_context(|| format!("container {id:?}: read its state"))?;
        Ok(Container { directory, record })
    }

    /// The ids of all directories, sorted; a root that is not there has none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("--root {}", self.path.display())),
        };
        let mut ids: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|id| check_id(id).is_ok() && !id.starts_with('.'))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// What is left of a container whose making was cut off, or whose state cannot be read: what `delete --force` removes.
    pub fn remains(&self, id: &str) -> Option<Remains> {
        check_id(id).ok()?;
        let directory = self.path.join(id);
        if !directory.is_dir() || self.load(id).is_ok() {
            return None;
        }
        let (paths, unit, groups): (BTreeMap<String, PathBuf>, _, _) = fs::read(directory.join(CREATING))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Some(Remains { directory, cgroup: Cgroup::open(paths, unit), groups })
    }
}

/// What is left of a container that never was one.
#[derive(Debug)]
pub struct Remains {
    /// Its directory.
    pub directory: PathBuf,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its groups in resctrl.
    pub groups: Vec<PathBuf>,
}

impl Reserved {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(""))
    }

    /// Notes cgroup and resctrl groups before they are made: were we killed now, `delete --force` would find them.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn note(&self, cgroup: &Cgroup, groups: &[PathBuf]) -> Result<()> {
        let text = serde_json::to_vec(&(cgroup.paths(), cgroup.unit(), groups))?;
        private(&self.path().join(CREATING))?.write_all(&text).context("note the cgroup")
    }

    /// Keeps the config as it is now: what is done to the bundle later is no matter to this container.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn keep_config(&self, text: &[u8]) -> Result<()> {
        private(&self.path().join(CONFIG))?.write_all(text).context("keep the config")
    }

    /// Writes state.json: from now on the container is there.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn record(mut self, record: Record) -> Result<Container> {
        let container = Container { directory: self.path().to_path_buf(), record };
        container.save()?;
        let _ = fs::remove_file(self.path().join(CREATING));
        self.directory = None;
        Ok(container)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// A new file that is nobody else's business.
fn private(path: &Path) -> Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path).with_context(|| format!("create {}", path.display()))
}

impl Container {
    /// What state.json says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What state.json is to say next; `save` writes it.
    pub fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The config it was made from: our own copy, or for a container that runc made, the bundle's.
    ///
    /// # Errors
    /// Neither can be read.
    pub fn config(&self) -> Result<Vec<u8>> {
        fs::read(self.directory.join(CONFIG))
            .or_else(|_| fs::read(self.record.bundle().join(CONFIG)))
            .with_context(|| format!("read the config of container {:?}", self.record.id))
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Cgroup {
        let own = self.record.coracle.as_ref();
        let unit = own.map_or_else(|| self.record.config.cgroups.unit(), |own| own.unit.clone());
        let mut paths = self.record.cgroup_paths.clone();
        if self.record.rootless {
            // runc notes as well where it was not let
            paths.retain(|_, path| path.is_dir());
        }
        Cgroup::open(paths, unit)
    }

    /// True when everything in the container dies with its init.
    pub fn has_own_pids(&self) -> bool {
        self.record.config.namespaces.iter().any(|namespace| namespace.kind == "NEWPID" && namespace.path.is_empty())
    }

    /// Its processes, as we count: those of its cgroup, or where it has none those of its own pid namespace.
    ///
    /// # Errors
    /// It has neither, or the kernel's word.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let cgroup = self.cgroup();
        if !cgroup.paths().is_empty() {
            return cgroup.processes();
        }
        if !self.has_own_pids() {
            bail!(
                "container has neither a cgroup nor a pid namespace of its own, by which its processes would be known"
            );
        }
        match self.status() {
            Status::Stopped => Ok(Vec::new()),
            Status::Created | Status::Running | Status::Paused => {
                identity::with_pids_of(self.record.init_process_pid).context("look at /proc")
            }
        }
    }

    /// What it is doing now.
    pub fn status(&self) -> Status {
        let process = identity::observe(self.record.init_process_pid, self.record.init_process_start);
        status(Observed {
            process,
            frozen: process == Process::Alive && self.cgroup().is_frozen(),
            waiting: process == Process::Alive && self.waits(),
        })
    }

    /// True while init has its end of the exec fifo open: a `start` that was killed may leave the file behind.
    fn waits(&self) -> bool {
        let fifo = self.directory.join(EXEC_FIFO);
        match self.record.coracle {
            Some(_) => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // ENXIO: nobody would read (fifo(7))
                rustix::fs::openat(rustix::fs::CWD, &fifo, flags, rustix::fs::Mode::empty()).is_ok()
            }
            // runc's init waits in open(2) itself, so the file is all there is to see
            None => fifo.exists(),
        }
    }

    /// Its init, which cannot become another process while this is open.
    ///
    /// # Errors
    /// `container not running`.
    pub fn process(&self) -> Result<OwnedFd> {
        open_process(self.record.init_process_pid, self.record.init_process_start)
            .ok_or_else(|| anyhow!("container not running"))
    }

    /// Nobody else changes it while the lock is held. Waits.
    ///
    /// # Errors
    /// The container is gone.
    pub fn lock(&self) -> Result<Lock> {
        let gone = || anyhow!("container {:?}: container does not exist", self.record.id);
        let directory = File::open(&self.directory).map_err(|_| gone())?;
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        // whoever held the lock may have removed it; an id that was taken anew meanwhile is another container
        match rustix::fs::statat(&directory, STATE, rustix::fs::AtFlags::empty()) {
            Ok(_) => Ok(Lock(directory)),
            Err(_) => Err(gone()),
        }
    }

    /// `linux.resources` as they are in force: since the last update, or as the config has them.
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

    /// Writes state.json: all of it or nothing. What others have written into it, and we do not know, stays.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn save(&self) -> Result<()> {
        let mut record = serde_json::to_value(&self.record)?;
        if let Ok(there) = fs::read(self.directory.join(STATE))
            && let Ok(there) = serde_json::from_slice(&there)
        {
            keep_unknown(&mut record, there);
        }
        let text = serde_json::to_vec(&record)?;
        let beside = self.directory.join("state.json.new");
        private(&beside)?.write_all(&text).context("write state.json")?;
        fs::rename(&beside, self.directory.join(STATE)).context("write state.json")
    }

    /// Removes its directory, and with it the container.
    ///
    /// # Errors
    /// The kernel's word.
    pub fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Puts back what `there` has and `record` does not know.
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
        let root = Root::at(directory.path()).unwrap();
        fs::create_dir(directory.path().join("x")).unwrap();
        let runcs =
            r#"{"id":"x","config":{"rootfs":"/r","rlimits":null,"cgroups":{"path":"/x","freezer":7}},"time":1}"#;
        fs::write(directory.path().join("x").join(STATE), runcs).unwrap();
        let mut container = root.load("x").unwrap();
        container.record_mut().resources_in_force = Some(serde_json::json!({"pids": {"limit": 5}}));
        container.save().unwrap();
        let text = fs::read(directory.path().join("x").join(STATE)).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&state["config"]["cgroups"]["freezer"], &state["time"]), (&7.into(), &1.into()));
        assert!(state["config"].as_object().unwrap().contains_key("rlimits") && state["coracle"].is_null());
        assert_eq!(root.load("x").unwrap().resources().unwrap()["pids"]["limit"], 5);
    }

    #[test]
    fn an_id_is_taken_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(&directory.path().join("r")).unwrap();
        let reserved = root.reserve("x").unwrap();
        assert!(root.reserve("x").unwrap_err().to_string().contains("container with given ID already exists"));
        assert!(root.load("x").unwrap_err().to_string().contains("container does not exist"));
        drop(reserved);
        assert!(root.reserve("x").is_ok());
        assert!(Root::at(Path::new("/")).is_err());
    }

    #[test]
    fn a_making_that_was_cut_off_is_found_with_its_groups() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::at(directory.path()).unwrap();
        let reserved = root.reserve("x").unwrap();
        let paths = BTreeMap::from([("pids".to_owned(), PathBuf::from("/sys/fs/cgroup/pids/nowhere"))]);
        let groups = [PathBuf::from("/sys/fs/resctrl/x")];
        reserved.note(&Cgroup::open(paths.clone(), None), &groups).unwrap();
        let remains = root.remains("x").unwrap();
        assert_eq!((remains.cgroup.paths(), &remains.groups[..]), (&paths, &groups[..]));
        assert_eq!(remains.directory, root.path().join("x"));
    }
}
