//! state.json. Its members have runc's form, so that a node can change between runc and coracle with running
//! containers. Our own members are in an object of their own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use super::note;
use crate::cgroup::{Manager, UnitName};
use crate::sys::mount_id::MountId;

/// The record of a container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// The pid of its init, in the pid namespace of the runtime that made it.
    pub init_process_pid: i32,
    /// The start time of this process, in clock ticks since boot.
    pub init_process_start: u64,
    /// When the container was created, RFC 3339 in UTC.
    pub created: String,
    /// The part of its config that others read.
    pub config: RecordedConfig,
    /// True if it was made without root.
    pub rootless: bool,
    /// Its cgroup directories, by controller. The key is `systemd` for the named hierarchy, and empty for version 2.
    #[serde(deserialize_with = "or_nothing")]
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// The files of its namespaces.
    #[serde(deserialize_with = "or_nothing")]
    pub namespace_paths: BTreeMap<String, String>,
    /// The files of its first three descriptors, for a restore.
    #[serde(deserialize_with = "or_nothing")]
    pub external_descriptors: Vec<String>,
    /// Its group in resctrl.
    pub intel_rdt_path: PathBuf,
    /// The monitoring group below it, which has only this container.
    #[serde(skip_serializing_if = "is_nothing")]
    pub intel_rdt_mon_path: PathBuf,
    /// The current `linux.resources`, if an `update` has changed them. Otherwise those of its config apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources_in_force: Option<serde_json::Value>,
    /// Our own members. A container without them was made by runc.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coracle: Option<OwnRecord>,
}

/// Go writes null for an empty map or list.
fn or_nothing<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The part of a container's config that others read.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RecordedConfig {
    /// Its root on the host, absolute.
    pub rootfs: PathBuf,
    /// `key=value` for each annotation, and `bundle=…`.
    #[serde(deserialize_with = "or_nothing")]
    pub labels: Vec<String>,
    /// Its namespaces.
    #[serde(deserialize_with = "or_nothing")]
    pub namespaces: Vec<RecordedNamespace>,
    /// Its host name.
    pub hostname: String,
    /// Its cgroup.
    #[serde(deserialize_with = "or_nothing")]
    pub cgroups: RecordedCgroup,
    /// It keeps the session keyring of its creator.
    pub no_new_keyring: bool,
    /// `ociVersion` of its config.
    pub version: String,
    /// Its group in resctrl.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<RecordedRdt>,
}

fn is_nothing(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `linux.intelRdt`, in runc's form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RecordedRdt {
    /// The group's name. Empty for a group of its own.
    #[serde(rename = "closID", skip_serializing_if = "String::is_empty")]
    pub closid: String,
    /// Lines without changes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_nothing")]
    pub schemata: Vec<String>,
    /// The current line of the cache.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// The current line of the memory bandwidth.
    #[serde(rename = "memBwSchema", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Whether it has a monitoring group.
    #[serde(rename = "enableMonitoring", skip_serializing_if = "std::ops::Not::not")]
    pub enable_monitoring: bool,
}

impl RecordedRdt {
    /// The members of the config.
    pub fn of(requested: &LinuxIntelRdt) -> RecordedRdt {
        RecordedRdt {
            closid: requested.clos_id().clone().unwrap_or_default(),
            schemata: requested.schemata().clone().unwrap_or_default(),
            l3_cache_schema: requested.l3_cache_schema().clone().unwrap_or_default(),
            mem_bw_schema: requested.mem_bw_schema().clone().unwrap_or_default(),
            enable_monitoring: requested.enable_monitoring().unwrap_or_default(),
        }
    }
}

/// One namespace.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RecordedNamespace {
    /// `NEWPID` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path of a namespace that the container has joined. Empty for a new one.
    pub path: String,
}

/// Its cgroup, in runc's form.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RecordedCgroup {
    /// Its name, if it has no path: the id.
    pub name: String,
    /// `linux.cgroupsPath`.
    pub path: String,
    /// We set no limit through this member. But for runc, a container without any limits is broken.
    pub memory: i64,
    /// It is a unit of systemd. runc writes this. Our own units are in `OwnRecord`.
    #[serde(rename = "Systemd", skip_serializing)]
    pub systemd: bool,
    /// The prefix of the unit's name.
    #[serde(skip_serializing)]
    pub scope_prefix: String,
    /// It is a unit of the user's own systemd.
    #[serde(rename = "Rootless", skip_serializing)]
    pub rootless: bool,
}

impl RecordedCgroup {
    /// The unit of a container that runc made, with runc's name for it.
    pub fn unit(&self) -> Option<UnitName> {
        let name = match self.name.ends_with(".slice") {
            true => self.name.clone(),
            false => format!("{}-{}.scope", self.scope_prefix, self.name),
        };
        let manager = if self.rootless { Manager::User } else { Manager::System };
        self.systemd.then_some(UnitName { name, manager })
    }
}

