//! landlock(7): a ruleset is made and restricts the calling process.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{checked, owned};

/// LANDLOCK_CREATE_RULESET_VERSION.
const VERSION: u32 = 1;
/// LANDLOCK_RULE_PATH_BENEATH.
const PATH_BENEATH: u32 = 1;
/// LANDLOCK_RULE_NET_PORT.
const NET_PORT: u32 = 2;

/// struct landlock_ruleset_attr. The kernel accepts the whole of it if the parts that it does not know are 0.
#[repr(C)]
struct RulesetAttr {
    fs: u64,
    net: u64,
    scoped: u64,
}

/// struct landlock_path_beneath_attr.
#[repr(C, packed)]
struct PathBeneathAttr {
    access: u64,
    parent: i32,
}

/// struct landlock_net_port_attr.
#[repr(C)]
struct NetPortAttr {
    access: u64,
    port: u64,
}

// KERNEL(5.13): Landlock. ABI 2 came with 5.19, 3 with 6.2, 4 with 6.7, 5 with 6.10, 6 with 6.12 (`plan/ruleset.rs`).
/// The version of Landlock that this kernel has. 0 if it has none, or if it is not enabled.
pub fn abi() -> u32 {
    let nothing = std::ptr::null::<RulesetAttr>();
    // SAFETY: for the version, the kernel reads no attribute.
    let version = checked(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) });
    version.ok().and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}

/// A new ruleset that handles these rights, close-on-exec.
///
/// # Errors
/// Those of landlock_create_ruleset(2).
pub fn create(fs: u64, net: u64, scoped: u64) -> Result<OwnedFd, Errno> {
    let attr = RulesetAttr { fs, net, scoped };
    let (attr, size) = (&raw const attr, size_of::<RulesetAttr>());
    // SAFETY: attr points to `size` bytes that live through the call.
    let made = checked(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attr, size, 0u32) })?;
    // SAFETY: the result is a new descriptor, and nothing else owns it.
    unsafe { owned(made) }
}

/// Allows `access` to a TCP port.
///
/// # Errors
/// Those of landlock_add_rule(2).
pub fn allow_port(ruleset: BorrowedFd<'_>, port: u16, access: u64) -> Result<(), Errno> {
    let attr = NetPortAttr { access, port: u64::from(port) };
    let (fd, attr) = (ruleset.as_raw_fd(), &raw const attr);
    // SAFETY: attr points to the structure of this kind of rule, which lives through the call.
    checked(unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, NET_PORT, attr, 0u32) }).map(drop)
}

/// Allows `access` to a file, or to all files below a directory.
///
/// # Errors
/// Those of landlock_add_rule(2).
pub fn allow_beneath(ruleset: BorrowedFd<'_>, parent: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
    let attr = PathBeneathAttr { access, parent: parent.as_raw_fd() };
    let (fd, attr) = (ruleset.as_raw_fd(), &raw const attr);
    // SAFETY: attr points to the structure of this kind of rule, which lives through the call.
    checked(unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, attr, 0u32) }).map(drop)
}

/// The calling thread, and all processes that it makes, may do no more than the ruleset allows.
///
/// # Errors
/// Those of landlock_restrict_self(2): EPERM without no_new_privs and CAP_SYS_ADMIN.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: plain integers.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) }).map(drop)
}
