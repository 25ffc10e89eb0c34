//! Mounts of the host in a container that its plan does not have: those below a recursive bind, and those that hooks have made.
//! CRIU must not copy them, so each has a name: its path in the container. A file beside the images has their paths on the host.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::container_root::{ContainerRoot, Symlinks};
use crate::config::{kind, not_json};
use crate::criu::{ExternalMount, ImageFault};
use crate::error::{Context, Result};
use crate::host::mountinfo::{self, Mount};
use crate::sys::errno::{in_words, words};
use crate::sys::mount_id::statx;
use crate::wait;

/// The file in the directory of the images: the place in the container, and the path on the host.
pub(super) const MOUNTS: &str = "mounts.json";
/// The longest mounts.json.
const MOST: u64 = 16 << 20;
/// CRIU makes mounts of these types again for the container. A new mount may have the same superblock as the host's.
const MADE_AGAIN: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// What is mounted, on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum HostSource {
    /// Its path, and which file was there at the checkpoint.
    Known { path: String, file: FileId },
    /// Its path. An older version has stored only this.
    Path(String),
}

/// The identity of a file (statx(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    /// Major and minor number.
    device: (u32, u32),
    inode: u64,
}

impl FileId {
    fn of(file: impl AsFd) -> Result<FileId, Errno> {
        let stat = statx(file.as_fd(), c"")?;
        Ok(FileId { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino })
    }

    /// The file at `path` on the host. Symlinks are not followed: the author of a link decides where it leads.
    fn on_host(path: &Path) -> Result<FileId, Errno> {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        FileId::of(rustix::fs::openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// Finds the mounts of the host in the container whose first process is `pid`, and writes them into `directory`. `named` are the
/// mounts that have a name already.
///
/// # Errors
/// mountinfo cannot be read, or the file cannot be written.
pub(super) fn record(pid: i32, named: &[ExternalMount], directory: &Path) -> Result<Vec<ExternalMount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let theirs = mountinfo::parse(&fs::read(&path).with_context(|| format!("read {path}"))?);
    let ours = mountinfo::all().context("read /proc/self/mountinfo")?;
    let named: Vec<&Path> = named.iter().map(|mount| Path::new(&mount.key)).collect();
    let root = ContainerRoot::of(pid)?;
    let same = |path: &Path, source: &Path| {
        let inside = FileId::of(root.find(path, Symlinks::Refused).ok()?.file).ok()?;
        FileId::on_host(source).ok().filter(|file| *file == inside)
    };
    let found = of_the_host(&theirs, &ours, &named, same);
    let path = directory.join(MOUNTS);
    if found.is_empty() {
        // The file may be from an older checkpoint in the same directory.
        let _ = fs::remove_file(&path);
        return Ok(Vec::new());
    }
    fs::write(&path, serde_json::to_vec(&found)?).with_context(|| format!("write {}", path.display()))?;
    Ok(found.into_keys().map(|path| ExternalMount { val: path.clone(), key: path }).collect())
}

/// The mounts that `record` has written into `directory`: the name and the path on this host of each. The path may lead through a
/// directory that a container can write. So it must not have a link, and the file must be that of the checkpoint.
///
/// # Errors
/// mounts.json cannot be read, or a file that it names is missing, is behind a link, or is another file.
pub(super) fn recorded(directory: &Path) -> Result<Vec<ExternalMount>, ImageFault> {
    let text = match wait::contents_below(directory, Path::new(MOUNTS), MOST) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(in_words(&error).to_string())),
    };
    match serde_json::from_slice(&text).map_err(|error| wrong(not_json(&error)))? {
        Value::Object(all) => {
            all.into_iter().map(|(key, source)| HostSource::read(&key, source)?.checked(key)).collect()
        }
        other => Err(wrong(format!("expected an object, got {}", kind(&other)))),
    }
}

fn wrong(why: String) -> ImageFault {
    ImageFault::new(MOUNTS, why)
}

