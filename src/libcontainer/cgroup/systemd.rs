//! The systemd cgroup driver: one call makes a transient unit for the container. The runtime makes and uses the
//! directories as without systemd. systemd knows that they are a unit, so it does not change them, and accounts for
//! their processes. Nothing here waits beyond its deadline, and there is no thread.

use std::collections::VecDeque;
use std::path::Path;

use zbus::{OwnedObjectPath, Variant};

use super::UnitName;
use super::bus::{Bus, BusMessage, BusReply, Method};
use super::bus_sockets::sockets;
use super::unit_values::with_variant;
use crate::error::{Context, Error, Kind, Result, bail, error};
use crate::host::Environment;
use crate::plan::resources::unit::{Manager, Need, Property, Unit};
use crate::wait::limits;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// systemd's error for a property that it does not know, and for one that cannot be set.
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// A unit that systemd is starting. Its job has not ended yet.
#[derive(Debug)]
pub struct Starting {
    bus: Bus,
    name: UnitName,
    serial: u32,
    unit: Unit,
    pid: i32,
    /// Jobs that ended before we knew which job is ours.
    done: VecDeque<(OwnedObjectPath, String)>,
}

/// Tells systemd to start the unit with process `pid` in it. Does not wait: the runtime has other work to do.
///
/// # Errors
/// systemd cannot be reached.
pub fn start(unit: &Unit, pid: i32, environment: &Environment) -> Result<Starting> {
    let name = UnitName::from(unit);
    let mut bus = connect(unit.manager, environment)?;
    let serial = call_start(&mut bus, unit, pid, &unit.properties)?;
    Ok(Starting { bus, name, serial, unit: unit.clone(), pid, done: VecDeque::new() })
}

impl Starting {
    /// Waits until the unit is started.
    ///
    /// # Errors
    /// systemd's error, or the deadline.
    pub fn wait(mut self) -> Result<()> {
        let what = format!("linux.cgroupsPath: systemd: start transient unit {:?}", self.name.name);
        self.finish().context(what)
    }

    fn finish(&mut self) -> Result<()> {
        let mut again = Again::default();
        loop {
            match answer_to(&mut self.bus, self.serial, &mut self.done)? {
                BusReply::Done(message) => {
                    let job: OwnedObjectPath = message.body()?;
                    return job_done(&mut self.bus, &job, &mut self.done);
                }
                // A failed unit of an earlier container with that name. It is empty, or its cgroup would have been
                // refused.
                BusReply::Refused(error, _) if error == UNIT_EXISTS && again.once(&error) => {
                    stop_on(&mut self.bus, &self.name)?;
                }
                // KERNEL: an older systemd knows fewer properties. Their values are also written to the cgroup.
                BusReply::Refused(error, _) if error == UNKNOWN_PROPERTY && again.once(&error) => {
                    self.unit.properties.retain(|property| property.need == Need::Must);
                }
                BusReply::Refused(error, text) => bail!(Kind::Systemd => "{text} ({error})"),
            }
            let properties = self.unit.properties.clone();
            self.serial = call_start(&mut self.bus, &self.unit, self.pid, &properties)?;
        }
    }
}

/// Accepts each error only once, so that a call is not sent without end.
#[derive(Default)]
struct Again(Vec<String>);

impl Again {
    fn once(&mut self, cause: &str) -> bool {
        let new = !self.0.iter().any(|there| there == cause);
        self.0.push(cause.to_owned());
        new
    }
}

/// Sets limits of an existing unit (until the next boot: `runtime`): those that `update` names, and `kept`, which do not change.
/// If systemd refuses them together, this sends only the first ones, and returns systemd's error about the others.
///
/// # Errors
/// systemd's error.
pub fn set_properties(
    unit: &UnitName,
    requested: &[Property],
    kept: &[Property],
    environment: &Environment,
) -> Result<Option<Error>> {
    if requested.is_empty() && kept.is_empty() {
        return Ok(None);
    }
    set_on(&mut connect(unit.manager, environment)?, unit, requested, kept)
}

fn set_on(bus: &mut Bus, unit: &UnitName, requested: &[Property], kept: &[Property]) -> Result<Option<Error>> {
    let mut again = Again::default();
    let (mut kept, mut needs, mut refused) = (kept, [Need::Must, Need::May].as_slice(), None);
    loop {
        let list = requested.iter().chain(kept).filter(|property| needs.contains(&property.need));
        let list = list.map(with_variant).collect::<Result<Vec<_>>>()?;
        if list.is_empty() {
            return Ok(refused);
        }
        let serial = bus.call(SYSTEMD, manager("SetUnitProperties"), &(unit.name.as_str(), true, list))?;
        match bus.reply(serial)? {
            BusReply::Done(_) => {
                // systemd writes the files after its answer, and before it reads the next call.
                let ping = Method { interface: "org.freedesktop.DBus.Peer", ..manager("Ping") };
                let serial = bus.call(SYSTEMD, ping, &())?;
                return bus.reply(serial).map(|_| refused);
            }
            // As above: properties that an older systemd does not know are also written to the cgroup.
            BusReply::Refused(error, _) if error == UNKNOWN_PROPERTY && again.once(&error) => needs = &[Need::Must],
            BusReply::Refused(error, text) => {
                let said = error!(Kind::Systemd => "systemd: set properties of {:?}: {text} ({error})", unit.name);
                if kept.is_empty() {
                    return Err(said);
                }
                (kept, refused) = (&[], Some(said));
            }
        }
    }
}

