//! The mounted cgroup hierarchies, and our own cgroup in each (cgroups(7)).

use std::io;
use std::path::{Path, PathBuf};

use super::mountinfo::{self, MountInTree, MountinfoLine, covering};
use crate::sys::errno::words;
use crate::sys::kernel_file::read_lossy;

/// The usual mount point of cgroups.
const TOP: &str = "/sys/fs/cgroup";

/// The hierarchies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Version 1, in the order of mountinfo.
    pub v1: Vec<Hierarchy>,
    /// Version 2, at `/sys/fs/cgroup` or, beside version 1, below it.
    pub v2: Option<Unified>,
}

/// A hierarchy of version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`, or `name=systemd`.
    pub controllers: Vec<String>,
    /// Its mount point.
    pub mount: PathBuf,
    /// Our own cgroup in it, beginning with `/`.
    pub own: PathBuf,
}

/// The hierarchy of version 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unified {
    /// Its mount point.
    pub mount: PathBuf,
    /// Our own cgroup in it, beginning with `/`.
    pub own: PathBuf,
}

/// The three ways to mount the hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Only version 2.
    Unified,
    /// Only version 1.
    Legacy,
    /// Version 1, and version 2 in addition.
    Hybrid,
}

impl Cgroups {
    /// Reads /proc/self/mountinfo and /proc/self/cgroup.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn probe() -> io::Result<Cgroups> {
        let failed = |path: &str, errno| io::Error::other(format!("read {path}: {}", words(errno)));
        let read = |path: &str| read_lossy(Path::new(path)).map_err(|errno| failed(path, errno));
        Ok(Cgroups::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// The hierarchies from the texts of these two files (proc(5), cgroups(7)).
    pub fn parse(mountinfo: &str, cgroup: &str) -> Cgroups {
        let ours: Vec<Ours<'_>> = ours(cgroup).collect();
        let mut found = Cgroups::default();
        let mounted: Vec<MountinfoLine<'_>> = mountinfo::lines(mountinfo.as_bytes()).filter(is_on_the_way).collect();
        let points: Vec<MountInTree<'_>> = mounted.iter().map(MountinfoLine::point).collect();
        for line in mounted.iter().filter(|line| line.written_path().starts_with(TOP)) {
            let mount = line.path();
            if found.v1.iter().any(|there| there.mount == mount) || !covering(line.point(), &points).is_empty() {
                continue;
            }
            match line.fstype {
                b"cgroup2" if found.v2.is_none() => {
                    let own = ours.iter().find(|ours| ours.controllers == [""]);
                    found.v2 = own.map(|ours| Unified { mount, own: ours.path.into() });
                }
                b"cgroup" => found.v1.extend(hierarchy(mount, &String::from_utf8_lossy(line.options), &ours)),
                _ => {}
            }
        }
        found
    }

    /// The way in which they are mounted.
    pub fn layout(&self) -> Layout {
        match (self.v1.is_empty(), &self.v2) {
            (true, _) => Layout::Unified,
            (false, None) => Layout::Legacy,
            (false, Some(_)) => Layout::Hybrid,
        }
    }
}

impl Hierarchy {
    /// Its key in runc's state.json: the first controller, or the name after `name=`.
    pub fn key(&self) -> String {
        let first = self.controllers.first().map(String::as_str).unwrap_or_default();
        first.strip_prefix("name=").unwrap_or(first).to_owned()
    }

    /// True if it has the controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|there| there == controller)
    }
}

/// True for a mount at the usual mount point, or on a path to or from it.
fn is_on_the_way(line: &MountinfoLine<'_>) -> bool {
    let (path, top) = (line.written_path(), Path::new(TOP));
    top.starts_with(path) || path.starts_with(top)
}

/// Whether a text such as /proc/self/cgroup has the hierarchy with this key (`Hierarchy::key`; empty for version 2).
pub fn has_hierarchy(cgroup: &str, key: &str) -> bool {
    let is_key = |name: &&str| name.strip_prefix("name=").unwrap_or(name) == key;
    ours(cgroup).any(|ours| ours.controllers.iter().any(is_key))
}

/// The lines of /proc/PID/cgroup: the controllers with commas between them (empty for version 2), and the path (cgroups(7)).
pub fn memberships(cgroup: &str) -> impl Iterator<Item = (&str, &str)> {
    cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// Our own cgroup in one hierarchy.
struct Ours<'a> {
    /// One empty name for version 2.
    controllers: Vec<&'a str>,
    path: &'a str,
}

