//! The library, as the shim uses it: every operation on a container goes through this file. Every function may block, and runs in a
//! job's thread, except `watch` and `OomWatch::look`: the loop calls these, and they only read files.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcontainer::stats::Numbers;
use libcontainer::{
    Afterwards, Bundle, CgroupUse, Console, Container, Environment, Error, Events, Force, Happened, Images, Keyring,
    Kind, Manager, Process, ProcessObject, ProgramEnvironment, Protection, Result, Root, RootChange, Stopped, Update,
};

use crate::messages::runc::Options;
use crate::stats::Format;

/// The default root directory of the containers. The namespace is appended, as in the runc shim.
const ROOT: &str = "/run/containerd/runc";

/// The state directory of a namespace's containers.
pub fn root(options: &Options, namespace: &str) -> PathBuf {
    let root = if options.root.is_empty() { ROOT } else { &options.root };
    Path::new(root).join(namespace)
}

/// The root directory and the id of a container.
#[derive(Clone, Debug)]
pub struct At {
    pub root: PathBuf,
    pub id: String,
}

/// The streams of a new process.
pub enum Given {
    /// stdin, stdout, stderr.
    Streams(Vec<OwnedFd>),
    /// The shim receives the master of its terminal.
    Terminal,
}

/// Our program is on a mount that no process can change (`serve`).
const PROTECTION: Protection = Protection::Caller;

/// A new process.
pub struct Made {
    pub process: Process,
    pub master: Option<OwnedFd>,
    /// For an init: false if other processes of the container can outlive it.
    pub own_pids: bool,
}

impl Made {
    /// Kills a process of which no caller learns.
    pub fn abandon(&self) {
        let _ = self.process.kill(9);
    }
}

/// Sets the streams of a builder: `Create`, `Exec` and `RestoreFrom` have the same methods.
macro_rules! streamed {
    ($built:expr, $given:expr) => {{
        let built = $built;
        match $given {
            Given::Streams(streams) => {
                let mut streams = streams.into_iter();
                match (streams.next(), streams.next(), streams.next()) {
                    (Some(stdin), Some(stdout), Some(stderr)) => {
                        (built.stdin(stdin).stdout(stdout).stderr(stderr), None)
                    }
                    _ => (built, None),
                }
            }
            Given::Terminal => {
                let (console, master) = Console::pair()?;
                (built.console(console), Some(master))
            }
        }
    }};
}

fn made(process: Process, master: Option<libcontainer::Master>, own_pids: bool) -> Result<Made> {
    match master.map(libcontainer::Master::receive).transpose() {
        Ok(master) => Ok(Made { process, master, own_pids }),
        Err(error) => {
            // no caller learns of this process
            let _ = process.kill(9);
            Err(error)
        }
    }
}

impl At {
    fn root(&self) -> Result<Root> {
        let var = std::env::var_os;
        Ok(Root::open(&self.root)?.with_environment(Environment {
            path: var("PATH"),
            runtime_directory: var("XDG_RUNTIME_DIR").map(Into::into),
            bus_address: var("DBUS_SESSION_BUS_ADDRESS"),
            // a copy could be seen in the memory of a process that joins a container
            programs: ProgramEnvironment::Inherited,
        }))
    }

    fn load(&self) -> Result<Container> {
        self.root()?.load(&self.id)
    }

    /// Whether the id is in use.
    pub fn exists(&self) -> bool {
        !matches!(self.load(), Err(error) if matches!(error.kind(), Kind::NotFound | Kind::InvalidArgument))
    }

    /// Makes the container.
    ///
    /// # Errors
    /// Those of the library.
    pub fn create(&self, bundle: &Path, options: &Options, given: Given) -> Result<Made> {
        let root = self.root()?;
        let bundle = Bundle::read(bundle)?;
        let mut create = root.create(&self.id, &bundle).pid_file(bundle.directory().join("init.pid"));
        if options.systemd_cgroup {
            create = create.cgroup(CgroupUse::Unit(Manager::default()));
        }
        if options.no_pivot_root {
            create = create.root_change(RootChange::Move);
        }
        if options.no_new_keyring {
            create = create.keyring(Keyring::Inherited);
        }
        let (create, master) = streamed!(create.protection(PROTECTION), given);
        let (container, process) = create.create()?;
        made(process, master, container.has_own_pids()).inspect_err(|_| {
            let _ = self.delete(Force::Kill);
        })
    }