impl HostSource {
    /// The entry of the mount `key`.
    fn read(key: &str, entry: Value) -> Result<HostSource, ImageFault> {
        serde_json::from_value(entry).map_err(|_| {
            let expected = r#"a path, or {"path": "/DIRECTORY", "file": {"device": [MAJOR, MINOR], "inode": NUMBER}}"#;
            wrong(format!("{key}: expected {expected}"))
        })
    }

    fn checked(self, key: String) -> Result<ExternalMount, ImageFault> {
        let (val, expected) = match self {
            HostSource::Known { path, file } => (path, Some(file)),
            HostSource::Path(path) => (path, None),
        };
        if !Path::new(&val).is_absolute() {
            return Err(wrong(format!("{key}: {val:?} is not absolute")));
        }
        let found = FileId::on_host(Path::new(&val)).map_err(|errno| {
            let why = if errno == Errno::LOOP { ": a link in it is not followed" } else { "" };
            wrong(format!("{val}: {}{why}", words(errno)))
        })?;
        if expected.is_some_and(|expected| expected != found) {
            let why = "this is another file than at the checkpoint (its device or inode number differs)";
            return Err(wrong(format!("{val}: {why}")));
        }
        Ok(ExternalMount { key, val })
    }
}

/// Each place in the container, and what is mounted there. `same` returns the file if both paths lead to it.
fn of_the_host(
    theirs: &[Mount],
    ours: &[Mount],
    named: &[&Path],
    same: impl Fn(&Path, &Path) -> Option<FileId>,
) -> BTreeMap<String, HostSource> {
    let root = theirs.iter().rfind(|mount| mount.path == Path::new("/"));
    // A container can make very many mounts.
    let mut on_device: HashMap<&str, Vec<&Mount>> = HashMap::new();
    ours.iter().for_each(|mount| on_device.entry(&mount.device).or_default().push(mount));
    let own = |mount: &Mount| {
        let of_the_root = root.is_some_and(|root| mount.device == root.device && mount.root.starts_with(&root.root));
        let below_a_bind = named.iter().any(|path| mount.path.starts_with(path));
        of_the_root || MADE_AGAIN.contains(&mount.fstype.as_str()) && !below_a_bind
    };
    let others = theirs.iter().filter(|mount| mount.path != Path::new("/") && !named.contains(&mount.path.as_path()));
    let source = |mount: &Mount| {
        let of = on_device.get(mount.device.as_str()).into_iter().flatten();
        let mut paths = of.filter_map(|host| Some(joined(&host.path, mount.root.strip_prefix(&host.root).ok()?)));
        paths.find_map(|path| {
            let file = same(&mount.path, &path)?;
            Some(HostSource::Known { path: path.to_str()?.to_owned(), file })
        })
    };
    let both = |mount: &Mount| Some((mount.path.to_str()?.to_owned(), source(mount)?));
    others.filter(|mount| !own(mount)).filter_map(both).collect()
}

