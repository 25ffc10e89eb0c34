//! The facts of a config that the rules ask for.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

use super::tables::{MAPPED, OF_THE_FIRST_NAMESPACE};
use crate::plan::values::inside;

/// The facts of a config that the rules use.
pub(super) struct ConfigFacts<'a> {
    pub(super) spec: &'a Spec,
    pub(super) process: Option<&'a Process>,
    pub(super) linux: Option<&'a Linux>,
    /// Root in the container is another user on the host.
    pub(super) mapped: bool,
    /// The process is root in the container.
    pub(super) root: bool,
    /// The capabilities that the process or a program that it executes can have, as a mask.
    pub(super) capabilities: u64,
    /// Those of them that it has without a program with set-user-ID or file capabilities.
    pub(super) held: u64,
    /// The bundle, absolute.
    pub(super) directory: &'a Path,
    /// Where a path leads after its links.
    pub(super) follow: &'a dyn Fn(&Path) -> PathBuf,
}

impl ConfigFacts<'_> {
    /// Root of the host, with any capabilities: it can write files of /proc and /sys.
    pub(super) fn is_host_root(&self) -> bool {
        self.root && !self.mapped
    }

    /// A weight for root of the host, where root may be another user.
    pub(super) fn weighed(&self, weight: u8) -> u8 {
        let part = u16::from(weight) * u16::from(MAPPED) / 100;
        if self.mapped { part.max(1).try_into().unwrap_or(weight) } else { weight }
    }

    /// A weight for a capability: a program that gives more than the process has must be found first. The kernel asks some
    /// capabilities of the first user namespace alone.
    pub(super) fn weighed_capability(&self, capability: u8, weight: u8) -> u8 {
        if self.mapped && OF_THE_FIRST_NAMESPACE.contains(&capability) {
            return 0;
        }
        let weight = self.weighed(weight);
        if self.held & 1 << capability != 0 { weight } else { (weight / 4).max(1) }
    }

    /// A path of the config as the host has it: what it says, and where it leads.
    pub(super) fn on_host(&self, given: &Path) -> (PathBuf, PathBuf) {
        let said = Path::new("/").join(inside(&self.directory.join(given)));
        let leads = (self.follow)(&said);
        // also where this host has no such link
        let leads = leads.strip_prefix("/var/run").map(|below| Path::new("/run").join(below)).unwrap_or(leads);
        (said, leads)
    }

    pub(super) fn can(&self, capability: u8) -> bool {
        self.capabilities & 1 << capability != 0
    }

    /// Whether `path` leads to a namespace of process 1: containers of a Kubernetes pod join their pod by
    /// /proc/PID/ns/net, and the pod may be in the host's.
    fn is_namespace_of_init(&self, path: &Path) -> bool {
        let leads = (self.follow)(path);
        let kind = leads.to_str().and_then(|name| name.split_once(":[")).map(|(kind, _)| kind);
        kind.is_some_and(|kind| (self.follow)(&Path::new("/proc/1/ns").join(kind)) == leads)
    }

    /// A kind of namespace that the container shares with the host.
    pub(super) fn shares(&self, kind: LinuxNamespaceType) -> bool {
        let namespaces = self.linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        // This is dockerd's name of its own namespace, below its --exec-root. The other directory is that of ip-netns(8).
        let of_dockerd = |path: &Path| path.ends_with("netns/default") && !path.ends_with("run/netns/default");
        let of_init = |path: &Path| path.starts_with("/proc/1/ns") || path.starts_with("/proc/1/task");
        let of_host = |path: &Path| of_init(path) || of_dockerd(path) || self.is_namespace_of_init(path);
        namespaces
            .iter()
            .find(|namespace| namespace.typ() == kind)
            .is_none_or(|namespace| namespace.path().as_deref().is_some_and(of_host))
    }
}
