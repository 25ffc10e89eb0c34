//! The root: attached at its own path, where hooks look for it, changed into, and closed to writing at the end.

use std::ffi::CString;

use super::draft::{Draft, Opening};
use super::namespaces::{Kinds, MOUNT};
use super::step::{Change, Origin, What};
use super::{Asked, RootChange, mount_options};
use crate::config::At;
use crate::sys::mount::{Attributes, Reach};
use crate::wire::Ask;

/// The propagation that everything in the container's mount namespace begins with.
pub(super) fn propagation(ask: &Asked<'_>) -> (u64, Origin) {
    let asked = ask.config.spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_ref());
    let at = At::new("linux.rootfsPropagation");
    match asked.filter(|word| !word.is_empty()).map(|word| mount_options::rootfs_propagation(word, &at)) {
        // what is unbindable can be given no read-only paths and no root: it becomes so at the very end
        Some(Ok(flags)) if flags & libc::MS_UNBINDABLE != 0 => (libc::MS_PRIVATE | libc::MS_REC, Origin::At(at)),
        Some(Ok(flags)) => (flags, Origin::At(at)),
        // a mistake is told by `attach`; the host's mounts reach the container, and nothing goes back
        Some(Err(_)) | None => (libc::MS_SLAVE | libc::MS_REC, Origin::Runtime("mounts must not leak to the host")),
    }
}

pub(super) fn attach(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let at = At::new("root.path");
    let Some(root) = ask.config.spec.root() else {
        plan.fault(&At::new("root"), "is missing");
        return;
    };
    if root.path().as_os_str().is_empty() {
        plan.fault(&at, "is empty");
    }
    let path = ask.flags.bundle.join(root.path());
    if !kinds.private(MOUNT) {
        let propagation = ask.config.spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
        if propagation.is_some_and(|word| !word.is_empty()) {
            // it would be that of the host's mounts
            plan.fault(&At::new("linux.rootfsPropagation"), "needs a mount namespace (linux.namespaces)");
        }
        // SPEC: config-linux.md#namespaces: a namespace that is not asked for is the runtime's own
        let slot = plan.open(&at, Opening::Directory(path.clone()));
        plan.plan().root = Some(slot);
        plan.plan().root_on_host = Some(path);
        return;
    }
    let slot = plan.open(&at, Opening::Tree(path.clone(), Reach::Tree));
    plan.plan().root = Some(slot);
    let word = ask.config.spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_ref());
    if let Some(word) = word.filter(|word| !word.is_empty()) {
        plan.keep(mount_options::rootfs_propagation(word, &At::new("linux.rootfsPropagation")));
    }
    let (flags, from) = propagation(ask);
    plan.because(&from, What::Propagate(CString::from(c"/"), flags));
    let Some(place) = super::process::c_string(&path.to_string_lossy(), &at, plan) else { return };
    let below = flags & !libc::MS_REC;
    // ORDER: the mount under the root must be private before pivot_root(2) takes it, whatever is below it
    plan.always("pivot_root needs it", What::Propagate(CString::from(c"/"), libc::MS_PRIVATE));
    if below == libc::MS_SHARED {
        plan.always("pivot_root needs it", What::PrivateAbove(place.clone()));
    }
    let private =
        Change { attributes: Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() }, reach: Reach::One };
    let mut changes = vec![private];
    if below != libc::MS_SHARED {
        let attributes = Attributes { propagation: below, ..Attributes::default() };
        changes.insert(0, Change { attributes, reach: Reach::Tree });
    }
    plan.copy(&at, slot);
    if ask.flags.root_change == RootChange::Move {
        check_views(kinds, plan);
        unmount_views(ask, Inside::Yes, plan);
    }
    plan.at(&at, What::AttachRoot(slot, place, changes));
}

