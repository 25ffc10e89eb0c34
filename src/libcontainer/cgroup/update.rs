//! Changes the limits of a running container: all of them, or none.

use std::fs;
use std::path::PathBuf;

use super::files::{must_fit, put};
use super::refusal::undone;
use super::{Cgroup, systemd};
use crate::error::{Error, Result, error};
use crate::plan::resources::unit_properties::{OOM_POLICY, QUOTA_AND_PERIOD, REWRITTEN, device_properties, properties};
use crate::plan::resources::{DeviceAccess, OnFailure, Write};
use crate::sys::errno::in_words;
use crate::sys::kernel_file::keyed_value;

/// The requested changes.
#[derive(Clone, Copy, Debug)]
pub struct LimitChange<'a> {
    /// Limits.
    pub writes: &'a [Write],
    /// Limits that do not change, and are written again. If this fails, it is a warning.
    pub kept: &'a [Write],
    /// The new rules for devices, and the old ones.
    pub devices: Option<&'a [DeviceAccess; 2]>,
}

/// The changes that were made, and the values that undo them.
#[derive(Debug)]
pub struct ChangedLimits<'a> {
    cgroup: &'a Cgroup,
    change: LimitChange<'a>,
    before: Vec<Former>,
    /// Values that could not be written again.
    pub warnings: Vec<Error>,
}

/// A file that systemd writes with its own rounding, and its exact contents before.
#[derive(Debug)]
struct RoundedFile {
    path: PathBuf,
    said: String,
}

impl RoundedFile {
    fn write_back(&self) -> Result<()> {
        // A file that does not exist any more need not be written.
        if fs::read_to_string(&self.path).is_ok_and(|says| says != self.said) {
            let (said, path) = (self.said.trim(), self.path.display());
            put(&self.path, said)
                .map_err(|error| error!("linux.resources: write {said} back to {path}: {}", in_words(&error)))?;
        }
        Ok(())
    }
}

/// A file that a limit was written to, and its contents before.
#[derive(Debug)]
struct Former {
    path: PathBuf,
    said: String,
    /// The value that restores the contents. None if no value does.
    value: Option<String>,
    write: Write,
}

/// The list of devices of version 1 while it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DuringCall {
    /// systemd or the kernel empties it first.
    Empty,
    Kept,
}

impl Cgroup {
    /// Changes the limits. After a failure, the limits are as before.
    ///
    /// # Errors
    /// The property, the file, and the kernel's or systemd's error.
    pub fn change<'a>(&'a self, change: LimitChange<'a>) -> Result<ChangedLimits<'a>> {
        let before = self.before(change.writes.iter().chain(change.kept));
        let mut changed = ChangedLimits { cgroup: self, change, before, warnings: Vec::new() };
        for write in change.writes {
            if let (Some(limit), Some(directory)) = (write.unless_used, self.directory_of(&write.controller)) {
                must_fit(write, limit, directory).map_err(|refusal| refusal.error)?;
            }
        }
        let done = changed.write();
        match done {
            Ok(()) => Ok(changed),
            Err(error) => Err(undone(error, changed.undo())),
        }
    }

