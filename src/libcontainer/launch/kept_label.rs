//! The security label of a container's processes in its images. A CRIU that was built without SELinux leaves it out, and says nothing:
//! the restored processes would have the label of CRIU, which confines nothing.

use std::fs;
use std::path::Path;

use crate::criu;
use crate::error::{Result, bail};

/// AppArmor's word for no profile.
pub(super) const UNCONFINED: &str = "unconfined";

/// Checks that the images have the label of process `pid`, unless it has ours.
///
/// # Errors
/// They have none.
pub(super) fn must_be_in(images: &Path, pid: i32) -> Result<()> {
    let Some(label) = of(&pid.to_string()).filter(|label| label != UNCONFINED && of("self").as_ref() != Some(label))
    else {
        return Ok(());
    };
    if criu::label(images).is_none() {
        bail!("criu has not saved the security label {label} of the container: was it built without SELinux?");
    }
    Ok(())
}

/// Checks that process `pid` has this label again.
///
/// # Errors
/// It has another one.
pub(super) fn must_be_again(wanted: &str, pid: i32) -> Result<()> {
    let found = of(&pid.to_string()).unwrap_or_default();
    if found != wanted {
        bail!("the security label of the restored container is {found:?}, and must be {wanted:?}");
    }
    Ok(())
}

/// The label of a process: the first word of its `attr/current`. AppArmor adds its mode.
fn of(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/attr/current")).ok()?;
    let label = text.split([' ', '\n', '\0']).next().unwrap_or_default();
    (!label.is_empty()).then(|| label.to_owned())
}