/// A file that is mounted has no `/` behind its name.
fn joined(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { path.to_path_buf() } else { path.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { device: (8, 1), inode: 5 };

    #[test]
    fn a_link_and_another_file_are_refused_at_the_restore() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let (place, link) = (path.join("place"), path.join("link"));
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(&place, &link).unwrap();
        let file = FileId::on_host(&place).unwrap();
        let with = |all: serde_json::Value| {
            fs::write(path.join(MOUNTS), all.to_string()).unwrap();
            recorded(&path)
                .map(|kept| kept.into_iter().map(|mount| (mount.key, mount.val)).collect::<Vec<_>>())
                .map_err(|fault| fault.problem)
        };
        let expected = Ok(vec![("/x".to_owned(), place.to_str().unwrap().to_owned())]);
        assert_eq!(with(serde_json::json!({"/x": {"path": place, "file": file}})), expected);
        // an older version
        assert_eq!(with(serde_json::json!({"/x": place})), expected);
        for below in ["", "/.."] {
            let path = format!("{}{below}", link.display());
            let said = with(serde_json::json!({"/x": path})).unwrap_err();
            assert!(said.contains("/link") && said.ends_with("a link in it is not followed"), "{said}");
        }
        let said = with(serde_json::json!({"/x": {"path": place, "file": FILE}})).unwrap_err();
        assert!(said.contains("/place: this is another file than at the checkpoint"), "{said}");
    }

    #[test]
    fn each_mistake_of_the_file_is_named_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let with = |text: &str| {
            fs::write(directory.path().join(MOUNTS), text).unwrap();
            recorded(directory.path()).unwrap_err().into_error().to_string()
        };
        let entry =
            r#"/x: expected a path, or {"path": "/DIRECTORY", "file": {"device": [MAJOR, MINOR], "inode": NUMBER}}"#;
        for (text, expected) in [
            ("", "is empty"),
            ("{", "is not JSON: EOF while parsing an object (line 1, column 1)"),
            ("null", "expected an object, got null"),
            ("[]", "expected an object, got an array"),
            (r#"{"/x": 5}"#, entry),
            (r#"{"/x": null}"#, entry),
            (r#"{"/x": {"path": "/etc"}}"#, entry),
            (r#"{"/x": {"path": "/etc", "file": {"device": 1, "inode": 0}}}"#, entry),
            (r#"{"/x": "../.."}"#, r#"/x: "../.." is not absolute"#),
            (r#"{"/x": {"path": "etc", "file": {"device": [1, 1], "inode": 0}}}"#, r#"/x: "etc" is not absolute"#),
            (r#"{"/x": ""}"#, r#"/x: "" is not absolute"#),
        ] {
            assert_eq!(with(text), format!("Images::new: mounts.json: {expected}"), "{text}");
        }
        fs::File::create(directory.path().join(MOUNTS)).unwrap().set_len(MOST + 1).unwrap();
        let said = recorded(directory.path()).unwrap_err().into_error().to_string();
        assert_eq!(said, "Images::new: mounts.json: it is longer than 16 MiB");
        fs::remove_file(directory.path().join(MOUNTS)).unwrap();
        assert!(recorded(directory.path()).unwrap().is_empty());
    }

    #[test]
    fn what_is_the_hosts_is_found_and_what_is_the_containers_is_not() {
        let ours = mountinfo::parse(
            b"1 0 8:1 / / rw - ext4 /dev/root rw
2 1 0:30 / /vol/sub rw - tmpfs t rw
3 1 0:4 / /proc rw - proc proc rw
4 1 8:2 /a /mnt/a rw - ext4 /dev/b rw
",
        );
        let theirs = mountinfo::parse(
            b"10 9 8:1 /b/rootfs / rw - ext4 /dev/root rw
11 10 0:40 / /dev rw - tmpfs tmpfs rw
12 10 8:1 /vol /data rw - ext4 /dev/root rw
13 12 0:30 / /data/sub rw - tmpfs t rw
14 10 8:2 /a/file /etc/x rw - ext4 /dev/b rw
15 10 8:1 /b/rootfs/dir /again rw - ext4 /dev/root rw
16 10 0:4 /sys /proc/sys ro - proc proc rw
17 12 0:4 / /data/proc rw - proc proc rw
18 12 0:41 / /data/own rw - tmpfs own rw
19 10 8:9 / /gone rw - ext4 /dev/c rw
",
        );
        let found = of_the_host(&theirs, &ours, &[Path::new("/data")], |_, _| Some(FILE));
        let expected = [("/data/proc", "/proc"), ("/data/sub", "/vol/sub"), ("/etc/x", "/mnt/a/file")];
        assert_eq!(
            found,
            expected
                .map(|(place, path)| (place.to_owned(), HostSource::Known { path: path.to_owned(), file: FILE }))
                .into()
        );
        // what is mounted there by now is another file
        assert!(of_the_host(&theirs, &ours, &[], |_, _| None).is_empty());
    }
}
