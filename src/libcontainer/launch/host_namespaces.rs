//! A namespace that is joined by path may be the host's: its path leads there, or it is a bind mount of it. What the
//! container changes in it would change the host.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::config::At;
use crate::error::{Result, bail, error};
use crate::host::Namespace;
use crate::plan::namespaces::KINDS;
use crate::plan::step::{Namespaces, What};
use crate::plan::sysctl::changed_namespace;
use crate::plan::{Opening, Plan};
use crate::sys::errno::in_words;

/// The container's pivot_root(2) changes the root of all processes in a joined mount namespace. So this must not be our mount
/// namespace, and not the host's.
pub(super) fn must_not_be_the_hosts_mounts(file: &OwnedFd, kind: u64, path: &Path, at: &At) -> Result<()> {
    if kind != libc::CLONE_NEWNS as u64 {
        return Ok(());
    }
    match whose(file, kind).map_err(|error| error!("{at}: open {}: {}", path.display(), in_words(&error)))? {
        Some(whose) => bail!("{at}: {} is {whose}: the container's root would become the host's", path.display()),
        None => Ok(()),
    }
}

/// Kernel parameters and names are written only in a namespace that is not ours and not the host's. A name that our
/// namespace has already is allowed: an engine gives a container on the host's network the name of the host.
pub(super) fn must_not_be_written(plan: &Plan, fds: &[Option<OwnedFd>]) -> Result<()> {
    for ((opening, _), fd) in plan.openings.iter().zip(fds) {
        let (Opening::Namespace(path, kind), Some(file)) = (opening, fd) else { continue };
        let Some(step) =
            plan.init.iter().find(|step| changed_namespace(&step.what) == Some(*kind) && !has_this_name(&step.what))
        else {
            continue;
        };
        let at = &step.from;
        let whose = whose(file, *kind).map_err(|error| error!("{at}: {}: {}", path.display(), in_words(&error)))?;
        if let Some(whose) = whose {
            bail!("{at}: is not in a separate kernel namespace: {} is {whose}", path.display());
        }
    }
    Ok(())
}

/// True for a name that our UTS namespace has already.
fn has_this_name(what: &What) -> bool {
    let names = rustix::system::uname();
    match what {
        What::Hostname(name) => names.nodename() == name.as_c_str(),
        What::Domainname(name) => names.domainname() == name.as_c_str(),
        _ => false,
    }
}

/// The words for a namespace that is ours, or the host's (that of process 1). None for any other. If we may not read the host's
/// namespace, we may not join it either (setns(2)).
fn whose(file: &OwnedFd, kind: u64) -> io::Result<Option<String>> {
    let Some((_, _, name)) = KINDS.iter().find(|(bit, ..)| *bit == kind) else { return Ok(None) };
    let there = Namespace::of_file(file)?;
    if there == Namespace::ours(name)? {
        return Ok(Some(format!("the runtime's own {} namespace", Namespaces(kind))));
    }
    Ok((Namespace::of(1, name).ok() == Some(there)).then(|| format!("the {} namespace of process 1", Namespaces(kind))))
}
