//! (to come)
pub mod capabilities;
pub mod mount_options;
pub mod resources;
pub mod seccomp;
pub mod sysctl;
