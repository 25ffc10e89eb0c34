//! The process object of another process: from the caller, or that of the container with changes.

use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxCapabilities, Process};

use super::console::Console;
use crate::config::{self, At, Config, Faults, Warning, capability};
use crate::error::{Kind, Result, bail, error};

/// A process object of the specification (config.md#process), for another process.
///
/// ```no_run
/// use libcontainer::{ProcessObject, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let object = ProcessObject::read(br#"{"cwd": "/", "args": ["/bin/true"]}"#)?;
/// let status = Root::open("/run/coracle")?.load("box")?.exec_process(&object).spawn()?.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessObject {
    process: Process,
    warnings: Vec<Warning>,
    /// The name of its document, which begins the text of a mistake.
    name: String,
}

impl ProcessObject {
    /// Parses its JSON.
    ///
    /// # Errors
    /// `Config`: all mistakes, each with its place.
    pub fn read(text: &[u8]) -> Result<ProcessObject> {
        ProcessObject::read_from("the process object", text)
    }

    /// Reads one from the JSON in a file. `name` is the file's name, which begins the text of an error.
    ///
    /// # Errors
    /// `Config`: all mistakes, each with its place.
    pub fn read_from(name: &str, text: &[u8]) -> Result<ProcessObject> {
        let read = config::load_process(text, &At::new("process"));
        let (process, warnings) = read.map_err(|faults| faults.in_document(name, At::new("process")))?;
        Ok(ProcessObject { process, warnings, name: name.to_owned() })
    }

    /// Whether it has a terminal.
    pub fn terminal(&self) -> bool {
        self.process.terminal().unwrap_or(false)
    }
}

/// The config of another process.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    whole: Option<&'a ProcessObject>,
    args: Vec<String>,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: Vec<String>,
    pub(super) user: Option<(u32, Option<u32>)>,
    pub(super) additional_gids: Vec<u32>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor_profile: Option<String>,
    pub(super) selinux_label: Option<String>,
}

impl<'a> Object<'a> {
    pub(super) fn of_args<S: AsRef<str>>(args: &[S]) -> Object<'a> {
        Object { args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(), ..Object::default() }
    }

    pub(super) fn of_whole(object: &'a ProcessObject) -> Object<'a> {
        Object { whole: Some(object), ..Object::default() }
    }

    /// Warnings for its author.
    pub(super) fn warnings(&self) -> &[Warning] {
        self.whole.map(|object| object.warnings.as_slice()).unwrap_or_default()
    }

    /// The mistakes that a plan found. Those of the process are in its own document, and the others in config.json.
    pub(super) fn in_its_document(&self, faults: Faults) -> Faults {
        match self.whole {
            Some(object) => faults.in_document(&object.name, At::new("process")),
            None => faults,
        }
    }

    /// The process object for the plan. A program that was given by its arguments has a terminal if there is a console for it.
    pub(super) fn process(&self, config: &Config, console: Option<&Console>) -> Result<Process> {
        let mut process = match self.whole {
            Some(object) => {
                let mut process = object.process.clone();
                confine(&mut process, config);
                process
            }
            None => self.of_container(config, console)?,
        };
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if !self.env.is_empty() {
            let mut env = process.env().clone().unwrap_or_default();
            env.extend(self.env.iter().cloned());
            process.set_env(Some(env));
        }
        if self.no_new_privileges {
            process.set_no_new_privileges(Some(true));
        }
        if let Some(profile) = &self.apparmor_profile {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.selinux_label {
            process.set_selinux_label(Some(label.clone()));
        }
        self.change_user(&mut process);
        if !self.capabilities.is_empty() {
            add_capabilities(&self.capabilities, &mut process)?;
        }
        Ok(process)
    }

    fn of_container(&self, config: &Config, console: Option<&Console>) -> Result<Process> {
        if self.args.is_empty() {
            bail!("process args cannot be empty");
        }
        let process = config.spec.process().clone();
        let mut process = process.ok_or_else(|| error!("the container's config has no process"))?;
        process.set_args(Some(self.args.clone()));
        process.set_terminal(Some(console.is_some()));
        Ok(process)
    }

    /// As with runc: without a gid, the gid and the groups of the config stay.
    fn change_user(&self, process: &mut Process) {
        let mut user = process.user().clone();
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid);
            user.set_gid(gid.unwrap_or(user.gid()));
        }
        if !self.additional_gids.is_empty() {
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&self.additional_gids);
            user.set_additional_gids(Some(groups));
        }
        process.set_user(user);
    }
}

pub(super) fn capability(name: &str) -> Result<Capability> {
    match capability::by_name(name) {
        Some(_) => Ok(serde_json::from_value(name.into())?),
        None => bail!(Kind::InvalidArgument => "{}", capability::unknown_message(name)),
    }
}

/// Takes missing members from the first process. So another process never has fewer restrictions, unless the object
/// says so (`unconfined`).
fn confine(process: &mut Process, config: &Config) {
    let Some(first) = config.spec.process() else { return };
    let unsaid = |label: &Option<String>| label.as_ref().is_none_or(String::is_empty);
    if unsaid(process.apparmor_profile()) {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    // As with runc and crun: without capabilities in the object, it has those of the first process. `{}` means none.
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if unsaid(process.selinux_label()) {
        process.set_selinux_label(first.selinux_label().clone());
    }
    // The kernel ends a process with a high score first, whichever process of the container that is.
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(first.oom_score_adj());
    }
}

fn add_capabilities(added: &[Capability], process: &mut Process) -> Result<()> {
    let mut sets: LinuxCapabilities = match process.capabilities() {
        Some(sets) => sets.clone(),
        None => serde_json::from_str("{}")?,
    };
    let more = |set: &Option<oci_spec::runtime::Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    let (bounding, effective, permitted) = (more(sets.bounding()), more(sets.effective()), more(sets.permitted()));
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    let mut ambient = sets.ambient().clone().unwrap_or_default();
    ambient.extend(added.iter().copied().filter(|cap| inheritable.contains(cap)));
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
    sets.set_ambient(Some(ambient));
    process.set_capabilities(Some(sets));
    Ok(())
}
