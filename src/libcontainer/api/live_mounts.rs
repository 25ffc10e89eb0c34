//! Mounts for a container that runs.

use std::fs::File;

use crate::config::{self, Config, Faults, Warning};
use crate::container::Container;
use crate::error::{Context, Kind, Result, bail};
use crate::host::{Host, Labels, Namespace};
use crate::launch::live_mounts::{NOT_ITS_OWN, RunningIdMaps, attach, detached, mount_namespace, unmount_added};
use crate::plan;
use crate::status::Status;

/// A list of mounts, as `mounts` in config.json.
///
/// ```no_run
/// use libcontainer::{MountList, Root};
///
/// # fn main() -> libcontainer::Result<()> {
/// let list = MountList::read(br#"[{"destination": "/data", "source": "/srv/data", "options": ["rbind", "ro"]}]"#)?;
/// let mut container = Root::open("/run/coracle")?.load("box")?;
/// container.add_mounts(&list)?;
/// container.remove_mounts(&list)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MountList(Config);

impl MountList {
    /// Parses its JSON.
    ///
    /// # Errors
    /// `Config`: all mistakes, each with its place.
    pub fn read(text: &[u8]) -> Result<MountList> {
        let list: &serde_json::value::RawValue = serde_json::from_slice(text)
            .map_err(|error| of_list(Faults::one(config::At::new("mounts"), format!("is not JSON: {error}"))))?;
        let document = format!(r#"{{"ociVersion":"{}","mounts":{list}}}"#, config::SPEC_VERSION);
        let mut config = config::load(document.as_bytes()).map_err(of_list)?;
        config.warnings.extend(config::unknown_properties(document.as_bytes()));
        Ok(MountList(config))
    }
}

/// The mistakes are in the list, and not in a config.json.
fn of_list(faults: Faults) -> Faults {
    faults.in_document("list of mounts", config::At::default())
}

impl Container {
    /// Mounts all of them in the running container, or none: trees of the host, and tmpfs. A mount point must be there. The
    /// container's processes cannot lead such a mount out of its root, to /proc, or to the host.
    ///
    /// # Errors
    /// `State` if it has stopped; `Config`; or the place and the kernel's error.
    pub fn add_mounts(&mut self, list: &MountList) -> Result<Vec<Warning>> {
        let labelled = Host::probe(Labels::Given)?.lsm.selinux;
        let own = labelled.then(|| self.config()).transpose()?.map(|text| config::load(&text)).transpose()?;
        let (mounts, warnings) = plan::live_mounts(&list.0, self.record().bundle(), own.as_ref()).map_err(of_list)?;
        let lock = self.lock()?;
        let namespace = self.mount_namespace()?;
        let mounts = detached(&mounts, self.id_maps()?.as_ref())?;
        let mut known = lock.added_mounts()?;
        for mount in &mounts {
            known.push(mount.id()?);
        }
        // ORDER: before they are attached, so that each can be removed if we are killed in between.
        lock.save_added_mounts(&known)?;
        attach(&namespace, &mounts)?;
        Ok(warnings)
    }

    /// Unmounts those that `add_mounts` has mounted at the destinations of the list. All other mounts stay.
    ///
    /// # Errors
    /// `State` if it has stopped; `Config`; or the place, where no such mount is.
    pub fn remove_mounts(&mut self, list: &MountList) -> Result<()> {
        let destinations = plan::live_destinations(&list.0).map_err(of_list)?;
        let lock = self.lock()?;
        let namespace = self.mount_namespace()?;
        let mut known = lock.added_mounts()?;
        let gone = unmount_added(&namespace, &destinations, &known)?;
        known.retain(|id| !gone.contains(id));
        lock.save_added_mounts(&known)
    }

    /// The id maps of its user namespace. None if it has none of its own.
    fn id_maps(&self) -> Result<Option<RunningIdMaps>> {
        let record = self.record();
        if !record.config.namespaces.iter().any(|namespace| namespace.kind == "NEWUSER") {
            return Ok(None);
        }
        let pid = record.init_process_pid;
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
        };
        let maps = RunningIdMaps { uids: read("uid_map")?, gids: read("gid_map")? };
        // ORDER: after they are read: its program may have made a user namespace of its own.
        self.must_own("user", Namespace::of(pid, "user")?, pid)?;
        Ok(Some(maps))
    }

    /// The mount namespace of the container, which runs.
    fn mount_namespace(&self) -> Result<File> {
        if !self.record().config.namespaces.iter().any(|namespace| namespace.kind == "NEWNS") {
            bail!("{NOT_ITS_OWN}");
        }
        if let status @ Status::Stopped = self.status()? {
            bail!(Kind::State(status) => "container not running");
        }
        let thread = self.thread()?;
        let namespace = mount_namespace(thread.tid)?;
        self.must_be_owner_of("mnt", &namespace)?;
        // ORDER: after the namespace is open: another process may have got the number.
        self.must_have(thread)?;
        Ok(namespace)
    }
}
