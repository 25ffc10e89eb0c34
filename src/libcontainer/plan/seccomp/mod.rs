//! `linux.seccomp` as a filter for seccomp(2). `profile` checks it. In `compile`, libseccomp turns it into BPF, one
//! part for each architecture. Our own `beginning` comes first: it chooses the part, and returns ENOSYS for system
//! calls that are newer than the profile. All this runs in the runtime process. Init only loads the bytes.

mod beginning;
mod checked;
mod compile;
mod data;
mod names;
mod profile;
#[cfg(test)]
mod tests;

use libseccomp::ScmpVersion;

pub use checked::{Denied, Filter, Listener};
pub use compile::MOST_INSTRUCTIONS;
pub use data::given_as_data;
pub use names::{known_actions, known_archs, known_flags, known_operators};
pub use profile::{all_known, filter};
#[cfg(test)]
pub(crate) use tests::stock_profile;

/// The version of libseccomp that this program is linked with.
pub fn library_version() -> Option<String> {
    ScmpVersion::current().ok().map(|version| version.to_string())
}
