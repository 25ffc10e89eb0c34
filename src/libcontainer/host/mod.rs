//! (to come)
pub mod cgroups;
