//! New limits for an existing container.

use std::fmt;

use serde_json::Value;

use crate::cgroup::{LimitChange, undone};
use crate::config::{self, At, Faults, Warning};
use crate::container::Container;
use crate::error::{Error, Kind, Result, bail, error};
use crate::host::{Host, Labels};
use crate::plan::resctrl::{self, Schema};
use crate::plan::resources::Write;
use crate::plan::resources::unit_properties::REWRITTEN;
use crate::plan::resources::update::{self, UpdatedResources as Planned};
use crate::resctrl::{Kernel, change};
use crate::status::Status;

/// New limits for a container. A limit that is not set does not change.
///
/// ```no_run
/// use libcontainer::{Root, Update};
///
/// # fn main() -> libcontainer::Result<()> {
/// let mut container = Root::open("/run/coracle")?.load("box")?;
/// let update = Update::read(br#"{"memory": {"limit": 67108864}, "pids": {"limit": 100}}"#)?;
/// for warning in container.update(&update)? {
///     eprintln!("{warning}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Update<'a> {
    resources: Value,
    /// About its document.
    warnings: Vec<Warning>,
    schemata: Schemata,
    place: Option<PlaceWords<'a>>,
}

/// Other schemata for the group of a container in resctrl (Intel RDT). What is not set stays as it is.
///
/// ```no_run
/// # fn main() -> libcontainer::Result<()> {
/// use libcontainer::{Root, Schemata, Update};
///
/// let schemata = Schemata { l3_cache: Some("L3:0=ff0".to_owned()), ..Schemata::default() };
/// Root::open("/run/coracle")?.load("box")?.update(&Update::default().schemata(schemata))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemata {
    /// As `linux.intelRdt.l3CacheSchema`: `L3:0=ff0;1=ff0`.
    pub l3_cache: Option<String>,
    /// As `linux.intelRdt.memBwSchema`: `MB:0=50;1=50`.
    pub bandwidth: Option<String>,
}

/// The name of a property, for messages.
type PlaceWords<'a> = Box<dyn Fn(&At) -> String + Send + Sync + 'a>;

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("resources", &self.resources)
            .field("schemata", &self.schemata)
            .finish_non_exhaustive()
    }
}

impl<'a> Update<'a> {
    /// A `linux.resources` object of the specification, as JSON.
    ///
    /// # Errors
    /// `Config`: all mistakes, each with its place.
    pub fn read(resources: &[u8]) -> Result<Update<'a>> {
        let (resources, warnings) = config::load_resources(resources)?;
        Ok(Update { warnings, ..Update::of(resources) })
    }

    /// The same, already parsed.
    #[doc(hidden)]
    pub fn of(resources: Value) -> Update<'a> {
        Update { resources, ..Update::default() }
    }

    /// Other schemata for its group in resctrl. The container must have had such a group from its beginning.
    #[must_use]
    pub fn schemata(mut self, schemata: Schemata) -> Self {
        self.schemata = schemata;
        self
    }

    /// Calls `place` for the name of each property in an error or a warning. Without it, that is the name in config.json, such as
    /// `linux.resources.memory.limit`.
    #[must_use]
    pub fn places(mut self, place: impl Fn(&At) -> String + Send + Sync + 'a) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    fn place(&self, at: &At) -> At {
        self.place.as_ref().map_or_else(|| at.clone(), |place| At::new(place(at)))
    }

    fn faults(&self, faults: Faults) -> Error {
        let all = faults.iter().map(|fault| format!("{}: {}", self.place(&fault.at), fault.problem));
        let text = all.collect::<Vec<_>>().join("\n");
        Error::from(faults).reworded(text)
    }

    /// Processes without a group cannot be moved into one: they could only be moved one by one.
    fn schemata_lines(&self, container: &Container) -> Result<Vec<Schema>> {
        let Schemata { l3_cache, bandwidth } = &self.schemata;
        let first = match (l3_cache, bandwidth) {
            (None, None) => return Ok(Vec::new()),
            (Some(_), _) => resctrl::L3_CACHE,
            (None, Some(_)) => resctrl::BANDWIDTH,
        };
        if container.record().groups().is_empty() {
            bail!("{}: the config of this container has no linux.intelRdt", self.place(&At::new(first)));
        }
        let mut all = resctrl::updated_schemata(l3_cache.as_deref(), bandwidth.as_deref())
            .map_err(|fault| error!("{}: {}", self.place(&fault.at), fault.problem))?;
        all.iter_mut().for_each(|schema| schema.at = self.place(&schema.at));
        Ok(all)
    }
}

impl Container {
    /// Changes its limits. Returns warnings about limits that it leaves out. After a failure, the limits are as before.
    ///
    /// # Errors
    /// `State` if it has stopped; `Config`; or the property, the file, and the kernel's error.
    pub fn update(&mut self, requested: &Update<'_>) -> Result<Vec<Warning>> {
        let schemata = requested.schemata_lines(self)?;
        let lock = self.lock()?;
        if self.status()? == Status::Stopped {
            bail!(Kind::State(Status::Stopped) => "container not running");
        }
        let host = Host::probe(Labels::None)?;
        let planned = update::update(&self.resources()?, &requested.resources, &host.cgroups);
        let Planned { resources, mut writes, kept, devices, warnings: more } =
            planned.map_err(|faults| requested.faults(faults))?;
        let mut warnings: Vec<_> = requested.warnings.iter().cloned().chain(more).collect();
        warnings.iter_mut().for_each(|warning| warning.at = requested.place(&warning.at));
        let cgroup = self.cgroup().with_controllers(&host.cgroups);
        // A reload of systemd may have changed them since.
        let again = |write: &Write| cgroup.unit().is_some() && REWRITTEN.contains(&write.file.as_str());
        let kept: Vec<_> = kept.into_iter().filter(again).collect();
        if cgroup.paths().is_empty() && (!writes.is_empty() || devices.is_some()) {
            bail!("this container has no cgroup: it cannot have limits");
        }
        writes.iter_mut().for_each(|write| write.at = requested.place(&write.at));
        let group = &self.record().intel_rdt_path;
        let group = (!schemata.is_empty()).then(|| change(group, &schemata, &Kernel)).transpose()?;
        let group_back = || group.iter().try_for_each(|changed| changed.undo(&Kernel));
        let changed = cgroup
            .change(LimitChange { writes: &writes, kept: &kept, devices: devices.as_ref() })
            .map_err(|error| undone(error, group_back()))?;
        let not_written = |error: &Error| Warning {
            at: At::new("linux.resources"),
            said: format!("the earlier value could not be restored: {error}"),
        };
        warnings.extend(changed.warnings.iter().map(not_written));
        self.note_limits(requested, resources);
        self.save(&lock).map_err(|error| undone(error, changed.undo().and(group_back())))?;
        Ok(warnings)
    }

    /// The limits that apply from now on.
    fn note_limits(&mut self, requested: &Update<'_>, resources: Value) {
        let record = self.record_mut();
        record.resources_in_force = Some(resources);
        if let Some(rdt) = &mut record.config.intel_rdt {
            if let Some(text) = &requested.schemata.l3_cache {
                text.clone_into(&mut rdt.l3_cache_schema);
            }
            if let Some(text) = &requested.schemata.bandwidth {
                text.clone_into(&mut rdt.mem_bw_schema);
            }
        }
    }
}
