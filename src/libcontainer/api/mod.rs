//! The door: what a program that embeds the library uses. Everything here is made of the other rooms.

mod bundle;
mod container;
mod create;
mod exec;
mod protection;

pub use bundle::Bundle;
pub use container::{Began, Events, Force, Stopped};
pub use create::Create;
pub use exec::{NOT_STARTED, Process, exec_flags, joined, open_exec};
pub use protection::{Protection, protect_program};
