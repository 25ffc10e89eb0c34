//! The cgroups below a container's own in which another process starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Kind, Result, bail, error};
use crate::host::{Cgroups, cgroups::Hierarchy};

/// The values of `--cgroup`, by the keys of `paths`: one PATH for all of them, or CONTROLLER[,CONTROLLER...]:PATH for
/// those of version 1. As with runc, an unknown name is refused: the process would run without its limit.
pub(super) fn sub_cgroups<'a>(
    said: &'a [String],
    paths: &BTreeMap<String, PathBuf>,
    cgroups: &Cgroups,
) -> Result<BTreeMap<String, &'a str>> {
    let mut below = BTreeMap::new();
    let mut named = Vec::new();
    for word in said {
        let (controllers, path) =
            word.split_once(':').map_or((None, word.as_str()), |(names, path)| (Some(names), path));
        if path.split('/').any(|part| part == "..") {
            bail!(
                "Exec::sub_cgroups {word:?}: {path} is not a sub cgroup path: it leads out of the container's cgroup"
            );
        }
        let Some(controllers) = controllers else {
            if said.len() > 1 {
                bail!(
                    "Exec::sub_cgroups {word:?}: names no controller; with several Exec::sub_cgroups each must (CONTROLLER:PATH)"
                );
            }
            return Ok(paths.keys().map(|key| (key.clone(), path)).collect());
        };
        for controller in controllers.split(',') {
            let key = key_of(controller, paths, cgroups).ok_or_else(
                || error!(Kind::InvalidArgument => "Exec::sub_cgroups {word:?}: unknown controller {controller:?}"),
            )?;
            // Controllers that are mounted together have one cgroup.
            let other = below.insert(key, path).is_some_and(|other| other != path);
            if other || named.contains(&controller) {
                bail!(Kind::InvalidArgument => "Exec::sub_cgroups {word:?}: the cgroup of the controller {controller:?} is named twice");
            }
            named.push(controller);
        }
    }
    Ok(below)
}

/// The key of a controller's cgroup. A hierarchy without controllers has a name: `name=systemd`.
fn key_of(controller: &str, paths: &BTreeMap<String, PathBuf>, cgroups: &Cgroups) -> Option<String> {
    let hierarchy = cgroups.v1.iter().find(|hierarchy| hierarchy.has(controller));
    let key = hierarchy.map_or_else(|| controller.to_owned(), Hierarchy::key);
    Some(key).filter(|key| !key.is_empty() && paths.contains_key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &[&str]) -> Result<Vec<String>, String> {
        let cgroup = "4:memory:/m\n3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/u\n";
        let mountinfo = "\
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let cgroups = Cgroups::parse(mountinfo, cgroup);
        let paths = ["", "cpu", "memory", "systemd"].map(|key| (key.to_owned(), PathBuf::new())).into();
        let said: Vec<_> = said.iter().map(|word| (*word).to_owned()).collect();
        let below = sub_cgroups(&said, &paths, &cgroups).map_err(|error| error.to_string())?;
        Ok(below.into_iter().map(|(key, path)| format!("{key}:{path}")).collect())
    }

    #[test]
    fn a_sub_cgroup_is_named_for_all_or_by_controllers() {
        assert_eq!(read(&[]).unwrap(), [""; 0]);
        assert_eq!(read(&["/a"]).unwrap(), [":/a", "cpu:/a", "memory:/a", "systemd:/a"]);
        assert_eq!(read(&["memory:a", "cpu,cpuacct:/b"]).unwrap(), ["cpu:/b", "memory:a"]);
        assert_eq!(read(&["cpuacct:b", "name=systemd:c"]).unwrap(), ["cpu:b", "systemd:c"]);
    }

    #[test]
    fn what_names_no_cgroup_of_the_container_is_refused() {
        for (said, wanted) in [
            (&["nonsense:a"][..], "unknown controller \"nonsense\""),
            (&[":a"], "unknown controller \"\""),
            (&["memory,:a"], "unknown controller \"\""),
            (&["mem:a"], "unknown controller \"mem\""),
            (&["name=cpu:a"], "unknown controller \"name=cpu\""),
            (&["memory:a", "memory:b"], "named twice"),
            (&["memory,memory:a"], "named twice"),
            (&["cpu:a", "cpuacct:b"], "named twice"),
            (&["memory:a", "b"], "names no controller"),
            (&["memory:../a"], "leads out"),
        ] {
            let error = read(said).unwrap_err();
            assert!(error.contains(wanted), "{said:?}: {error}");
        }
    }
}
