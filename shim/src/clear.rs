//! The action `delete`: removes what a dead shim has left.

use libcontainer::in_words;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use libcontainer::Force;
use prost::Message as _;

use crate::bootstrap::print;
use crate::cli::Flags;
use crate::messages::task::DeleteResponse;
use crate::runtime::{self, At};
use crate::{address, options, rootfs};

/// Removes the container, and answers with an assumed end: killed by SIGKILL, now.
///
/// # Errors
/// The text for containerd.
pub fn clear(flags: &Flags) -> Result<(), String> {
    let bundle = match &flags.bundle {
        Some(bundle) => bundle.clone(),
        None => {
            let here = std::env::current_dir()
                .map_err(|error| format!("current directory: {error}", error = in_words(&error)))?;
            here.parent().unwrap_or(Path::new("/")).join(&flags.id)
        }
    };
    let pid = fs::read_to_string(bundle.join("init.pid")).ok().and_then(|text| text.trim().parse().ok());
    let answer =
        DeleteResponse { pid: pid.unwrap_or(0), exit_status: 128 + 9, exited_at: Some(SystemTime::now().into()) };
    // containerd starts us in the bundle after each end of a shim. If it has removed that bundle since, it had called Delete before
    // that, and another container may have its id and its path now
    let is_removed = fs::metadata(".").is_ok_and(|here| here.nlink() == 0);
    if !is_removed {
        remove(flags, &bundle);
    }
    print(&answer.encode_to_vec())
}

/// Removes the container and what belongs to it.
fn remove(flags: &Flags, bundle: &Path) {
    // the container's processes become our children, as they were the shim's
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let at = At { root: runtime::root(&options::saved(bundle), &flags.namespace), id: flags.id.clone() };
    match at.other_bundle(bundle) {
        Some(other) => eprintln!("container {}: not deleted, because it was made from {}", flags.id, other.display()),
        None => drop(at.delete(Force::Kill).inspect_err(|error| eprintln!("container {}: {error}", flags.id))),
    }
    drop(rootfs::take_away(&bundle.join("rootfs")));
    if let Ok(address) = fs::read_to_string(bundle.join("address")) {
        address::remove_dead(Path::new(address.strip_prefix("unix://").unwrap_or(&address)));
    }
}
