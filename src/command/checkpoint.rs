//! `checkpoint`: writes a container to images.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow, bail};
use libcontainer::internals::take_inherited;
use libcontainer::internals::wait;
use libcontainer::{Afterwards, Allow};
use rustix::fs::OFlags;

use super::session::Session;
use crate::cli;

pub fn run(session: &Session<'_>, args: &cli::Checkpoint) -> Result<()> {
    let images = session.images(&args.imaging)?;
    let more = [(args.tcp_skip_in_flight, Allow::TcpSkipInFlight), (args.link_remap, Allow::LinkRemap)];
    let images = more.into_iter().filter(|(on, _)| *on).fold(images, |images, (_, what)| images.allow(what));
    let page_server = args.page_server.as_deref().map(address).transpose()?;
    if args.imaging.lazy_pages && args.pre_dump {
        bail!("--lazy-pages and --pre-dump: a pre-dump writes all of the memory");
    }
    if args.imaging.lazy_pages && page_server.is_none() {
        bail!("--lazy-pages needs --page-server ADDRESS:PORT: the restore gets the memory from there");
    }
    let status = args.status_fd.map(status_descriptor).transpose()?;
    let afterwards = match (args.pre_dump, args.leave_running) {
        (true, _) => Afterwards::PreDumped,
        (false, true) => Afterwards::Running,
        (false, false) => Afterwards::Deleted,
    };
    let mut checkpoint = session.root()?.load(&args.id)?.checkpoint(images).afterwards(afterwards);
    if let Some(path) = &args.parent_path {
        checkpoint = checkpoint.parent(path);
    }
    if let Some((address, port)) = page_server {
        checkpoint = checkpoint.page_server(address, port);
    }
    if let Some(status) = status {
        checkpoint = checkpoint.status(status);
    }
    let listening = wait::listen()?;
    let warnings = checkpoint.make()?;
    listening.until_the_end();
    warnings.iter().for_each(|warning| session.log.warning(&format!("{warning:#}")));
    Ok(())
}

/// ADDRESS:PORT, with an address of IPv6 in brackets.
fn address(text: &str) -> Result<(String, u16)> {
    let wrong = || anyhow!("--page-server: {text:?} is not ADDRESS:PORT");
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let port: u16 = port.parse().map_err(|_| anyhow!("--page-server: {port:?} is not a port"))?;
    if address.is_empty() || port == 0 { Err(wrong()) } else { Ok((address.to_owned(), port)) }
}

/// The descriptor that our caller has opened for it.
fn status_descriptor(number: i32) -> Result<OwnedFd> {
    let wrong = |why: &str| anyhow!("invalid --status-fd argument {number}: {why}");
    let own = u32::try_from(number).ok().filter(|number| *number > 2).and_then(take_inherited);
    let own = own.ok_or_else(|| wrong("it is not an open descriptor above 2"))?;
    let flags = rustix::fs::fcntl_getfl(&own).map_err(|errno| wrong(&errno.to_string()))?;
    if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(wrong("not writable"));
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_page_server_has_an_address_and_a_port() {
        assert_eq!(address("0.0.0.0:27").unwrap(), ("0.0.0.0".to_owned(), 27));
        assert_eq!(address("[::1]:27").unwrap(), ("::1".to_owned(), 27));
        for wrong in ["", "host", ":1", "host:", "host:0", "host:x", "host:70000"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
