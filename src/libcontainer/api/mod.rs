//! The door: what a program that embeds the library uses. Everything here is made of the other rooms.

mod bundle;
mod checkpoint;
mod container;
mod create;
mod exec;
mod protection;
mod restore;

pub use bundle::Bundle;
pub use checkpoint::Dump;
pub use container::{Began, Events, Force, Stopped};
pub use create::Create;
pub use exec::{NOT_STARTED, Process, exec_flags, joined, open_exec};
pub use protection::{Protection, protect_program};
pub use restore::RestoreFrom;