    fn before<'w>(&self, writes: impl Iterator<Item = &'w Write>) -> Vec<Former> {
        let mut all = Vec::new();
        for write in writes {
            let Some(directory) = self.directory_of(&write.controller) else { continue };
            let mut look = |file: &str, value: &str| {
                let path = directory.join(file);
                if let Ok(said) = fs::read_to_string(&path) {
                    let value = former(file, value, &said);
                    all.push(Former { path, said, value, write: write.clone() });
                }
            };
            look(&write.file, &write.value);
            if let OnFailure::Instead(file, value) = &write.on_failure {
                look(file, value);
            }
        }
        all
    }

    /// systemd may write the limits of a unit again at any time, with its own rounding. So we send it the new limits first,
    /// and write the exact values after that. On version 1 it denies all devices before it allows some again. Returns the
    /// values that can be written back only after other values have changed, and systemd's error about `kept`.
    fn tell_systemd(
        &self,
        writes: &[Write],
        kept: &[Write],
        devices: Option<&DeviceAccess>,
    ) -> Result<(Vec<RoundedFile>, Option<Error>)> {
        let Some(unit) = self.unit() else { return Ok((Vec::new(), None)) };
        let known = |writes: &[Write]| {
            let mut list = properties(&self.with_quota_and_period(writes));
            list.retain(|property| property.name != OOM_POLICY);
            list
        };
        let mut requested = known(writes);
        let mut kept = known(kept);
        kept.retain(|property| requested.iter().all(|there| there.name != property.name));
        requested.extend(devices.map(device_properties).unwrap_or_default());
        if requested.is_empty() && kept.is_empty() {
            return Ok((Vec::new(), None));
        }
        let exact = self.rounded_files();
        let mut refused = None;
        let list = if self.paths.contains_key("devices") { DuringCall::Empty } else { DuringCall::Kept };
        self.unseen(list, || {
            refused = systemd::set_properties(unit, &requested, &kept, &self.environment)?;
            Ok(())
        })?;
        Ok((exact.into_iter().filter(|exact| exact.write_back().is_err()).collect(), refused))
    }

    /// Writes back the files that systemd has rounded, and that `writes` does not contain.
    fn write_back_rounded(&self, rounded: &[RoundedFile], writes: &[Write]) -> Result<()> {
        let written = |exact: &RoundedFile| {
            writes.iter().any(|write| {
                self.directory_of(&write.controller).is_some_and(|directory| directory.join(&write.file) == exact.path)
            })
        };
        rounded.iter().filter(|exact| !written(exact)).try_for_each(RoundedFile::write_back)
    }

    /// The contents of the files that systemd writes again.
    fn rounded_files(&self) -> Vec<RoundedFile> {
        let all = self.paths.values().flat_map(|directory| REWRITTEN.map(|file| directory.join(file)));
        // Each version, and each controller, has only some of them.
        all.filter_map(|path| fs::read_to_string(&path).ok().map(|said| RoundedFile { path, said })).collect()
    }

    /// For systemd, a quota is a share of the CPU. Version 1 has two files for it: if one of them is written, the other
    /// gets its old value again.
    fn with_quota_and_period(&self, writes: &[Write]) -> Vec<Write> {
        let mut all = writes.to_vec();
        let written = |file: &str| writes.iter().find(|write| write.file == file);
        let [quota, period] = QUOTA_AND_PERIOD;
        for (there, missing) in [(quota, period), (period, quota)] {
            let Some(write) = written(there).filter(|_| written(missing).is_none()) else { continue };
            let said =
                self.directory_of(&write.controller).map(|directory| fs::read_to_string(directory.join(missing)));
            if let Some(Ok(said)) = said {
                all.push(Write { file: missing.to_owned(), value: said.trim().to_owned(), ..write.clone() });
            }
        }
        all
    }

    /// Calls `act`. If the list of devices is empty during the call, freezes the processes for that time: they must not miss a
    /// device that stays allowed.
    fn unseen(&self, list: DuringCall, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let frozen = list == DuringCall::Empty && !self.is_frozen()? && self.freeze().is_ok();
        let done = act();
        if frozen {
            self.thaw()?;
        }
        done
    }

    fn change_devices(&self, access: &DeviceAccess) -> Result<()> {
        let allows_all = |directory: &PathBuf| {
            fs::read_to_string(directory.join("devices.list")).is_ok_and(|list| list.starts_with('a'))
        };
        let list = match access {
            // Only if the old list allowed everything, the kernel's list is emptied first.
            DeviceAccess::List(_) if self.paths.get("devices").is_some_and(allows_all) => DuringCall::Empty,
            DeviceAccess::List(_)
            | DeviceAccess::Program(_)
            | DeviceAccess::Unrestricted
            | DeviceAccess::Missing(_) => DuringCall::Kept,
        };
        self.unseen(list, || self.restrict(access).map_err(|refusal| refusal.error))
    }
}

