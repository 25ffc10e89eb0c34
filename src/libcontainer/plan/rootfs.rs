//! The root: it is attached at its own path, where hooks look for it. Init changes into it, and makes it read-only at
//! the end.

use std::ffi::CString;
use std::path::PathBuf;

use super::finished::Opening;
use super::given::{Given, RootChange};
use super::mount_options::{self, PropagationChange};
use super::namespaces::{MOUNT, PlannedNamespaces, USER};
use super::notes::Notes;
use super::step::{MountChange, Origin, Slot, What};
use super::steps::Steps;
use super::values::{c_path, clean};
use crate::config::At;
use crate::sys::mount::{Attributes, Reach};
use crate::wire::Request;

/// The container's root.
#[derive(Debug)]
pub(super) struct Rootfs {
    /// Its path on the host. None if config.json has no `root`.
    path: Option<(PathBuf, CString)>,
    /// Whether the container has a mount namespace, in which the root is mounted. Without one, the root is a directory
    /// of the host.
    mounted: bool,
    propagation: RootPropagation,
    readonly: bool,
    change: RootChange,
    /// Mounts of proc and sysfs of the host that stay in reach without pivot_root(2), and are inside the root.
    views_inside: Vec<CString>,
    /// The others.
    views_outside: Vec<CString>,
}

/// How mounts in the container's mount namespace propagate.
#[derive(Debug)]
struct RootPropagation {
    /// The propagation of all mounts at first, with MS_REC.
    first: u64,
    from: Origin,
    /// `linux.rootfsPropagation`, if config.json has it.
    requested: Option<PropagationChange>,
    /// Whether no mount may be a peer of a host's mount: the mount namespace belongs to a user namespace of the
    /// container.
    slaves: bool,
}

