//! The beginning of the serving process: it leaves containerd's session, and maps its program from a file that no
//! container can write.

use libcontainer::in_words;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use crate::address;
use crate::cli::Flags;
use crate::logger;
use crate::shim::{Identity, Shim};

/// Serves the socket on our stdin until containerd sends Shutdown.
///
/// # Errors
/// The process cannot begin.
pub fn serve(flags: &Flags) -> Result<(), String> {
    // ORDER: before there is a second thread, and before there is a container (CVE-2019-5736). From here on containers
    // need no further protection (`Protection::Caller`). If the program is executed again, it needs its stdin again
    let protection = libcontainer::protect_program().map_err(|error| error.to_string())?;
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}", error = in_words(&error));
    let listener = rustix::stdio::stdin().as_fd().try_clone_to_owned().map_err(failed("stdin"))?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(failed("/dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(|errno| format!("stdin: {errno}", errno = in_words(&errno)))?;
    drop(null);
    // a new session: signals to containerd's session do not reach it. It fails if this process leads a session already
    let _ = rustix::process::setsid();
    let own = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(own)
        .map_err(|errno| format!("become subreaper: {errno}", errno = in_words(&errno)))?;
    let bound = address::bound(&flags.socket);
    let identity = Identity {
        namespace: flags.namespace.clone(),
        ttrpc_address: std::env::var("TTRPC_ADDRESS").unwrap_or_default(),
    };
    let mut shim = Shim::new(identity, UnixListener::from(listener)).map_err(failed("serve"))?;
    shim.finish_protection(protection);
    shim.serve();
    let loggers = std::mem::take(&mut shim.loggers);
    // ORDER: containerd calls `delete` at the end of its connection. `delete` holds the lock of the directory while it asks us on
    // our socket, so the socket must be closed before we wait for that lock. We may also have to wait for a disk
    // (`rootfs::take_away`)
    drop(shim);
    address::give_up(&flags.socket, bound);
    logger::end_all(loggers);
    Ok(())
}
