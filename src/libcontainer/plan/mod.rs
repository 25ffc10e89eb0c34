//! What we will do: (config, host, flags) become a plan. Pure: no files, no environment, no calls.

pub mod capabilities;
pub mod mount_options;
pub mod resources;
pub mod seccomp;
pub mod step;
pub mod sysctl;
