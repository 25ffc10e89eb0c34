//! A bundle: a directory with config.json and the root file system.

#[cfg(feature = "checkpoint")]
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::io::Errno;

use super::progress::Explanation;
use super::{bundle_faults, host_notes};
use crate::config::{self, Config, Faults, Warning, mention_slips, unknown_properties};
use crate::error::{Context, Kind, Result, bail, error};
use crate::exposure::{Exposure, exposure};
use crate::host::{Host, Labels, Lsm, Me, Resctrl, mountinfo, views};
use crate::plan::{self, CgroupUse, Flags, Given, Keyring, LANDLOCK, Plan, RootChange};
use crate::sys::errno::{in_words, words};
use crate::wait;

/// A parsed bundle.
///
/// ```
/// let bundle = libcontainer::Bundle::read("examples/bundle")?;
/// assert!(bundle.directory().ends_with("examples/bundle") && !bundle.terminal());
/// for warning in bundle.remarks().chain(bundle.check()?) {
///     println!("{warning}");
/// }
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(super) directory: PathBuf,
    pub(super) text: Vec<u8>,
    pub(super) config: Config,
}

impl Bundle {
    /// Reads the bundle in `directory`.
    ///
    /// # Errors
    /// The file does not exist, cannot be read, or has mistakes.
    pub fn read(directory: impl AsRef<Path>) -> Result<Bundle> {
        Bundle::with_config(directory, None)
    }

