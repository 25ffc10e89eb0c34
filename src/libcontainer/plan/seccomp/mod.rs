//! `linux.seccomp` as a filter for seccomp(2): checked in `profile`, turned into BPF by libseccomp in `compile`, one
//! part for each architecture, after our own `beginning` that chooses the part and makes system calls the profile is
//! too old to know say ENOSYS. Runs in the runtime process; init only loads the bytes.

mod beginning;
mod checked;
mod compile;
mod names;
mod profile;
#[cfg(test)]
mod tests;

use libseccomp::ScmpVersion;

pub use checked::{Denied, Filter, Listener};
pub use compile::MOST_INSTRUCTIONS;
pub use names::{known_actions, known_archs, known_flags, known_operators};
pub use profile::filter;
#[cfg(test)]
pub(crate) use tests::stock_profile;

/// The version of libseccomp that we are linked with.
pub fn library_version() -> String {
    ScmpVersion::current().map_or_else(|_| "unknown".to_owned(), |version| version.to_string())
}