/// Moves a process into a unit, if the kernel does not let us do it.
///
/// # Errors
/// systemd's error.
pub fn attach(unit: &UnitName, pid: i32, environment: &Environment) -> Result<()> {
    let mut bus = connect(unit.manager, environment)?;
    let pids = vec![u32::try_from(pid)?];
    let serial = bus.call(SYSTEMD, manager("AttachProcessesToUnit"), &(unit.name.as_str(), "", pids))?;
    match bus.reply(serial)? {
        BusReply::Done(_) => Ok(()),
        BusReply::Refused(error, text) => {
            bail!(Kind::Systemd => "systemd: attach process {pid} to {:?}: {text} ({error})", unit.name)
        }
    }
}

/// True below the cgroup that is delegated to the user's own systemd.
pub fn is_of_user_manager(directory: &Path) -> bool {
    let service = |part: &str| part.starts_with("user@") && part.ends_with(".service");
    directory.iter().filter_map(|part| part.to_str()).any(service)
}

/// Moves a process from a session into the tree of the user's own systemd. Within that tree the user may move it. The
/// scope that it uses disappears as soon as the process has left it.
///
/// # Errors
/// systemd's error.
pub fn move_to_user_manager(pid: i32, environment: &Environment) -> Result<()> {
    let unit = Unit {
        name: format!("coracle-exec-{pid}.scope"),
        slice: "app.slice".to_owned(),
        manager: Manager::User,
        properties: Vec::new(),
    };
    start(&unit, pid, environment)?.wait()
}

/// Stops a unit and resets its failed state. A missing unit is not an error.
///
/// # Errors
/// systemd's error.
pub fn stop(unit: &UnitName, environment: &Environment) -> Result<()> {
    let what = || format!("systemd: stop unit {:?}", unit.name);
    let mut bus = connect(unit.manager, environment).with_context(what)?;
    stop_on(&mut bus, unit).with_context(what)
}

fn stop_on(bus: &mut Bus, unit: &UnitName) -> Result<()> {
    let serial = bus.call(SYSTEMD, manager("StopUnit"), &(unit.name.as_str(), "replace"))?;
    let mut done = VecDeque::new();
    match answer_to(bus, serial, &mut done)? {
        BusReply::Done(message) => {
            let job: OwnedObjectPath = message.body()?;
            // The job has ended. Its result does not matter.
            let _ = job_done(bus, &job, &mut done);
        }
        BusReply::Refused(error, _) if error == NO_SUCH_UNIT => return Ok(()),
        BusReply::Refused(error, text) => bail!(Kind::Systemd => "{text} ({error})"),
    }
    let serial = bus.call(SYSTEMD, manager("ResetFailedUnit"), &unit.name.as_str())?;
    // A unit that did not fail is already removed.
    bus.reply(serial).map(drop)
}

fn manager(name: &str) -> Method<'_> {
    Method { path: "/org/freedesktop/systemd1", interface: "org.freedesktop.systemd1.Manager", name }
}

fn keep_job(message: &BusMessage, done: &mut VecDeque<(OwnedObjectPath, String)>) {
    if message.is_signal("JobRemoved")
        && let Ok((_, job, _, result)) = message.body::<(u32, OwnedObjectPath, String, String)>()
    {
        done.push_back((job, result));
    }
}

/// Waits for the answer to a call. Records the jobs that end before it.
fn answer_to(bus: &mut Bus, serial: u32, done: &mut VecDeque<(OwnedObjectPath, String)>) -> Result<BusReply> {
    loop {
        match bus.next()?.reply_to(serial) {
            Ok(answer) => return Ok(answer),
            Err(other) => keep_job(&other, done),
        }
    }
}

fn job_done(bus: &mut Bus, job: &OwnedObjectPath, done: &mut VecDeque<(OwnedObjectPath, String)>) -> Result<()> {
    loop {
        while let Some((ended, result)) = done.pop_front() {
            if ended == *job {
                return if result == "done" {
                    Ok(())
                } else {
                    Err(error!(Kind::Systemd => "the job ended as {result:?}"))
                };
            }
        }
        keep_job(&bus.next()?, done);
    }
}

