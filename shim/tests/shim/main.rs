//! The shim without containerd: a client that speaks ttrpc with it, and a server that receives its events. The program of
//! the containers is the shim itself, because it is static: `-v` ends with 0, an unknown flag with 1, and `-info` when its stdin ends.
#![allow(dead_code)] // of the messages, of which the tests need a few

#[path = "../../src/messages/mod.rs"]
mod messages;
#[path = "../../src/wire.rs"]
mod wire;

mod attack;
mod bootstrap;
mod calls;
mod clients;
mod crowd;
mod life;
mod loggers;
mod long;
mod loss;
mod options;
mod others;
mod restored;
mod rootfs;
mod roots;
mod starved;
mod stopped;
mod terminal;
mod world;
