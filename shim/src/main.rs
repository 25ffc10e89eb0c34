//! containerd-shim-coracle-v1: containerd's shim with the runtime inside. containerd starts it for each pod (`start`)
//! and speaks ttrpc with the process that serves. It calls the shim again to remove what a dead shim has left
//! (`delete`).
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

mod address;
mod bootstrap;
mod checkpoint;
mod clear;
mod cli;
mod container;
mod create;
mod delete;
mod event_loop;
mod events;
mod exits;
mod failure;
mod info;
mod jobs;
mod launch;
mod logger;
mod messages;
mod options;
mod owner;
mod poll;
mod pump;
mod reply;
mod room;
mod rootfs;
mod runtime;
mod serve;
mod shim;
mod start;
mod stats;
mod stdio;
mod task;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == logger::ROLE).is_some() {
        return logger::become_logger(args);
    }
    let said = cli::parse(args.map(|arg| arg.to_string_lossy().into_owned())).and_then(|flags| act(&flags));
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd adds the text to its own error
            eprint!("{}: {error}", info::NAME);
            ExitCode::FAILURE
        }
    }
}

fn act(flags: &cli::Flags) -> Result<(), String> {
    if flags.version {
        return info::version();
    }
    if flags.info {
        return info::info();
    }
    if flags.namespace.is_empty() {
        return Err("shim namespace cannot be empty".to_owned());
    }
    match &*flags.action {
        "start" => bootstrap::start(flags),
        "delete" => clear::clear(flags),
        "" => serve::serve(flags),
        other => Err(format!("unknown action {other}")),
    }
}
