//! keyctl(2): the session keyring that a container gets for itself.

use std::ffi::CStr;

use rustix::io::Errno;

use super::checked;

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;
const KEYCTL_DESCRIBE: i32 = 6;
/// KEY_USR_SEARCH of keyctl_setperm(3): the user may find the keyring, so that an exec can join it.
const USER_SEARCH: u32 = 0x0008_0000;

/// Joins the session keyring `name`, making it when it is not there, and lets its owner search it.
///
/// # Errors
/// Those of keyctl(2); EDQUOT means that kernel.keys.maxkeys is reached.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: name is NUL-terminated.
    let ring = checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    let mut text = [0u8; 256];
    // SAFETY: the kernel writes at most text.len() bytes.
    let length =
        checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, ring, text.as_mut_ptr(), text.len()) })?;
    let Some(permissions) = permissions_in(&text[..usize::try_from(length).unwrap_or(0).min(text.len())]) else {
        return Ok(());
    };
    // SAFETY: plain integers.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, ring, permissions | USER_SEARCH) }).map(drop)
}

/// The fourth field of `keyring;uid;gid;permissions;description` (keyctl_describe(3)), which is hexadecimal.
fn permissions_in(description: &[u8]) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(3)?;
    u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_permissions_are_the_fourth_field_in_hexadecimal() {
        assert_eq!(super::permissions_in(b"keyring;0;0;3f130000;_ses.x\0"), Some(0x3f13_0000));
        assert_eq!(super::permissions_in(b"keyring;0"), None);
    }
}