impl ChangedLimits<'_> {
    /// Writes all that was requested.
    fn write(&mut self) -> Result<()> {
        let LimitChange { writes, kept, devices } = self.change;
        let all = [writes, kept].concat();
        let (rounded, refused) = self.cgroup.tell_systemd(writes, kept, devices.map(|[new, _]| new))?;
        self.warnings.extend(refused);
        self.cgroup.apply(writes)?;
        let again = kept.iter().map(|write| self.cgroup.apply_one(write));
        self.warnings.extend(again.filter_map(Result::err).map(|refusal| refusal.error));
        self.cgroup.write_back_rounded(&rounded, &all)?;
        devices.map_or(Ok(()), |[new, _]| self.cgroup.change_devices(new))
    }

    /// Restores all values.
    ///
    /// # Errors
    /// The values that could not be restored.
    pub fn undo(self) -> Result<()> {
        let formerly = self.before.iter().filter_map(|before| {
            let value = before.value.clone()?;
            let file = before.path.file_name()?.to_str()?.to_owned();
            Some(Write { file, value, on_failure: OnFailure::Fail, unless_used: None, ..before.write.clone() })
        });
        let by_systemd =
            self.cgroup.tell_systemd(&formerly.collect::<Vec<_>>(), &[], self.change.devices.map(|[_, old]| old));
        // Values limit each other: if the kernel refuses one order, it accepts the other.
        let refused: Vec<_> = self.before.iter().rev().filter(|before| before.write_back().is_err()).collect();
        let refused = refused.into_iter().map(Former::write_back).filter_map(Result::err).next();
        let devices = self.change.devices.map_or(Ok(()), |[_, old]| self.cgroup.change_devices(old));
        let exact = by_systemd.and_then(|(rounded, _)| self.cgroup.write_back_rounded(&rounded, self.change.writes));
        exact.and(refused.map_or(Ok(()), Err)).and(devices)
    }
}

impl Former {
    fn write_back(&self) -> Result<()> {
        let Some(value) = &self.value else { return Ok(()) };
        if fs::read_to_string(&self.path).is_ok_and(|says| says == self.said) {
            return Ok(());
        }
        let at = &self.write.at;
        put(&self.path, value)
            .map_err(|error| error!("{at}: write {value} to {}: {}", self.path.display(), in_words(&error)))
    }
}

