//! The messages of containerd's interfaces, written by hand: one file for each protobuf package. The numbers are those
//! of the .proto files, which never change. Fields that we neither read nor write are left out.

pub mod bootstrap;
pub mod cgroups;
pub mod events;
pub mod google;
pub mod runc;
pub mod task;
pub mod ttrpc;
