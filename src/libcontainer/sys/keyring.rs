//! keyctl(2): the session keyring that a container gets for itself.

use std::ffi::CStr;

use rustix::io::Errno;

use super::checked;

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const KEYCTL_SETPERM: i32 = 5;
const KEYCTL_DESCRIBE: i32 = 6;
/// KEY_USR_SEARCH of keyctl_setperm(3): the user may find the keyring, so that an exec can join it.
const USER_SEARCH: u32 = 0x0008_0000;

/// Joins the session keyring `name`, or makes it, and lets its owner search it.
///
/// # Errors
/// Those of keyctl(2); EDQUOT means that kernel.keys.maxkeys is reached. EACCES also if the keyring belongs to another user,
/// who could read what is put there.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: name is NUL-terminated.
    let ring = checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    // The kernel writes nothing if the buffer is too short. An id has 255 bytes at most.
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most text.len() bytes.
    let length =
        checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, ring, text.as_mut_ptr(), text.len()) })?;
    let description = &text[..usize::try_from(length).map_err(|_| Errno::RANGE)?.min(text.len())];
    let (Some(owner), Some(permissions)) = (field(description, 1, 10), field(description, 3, 16)) else {
        return Err(Errno::ACCESS);
    };
    if owner != rustix::process::geteuid().as_raw() {
        return Err(Errno::ACCESS);
    }
    // SAFETY: plain integers.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, ring, permissions | USER_SEARCH) }).map(drop)
}

/// A number in `keyring;uid;gid;permissions;description` (keyctl_describe(3)); the permissions are hexadecimal.
fn field(description: &[u8], n: usize, radix: u32) -> Option<u32> {
    let field = description.split(|byte| *byte == b';').nth(n)?;
    u32::from_str_radix(std::str::from_utf8(field).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_description_has_an_owner_and_permissions() {
        let description = b"keyring;4321;0;3f130000;_ses.x\0";
        assert_eq!(super::field(description, 1, 10), Some(4321));
        assert_eq!(super::field(description, 3, 16), Some(0x3f13_0000));
        assert_eq!(super::field(b"keyring;0", 3, 16), None);
    }
}