/// The value that restores `said`, the contents of a file, after `value` was written to it.
fn former(file: &str, value: &str, said: &str) -> Option<String> {
    let said = said.trim_end_matches('\n');
    let value_of = |name: &str| keyed_value(said, name);
    let name = value.split(' ').next().unwrap_or_default();
    let of_name = |value: &str| format!("{name} {value}");
    match file {
        "memory.oom_control" => value_of("oom_kill_disable").map(str::to_owned),
        "io.max" => Some(of_name(value_of(name).unwrap_or("rbps=max wbps=max riops=max wiops=max"))),
        "rdma.max" => Some(of_name(value_of(name).unwrap_or("hca_handle=max hca_object=max"))),
        "net_prio.ifpriomap" => value_of(name).map(of_name),
        "io.weight" | "io.bfq.weight" if name.contains(':') => Some(of_name(value_of(name).unwrap_or("default"))),
        "io.weight" | "io.bfq.weight" => value_of("default").map(str::to_owned),
        _ if name.contains(':') => Some(of_name(value_of(name).unwrap_or("0"))),
        // An idle group has no weight that could be set again.
        "cpu.weight" if said == "0" => None,
        // For the kernel this is an empty line. An empty write never reaches it.
        _ if said.is_empty() => Some("\n".to_owned()),
        _ if said.contains('\n') => None,
        _ => Some(said.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_to_say_again_what_it_said() {
        let cases = [
            ("pids.max", "7", "max\n", Some("max")),
            ("cpu.max", "7 100000", "max 100000\n", Some("max 100000")),
            ("cpuset.cpus", "0", "\n", Some("\n")),
            ("cpu.weight", "5", "0\n", None),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", Some("0")),
            ("io.max", "8:0 rbps=5", "8:16 rbps=1\n8:0 rbps=2 wbps=max\n", Some("8:0 rbps=2 wbps=max")),
            ("io.max", "8:0 rbps=5", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            ("io.weight", "default 5", "default 100\n8:0 7\n", Some("100")),
            ("io.weight", "8:0 5", "default 100\n", Some("8:0 default")),
            ("io.bfq.weight", "5", "default 100\n", Some("100")),
            ("blkio.throttle.read_bps_device", "8:0 5", "", Some("8:0 0")),
            ("blkio.throttle.read_bps_device", "8:0 5", "8:0 9\n", Some("8:0 9")),
            ("rdma.max", "mlx5 hca_handle=5", "", Some("mlx5 hca_handle=max hca_object=max")),
            ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 1\n", Some("lo 0")),
        ];
        for (file, value, said, expected) in cases {
            assert_eq!(former(file, value, said).as_deref(), expected, "{file} {said:?}");
        }
    }

    #[test]
    fn a_value_that_systemd_rounds_is_written_again_or_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cpu.max");
        fs::write(&path, "1000 100000\n").unwrap();
        let cgroup = Cgroup { paths: [(String::new(), directory.path().to_path_buf())].into(), ..Cgroup::default() };
        let rounded = [RoundedFile { path: path.clone(), said: "1234 100000\n".to_owned() }];
        cgroup.write_back_rounded(&rounded, &[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), "1234 100000");
        // A file that refuses every value.
        let refusing = [RoundedFile { path: "/proc/version".into(), said: "7\n".to_owned() }];
        let said = cgroup.write_back_rounded(&refusing, &[]).unwrap_err().to_string();
        assert!(said.starts_with("linux.resources: write 7 back to /proc/version: "), "{said}");
        // A value that does not have its expected contents.
        fs::write(&path, "5 5\n").unwrap();
        let write = Write {
            controller: String::new(),
            file: "cpu.max".to_owned(),
            value: "5 5".to_owned(),
            on_failure: OnFailure::Fail,
            unless_used: None,
            at: crate::config::At::new("place"),
        };
        cgroup.write_back_rounded(&rounded, &[write]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "5 5\n");
    }

    #[test]
    fn a_refused_file_resets_the_others() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pids.max"), "5").unwrap();
        let cgroup = Cgroup { paths: [(String::new(), directory.path().to_path_buf())].into(), ..Cgroup::default() };
        let write = |file: &str, value: &str| Write {
            controller: String::new(),
            file: file.to_owned(),
            value: value.to_owned(),
            on_failure: OnFailure::Fail,
            unless_used: None,
            at: crate::config::At::new("place"),
        };
        let writes = [write("pids.max", "7"), write("nothing.max", "7")];
        let change = LimitChange { writes: &writes, kept: &[], devices: None };
        let said = cgroup.change(change).unwrap_err().to_string();
        assert!(said.starts_with("place: "), "{said}");
        assert_eq!(fs::read_to_string(directory.path().join("pids.max")).unwrap(), "5");
        let changed = cgroup.change(LimitChange { writes: &writes[..1], kept: &[], devices: None }).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("pids.max")).unwrap(), "7");
        changed.undo().unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("pids.max")).unwrap(), "5");
    }

    #[test]
    fn a_kept_value_that_is_refused_is_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pids.max"), "5").unwrap();
        let cgroup = Cgroup { paths: [(String::new(), directory.path().to_path_buf())].into(), ..Cgroup::default() };
        let write = |file: &str| Write {
            controller: String::new(),
            file: file.to_owned(),
            value: "7".to_owned(),
            on_failure: OnFailure::Fail,
            unless_used: None,
            at: crate::config::At::new("place"),
        };
        let (writes, kept) = ([write("pids.max")], [write("cpu.max")]);
        let changed = cgroup.change(LimitChange { writes: &writes, kept: &kept, devices: None }).unwrap();
        let said: Vec<_> = changed.warnings.iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].starts_with("place: "), "{said:?}");
        assert_eq!(fs::read_to_string(directory.path().join("pids.max")).unwrap(), "7");
    }
}
