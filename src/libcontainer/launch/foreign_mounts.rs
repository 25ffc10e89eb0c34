//! Mounts of a container that its plan does not have and that are the host's: those below a recursive bind, and those that hooks
//! have made. CRIU must not copy them, so each has a name, its place. Where they are on the host is kept with the images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::criu::ExternalMount;
use crate::error::{Context, Result};
use crate::host::mountinfo::{self, Mount};
use crate::wait;

/// The file in the directory of the images: the place in the container, and the path on the host.
const MOUNTS: &str = "mounts.json";
/// CRIU makes these again for the container. A new one may be of the same superblock as the host's.
const MADE_AGAIN: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// Those of the container with this first process, of which `named` have a name already. They are written into `directory`.
///
/// # Errors
/// mountinfo cannot be read, or the file cannot be written.
pub(super) fn keep(pid: i32, named: &[ExternalMount], directory: &Path) -> Result<Vec<ExternalMount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let theirs = mountinfo::parse(&fs::read(&path).with_context(|| format!("read {path}"))?);
    let ours = mountinfo::all().context("read /proc/self/mountinfo")?;
    let named: Vec<&Path> = named.iter().map(|mount| Path::new(&mount.key)).collect();
    let is_same = |place: &Path, source: &Path| {
        let inside =
            Path::new("/proc").join(pid.to_string()).join("root").join(place.strip_prefix("/").unwrap_or(place));
        let identity = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((identity(&inside), identity(source)), (Ok(one), Ok(other)) if one == other)
    };
    let found = of_the_host(&theirs, &ours, &named, is_same);
    let path = directory.join(MOUNTS);
    if found.is_empty() {
        // those of an older checkpoint in the same directory are not ours
        let _ = fs::remove_file(&path);
        return Ok(Vec::new());
    }
    fs::write(&path, serde_json::to_vec(&found)?).with_context(|| format!("write {}", path.display()))?;
    Ok(found.into_keys().map(|place| ExternalMount { val: place.clone(), key: place }).collect())
}

/// Those that were kept in `directory`: the name of each, and where it is on this host.
///
/// # Errors
/// The file cannot be read.
pub(super) fn kept(directory: &Path) -> Result<Vec<ExternalMount>> {
    let path = directory.join(MOUNTS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = wait::contents(&path).with_context(|| format!("--image-path: read {}", path.display()))?;
    let all: BTreeMap<String, String> = serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))?;
    Ok(all.into_iter().map(|(key, val)| ExternalMount { key, val }).collect())
}

/// Each place in the container, and the path on the host.
fn of_the_host(
    theirs: &[Mount],
    ours: &[Mount],
    named: &[&Path],
    is_same: impl Fn(&Path, &Path) -> bool,
) -> BTreeMap<String, String> {
    let root = theirs.iter().rfind(|mount| mount.path == Path::new("/"));
    let own = |mount: &Mount| {
        let of_the_root = root.is_some_and(|root| mount.device == root.device && mount.root.starts_with(&root.root));
        let below_a_bind = named.iter().any(|place| mount.path.starts_with(place));
        of_the_root || MADE_AGAIN.contains(&mount.fstype.as_str()) && !below_a_bind
    };
    let others = theirs.iter().filter(|mount| mount.path != Path::new("/") && !named.contains(&mount.path.as_path()));
    let source = |mount: &Mount| {
        let of = ours.iter().filter(|host| host.device == mount.device);
        let mut paths = of.filter_map(|host| Some(joined(&host.path, mount.root.strip_prefix(&host.root).ok()?)));
        paths.find(|path| is_same(&mount.path, path))
    };
    let both = |mount: &Mount| Some((mount.path.to_str()?.to_owned(), source(mount)?.to_str()?.to_owned()));
    others.filter(|mount| !own(mount)).filter_map(both).collect()
}

/// A file that is mounted has no `/` behind its name.
fn joined(path: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { path.to_path_buf() } else { path.join(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = of_the_host(&theirs, &ours, &[Path::new("/data")], |_, _| true);
        let expected = [("/data/proc", "/proc"), ("/data/sub", "/vol/sub"), ("/etc/x", "/mnt/a/file")];
        assert_eq!(found, expected.map(|(place, path)| (place.to_owned(), path.to_owned())).into());
        // what is mounted there by now is another file
        assert!(of_the_host(&theirs, &ours, &[], |_, _| false).is_empty());
    }
}