    /// Restores the container from images. Its program continues.
    ///
    /// # Errors
    /// Those of the library.
    pub fn restore(&self, bundle: &Path, options: &Options, images: Images, given: Given) -> Result<Made> {
        let root = self.root()?;
        let bundle = Bundle::read(bundle)?;
        let mut restore = root.restore(&self.id, &bundle, images).pid_file(bundle.directory().join("init.pid"));
        if options.systemd_cgroup {
            restore = restore.cgroup(CgroupUse::Unit(Manager::default()));
        }
        if options.no_new_keyring {
            restore = restore.keyring(Keyring::Inherited);
        }
        let (restore, master) = streamed!(restore, given);
        let (container, process) = restore.restore()?;
        made(process, master, container.has_own_pids())
    }

    /// Makes images of the container.
    ///
    /// # Errors
    /// Those of the library.
    pub fn checkpoint(&self, images: Images, afterwards: Afterwards) -> Result<()> {
        self.load()?.checkpoint(images).afterwards(afterwards).make().map(drop)
    }

    /// Starts its program.
    ///
    /// # Errors
    /// Those of the library.
    pub fn start(&self) -> Result<()> {
        self.load()?.start().map(drop)
    }

    /// Starts a further process.
    ///
    /// # Errors
    /// Those of the library.
    pub fn exec_process(&self, object: &[u8], given: Given) -> Result<Made> {
        let container = self.load()?;
        let object = ProcessObject::read(object)?;
        let (exec, master) = streamed!(container.exec_process(&object).protection(PROTECTION), given);
        made(exec.spawn()?, master, true)
    }

    /// Sends a signal to its init.
    ///
    /// # Errors
    /// Those of the library.
    pub fn kill(&self, signal: i32) -> Result<()> {
        self.load()?.kill(signal, Stopped::Refused)
    }

    /// Kills all its processes.
    ///
    /// # Errors
    /// Those of the library.
    pub fn kill_all(&self) -> Result<()> {
        self.load()?.kill(9, Stopped::Fine)
    }

    /// Freezes it.
    ///
    /// # Errors
    /// Those of the library.
    pub fn pause(&self) -> Result<()> {
        self.load()?.pause()
    }

    /// Thaws it.
    ///
    /// # Errors
    /// Those of the library.
    pub fn resume(&self) -> Result<()> {
        self.load()?.resume()
    }

    /// The pids of all its processes.
    ///
    /// # Errors
    /// Those of the library.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.load()?.processes()
    }

    /// Changes its limits.
    ///
    /// # Errors
    /// Those of the library.
    pub fn update(&self, resources: &[u8]) -> Result<()> {
        self.load()?.update(&Update::read(resources)?).map(drop)
    }

    /// Its statistics in the format of `events --stats`, and the format for its version of cgroups.
    ///
    /// # Errors
    /// Those of the library.
    pub fn stats(&self) -> Result<(Numbers, Format)> {
        let container = self.load()?;
        let unified = container.cgroup_paths().keys().all(String::is_empty);
        let format = if unified { Format::V2 } else { Format::V1 };
        Ok((container.stats().cgroup, format))
    }

    /// The bundle that it was made from, if that is another one: it belongs to another engine, which has the same root directory
    /// and uses the same id. A bundle that no longer exists belongs to none.
    pub fn other_bundle(&self, ours: &Path) -> Option<PathBuf> {
        let theirs = self.load().and_then(|container| container.state()).ok()?.bundle;
        let (other, own) = (std::fs::canonicalize(&theirs).ok()?, std::fs::canonicalize(ours).ok()?);
        (other != own).then_some(theirs)
    }

    /// Watches it for out-of-memory kills.
    ///
    /// # Errors
    /// Those of the library.
    pub fn watch(&self) -> Result<OomWatch> {
        self.load()?.events().map(OomWatch)
    }

    /// Deletes it, and returns the warnings.
    ///
    /// # Errors
    /// Those of the library.
    pub fn delete(&self, force: Force) -> Result<Vec<Error>> {
        self.root()?.delete(&self.id, force)
    }
}

/// The watch on the memory of a container.
pub struct OomWatch(Events);

impl OomWatch {
    /// Readable when the number may have changed.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.memory()
    }

    /// The number of out-of-memory kills since the last call. None when no more can come.
    pub fn look(&mut self) -> Option<usize> {
        let mut count = 0;
        loop {
            match self.0.next(Duration::ZERO) {
                Ok(Happened::Oom) => count += 1,
                Ok(Happened::Nothing) => return Some(count),
                _ => return (count > 0).then_some(count),
            }
        }
    }
}
