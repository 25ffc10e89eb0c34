//! `restore`: CRIU makes the processes of a container from images. The container is made completely, or nothing remains
//! of it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

use super::child::Child;
use super::create::{NewContainer, Reached, note_init};
use super::hook_files::HookFiles;
use super::hooks::HookList;
use super::host_parts;
use super::identity::Identity;
use super::image_check;
use super::images::{Allow, Directories, Images, config_file, must_not_be_restricted, options};
use super::inside::{in_mounts_of, in_network_of, with_bound};
use super::kept_label::{self, UNCONFINED};
use super::kept_rights;
use super::open_images;
use super::resources::KernelGroups;
use super::{mount_points, pidfile, record, scm_rights};
use crate::cgroup::{Cgroup, systemd};
use crate::config::Warning;
use crate::container::{Container, Lock, Reserved};
use crate::criu::{
    CgroupRoot, Criu, CriuFeature, CriuMessage, CriuReq, CriuReqType, CriuStreams, CriuVersion, ExternalMount,
    InheritFd, JoinNamespace, Notice, Options, Setup,
};
use crate::error::{Context, Kind, Result, bail, error};
use crate::host::Namespace;
use crate::host::cgroups::memberships;
use crate::plan::images::JoinedNamespace;
use crate::plan::step::{Step, What};
use crate::plan::{Keyring, RuntimeHooks};
use crate::resctrl::{self, Kernel};
use crate::sys::errno::in_words;
use crate::sys::handed::Handed;
use crate::sys::mount::{Attributes, Reach, set_attributes};
use crate::sys::net::loopback_up;
use crate::wait;

/// CRIU's log of a restore.
const LOG: &str = "restore.log";
/// The bind mount of the root for CRIU, in the container's directory: CRIU needs the root to be a mount point.
const BOUND_ROOT: &str = "criu-root";

/// The parameters of `restore`.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The container.
    pub new: NewContainer<'a>,
    /// The directory of the images, and CRIU's options.
    pub images: Images,
    /// The socket that receives the master of the terminal.
    pub terminal: Option<OwnedFd>,
    /// Standard input, output and error; one that is not set is ours.
    pub streams: [Option<OwnedFd>; 3],
    /// `--lsm-profile`: `apparmor:NAME`, `selinux:LABEL`.
    pub lsm_profile: Option<String>,
    /// `--lsm-mount-context`: the SELinux label of mounts.
    pub lsm_mount_context: Option<String>,
}

/// A restored container that runs, and its first process.
#[derive(Debug)]
pub struct Restored {
    /// Its record and directory.
    pub container: Container,
    /// Its process, which is our child.
    pub child: Child,
    /// The optional parts that could not be restored.
    pub warnings: Vec<Warning>,
    /// The lock of the container: no other process has changed it.
    _lock: Lock,
}

impl Restored {
    /// Releases the lock. Returns the container and its process.
    pub fn into_parts(self) -> (Container, Child) {
        (self.container, self.child)
    }
}

/// The parts of the container that exist while CRIU works.
struct Making<'m> {
    reserved: &'m mut Reserved,
    identity: &'m Identity<'m>,
    reached: &'m mut Reached,
    resources: KernelGroups,
    /// The security label that the first process must have.
    label: Option<String>,
    /// The names of the standard streams that CRIU passes on.
    streams: Vec<String>,
    child: Option<Child>,
    container: Option<Container>,
    warnings: Vec<Warning>,
}

