//! Mounts for a container that runs already, from a list as `mounts` in config.json.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use super::labels;
use super::mount_options::{self, MountOptions};
use super::step::{MountChange, Setting};
use super::values::clean;
use crate::config::{At, Config, Faults, Warning};
use crate::sys::mount::{Attributes, Reach};

/// One of them.
#[derive(Debug)]
pub struct LiveMount {
    /// Its place in the list.
    pub at: At,
    /// What is mounted.
    pub tree: LiveTree,
    /// The flags and the propagation of it before it is attached.
    pub changes: Vec<MountChange>,
    /// Where, relative to the root.
    pub destination: CString,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub enum LiveTree {
    /// A tree of the host.
    Bind(PathBuf, Reach),
    /// A new tmpfs, with settings for fsconfig(2).
    Tmpfs(Vec<Setting>),
}

/// Reads the mounts of `config`. A relative source begins at the bundle. `labelled` is the container's config on a host with
/// SELinux: a new file system has the label of its mounts.
///
/// # Errors
/// All mistakes, each with its place.
pub fn live_mounts(
    config: &Config,
    bundle: &Path,
    labelled: Option<&Config>,
) -> Result<(Vec<LiveMount>, Vec<Warning>), Faults> {
    let (mut faults, mut warnings, mut mounts) = (config.faults.clone(), config.warnings.clone(), Vec::new());
    for (n, mount) in config.spec.mounts().iter().flatten().enumerate() {
        let at = At::new("mounts").index(n);
        let (options, more) = mount_options::parse(mount.options().as_deref().unwrap_or_default(), &at.key("options"));
        warnings.extend(more);
        if options.maps_ids(mount) {
            faults.add(at.clone(), "ids of a mount of a running container cannot be mapped: not implemented");
        }
        if options.remount || options.copy_up || options.links != mount_options::Links::default() {
            let said = "remount, tmpcopyup and options for links are not implemented for a running container";
            faults.add(at.key("options"), said);
        }
        let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
        let tree = match (options.bind, source, mount.typ().as_deref()) {
            (Some(reach), Some(source), _) => Some(LiveTree::Bind(bundle.join(source), reach)),
            (Some(_), None, _) => {
                faults.add(at.key("source"), "is missing, and a bind mount needs one");
                None
            }
            (None, _, Some("tmpfs")) => {
                let label = labelled.and_then(|own| labels::of_running(own).context("tmpfs", &options.data));
                let settings = faults.collect(options.settings(&at.key("options")));
                settings.map(|settings| LiveTree::Tmpfs(settings.into_iter().chain(label).collect()))
            }
            (None, ..) => {
                let said = "a running container accepts only bind mounts (the option bind or rbind) and tmpfs";
                faults.add(at.key("type"), said);
                None
            }
        };
        let destination = faults.collect(destination(mount.destination(), &at.key("destination")));
        if let (Some(tree), Some(destination)) = (tree, destination) {
            mounts.push(LiveMount { at, tree, changes: changes(&options), destination });
        }
    }
    faults.into_result((mounts, warnings))
}

/// The destinations of the mounts of `config`, each with its place.
///
/// # Errors
/// All mistakes, each with its place.
pub fn live_destinations(config: &Config) -> Result<Vec<(At, CString)>, Faults> {
    let (mut faults, mut found) = (config.faults.clone(), Vec::new());
    for (n, mount) in config.spec.mounts().iter().flatten().enumerate() {
        let at = At::new("mounts").index(n).key("destination");
        if let Some(path) = faults.collect(destination(mount.destination(), &at)) {
            found.push((at, path));
        }
    }
    faults.into_result(found)
}

/// A path in the container, without `..`. It must not be in /proc, because labels and limits are written there.
fn destination(path: &Path, at: &At) -> Result<CString, Faults> {
    let text = path.to_str().filter(|text| path.is_absolute() && !text.contains('\0'));
    let inside = text.map(|text| clean(Path::new(text)));
    match inside.as_deref() {
        None => Err(Faults::one(at.clone(), format!("{path:?} is not absolute"))),
        Some(".") => Err(Faults::one(at.clone(), "a mount on the root itself is not allowed")),
        Some(inside) if Path::new(inside).starts_with("proc") => {
            Err(Faults::one(at.clone(), "a mount in /proc of a running container is not allowed"))
        }
        Some(inside) => CString::new(inside).map_err(|_| Faults::one(at.clone(), "has a NUL byte")),
    }
}

/// A tree of the host must not be a peer of the host's mount: mounts that the container makes there must stay in the container.
/// With `shared`, mounts in the container can be peers of it.
fn changes(options: &MountOptions) -> Vec<MountChange> {
    let slave = MountChange { attributes: Attributes::propagating(libc::MS_SLAVE), reach: Reach::Tree };
    [slave].into_iter().chain(options.own_change()).chain(options.changes()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;
    use crate::config;

    fn read(mounts: &str) -> Result<Vec<LiveMount>, String> {
        let config = config::load(format!(r#"{{"ociVersion":"1.3.0","mounts":{mounts}}}"#).as_bytes()).unwrap();
        live_mounts(&config, Path::new("/b"), None).map(|(mounts, _)| mounts).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_bind_and_a_tmpfs_are_taken() {
        let list = r#"[{"destination":"/a/../x","source":"s","options":["rbind","ro"]},
            {"destination":"/t","type":"tmpfs","source":"tmpfs","options":["size=1m"]}]"#;
        let mounts = read(list).unwrap();
        assert_eq!(mounts[0].tree, LiveTree::Bind("/b/s".into(), Reach::Tree));
        assert_eq!(mounts[0].destination.as_c_str(), c"x");
        // first a slave, so that nothing propagates to the host
        assert_eq!(mounts[0].changes[0].attributes, Attributes::propagating(libc::MS_SLAVE));
        assert_eq!(mounts[1].tree, LiveTree::Tmpfs(vec![(c"size".into(), Some(c"1m".into()))]));
    }

    #[test]
    fn a_new_tmpfs_has_the_label_of_the_containers_mounts() {
        let own = r#"{"ociVersion":"1.3.0","linux":{"mountLabel":"u:r:t:s0"}}"#;
        let own = config::load(own.as_bytes()).unwrap();
        let list = r#"{"ociVersion":"1.3.0","mounts":[{"destination":"/t","type":"tmpfs"},
            {"destination":"/o","type":"tmpfs","options":["rootcontext=other"]}]}"#;
        let list = config::load(list.as_bytes()).unwrap();
        let (mounts, _) = live_mounts(&list, Path::new("/b"), Some(&own)).unwrap();
        let setting = |key: &CStr, value: &CStr| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(mounts[0].tree, LiveTree::Tmpfs(vec![setting(c"context", c"u:r:t:s0")]));
        assert_eq!(mounts[1].tree, LiveTree::Tmpfs(vec![setting(c"rootcontext", c"other")]));
        let (mounts, _) = live_mounts(&list, Path::new("/b"), None).unwrap();
        assert_eq!(mounts[0].tree, LiveTree::Tmpfs(Vec::new()));
    }

    #[test]
    fn what_is_unsafe_or_not_implemented_is_refused() {
        for (mount, said) in [
            (r#"{"destination":"/proc/x","source":"/s","options":["bind"]}"#, "/proc of a running container"),
            (r#"{"destination":"/a/../proc","source":"/s","options":["bind"]}"#, "/proc of a running container"),
            (r#"{"destination":"/","source":"/s","options":["bind"]}"#, "the root itself"),
            (r#"{"destination":"x","source":"/s","options":["bind"]}"#, "is not absolute"),
            (r#"{"destination":"/x","options":["bind"]}"#, "source: is missing"),
            (r#"{"destination":"/x","type":"proc","source":"proc"}"#, "accepts only bind mounts"),
            (r#"{"destination":"/x","source":"/s","options":["bind","idmap"]}"#, "not implemented"),
            (r#"{"destination":"/x","source":"/s","options":["bind","remount"]}"#, "not implemented"),
        ] {
            let found = read(&format!("[{mount}]")).unwrap_err();
            assert!(found.contains(said), "{mount}: {found}");
        }
    }
}
