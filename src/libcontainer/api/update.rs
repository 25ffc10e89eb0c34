//! Other limits for a container that is there.

use std::fmt;

use serde_json::Value;

use crate::cgroup::{Change, undone};
use crate::config::{self, At, Faults, Warning};
use crate::container::{Container, Status};
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::{Host, Labels};
use crate::plan;
use crate::plan::resctrl::Schema;
use crate::plan::resources::Write;
use crate::plan::resources::unit::REWRITTEN;
use crate::plan::resources::update::{self, Update as Planned};
use crate::resctrl;

/// Other limits for a container. What is not set stays as it is.
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
    l3_cache: Option<(&'a str, &'a str)>,
    bandwidth: Option<(&'a str, &'a str)>,
    place: Option<Place<'a>>,
}

/// Says where a property was asked for.
type Place<'a> = Box<dyn Fn(&At) -> String + 'a>;

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schemata = (self.l3_cache, self.bandwidth);
        f.debug_struct("Update")
            .field("resources", &self.resources)
            .field("schemata", &schemata)
            .finish_non_exhaustive()
    }
}

impl<'a> Update<'a> {
    /// A `linux.resources` object of the specification, from its JSON.
    ///
    /// # Errors
    /// `Config`: all mistakes, each with its place.
    pub fn read(resources: &[u8]) -> Result<Update<'a>> {
        Ok(Update::of(config::load_resources(resources)?))
    }

    /// The same, read already.
    #[doc(hidden)]
    pub fn of(resources: Value) -> Update<'a> {
        Update { resources, ..Update::default() }
    }

    /// Lines for its group in resctrl, as `linux.intelRdt.l3CacheSchema` and `memBwSchema`, each with the name by which errors
    /// call it. The container must have had such a group from its beginning.
    #[must_use]
    pub fn schemata(mut self, l3_cache: Option<(&'a str, &'a str)>, bandwidth: Option<(&'a str, &'a str)>) -> Self {
        (self.l3_cache, self.bandwidth) = (l3_cache, bandwidth);
        self
    }

    /// How errors and warnings call a property, where `linux.resources.memory.limit` is not what the user has written.
    #[must_use]
    pub fn places(mut self, place: impl Fn(&At) -> String + 'a) -> Self {
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

    /// Who is in no group cannot be moved into one by one process at a time.
    fn lines(&self, container: &Container) -> Result<Vec<Schema>> {
        let Some((named, _)) = self.l3_cache.or(self.bandwidth) else { return Ok(Vec::new()) };
        if container.record().groups().is_empty() {
            bail!("{named}: the config of this container has no linux.intelRdt");
        }
        plan::resctrl::asked_by_flags(self.l3_cache, self.bandwidth).map_err(|problem| error!("{problem}"))
    }
}

impl Container {
    /// Changes its limits. Returned is what is left out. What fails leaves all of them as they were.
    ///
    /// # Errors
    /// `State`, where it has stopped; `Config`; or the property, the file and the kernel's word.
    pub fn update(&mut self, asked: &Update<'_>) -> Result<Vec<Warning>> {
        let schemata = asked.lines(self)?;
        let lock = self.lock()?;
        if self.status()? == Status::Stopped {
            bail!(Kind::State(Status::Stopped) => "container not running");
        }
        let host = Host::probe(Labels::None).context("look at the host")?;
        let planned = update::update(&self.resources()?, &asked.resources, &host.cgroups);
        let Planned { resources, mut writes, kept, devices, mut warnings } =
            planned.map_err(|faults| asked.faults(faults))?;
        warnings.iter_mut().for_each(|warning| warning.at = asked.place(&warning.at));
        let cgroup = self.cgroup().with_controllers(&host.cgroups);
        // A reload of systemd may have changed them since.
        let again = |write: &Write| cgroup.unit().is_some() && REWRITTEN.contains(&write.file.as_str());
        let kept: Vec<_> = kept.into_iter().filter(again).collect();
        if cgroup.paths().is_empty() && (!writes.is_empty() || devices.is_some()) {
            bail!("this container has no cgroup of its own: nothing can be limited");
        }
        writes.iter_mut().for_each(|write| write.at = asked.place(&write.at));
        let group = &self.record().intel_rdt_path;
        let group = (!schemata.is_empty()).then(|| resctrl::change(group, &schemata, &resctrl::Kernel)).transpose()?;
        let group_back = || group.iter().try_for_each(|changed| changed.undo(&resctrl::Kernel));
        let changed = cgroup
            .change(Change { writes: &writes, kept: &kept, devices: devices.as_ref() })
            .map_err(|error| undone(error, group_back()))?;
        let not_written =
            |error: &Error| Warning { at: At::new("linux.resources"), said: format!("not as it was: {error}") };
        warnings.extend(changed.warnings.iter().map(not_written));
        self.note_limits(asked, resources);
        self.save(&lock).map_err(|error| undone(error, changed.undo().and(group_back())))?;
        Ok(warnings)
    }

    /// What is in force from now on.
    fn note_limits(&mut self, asked: &Update<'_>, resources: Value) {
        let record = self.record_mut();
        record.resources_in_force = Some(resources);
        if let Some(rdt) = &mut record.config.intel_rdt {
            if let Some((_, text)) = asked.l3_cache {
                text.clone_into(&mut rdt.l3_cache_schema);
            }
            if let Some((_, text)) = asked.bandwidth {
                text.clone_into(&mut rdt.mem_bw_schema);
            }
        }
    }
}