/// Checks that systemd can be reached, before anything is made.
///
/// # Errors
/// This host was not booted with systemd, or the user has no manager.
pub fn must_be_reachable(manager: Manager, environment: &Environment) -> Result<()> {
    sockets(manager, environment).map(drop)
}

/// Checks that systemd answers our greeting.
///
/// # Errors
/// Those of `must_be_reachable`, and no socket answers in time.
pub fn must_answer(manager: Manager, environment: &Environment) -> Result<()> {
    Bus::connect(&sockets(manager, environment)?, limits::ANSWER).map(drop)
}

fn connect(manager: Manager, environment: &Environment) -> Result<Bus> {
    let connected = Bus::connect(&sockets(manager, environment)?, limits::SYSTEMD);
    match manager {
        Manager::System => connected,
        Manager::User => connected.context("no user manager of systemd"),
    }
}

fn call_start(bus: &mut Bus, unit: &Unit, pid: i32, properties: &[Property]) -> Result<u32> {
    let name = UnitName::from(unit);
    let mut list: Vec<(&str, Variant<'_>)> = vec![
        ("Description", Variant::from(format!("coracle container {}", unit.name))),
        ("DefaultDependencies", Variant::from(false)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("CPUAccounting", Variant::from(true)),
        ("IOAccounting", Variant::from(true)),
        ("MemoryAccounting", Variant::from(true)),
        ("TasksAccounting", Variant::from(true)),
    ];
    if name.is_slice() {
        list.push(("Wants", Variant::from(vec![unit.slice.as_str()])));
    } else {
        list.push(("Slice", Variant::from(unit.slice.as_str())));
        list.push(("Delegate", Variant::from(true)));
        list.push(("PIDs", Variant::from(vec![u32::try_from(pid)?])));
    }
    for property in properties {
        list.push(with_variant(property)?);
    }
    let no_more: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    bus.call(SYSTEMD, manager("StartTransientUnit"), &(unit.name.as_str(), "replace", list, no_more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resources::unit::PropertyValue;

    #[test]
    fn a_kept_value_that_is_refused_does_not_fail_the_update() {
        let property = |name: &str, need| Property { name: name.to_owned(), value: PropertyValue::Uint64(7), need };
        let (requested, may) = ([property("TasksMax", Need::Must)], [property("MemoryZSwapMax", Need::May)]);
        let kept = [property("CPUQuotaPerSecUSec", Need::Must)];
        let unit = UnitName { name: "a.scope".to_owned(), manager: Manager::System };
        let unknown = Some((UNKNOWN_PROPERTY, "Cannot set it"));
        let invalid = Some(("org.freedesktop.DBus.Error.InvalidArgs", "CPUQuotaPerSecUSec= value out of range"));
        let set = |answers: Vec<_>, requested: &[Property], kept: &[Property]| {
            let (mut bus, systemd) = super::super::bus::answering(answers);
            let result = set_on(&mut bus, &unit, requested, kept).map(|refused| refused.map(|error| error.to_string()));
            let names = ["TasksMax", "MemoryZSwapMax", "CPUQuotaPerSecUSec"];
            let calls = systemd.join().unwrap().into_iter().map(|(call, body)| {
                names.iter().filter(|name| body.contains(*name)).fold(call, |call, name| call + " " + name)
            });
            (result.map_err(|error| error.to_string()), calls.collect::<Vec<_>>())
        };
        let said = "systemd: set properties of \"a.scope\": CPUQuotaPerSecUSec= value out of range \
            (org.freedesktop.DBus.Error.InvalidArgs)";
        let (all, own) = ("SetUnitProperties TasksMax CPUQuotaPerSecUSec", "SetUnitProperties TasksMax");
        let one = |calls: &[&str]| calls.iter().map(|call| (*call).to_owned()).collect::<Vec<_>>();
        assert_eq!(set(vec![None, None], &requested, &kept), (Ok(None), one(&[all, "Ping"])));
        let result = set(vec![invalid, None, None], &requested, &kept);
        assert_eq!(result, (Ok(Some(said.to_owned())), one(&[all, own, "Ping"])));
        assert_eq!(set(vec![invalid], &[], &kept).0, Ok(Some(said.to_owned())));
        assert_eq!(set(vec![invalid, invalid], &requested, &kept), (Err(said.to_owned()), one(&[all, own])));
        // A property that an older systemd does not know is left out without a warning.
        assert_eq!(set(vec![unknown, None, None], &[requested[0].clone(), may[0].clone()], &[]).0, Ok(None));
        assert_eq!(set(vec![unknown], &may, &[]).0, Ok(None));
        // The name of the error counts, and not its text.
        let text = Some(("org.freedesktop.DBus.Error.AccessDenied", "property"));
        assert!(set(vec![text], &may, &[]).0.unwrap_err().contains("AccessDenied"));
    }
}