/// Our own members.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct OwnRecord {
    /// `ociVersion` of its config.
    pub oci_version: String,
    /// Its bundle, absolute.
    pub bundle: PathBuf,
    /// Its annotations.
    pub annotations: HashMap<String, String>,
    /// The uid of its creator.
    pub owner: u32,
    /// Its config has no hooks for poststart or poststop, so it need not be read for them.
    pub without_late_hooks: bool,
    /// Its mounts on the host, in order, if it has no mount namespace.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_mounts: Vec<HostMount>,
    /// The device and inode number of the file at each path of its Landlock ruleset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub landlock: Vec<(u64, u64)>,
    /// Its session keyring. A keyring of runc, or of an older coracle, is named by the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// The device and inode number of each namespace of its config, and of its user namespace, by the name in /proc/PID/ns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, (u64, u64)>,
    /// Its systemd unit, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// Init's steps after `start`, so that `start` can name the one that failed.
    pub after_start: Vec<AfterStart>,
    /// A sum over the members that `delete` and `kill` use: it finds a damaged file (`Record::check`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seal: String,
}

/// A mount on the host. Its path alone does not identify it: a user who may write a directory above can put another
/// mount there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, from = "RecordedMount")]
pub struct HostMount {
    /// Its path.
    pub path: PathBuf,
    /// Its mount id in mountinfo, which the kernel uses again after the unmount.
    pub id: u64,
    /// Its unique mount id, which is never used again. None if the kernel has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<u64>,
    /// Device and inode of its root.
    pub file: (u64, u64),
}

impl HostMount {
    /// The mount with this id.
    pub fn new(path: PathBuf, MountId { id, unique, file }: MountId) -> HostMount {
        HostMount { path, id, unique, file }
    }
}

/// The current form, and the old one: only the path.
#[derive(Deserialize)]
#[serde(untagged)]
enum RecordedMount {
    Whole { path: PathBuf, id: u64, unique: Option<u64>, file: (u64, u64) },
    Path(PathBuf),
}

impl From<RecordedMount> for HostMount {
    fn from(recorded: RecordedMount) -> HostMount {
        match recorded {
            RecordedMount::Whole { path, id, unique, file } => HostMount { path, id, unique, file },
            RecordedMount::Path(path) => HostMount { path, ..HostMount::default() },
        }
    }
}

/// A step after `AwaitStart`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AfterStart {
    /// Its number in the plan.
    pub step: u32,
    /// Its action.
    pub does: Does,
    /// Its place in config.json.
    pub from: String,
    /// The program that it runs, or the name of the hooks.
    pub name: String,
    /// If the profile of `linux.seccomp` denies it: the errno, or 0 if the process is killed; and the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<(i32, String)>,
}

impl AfterStart {
    /// Its action. An older coracle has written only its place in config.json.
    pub fn act(&self) -> Does {
        match (self.does, self.from.as_str()) {
            (Does::Unknown, "linux.seccomp") => Does::Filter,
            (Does::Unknown, from) if from.starts_with("hooks.") => Does::Hooks,
            (Does::Unknown, _) => Does::Program,
            (known, _) => known,
        }
    }
}

/// The action of a step after `AwaitStart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Does {
    /// An older coracle did not write it.
    #[default]
    Unknown,
    /// Executes the program.
    Program,
    /// Runs hooks.
    Hooks,
    /// Loads the filter.
    Filter,
}

impl Record {
    /// The members that say what `delete` and `kill` kill, remove and unmount. They do not change while the container
    /// exists.
    fn sealed(&self) -> serde_json::Result<String> {
        let own = self.coracle.as_ref();
        note::seal(&(
            (&self.id, self.init_process_pid, self.init_process_start, self.rootless),
            (&self.cgroup_paths, &self.intel_rdt_path, &self.intel_rdt_mon_path),
            own.map(|own| (&own.host_mounts, &own.unit)),
            self.config.intel_rdt.as_ref().map(|rdt| &rdt.closid),
        ))
    }

