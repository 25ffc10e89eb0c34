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
    let Some(label) =
        label_of(&pid.to_string()).filter(|label| label != UNCONFINED && label_of("self").as_ref() != Some(label))
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
    let found = label_of(&pid.to_string()).unwrap_or_default();
    if found != wanted {
        // SELinux sorts the categories of a label.
        bail!(
            "the security label of the restored container is {found:?}, as the kernel prints it, and must be {wanted:?}"
        );
    }
    Ok(())
}

/// The label of a process.
fn label_of(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/attr/current")).ok()?;
    Some(without_mode(&text).to_owned()).filter(|label| !label.is_empty())
}

/// The label in an `attr/current`, without the mode that AppArmor adds: `PROFILE (enforce)`. A profile's name may contain spaces.
fn without_mode(text: &str) -> &str {
    let text = text.trim_end_matches(['\n', '\0']);
    text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")).map_or(text, |(label, _)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_without_its_mode() {
        for (text, label) in [
            ("my profile (enforce)\n", "my profile"),
            ("a (b) (complain)\n", "a (b)"),
            ("unconfined\n", UNCONFINED),
            ("system_u:system_r:container_t:s0:c1,c3\0", "system_u:system_r:container_t:s0:c1,c3"),
            ("", ""),
        ] {
            assert_eq!(without_mode(text), label);
        }
    }
}