impl Restore<'_> {
    /// Restores the container. After a failure nothing remains.
    ///
    /// # Errors
    /// A failure of CRIU, or of the runtime.
    pub fn make(mut self) -> Result<Restored> {
        let new = self.new;
        must_not_be_restricted(&new.config.spec.annotations().clone().unwrap_or_default())?;
        let ((container, child, warnings), lock) =
            new.make(|reserved, identity, reached| self.make_processes(reserved, identity, reached))?;
        Ok(Restored { container, child: child.keep(), warnings, _lock: lock })
    }

    fn make_processes(
        &mut self,
        reserved: &mut Reserved,
        identity: &Identity<'_>,
        reached: &mut Reached,
    ) -> Result<(Container, Child, Vec<Warning>)> {
        if let Some(fault) = self.new.plan.not_restorable() {
            bail!("{fault}");
        }
        HookFiles::check(self.new.plan, identity.annotations)?;
        let root = self.root_directory()?;
        let (contents, faults) =
            image_check::check_with_plan(&self.images, self.new.plan, identity.annotations, Some(&root))?;
        image_check::must_be_none(&self.images, &faults)?;
        mount_points::make(&root, &self.new.plan.mount_points())?;
        let resources = self.new.make_groups(reserved)?;
        reserved.keep_config(self.new.text)?;
        let bound = reserved.path().join(BOUND_ROOT);
        fs::create_dir(&bound).with_context(|| format!("mkdir {}", bound.display()))?;
        let bound = bound.canonicalize()?;
        let (handed, inherited) = self.handed()?;
        let streams = CriuStreams::PassedOn(std::mem::take(&mut self.streams));
        let (tree, mount_point) = (c_path(&root)?, c_path(&bound)?);
        let (images, environment) = (&self.images, self.new.root.environment());
        let has_own_users = self.new.plan.id_maps.is_some();
        // CRIU mounts in these directories, so they must belong to CRIU's mount namespace.
        let (mut criu, directories) = with_bound(&tree, &mount_point, || {
            let mut directories = Directories::open(images, LOG)?;
            if has_own_users {
                open_images::search_by_all(&images.directory, &mut directories)?;
            }
            let criu = Criu::begin(Setup { program: images.criu_program(), streams, handed, environment, thaw: None })?;
            Ok((criu, directories))
        })?;
        self.enter_groups(&criu, resources.cgroup())?;
        let mounts = host_parts::external_mounts(self.new.plan, Some(&root), &self.images.directory, &contents)?;
        let request = self.request(&criu, &directories, &bound, inherited, mounts)?;
        criu.send_request(&request)?;
        let mut making = Making {
            reserved,
            identity,
            reached,
            resources,
            label: self.label(contents.label),
            streams: record::descriptors(criu.pid()),
            child: None,
            container: None,
            warnings: Vec::new(),
        };
        let done = self.until_done(&mut criu, &directories, &mut making);
        drop(criu.finish());
        let Making { resources, child, container, warnings, .. } = making;
        done.inspect_err(|_| {
            if let (Some(path), Some(child)) = (self.new.pid_file, &child) {
                pidfile::remove_own(path, child.pid);
            }
        })?;
        let (Some(container), Some(child)) = (container, child) else { bail!("criu has restored no process") };
        resources.keep();
        // If it stays, `delete` removes it.
        let _ = fs::remove_dir(&bound);
        Ok((container, child, warnings))
    }

    /// The container's root on the host, without links.
    fn root_directory(&self) -> Result<PathBuf> {
        let root = self.new.config.spec.root().as_ref().map_or(Path::new(""), |root| root.path());
        let root = self.new.flags.bundle.join(root);
        root.canonicalize().with_context(|| format!("root.path: {}", root.display()))
    }

    /// The descriptors that CRIU gets at its beginning. The second list names the namespaces among them.
    fn handed(&self) -> Result<(Handed, Vec<InheritFd>)> {
        let (mut descriptors, mut inherited) = (Vec::new(), Vec::new());
        for JoinedNamespace { path, .. } in
            self.new.plan.joined_namespaces().iter().filter(|joined| joined.key().is_some())
        {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(CWD, path.as_path(), flags, Mode::empty());
            descriptors.push(
                opened.map_err(|errno| {
                    error!("linux.namespaces: {}: {errno}", path.display(), errno = in_words(&errno))
                })?,
            );
        }
        let keys = self.new.plan.joined_namespaces().into_iter().filter_map(|joined| joined.key());
        let opened = descriptors.iter().map(|fd| fd.as_raw_fd());
        inherited.extend(keys.zip(opened).map(|(key, fd)| InheritFd { key: key.to_owned(), fd }));
        let null: OwnedFd =
            fs::File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?.into();
        inherited.extend(host_parts::streams(&self.images.directory, null.as_raw_fd())?);
        descriptors.push(null);
        let keyring = match &self.new.flags.keyring {
            Keyring::Named(name) => CString::new(name.as_str()).ok(),
            Keyring::Inherited => None,
        };
        // Before 3.19, CRIU does not restore no_new_privs. Its processes inherit it.
        let process = self.new.config.spec.process().as_ref();
        let no_new_privs = process.and_then(|process| process.no_new_privileges()).unwrap_or(false);
        Ok((Handed { descriptors, keyring, no_new_privs }, inherited))
    }

    /// CRIU is in the container's cgroups, so the processes begin there.
    fn enter_groups(&self, criu: &Criu, cgroup: Option<&Cgroup>) -> Result<()> {
        let Some(cgroup) = cgroup else { return Ok(()) };
        let pid = criu.pid();
        let unit = self.new.plan.cgroup.as_ref().and_then(|cgroup| cgroup.placement.unit.as_ref());
        let starting = unit.map(|unit| systemd::start(unit, pid, self.new.root.environment())).transpose()?;
        let by_us = |key: &&String| unit.is_none() || !matches!(key.as_str(), "" | "systemd");
        cgroup.paths().keys().filter(by_us).try_for_each(|key| cgroup.enter(key, pid))?;
        if let (Some(starting), Some(planned)) = (starting, &self.new.plan.cgroup) {
            starting.wait()?;
            cgroup.enter_below_unit(&planned.placement, &planned.writes, pid)?;
        }
        let groups = self.new.plan.resctrl.as_ref().map(crate::plan::resctrl::ResctrlGroup::joined).unwrap_or_default();
        resctrl::join(&groups, pid, &Kernel)
    }

    fn request(
        &self,
        criu: &Criu,
        directories: &Directories,
        bound: &Path,
        inherit_fd: Vec<InheritFd>,
        ext_mnt: Vec<ExternalMount>,
    ) -> Result<CriuReq> {
        let version = criu.version();
        let needs = [
            (self.lsm_profile.is_some(), CriuFeature::LsmProfile),
            (self.lsm_mount_context.is_some(), CriuFeature::LsmMountContext),
            (self.images.network_lock.is_some(), CriuFeature::NetworkLock),
            (self.images.allows(Allow::TcpClose), CriuFeature::TcpClose),
            (self.terminal.is_some(), CriuFeature::Terminal),
        ];
        needs.into_iter().filter(|(requested, _)| *requested).try_for_each(|(_, need)| version.must_have(need))?;
        let mut join_ns = Vec::new();
        for joined in self.new.plan.joined_namespaces() {
            match joined.name {
                "net" => version.must_have(CriuFeature::NetworkNamespace)?,
                "pid" => version.must_have(CriuFeature::PidNamespace)?,
                name => {
                    version.must_have(CriuFeature::OtherNamespaces)?;
                    let ns_file = joined.path.to_string_lossy().into_owned();
                    join_ns.push(JoinNamespace { ns: name.to_owned(), ns_file });
                }
            }
        }
        let annotations = self.new.config.spec.annotations().clone().unwrap_or_default();
        let requested = Options {
            evasive_devices: Some(true),
            rst_sibling: Some(true),
            root: Some(bound.to_string_lossy().into_owned()),
            inherit_fd,
            join_ns,
            ext_mnt,
            cg_root: cgroup_roots(criu.pid())?,
            lsm_profile: self.lsm_profile.clone(),
            lsm_mount_context: self.lsm_mount_context.clone(),
            config_file: config_file(&annotations),
            // The new way of 3.17 cannot do this in a user namespace on a host whose mounts are shared.
            mntns_compat_mode: self.new.plan.id_maps.as_ref().map(|_| version < CriuVersion::new(3, 18, 0)),
            ..options(&self.images, directories)
        };
        Ok(CriuReq { r#type: CriuReqType::Restore.into(), opts: Some(requested), ..CriuReq::default() })
    }

    fn until_done(&mut self, criu: &mut Criu, directories: &Directories, making: &mut Making<'_>) -> Result<()> {
        loop {
            let said = criu.next().map_err(|error| match error.kind() {
                Kind::Interrupted(_) => error,
                _ => directories.failed("restore", &error.to_string()),
            })?;
            if let CriuMessage::Notice(Notice { pid: Some(pid), .. }) = &said {
                criu.set_made(*pid);
            }
            match said {
                CriuMessage::Done => return Ok(()),
                CriuMessage::Failed(said) => return Err(directories.failed("restore", &said)),
                CriuMessage::Notice(notice) => match self.handle(notice, making) {
                    Ok(()) => criu.confirm()?,
                    Err(error) => {
                        // CRIU ends the processes that it has made. Its answer has no new information.
                        let _ = criu.refuse();
                        let _ = criu.next();
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Does what CRIU waits for at this stage of the restore (criu(8), action scripts).
    fn handle(&mut self, notice: Notice, making: &mut Making<'_>) -> Result<()> {
        match (notice.script.as_str(), notice.pid) {
            ("setup-namespaces", Some(pid)) => self.setup_namespaces(pid, making),
            ("post-restore", Some(pid)) => self.post_restore(pid, making),
            ("pre-resume", _) => self.pre_resume(making),
            ("orphan-pts-master", _) => match (notice.descriptor, self.terminal.take()) {
                (Some(master), Some(socket)) => {
                    scm_rights::send(socket.as_fd(), b"/dev/pts/ptmx", master.as_fd()).context("RestoreFrom::console")
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The first process exists. It is still empty.
    fn setup_namespaces(&self, pid: i32, making: &mut Making<'_>) -> Result<()> {
        hold_first_process(pid, making)?;
        if self.new.plan.init.iter().any(|step| step.what == What::Loopback) {
            let up = || loopback_up().context("bring the loopback up");
            in_network_of(pid, up)?;
        }
        let each = &self.new.plan.runtime_hooks;
        let files = HookFiles::open_for(each, making.identity)?;
        let identity = making.identity;
        each.iter().try_for_each(|RuntimeHooks { list, status, at }| {
            HookList { hooks: list, state: &identity.state(status, pid), identity, at, files: &files, init: None }.run()
        })
    }

    /// All processes exist, and do not run yet. From here on the container exists.
    fn post_restore(&self, pid: i32, making: &mut Making<'_>) -> Result<()> {
        hold_first_process(pid, making)?;
        making.warnings.extend(making.resources.write_limits(self.new.plan)?);
        let cgroup = making.resources.cgroup();
        if let (Some(cgroup), Some(planned)) = (cgroup, &self.new.plan.cgroup) {
            if planned.placement.unit.is_some() {
                cgroup.apply(&planned.writes)?;
                let why = cgroup.apply_devices(&planned.devices, planned.placement.on_forbidden_devices)?;
                making.warnings.extend(why.as_deref().map(super::resources::devices_not_restricted));
            }
            planned.placement.owner.as_ref().map_or(Ok(()), |owner| cgroup.delegate_to(owner, pid))?;
        }
        let mut record = record::assemble(self.new.config, self.new.flags, self.new.plan, pid, cgroup)?;
        record.external_descriptors.clone_from(&making.streams);
        if has_own_time(pid) && !record.config.namespaces.iter().any(|namespace| namespace.kind == "NEWTIME") {
            record
                .config
                .namespaces
                .push(crate::container::RecordedNamespace { kind: "NEWTIME".to_owned(), path: String::new() });
        }
        wait::must_not_be_interrupted()?;
        making.container = Some(self.new.save(making.reserved, record)?);
        Ok(())
    }

    /// The security label of the first process: the new one, that of the images, or that of config.json.
    fn label(&self, kept: Option<String>) -> Option<String> {
        let new = self.lsm_profile.as_deref().and_then(|text| text.split_once(':')).map(|(_, label)| label.to_owned());
        let process = self.new.config.spec.process().as_ref();
        let written = || {
            let process = process?;
            let mut both = [process.selinux_label(), process.apparmor_profile()].into_iter().flatten();
            both.find(|label| !label.is_empty() && *label != UNCONFINED).cloned()
        };
        new.or(kept).or_else(written)
    }

    /// Checks the security label, compares the rights with config.json, and makes the root read-only again: CRIU leaves it writable.
    fn pre_resume(&self, making: &mut Making<'_>) -> Result<()> {
        if let (Some(label), Some(child)) = (&making.label, &making.child) {
            kept_label::must_be_again(label, child.pid)?;
        }
        if let Some(child) = &making.child {
            making.warnings.extend(kept_rights::beyond(self.new.plan, child.pid)?);
        }
        let is_root = |step: &Step| matches!(&step.what, What::Finish { path, .. } if path.as_c_str() == c".");
        let Some(child) = making.child.as_ref().filter(|_| self.new.plan.init.iter().any(is_root)) else {
            return Ok(());
        };
        let close = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty());
            let done = root.and_then(|root| set_attributes(root.as_fd(), &Attributes::read_only(), Reach::One));
            done.context("root.readonly")
        };
        in_mounts_of(child.pid, close)
    }
}

/// Makes the first process ours. This happens once.
fn hold_first_process(pid: i32, making: &mut Making<'_>) -> Result<()> {
    if making.child.is_some() {
        return Ok(());
    }
    let raw = Pid::from_raw(pid).ok_or_else(|| error!("criu has reported no pid"))?;
    let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).with_context(|| format!("pidfd_open {pid}"))?;
    making.child = Some(Child::new(pid, pidfd));
    *making.reached = Reached::Process;
    note_init(making.reserved, making.resources.cgroup(), pid)
}

/// CRIU puts the processes into a time namespace, so that their clocks continue.
fn has_own_time(pid: i32) -> bool {
    Namespace::of(pid, "time").ok() != Namespace::ours("time").ok()
}

/// The cgroup of CRIU in each hierarchy: it is the container's.
fn cgroup_roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = crate::sys::kernel_file::read_lossy(Path::new(&path)).with_context(|| format!("read {path}"))?;
    let root = |(ctrl, path): (&str, &str)| CgroupRoot { ctrl: Some(ctrl.to_owned()), path: path.to_owned() };
    Ok(memberships(&text).map(root).collect())
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| error!("{}: has a NUL byte", path.display()))
}