/// Reads `root` and `linux.rootfsPropagation`.
pub(super) fn read(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> Rootfs {
    let at = At::new("root.path");
    let mounted = namespaces.private(MOUNT);
    let root = given.config.spec.root().as_ref();
    if root.is_none() {
        notes.fault(&At::new("root"), "is missing");
    }
    if root.is_some_and(|root| root.path().as_os_str().is_empty()) {
        notes.fault(&at, "is empty");
    }
    let path = root.map(|root| given.flags.bundle.join(root.path()));
    let path = path.and_then(|path| c_path(&path, &at, notes).map(|c_path| (path, c_path)));
    let readonly = root.and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
    if readonly && !mounted {
        // The root is on a mount of the host.
        notes.fault(&At::new("root.readonly"), "needs a mount namespace (linux.namespaces)");
    }
    let change = given.flags.root_change;
    let no_pivot = change == RootChange::Move && mounted;
    if no_pivot && !namespaces.new.has(MOUNT) {
        let said = "a joined mount namespace may have a proc or sysfs without masked paths";
        notes.fault(&At::new("RootChange::Move"), said);
    }
    let (views_inside, views_outside) = if no_pivot { views(given, notes) } else { (Vec::new(), Vec::new()) };
    let propagation = propagation(given, namespaces, notes);
    Rootfs { path, mounted, propagation, readonly, change, views_inside, views_outside }
}

fn propagation(given: &Given<'_>, namespaces: &PlannedNamespaces, notes: &mut Notes) -> RootPropagation {
    let at = At::new("linux.rootfsPropagation");
    let word = given.linux().and_then(|linux| linux.rootfs_propagation().as_deref()).filter(|word| !word.is_empty());
    if word.is_some() && !namespaces.private(MOUNT) {
        // This would change the propagation of the host's mounts.
        notes.fault(&at, "needs a mount namespace (linux.namespaces)");
    }
    let slaves = namespaces.private(USER);
    let requested = word.and_then(|word| notes.collect(mount_options::rootfs_propagation(word, &at)));
    match requested.filter(|requested| requested.reach == Reach::Tree) {
        // An unbindable mount cannot become the root, and no read-only path can be bound in it. So it becomes
        // unbindable at the very end.
        Some(all) if all.kind == libc::MS_UNBINDABLE => {
            RootPropagation { first: libc::MS_PRIVATE | libc::MS_REC, from: Origin::At(at), requested, slaves }
        }
        Some(all) => RootPropagation { first: all.kind | libc::MS_REC, from: Origin::At(at), requested, slaves },
        // Mounts of the host reach the container, but mounts of the container do not reach the host. A word without
        // the `r` is for the mount on `/` alone.
        None => {
            let from = Origin::Runtime("mounts must not leak to the host");
            RootPropagation { first: libc::MS_SLAVE | libc::MS_REC, from, requested, slaves }
        }
    }
}

/// Gives `/` the propagation of config.json.
fn propagate_slash(requested: PropagationChange, steps: &mut Steps) {
    let recursion = if requested.reach == Reach::Tree { libc::MS_REC } else { 0 };
    let what = What::Propagate { path: CString::from(c"/"), flags: requested.kind | recursion };
    steps.add(&At::new("linux.rootfsPropagation"), what);
}

/// Without pivot_root(2), the host's mounts stay in the mount namespace, below the root. With a complete proc or sysfs
/// among them, a user namespace in the container could mount a new one without masked paths (mount_namespaces(7)). So
/// these are unmounted. Returns those inside the root, and the others.
fn views(given: &Given<'_>, notes: &mut Notes) -> (Vec<CString>, Vec<CString>) {
    let at = At::new("RootChange::Move");
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for view in &given.host.views {
        if let Some(other) = &view.covered_by {
            let (view, other) = (view.path.display(), other.display());
            notes.fault(&at, format!("{view} cannot be unmounted: {other} is mounted over it"));
        }
        let paths = if view.inside { &mut inside } else { &mut outside };
        paths.extend(c_path(&view.path, &at, notes));
    }
    (inside, outside)
}

impl Rootfs {
    /// The root's path, if the container has no mount namespace and its mounts are mounts of the host.
    pub(super) fn on_host(&self) -> Option<PathBuf> {
        self.path.as_ref().filter(|_| !self.mounted).map(|(path, _)| path.clone())
    }

    /// As with runc: if `path` is the host's path of a file in the root, returns its path in the root. Both are relative to `/`.
    pub(super) fn path_inside(&self, path: &str) -> Option<String> {
        let (root, _) = self.path.as_ref()?;
        let root = clean(root);
        let inside = path.strip_prefix(root.as_str())?.strip_prefix('/')?;
        Some(inside.to_owned())
    }

    /// A tree copied on the host is still a peer of the host's mounts, so a mount in it would appear on the host.
    /// Before it is attached, it gets the same propagation as everything below `/` at first. In a less privileged mount
    /// namespace, it becomes a slave even if the others are shared, like all mounts that the kernel copies into one
    /// (mount_namespaces(7)).
    pub(super) fn inherited(&self) -> Vec<MountChange> {
        let kind = match self.propagation.first & !libc::MS_REC {
            libc::MS_SHARED if self.propagation.slaves => libc::MS_SLAVE,
            libc::MS_SHARED => return Vec::new(),
            kind => kind,
        };
        vec![MountChange { attributes: Attributes::propagating(kind), reach: Reach::Tree }]
    }

    /// The same for a bind mount with these options of its own. With a `linux.rootfsPropagation` for `/` only, a mount that
    /// config.json makes shared stays a peer of the host's mount.
    pub(super) fn inherited_beside(&self, own: &[PropagationChange]) -> Vec<MountChange> {
        let for_slash_alone = self.propagation.requested.is_some_and(|requested| requested.reach == Reach::One);
        let shared = for_slash_alone && own.iter().any(|change| change.kind == libc::MS_SHARED);
        if shared && !self.propagation.slaves { Vec::new() } else { self.inherited() }
    }

    /// Opens the root, and attaches it if there is a mount namespace.
    pub(super) fn attach(&self, steps: &mut Steps) -> Option<Slot> {
        let at = At::new("root.path");
        let (path, c_path) = self.path.clone()?;
        if !self.mounted {
            // SPEC: config-linux.md#namespaces: the container has the runtime's namespace of a type that config.json
            // does not list.
            return Some(steps.open(&at, Opening::Directory(path)));
        }
        let slot = steps.open(&at, Opening::Tree(path, Reach::Tree));
        let RootPropagation { first, from, .. } = &self.propagation;
        let slash = || CString::from(c"/");
        steps.add_from(from, What::Propagate { path: slash(), flags: *first });
        let below = first & !libc::MS_REC;
        // ORDER: the mount that the root lies on must be private before pivot_root(2), whatever the mounts below are.
        steps.add_always("pivot_root requires it", What::Propagate { path: slash(), flags: libc::MS_PRIVATE });
        if below == libc::MS_SHARED {
            steps.add_always("pivot_root requires it", What::PrivateAbove(c_path.clone()));
        }
        let mut changes = self.inherited();
        changes.push(MountChange { attributes: Attributes::propagating(libc::MS_PRIVATE), reach: Reach::One });
        steps.add_copy(&at, slot);
        if self.change == RootChange::Move {
            // The plan knows the mounts of the runtime's mount namespace. A later mount there may also be in the
            // container's: the runtime checks this, and fails if the plan does not unmount it.
            // ORDER: when no mount of the host can arrive any more, and before the container has mounts. The copy of
            // the root exists already: it stays a slave of the host's mount.
            let no_pivot = At::new("RootChange::Move");
            steps.add(&no_pivot, What::Propagate { path: slash(), flags: libc::MS_PRIVATE | libc::MS_REC });
            steps.add(&no_pivot, What::Request(Request::CheckViews));
            // ORDER: before the root is attached: until then, these paths find the mounts.
            self.unmount(&self.views_inside, steps);
        }
        steps.add(&at, What::AttachRoot { tree: slot, path: c_path, changes });
        Some(slot)
    }

    /// Changes into the root. `root` is its slot.
    pub(super) fn change(&self, root: Option<Slot>, steps: &mut Steps) {
        let at = At::new("root.path");
        if !self.mounted {
            if let Some(slot) = root {
                steps.add(&at, What::Chroot(slot));
            }
            return;
        }
        match self.change {
            RootChange::Pivot => steps.add(&at, What::Pivot),
            RootChange::Move => {
                // ORDER: after the hooks. All mounts are private by now: otherwise the host's would be unmounted, too.
                self.unmount(&self.views_outside, steps);
                steps.add(&At::new("RootChange::Move"), What::MoveRoot);
            }
        }
        // `/` is private already. `finish` makes it unbindable.
        let later = |requested: &PropagationChange| requested.kind & (libc::MS_PRIVATE | libc::MS_UNBINDABLE) == 0;
        if let Some(requested) = self.propagation.requested.filter(later) {
            propagate_slash(requested, steps);
        }
    }

    fn unmount(&self, views: &[CString], steps: &mut Steps) {
        let at = At::new("RootChange::Move");
        views.iter().for_each(|path| steps.add(&at, What::Unmount(path.clone())));
    }

    /// Makes the root read-only: nodes, mount points and the working directory have been made.
    pub(super) fn finish(&self, steps: &mut Steps) {
        if self.readonly {
            let what = What::Finish { path: CString::from(c"."), attributes: Attributes::read_only() };
            steps.add(&At::new("root.readonly"), what);
        }
        if let Some(requested) = self.propagation.requested.filter(|requested| requested.kind == libc::MS_UNBINDABLE) {
            propagate_slash(requested, steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::config;
    use crate::host::views::View;
    use crate::host::{Host, MayMount};
    use crate::plan::given::{Flags, Keyring};
    use crate::plan::{Plan, namespaces};

    #[test]
    fn a_mount_of_the_host_is_unmounted_whatever_bytes_its_path_has() {
        let text = br#"{"ociVersion":"1.3.0","root":{"path":"rootfs"},"linux":{"namespaces":[{"type":"mount"}]}}"#;
        let config = config::load(text).unwrap();
        let flags = Flags::new("id", std::path::Path::new("/b"), Keyring::Inherited);
        let flags = Flags { root_change: RootChange::Move, ..flags };
        let view = View { path: OsStr::from_bytes(b"/m\xff").into(), covered_by: None, inside: false };
        let host = Host { views: vec![view], ..Host::default() };
        let given = Given { config: &config, host: &host, flags: &flags };
        let mut notes = Notes::new(&config);
        let root = read(&given, &namespaces::read(&given, &mut notes), &mut notes);
        let mut steps = Steps::new(MayMount::Here);
        let slot = root.attach(&mut steps);
        root.change(slot, &mut steps);
        let plan = steps.into_plan(slot, Plan::default());
        assert!(plan.init.iter().any(|step| step.what == What::Unmount(CString::from(c"/m\xff"))), "{plan}");
    }
}