fn ours(cgroup: &str) -> impl Iterator<Item = Ours<'_>> {
    memberships(cgroup).map(|(controllers, path)| Ours { controllers: controllers.split(',').collect(), path })
}

fn hierarchy(mount: PathBuf, options: &str, ours: &[Ours<'_>]) -> Option<Hierarchy> {
    // The superblock's options contain the controllers and other words. `cgroup` has the names of controllers only.
    let of = |option: &str| ours.iter().find(|ours| !option.is_empty() && ours.controllers.contains(&option));
    let controllers: Vec<&str> = options.split(',').filter(|option| of(option).is_some()).collect();
    let own = of(controllers.first()?)?.path.into();
    Some(Hierarchy { controllers: controllers.into_iter().map(str::to_owned).collect(), mount, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_known_by_any_of_its_controllers() {
        let text = "4:cpu,cpuacct:/a\n1:name=systemd:/\n0::/b\n";
        let found = ["cpu", "cpuacct", "systemd", "", "memory", "name"].map(|key| has_hierarchy(text, key));
        assert_eq!(found, [true, true, true, true, false, false]);
        assert!(!has_hierarchy("4:cpu:/\n", ""), "version 2 is not there");
    }

    const V1: &str = "\
30 25 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
35 30 0:29 / /somewhere/else rw,relatime - cgroup cgroup rw,memory
";
    const V1_OWN: &str = "4:memory:/m\n3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n";

    #[test]
    fn a_hybrid_machine_has_both() {
        let found = Cgroups::parse(V1, V1_OWN);
        assert_eq!(found.layout(), Layout::Hybrid);
        let keys: Vec<_> = found.v1.iter().map(Hierarchy::key).collect();
        assert_eq!(keys, ["cpu", "memory", "systemd"]);
        assert_eq!(found.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found.v1[1].own, Path::new("/m"));
        let v2 = found.v2.unwrap();
        assert_eq!((v2.mount.as_path(), v2.own.as_path()), (Path::new("/sys/fs/cgroup/unified"), Path::new("/u")));
    }

    #[test]
    fn a_hierarchy_that_is_covered_is_not_mounted() {
        let keys = |more: &str| {
            let found = Cgroups::parse(&format!("{V1}{more}"), V1_OWN);
            let mut keys: Vec<_> = found.v1.iter().map(Hierarchy::key).collect();
            keys.extend(found.v2.map(|_| "v2".to_owned()));
            keys.join(" ")
        };
        let all = "cpu memory systemd v2";
        for (more, expected) in [
            // A mount on one of them, on the directory of all, and above it.
            ("40 34 0:50 / /sys/fs/cgroup/unified rw - tmpfs t rw", "cpu memory systemd"),
            ("40 32 0:50 / /sys/fs/cgroup/memory rw - tmpfs t rw", "cpu systemd v2"),
            ("40 30 0:50 / /sys/fs/cgroup rw - tmpfs t rw", ""),
            ("25 1 0:3 / / rw - ext4 r rw\n40 25 0:50 / /sys rw - tmpfs t rw", ""),
            // A mount below them, beside them, and on the root itself.
            ("40 32 0:50 / /sys/fs/cgroup/memory/x rw - tmpfs t rw", all),
            ("40 25 0:50 / /sys/fs/bpf rw - tmpfs t rw", all),
            ("25 1 0:3 / / rw - ext4 r rw\n40 25 0:50 / / rw - tmpfs t rw", all),
            // A mount that existed before, and is itself covered.
            ("25 1 0:3 / / rw - ext4 r rw\n40 25 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", all),
            // A loop, which no mountinfo has.
            ("25 30 0:3 / /sys rw - ext4 r rw", ""),
        ] {
            assert_eq!(keys(more), expected, "{more}");
        }
        // Mounted again on top of the mounts that covered them.
        let again =
            "40 30 0:50 / /sys/fs/cgroup rw - tmpfs t rw\n41 40 0:29 / /sys/fs/cgroup/memory rw - cgroup c rw,memory";
        assert_eq!(keys(again), "memory");
    }

    #[test]
    fn a_unified_machine_has_one() {
        let mountinfo = "30 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Cgroups::parse(mountinfo, "0::/user.slice/x.scope\n");
        assert_eq!(found.layout(), Layout::Unified);
        assert_eq!(found.v2.unwrap().own, Path::new("/user.slice/x.scope"));
    }
}
