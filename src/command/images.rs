//! The common part of `checkpoint` and `restore`: converts flags to CRIU's options.

use std::path::Path;

use anyhow::{Result, bail};
use libcontainer::{Allow, CgroupMode, Images, NetworkLock};

use super::session::Session;
use crate::cli;

/// The default directory of the images.
const DEFAULT: &str = "checkpoint";

impl Session<'_> {
    /// The options of the flags.
    ///
    /// # Errors
    /// A flag has an invalid value, or the caller is not root.
    pub fn images(&self, args: &cli::Imaging) -> Result<Images> {
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
        let mut images = Images::new(args.image_path.as_deref().unwrap_or(Path::new(DEFAULT)));
        if let Some(path) = &args.work_path {
            images = images.work(path);
        }
        if let Some(program) = &self.global.criu {
            images = images.criu(program);
        }
        if let Some(name) = &args.network_lock {
            images = images.network_lock(network_lock(name)?);
        }
        images = switches.into_iter().filter(|(on, _)| *on).fold(images, |images, (_, what)| images.allow(what));
        Ok(images.cgroups(cgroup_mode(&args.manage_cgroups_mode)?))
    }
}

fn network_lock(name: &str) -> Result<NetworkLock> {
    match name {
        "iptables" => Ok(NetworkLock::Iptables),
        "nftables" => Ok(NetworkLock::Nftables),
        "skip" => Ok(NetworkLock::Skip),
        other => bail!("--network-lock: unknown value {other:?} (expected one of iptables, nftables, skip)"),
    }
}

fn cgroup_mode(name: &str) -> Result<CgroupMode> {
    match CgroupMode::named(name) {
        _ if name.is_empty() => Ok(CgroupMode::Default),
        Some(mode) => Ok(mode),
        None => bail!("--manage-cgroups-mode: unknown value {name:?} (expected one of soft, full, strict, ignore)"),
    }
}
