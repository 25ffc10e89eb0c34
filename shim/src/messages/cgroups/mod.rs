//! io.containerd.cgroups: what a container uses, in the two shapes.

pub mod v1;
pub mod v2;
