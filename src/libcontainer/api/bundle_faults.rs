//! Checks the files of a bundle before anything is made: files that are missing, or of the wrong kind.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use oci_spec::runtime::{Hook, Spec};
use rustix::fs::{Access, CWD, Mode, OFlags, access};
use rustix::io::Errno;

use crate::cgroup::never;
use crate::config::{At, Faults, Warning};
use crate::plan::mount_options;
use crate::plan::namespaces::{self, bit};
use crate::sys::errno::words;
use crate::sys::namespace::namespace_kind;

/// A check of a bundle, with the faults that are found so far.
struct Check<'a> {
    directory: &'a Path,
    faults: &'a mut Faults,
    /// The places of these faults.
    places: HashSet<At>,
}

/// Adds the mistakes that a look at the host shows. Places that have one already are left alone.
pub(super) fn check(spec: &Spec, directory: &Path, faults: &mut Faults) {
    let places = faults.iter().map(|fault| fault.at.clone()).collect();
    let mut check = Check { directory, faults, places };
    check.root(spec);
    check.sources(spec);
    check.namespaces(spec);
    check.hooks(spec);
    check.limits(spec);
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    if let Some(path) = seccomp.and_then(|seccomp| seccomp.listener_path().as_ref()) {
        check.socket(path, &At::new("linux.seccomp.listenerPath"));
    }
}

impl Check<'_> {
    fn fault(&mut self, at: &At, path: &Path, why: &str) {
        if self.places.insert(at.clone()) {
            self.faults.add(at.clone(), format!("{}: {why}", path.display()));
        }
    }

    /// A file that this user cannot see may exist.
    fn metadata(&mut self, at: &At, path: &Path) -> Option<std::fs::Metadata> {
        match path.metadata() {
            Ok(data) => Some(data),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                if errno != Errno::ACCESS {
                    self.fault(at, path, &words(errno));
                }
                None
            }
        }
    }

    fn root(&mut self, spec: &Spec) {
        let Some(root) = spec.root().as_ref().filter(|root| !root.path().as_os_str().is_empty()) else { return };
        let (at, path) = (At::new("root.path"), self.directory.join(root.path()));
        if self.metadata(&at, &path).is_some_and(|data| !data.is_dir()) {
            self.fault(&at, &path, &words(Errno::NOTDIR));
        }
    }

    /// A source in the container's root may come from an earlier mount.
    fn sources(&mut self, spec: &Spec) {
        let root = spec.root().as_ref().map(|root| self.directory.join(root.path()));
        for (n, mount) in spec.mounts().iter().flatten().enumerate() {
            let at = At::new("mounts").index(n);
            let (options, _) = mount_options::parse(mount.options().as_deref().unwrap_or_default(), &at);
            let bind = options.binds(mount.typ().as_deref());
            let Some(source) = mount.source().as_ref().filter(|source| bind && !source.as_os_str().is_empty()) else {
                continue;
            };
            let path = self.directory.join(source);
            let later = root.as_ref().is_some_and(|root| path.starts_with(root)) || path.starts_with("/proc/self");
            if !later {
                self.metadata(&at.key("source"), &path);
            }
        }
    }

    fn namespaces(&mut self, spec: &Spec) {
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        for (n, namespace) in list.iter().enumerate() {
            let Some(path) = namespace.path().as_ref().filter(|path| path.is_absolute()) else { continue };
            let at = At::new("linux.namespaces").index(n).key("path");
            if self.metadata(&at, path).is_none() {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) else { continue };
            match namespace_kind(file.as_fd()) {
                Ok(kind) if kind == bit(namespace.typ()) => {}
                Ok(_) => {
                    self.fault(&at, path, &format!("is not a {} namespace", namespaces::name(bit(namespace.typ()))))
                }
                Err(_) => self.fault(&at, path, "is not a namespace"),
            }
        }
    }

    /// Those of `startContainer` are programs of the container.
    fn hooks(&mut self, spec: &Spec) {
        let Some(hooks) = spec.hooks().as_ref() else { return };
        #[allow(deprecated)] // runc and engines still use it
        let prestart = hooks.prestart();
        let points: [(&str, &Option<Vec<Hook>>); 5] = [
            ("prestart", prestart),
            ("createRuntime", hooks.create_runtime()),
            ("createContainer", hooks.create_container()),
            ("poststart", hooks.poststart()),
            ("poststop", hooks.poststop()),
        ];
        for (point, list) in points {
            for (n, hook) in list.iter().flatten().enumerate().filter(|(_, hook)| hook.path().is_absolute()) {
                let at = At::new("hooks").key(point).index(n).key("path");
                let Some(data) = self.metadata(&at, hook.path()) else { continue };
                if data.is_dir() {
                    self.fault(&at, hook.path(), &words(Errno::ISDIR));
                } else if access(hook.path(), Access::EXEC_OK).is_err() {
                    self.fault(&at, hook.path(), "is not executable (EACCES)");
                }
            }
        }
    }

    /// Values that no kernel takes: a container with its own cgroup cannot have them.
    fn limits(&mut self, spec: &Spec) {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let Some(cpu) = resources.and_then(|resources| resources.cpu().as_ref()) else { return };
        let values = [
            ("cpus", "cpuset.cpus", cpu.cpus().clone().filter(|list| !list.is_empty())),
            ("mems", "cpuset.mems", cpu.mems().clone().filter(|list| !list.is_empty())),
            // 0 counts as not set
            ("period", "cpu.cfs_period_us", cpu.period().filter(|period| *period > 0).map(|period| period.to_string())),
            ("quota", "cpu.cfs_quota_us", cpu.quota().filter(|quota| *quota > 0).map(|quota| quota.to_string())),
        ];
        for (name, file, value) in values {
            let at = At::new("linux.resources.cpu").key(name);
            let why = value.as_deref().and_then(|value| Some((value, never(file, value)?)));
            if let Some((value, why)) = why.filter(|_| self.places.insert(at.clone())) {
                let lists = ["cpus", "mems"].contains(&name);
                self.faults.add(at, if lists { why } else { format!("{value}: {why}") });
            }
        }
    }

    fn socket(&mut self, path: &Path, at: &At) {
        if self.metadata(at, path).is_some_and(|data| !data.file_type().is_socket()) {
            self.fault(at, path, "is not a socket");
        }
    }
}

/// A path of systemd's form, which a cgroup driver of files takes for a name.
pub(super) fn form_of_systemd(spec: &Spec) -> Option<Warning> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?.to_str()?;
    let parts: Vec<_> = path.split(':').collect();
    let said = format!("{path:?} is systemd's form: without CgroupUse::Unit it is a directory of that name");
    (parts.len() == 3 && !path.contains('/')).then(|| Warning { at: At::new("linux.cgroupsPath"), said })
}
