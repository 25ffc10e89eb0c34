//! The directory that holds all containers of one `--root`, and the ids in it.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::directory::{self, STATE, Unread};
use super::liveness::start_time;
use super::note::{Note, ProcessId};
use super::root_owner::{self, Writable};
use super::{Container, Reserved};
use crate::error::{Context, Kind, Result, bail, error};
use crate::host::Environment;

/// The directory that holds all containers of one `--root`.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Bundle, Force, Root};
///
/// let root = Root::open("/run/coracle")?;
/// let (container, process) = root.create("box", &Bundle::read("/bundles/box")?).run()?;
/// println!("{} runs, one of {:?}", process.pid(), root.ids()?);
/// process.wait()?;
/// container.delete(Force::None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
    /// Each of its containers refers to it.
    environment: Arc<Environment>,
}

/// NAME_MAX of Linux.
const LONGEST_ID: usize = 255;

/// Checks an id: it must be a file name that needs no quoting.
///
/// ```
/// assert!(libcontainer::check_id("box-1").is_ok());
/// let error = libcontainer::check_id("a/b").unwrap_err();
/// assert_eq!(*error.kind(), libcontainer::Kind::InvalidArgument);
/// ```
///
/// # Errors
/// `InvalidArgument`: `invalid container ID format`, with the id.
pub fn check_id(id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let why = match id {
        "" => "is empty".to_owned(),
        "." | ".." => format!("{id:?} is the name of a directory"),
        _ if !id.chars().all(fine) => format!("{id:?} (letters, digits, and any of _ + - . are allowed)"),
        // the name of a directory
        _ if id.len() > LONGEST_ID => {
            format!("\"{}…\" has {} characters (at most {LONGEST_ID} are allowed)", &id[..20], id.len())
        }
        _ => return Ok(()),
    };
    bail!(Kind::InvalidArgument => "invalid container ID format: {why}")
}

impl Root {
    /// The directory at `path`, which may be missing.
    ///
    /// # Errors
    /// `InvalidArgument`: `path` is `/` or empty, and everything below it would be a container. Another kind: it is relative, and
    /// the current directory was removed.
    pub fn open(path: impl AsRef<Path>) -> Result<Root> {
        let path = match std::path::absolute(path.as_ref()) {
            Err(error) if error.kind() != ErrorKind::InvalidInput => {
                bail!("Root::open: {}: {error}", path.as_ref().display())
            }
            // An empty path has no absolute path.
            absolute => absolute.unwrap_or_default(),
        };
        // Also "/..", which is the same.
        if !path.components().any(|part| matches!(part, Component::Normal(_))) {
            bail!(Kind::InvalidArgument => "Root::open: must not be /");
        }
        Ok(Root { path, environment: Arc::default() })
    }

    /// The environment variables that its containers use. Without them: those of `Environment::default`.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Root {
        Root { environment: Arc::new(environment), ..self }
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
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
        root_owner::must_stay_in_place(above)?;
        root_owner::must_be_safe(&self.path, Writable::Never)
    }

    /// Makes the directory and those above it. An existing directory keeps its mode: it may belong to others (`--root /proc`).
    fn make(&self) -> Result<()> {
        let failed = || format!("Root::open: mkdir {}", self.path.display());
        if let Some(above) = self.path.parent().filter(|above| !above.as_os_str().is_empty()) {
            DirBuilder::new().mode(0o700).recursive(true).create(above).with_context(failed)?;
        }
        // Sticky, so that systemd-tmpfiles does not remove it by age.
        match DirBuilder::new().mode(0o1700).create(&self.path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.path.is_dir() => Ok(()),
            made => made.with_context(failed),
        }
    }

    /// Reserves `id` for a new container.
    ///
    /// # Errors
    /// `InvalidArgument` for an invalid id, `Exists` for an id in use, or the kernel's error.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reserved> {
        check_id(id)?;
        let pid = i32::try_from(std::process::id())?;
        let start = start_time(pid)?
            .ok_or_else(|| error!("read /proc/{pid}/stat: the process of coracle itself is missing"))?;
        let directory = self.path.join(id);
        let make = || DirBuilder::new().mode(0o700).create(&directory);
        let mut made = make();
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.make()?;
            made = make();
        }
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(Kind::Exists => "container with given ID already exists: {id}")
            }
            made => made.with_context(|| format!("Root::open: mkdir {}", directory.display()))?,
        }
        let note = Note { creator: ProcessId { pid, start }, ..Note::default() };
        Reserved::new(&directory, id, note, &self.environment)
    }

    /// The container `id`.
    ///
    /// # Errors
    /// `container does not exist`, also while it is being made; or its state.json is damaged or unreadable.
    pub fn load(&self, id: &str) -> Result<Container> {
        check_id(id)?;
        self.read(id).map_err(|unread| unread.error(id))
    }

    pub(super) fn read(&self, id: &str) -> Result<Container, Unread> {
        let directory = self.path.join(id);
        let read = directory::read_of_anybody(directory::opened(&directory)?, Path::new(STATE))?;
        Container::parse(directory, id, read, &self.environment)
    }

    /// The ids of all directories, sorted. Empty if the root does not exist.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("Root::open {}", self.path.display())),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("Root::open {}", self.path.display()))?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_is_there_keeps_its_mode() {
        let above = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let (old, new) = (above.path().join("old"), above.path().join("a/new"));
        DirBuilder::new().mode(0o755).create(&old).unwrap();
        let before = mode(&old);
        for path in [&old, &new] {
            Root::open(path).unwrap().make().unwrap();
        }
        assert_eq!((mode(&old), mode(&new)), (before, 0o1700));
    }

    #[test]
    fn a_root_is_not_the_root_directory() {
        for path in ["/", "", "/..", "//./"] {
            assert_eq!(*Root::open(path).unwrap_err().kind(), Kind::InvalidArgument, "{path}");
        }
    }

    #[test]
    fn an_id_is_a_plain_name() {
        for good in ["a", "A-b_c.d+e", "0", "...", "-x"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", "a:b"] {
            let error = check_id(bad).unwrap_err();
            assert!(error.to_string().contains("invalid container ID format"), "{bad}");
            assert_eq!(*error.kind(), Kind::InvalidArgument);
        }
    }
}