    /// Sets the sum, at the first write.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub(super) fn set_seal(&mut self) -> serde_json::Result<()> {
        let seal = self.sealed()?;
        if let Some(own) = &mut self.coracle {
            own.seal = seal;
        }
        Ok(())
    }

    /// Whether it is valid for the container `id`. A damaged file must not decide what is killed or removed.
    pub(super) fn check(&self, id: &str) -> Result<(), String> {
        if self.id != id {
            return Err(format!("id: it is the state of {:?}", self.id));
        }
        if self.init_process_pid <= 0 {
            return Err(format!("init_process_pid: {} is not a pid", self.init_process_pid));
        }
        match self.seal() {
            Some(seal) if seal != self.sealed().map_err(|error| error.to_string())? => {
                Err("the checksum of its process, cgroup and mounts is wrong".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// None if runc or an older version made it.
    pub(super) fn seal(&self) -> Option<&str> {
        self.coracle.as_ref().map(|own| own.seal.as_str()).filter(|seal| !seal.is_empty())
    }

    /// Its bundle: from our own member, or from runc's label.
    pub fn bundle(&self) -> &Path {
        match &self.coracle {
            Some(own) => &own.bundle,
            None => Path::new(self.label("bundle").unwrap_or_default()),
        }
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.config
            .labels
            .iter()
            .find_map(|label| label.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, v)| v)
    }

    /// The groups in resctrl with its processes, in the order in which they are joined.
    pub fn groups(&self) -> Vec<PathBuf> {
        let both = [&self.intel_rdt_path, &self.intel_rdt_mon_path];
        both.into_iter().filter(|path| !is_nothing(path)).cloned().collect()
    }

    /// The groups that are removed with the container. A group with a `closID` is not removed.
    pub fn own_groups(&self) -> Vec<PathBuf> {
        let named = self.config.intel_rdt.as_ref().is_none_or(|rdt| !rdt.closid.is_empty());
        let mut groups = self.groups();
        groups.retain(|path| path.ends_with(&self.id) && !(named && *path == self.intel_rdt_path));
        groups
    }

    /// Its annotations.
    pub fn annotations(&self) -> HashMap<String, String> {
        match &self.coracle {
            Some(own) => own.annotations.clone(),
            None => {
                let pairs = self.config.labels.iter().filter_map(|label| label.split_once('='));
                pairs.filter(|(key, _)| *key != "bundle").map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
            }
        }
    }

    /// `ociVersion` of its config.
    pub fn version(&self) -> &str {
        match self.config.version.as_str() {
            "" => self.coracle.as_ref().map_or("1.0.2", |own| &own.oci_version),
            version => version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_an_older_coracle_after_start_is_known_by_its_place() {
        let act = |json: &str| serde_json::from_str::<AfterStart>(json).unwrap().act();
        assert_eq!(act(r#"{"from":"hooks.startContainer[0]"}"#), Does::Hooks);
        assert_eq!(act(r#"{"from":"linux.seccomp"}"#), Does::Filter);
        assert_eq!(act(r#"{"from":"process.args"}"#), Does::Program);
        assert_eq!(act(r#"{"from":"process.args","does":"hooks"}"#), Does::Hooks);
    }

    #[test]
    fn a_state_that_runc_wrote_can_be_read() {
        let text = r#"{"id":"x","init_process_pid":7,"init_process_start":9,"created":"2026-01-02T03:04:05.6Z",
            "config":{"no_pivot_root":false,"rootfs":"/b/rootfs","labels":["a=1=2","bundle=/b"],"cgroups":{"path":"/x"},
            "namespaces":[{"type":"NEWNS","path":""}],"devices":null},"rootless":false,
            "cgroup_paths":{"pids":"/sys/fs/cgroup/pids/x"},"namespace_paths":{"NEWNS":"/proc/7/ns/mnt"},
            "external_descriptors":["/dev/null"],"intel_rdt_path":""}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(record.bundle(), Path::new("/b"));
        assert_eq!(record.annotations(), HashMap::from([("a".to_owned(), "1=2".to_owned())]));
        assert_eq!(record.cgroup_paths["pids"], Path::new("/sys/fs/cgroup/pids/x"));
        let nulls =
            r#"{"id":"y","cgroup_paths":null,"external_descriptors":null,"config":{"labels":null,"cgroups":null}}"#;
        assert!(serde_json::from_str::<Record>(nulls).is_ok());
    }

    #[test]
    fn the_unit_of_a_container_that_runc_made_is_known() {
        let unit = |text: &str| serde_json::from_str::<RecordedCgroup>(text).unwrap().unit();
        let name = |name: &str, manager| Some(UnitName { name: name.to_owned(), manager });
        let scope = r#"{"name":"x","parent":"a.slice","scope_prefix":"runc","Systemd":true,"Rootless":false}"#;
        assert_eq!(unit(scope), name("runc-x.scope", Manager::System));
        let slice = r#"{"name":"x.slice","scope_prefix":"","Systemd":true,"Rootless":true}"#;
        assert_eq!(unit(slice), name("x.slice", Manager::User));
        assert_eq!(unit(r#"{"name":"x","scope_prefix":"runc","Systemd":false}"#), None);
    }

    #[test]
    fn its_own_group_is_removed_with_it_and_a_named_one_stays() {
        let record = |closid: &str| {
            let text = format!(
                r#"{{"id":"x","intel_rdt_path":"/r/x","intel_rdt_mon_path":"/r/x/mon_groups/x",
                "config":{{"intel_rdt":{{"closID":"{closid}","l3_cache_schema":"L3:0=f"}}}}}}"#
            );
            serde_json::from_str::<Record>(&text).unwrap()
        };
        let own = ["/r/x", "/r/x/mon_groups/x"].map(PathBuf::from);
        assert_eq!(record("").own_groups(), own);
        // Even if it has the container's name.
        assert_eq!((record("x").own_groups(), record("x").groups()), (own[1..].to_vec(), own.to_vec()));
        assert!(Record::default().own_groups().is_empty());
    }
}