    /// The same with another file as config.json.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn with_config(directory: impl AsRef<Path>, file: Option<&Path>) -> Result<Bundle> {
        let directory = absolute(directory.as_ref())?;
        let file = match file {
            Some(file) => absolute(file)?,
            None => directory.join("config.json"),
        };
        if !directory.is_dir() {
            let word = words(if directory.exists() { Errno::NOTDIR } else { Errno::NOENT });
            let is_config = directory.is_file() && directory.ends_with("config.json");
            let hint = if is_config { ": the bundle is the directory that has this file" } else { "" };
            bail!("bundle {}: {word}{hint}", directory.display());
        }
        let text = wait::contents(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => error!("JSON specification file {} not found", file.display()),
            _ => error!("{}: {error}", file.display(), error = in_words(&error)),
        })?;
        let config = config::load(&text)?;
        // As with runc and crun, `state` and hooks get the path without links.
        let directory = directory.canonicalize().with_context(|| format!("bundle {}", directory.display()))?;
        // state.json and the state of hooks are JSON.
        if directory.to_str().is_none() {
            bail!("bundle {directory:?}: the path is not UTF-8");
        }
        Ok(Bundle { directory, text, config })
    }

    /// The same bundle with another command in place of `process.args`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn with_args(self, args: &[String]) -> Result<Bundle> {
        let mut document: serde_json::Value =
            serde_json::from_slice(&self.text).map_err(|error| error!("config.json: {error}"))?;
        let Some(process) = document.get_mut("process").filter(|process| process.is_object()) else {
            bail!("process: is not set in config.json: a command has no user, no directory and no environment");
        };
        process["args"] = args.into();
        let text = serde_json::to_vec(&document).map_err(|error| error!("config.json: {error}"))?;
        let config = config::load(&text)?;
        Ok(Bundle { text, config, ..self })
    }

    /// Its absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether its process has a terminal.
    pub fn terminal(&self) -> bool {
        self.config.spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false))
    }

    /// Whether its config has a security label. Only then is the host examined for labels.
    fn labels(&self) -> Labels {
        let process = self.config.spec.process().as_ref();
        let requested = process.is_some_and(|p| p.apparmor_profile().is_some() || p.selinux_label().is_some())
            || self.config.spec.linux().as_ref().is_some_and(|linux| linux.mount_label().is_some());
        if requested { Labels::Given } else { Labels::None }
    }

    fn host(&self, flags: &Flags) -> Result<Host> {
        let mut host = Host::probe(self.labels())?;
        if self.config.spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some()) {
            host.resctrl = Resctrl::probe().context("look for resctrl")?;
        }
        host.landlock = landlock_abi(&self.config);
        if flags.root_change == RootChange::Move {
            let root = self.config.spec.root().as_ref().map(|root| self.directory.join(root.path()));
            let root = root.and_then(|root| root.canonicalize().ok()).unwrap_or_default();
            host.views = views::views(&mountinfo::all().context("read /proc/self/mountinfo")?, &root);
        }
        Ok(host)
    }

    /// The notes about things that a container of this bundle needs and does not find. This looks for the files that config.json
    /// names: the root, the sources of bind mounts, namespaces, hooks, the socket of a seccomp agent, the program. It also looks for
    /// file systems, CPUs, memory nodes, huge pages and network interfaces of this host.
    ///
    /// # Errors
    /// `Config`: all mistakes in config.json, each with its place.
    pub fn check(&self) -> Result<Vec<Warning>> {
        let mut faults = Faults::none();
        let mut warnings = match self.plan_to_read(&self.flags("checked")) {
            Ok(plan) => {
                let missing = host_notes::controllers(plan.cgroup.iter().flat_map(|cgroup| &cgroup.writes));
                plan.warnings.into_iter().chain(missing).collect()
            }
            Err(error) => match error.kind() {
                Kind::Config(found) => {
                    faults.extend(found.clone());
                    Vec::new()
                }
                _ => return Err(error),
            },
        };
        bundle_faults::check(&self.config.spec, &self.directory, &mut faults);
        warnings.extend(bundle_faults::form_of_systemd(&self.config.spec));
        warnings.extend(host_notes::warnings(&self.config.spec, &self.directory));
        Ok(faults.into_result(warnings)?)
    }

    /// The steps of `create` for this bundle. The warnings are those of `check` and of `remarks`.
    ///
    /// # Errors
    /// Those of `check`.
    pub fn explain(&self, cgroup: CgroupUse) -> Result<Explanation> {
        self.explained(cgroup).map(Explanation)
    }

    pub(super) fn explained(&self, cgroup: CgroupUse) -> Result<Plan> {
        // The same bundle always has the same text: the random part of a name is left out.
        let id = "explained";
        let keyring = Keyring::Named(format!("{}.*", Keyring::plain_name(id)));
        let mut plan = self.plan_to_read(&Flags { cgroup, ..Flags::new(id, &self.directory, keyring) })?;
        plan.warnings.extend(self.remarks());
        Ok(plan)
    }

    #[cfg(feature = "checkpoint")]
    pub(super) fn annotations(&self) -> HashMap<String, String> {
        self.config.spec.annotations().clone().unwrap_or_default()
    }

    /// The root on the host, without links. None if it does not exist.
    #[cfg(feature = "checkpoint")]
    pub(super) fn root(&self) -> Option<PathBuf> {
        let root = self.config.spec.root().as_ref()?;
        self.directory.join(root.path()).canonicalize().ok()
    }

    /// The parts of the host that its config.json exposes to an attacker in the container. The score depends on config.json, and
    /// on the targets of links on this host.
    ///
    /// # Errors
    /// The mistakes in config.json: no container can be made from it, and its score would be incomplete.
    pub fn exposure(&self) -> Result<Exposure> {
        let flags = self.flags("checked");
        let mut host = self.host_to_read(&flags)?;
        // This host may be another one than the host of the container, with other security modules.
        host.lsm = Lsm { apparmor: true, selinux: true, own_apparmor_files: true };
        host.landlock = u32::MAX;
        self.planned(&host, &flags)?;
        Ok(exposure(&self.config.spec, &self.directory, &followed))
    }

    /// Warnings about misspelled names and about ignored properties. They also exist for a config with
    /// mistakes.
    pub fn remarks(&self) -> impl Iterator<Item = Warning> {
        unknown_properties(&self.text).into_iter().chain(self.config.remarks())
    }

    /// The remarks that `create` passes on as warnings: the container could differ from what the author of config.json expects.
    pub(super) fn warnings_of_create(&self) -> impl Iterator<Item = Warning> {
        self.config.slips.iter().cloned().chain(self.config.remarks())
    }

    /// The default flags.
    pub(super) fn flags(&self, id: &str) -> Flags {
        Flags::new(id, &self.directory, Keyring::fresh(id))
    }

    /// The plan of a container made from it.
    ///
    /// # Errors
    /// All mistakes, each with its place.
    pub(super) fn plan(&self, flags: &Flags) -> Result<Plan> {
        let host = self.host(flags)?;
        self.planned(&host, flags)
    }

    /// The plan for the current user or, if the config has no user namespace, for root.
    ///
    /// # Errors
    /// All mistakes, each with its place.
    pub(super) fn plan_to_read(&self, flags: &Flags) -> Result<Plan> {
        let host = self.host_to_read(flags)?;
        self.planned(&host, flags)
    }

    fn planned(&self, host: &Host, flags: &Flags) -> Result<Plan> {
        Ok(plan::create(&Given { config: &self.config, host, flags }).map_err(|mut faults| {
            mention_slips(&mut faults, &self.text);
            faults
        })?)
    }

    /// This host, for the current user or, if the config has no user namespace, for root.
    fn host_to_read(&self, flags: &Flags) -> Result<Host> {
        let mut host = self.host(flags)?;
        let list = self.config.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        if !list.unwrap_or_default().iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
            host.me = Me { bounding: host.me.bounding, ..Me::default() };
        }
        Ok(host)
    }
}

/// The version of Landlock that the kernel has, if the config asks for Landlock.
pub(super) fn landlock_abi(config: &Config) -> u32 {
    let requested = config.spec.annotations().as_ref().is_some_and(|all| all.contains_key(LANDLOCK));
    if requested { crate::sys::landlock::abi() } else { 0 }
}

/// The path to which `path` leads after its links, as far as they exist. For a namespace this is its name, `net:[4026531840]`.
fn followed(path: &Path) -> PathBuf {
    if let Ok(name) = path.read_link()
        && name.to_str().is_some_and(|name| name.contains(":["))
    {
        return name;
    }
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, leads)) => leads.join(path.strip_prefix(above).unwrap_or(path)).components().collect(),
        None => path.to_owned(),
    }
}

/// The absolute path of `path`.
///
/// # Errors
/// It is empty, or the current directory was removed.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_bundle_whose_path_cannot_be_in_state_json_is_refused() {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join(OsStr::from_bytes(b"b\xff"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("config.json"), r#"{"ociVersion":"1.3.0","root":{"path":"r"}}"#).unwrap();
        let said = Bundle::read(&directory).unwrap_err().to_string();
        assert!(said.ends_with(r#"/b\xFF": the path is not UTF-8"#), "{said}");
    }
}
