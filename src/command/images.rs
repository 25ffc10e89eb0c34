//! What `checkpoint` and `restore` have in common: flags become what CRIU is asked for.

use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::absolute;
use libcontainer::launch::checkpoint::cgroup_mode;
use libcontainer::launch::images::{Allow, Imaging, NetworkLock};

use super::Session;
use crate::cli;

/// Where the images are unless a flag says it.
const DEFAULT: &str = "checkpoint";

impl Session<'_> {
    /// What the flags ask for.
    ///
    /// # Errors
    /// A value that a flag cannot have, or a caller who is not root.
    pub fn imaging(&self, args: &cli::Imaging) -> Result<Imaging> {
        if !rustix::process::geteuid().is_root() {
            bail!("checkpoint and restore of an ordinary user's containers are not implemented: criu needs root");
        }
        let switches = [
            (args.tcp_established, Allow::TcpEstablished),
            (args.ext_unix_sk, Allow::ExternalUnixSockets),
            (args.shell_job, Allow::ShellJob),
            (args.file_locks, Allow::FileLocks),
            (args.auto_dedup, Allow::AutoDedup),
            (args.lazy_pages, Allow::LazyPages),
        ];
        if let Some(other) = args.empty_ns.iter().find(|name| *name != "network") {
            bail!("--empty-ns: namespace {other:?} is not supported (expected network)");
        }
        let network_lock = match args.network_lock.as_deref() {
            None => None,
            Some("iptables") => Some(NetworkLock::Iptables),
            Some("nftables") => Some(NetworkLock::Nftables),
            Some("skip") => Some(NetworkLock::Skip),
            Some(other) => {
                bail!("--network-lock: unknown value {other:?} (expected one of iptables, nftables, skip)")
            }
        };
        Ok(Imaging {
            work: args.work_path.as_deref().map(absolute).transpose()?,
            // a path is taken from where we are, and a name is looked up in PATH
            criu: self.global.criu.clone(),
            allowed: switches.into_iter().filter(|(on, _)| *on).map(|(_, what)| what).collect(),
            cgroups: cgroup_mode(&args.manage_cgroups_mode)?,
            network_lock,
            ..Imaging::new(absolute(args.image_path.as_deref().unwrap_or(Path::new(DEFAULT)))?)
        })
    }
}