pub(super) fn change(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let at = At::new("root.path");
    if !kinds.private(MOUNT) {
        if let Some(slot) = plan.plan().root {
            plan.at(&at, What::Chroot(slot));
        }
        return;
    }
    let (flags, from) = propagation(ask);
    match ask.flags.root_change {
        RootChange::Pivot => plan.at(&at, What::Pivot),
        RootChange::Move => {
            unmount_views(ask, Inside::No, plan);
            plan.at(&At::new("--no-pivot"), What::MoveRoot);
        }
    }
    if flags & libc::MS_PRIVATE == 0 && matches!(from, Origin::At(_)) {
        plan.because(&from, What::Propagate(CString::from(c"/"), flags));
    }
}

/// Which of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Those in the container's root, of which the root that is attached has copies.
    Yes,
    /// The others.
    No,
}

/// The plan knows the mounts of the runtime's mount namespace. One that is mounted there later may be in the container's as well:
/// the runtime looks at that one, and refuses what the plan does not unmount.
/// ORDER: when nothing of the host can come any more, and before any mount of the container is there. The copy of the root has
/// been made: it stays a slave of the host's
fn check_views(kinds: &Kinds, plan: &mut Draft) {
    let at = At::new("--no-pivot");
    if !kinds.new.has(MOUNT) {
        plan.fault(
            &at,
            "a mount namespace that is joined may have a proc or sysfs that shows what the container must not see",
        );
    }
    plan.at(&at, What::Propagate(CString::from(c"/"), libc::MS_PRIVATE | libc::MS_REC));
    plan.at(&at, What::Ask(Ask::CheckViews));
}

/// Without a pivot the host's mounts stay in the mount namespace, below the root. A whole proc or sysfs among them lets a user
/// namespace in the container mount one that nothing hides (mount_namespaces(7)): they go first.
/// ORDER: those in the root before it is attached, where a path still finds them; the others when hooks have run. All are
/// private by then (`check_views`), or the host's would be let go of as well
fn unmount_views(ask: &Asked<'_>, inside: Inside, plan: &mut Draft) {
    let at = At::new("--no-pivot");
    for view in ask.host.views.iter().filter(|view| view.inside == (inside == Inside::Yes)) {
        if let Some(other) = &view.covered_by {
            let (view, other) = (view.path.display(), other.display());
            plan.fault(&at, format!("{view} cannot be unmounted: {other} is mounted over it"));
        }
        let path = view.path.to_string_lossy();
        if let Some(path) = super::process::c_string(&path, &at, plan) {
            plan.at(&at, What::Unmount(path));
        }
    }
}

/// Read-only at last: nodes, mount points and the working directory have been made.
pub(super) fn finish(ask: &Asked<'_>, kinds: &Kinds, plan: &mut Draft) {
    let spec = &ask.config.spec;
    for (path, at, attributes) in std::mem::take(&mut plan.closing) {
        plan.at(&at, What::Finish(path, attributes));
    }
    let cwd = spec.process().as_ref().map(|process| process.cwd().to_string_lossy().into_owned());
    if let Some(cwd) = cwd.filter(|cwd| cwd.starts_with('/') && cwd != "/")
        && let Some(path) = super::process::c_string(cwd.trim_start_matches('/'), &At::new("process.cwd"), plan)
    {
        plan.at(&At::new("process.cwd"), What::MakeCwd(path));
    }
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        let at = At::new("root.readonly");
        if !kinds.private(MOUNT) {
            // the mount that the root is on is the host's
            plan.fault(&at, "needs a mount namespace (linux.namespaces)");
        }
        let attributes = Attributes { set: libc::MOUNT_ATTR_RDONLY, ..Attributes::default() };
        plan.at(&at, What::Finish(CString::from(c"."), attributes));
    }
    unbindable(ask, plan);
}

fn unbindable(ask: &Asked<'_>, plan: &mut Draft) {
    let word = ask.config.spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    if word.is_some_and(|word| word.ends_with("unbindable")) {
        let at = At::new("linux.rootfsPropagation");
        plan.at(&at, What::Propagate(CString::from(c"/"), libc::MS_UNBINDABLE | libc::MS_REC));
    }
}
