//! A plan as a list of lines: `explain` prints them, and golden plans contain them.

use std::fmt;

use serde_json::{Value, json};

use super::finished::{
    IdMaps, Mapped, Mapper, NetDevice, Opening, Plan, PlannedCgroup, RuntimeHooks, TimeOffset, Writer,
};
use super::resctrl::ResctrlGroup;
use super::resources::{Delegated, Write};
use super::step::{Rlimit, Step, What};
use crate::config::At;
use crate::host::IdMap;
use crate::sys::mount::Reach;
use crate::sys::sched::SchedAttr;
use crate::wire::Request;

/// One line of a plan.
///
/// ```
/// use libcontainer::{Bundle, CgroupUse};
///
/// let lines = Bundle::read("examples/bundle")?.explain(CgroupUse::Own)?.lines();
/// let clone = lines.iter().find(|line| line.what == "clone").expect("each plan has one");
/// assert_eq!((clone.process, clone.from.as_str()), ("runtime", "linux.namespaces"));
/// println!("{}: {}", clone.act, clone.fields);
/// # Ok::<(), libcontainer::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The process that does it: `runtime`, `bridge` or `init`; in a restore also `criu`.
    pub process: &'static str,
    /// The action, in a word or two of a man page. One action always has the same words.
    pub what: &'static str,
    /// The same with its arguments, for people.
    pub act: String,
    /// The arguments as a JSON object, for programs.
    pub fields: Value,
    /// The property or rule that it comes from.
    pub from: String,
}

/// A line for an action of the runtime: what, act, fields, origin.
type RuntimeAction = (&'static str, String, Value, String);

impl Plan {
    /// The whole plan, in the order in which it happens.
    pub fn lines(&self) -> Vec<Line> {
        let runtime = |(what, act, fields, from): RuntimeAction| Line { process: "runtime", what, act, fields, from };
        let mut lines: Vec<_> = self.before_clone().into_iter().map(runtime).collect();
        for step in &self.bridge {
            lines.push(self.line("bridge", step));
        }
        for step in &self.init {
            lines.push(self.line("init", step));
            if let What::Request(request) = &step.what {
                lines.extend(self.answers(*request).into_iter().map(|(act, fields, at)| Line {
                    process: "runtime",
                    what: "answer",
                    act,
                    fields,
                    from: at.to_string(),
                }));
            }
        }
        if let Some((at, path)) = &self.pidfd_receiver {
            let act = format!("send a pidfd of init to {}", path.display());
            lines.push(runtime(("send", act, json!({"path": path}), at.to_string())));
        }
        for (at, path) in &self.hook_files {
            let act = format!("append the output of its hooks to {}", path.display());
            lines.push(runtime(("append", act, json!({"path": path}), at.to_string())));
        }
        for (at, count) in &self.later_hooks {
            lines.push(runtime(("hooks", run_hooks(at, *count), json!({"count": count}), at.to_string())));
        }
        lines
    }

    fn line(&self, process: &'static str, step: &Step) -> Line {
        let act = match (&step.what, &self.filter) {
            (What::Seccomp(_), Some(filter)) => format!("{}, {filter}", step.what),
            (what, _) => what.to_string(),
        };
        Line { process, what: step.what.name(), act, fields: step.what.fields(), from: step.from.to_string() }
    }

    /// The actions of the runtime before the clone, and the clone.
    fn before_clone(&self) -> Vec<RuntimeAction> {
        let mut acts: Vec<RuntimeAction> = Vec::new();
        for (n, (opening, at)) in self.openings.iter().enumerate() {
            let path = opening.path().map(|path| path.to_string_lossy());
            acts.push(("open", format!("open {opening} #{n}"), json!({"slot": n, "path": path}), at.to_string()));
        }
        if let Some(PlannedCgroup { placement, writes, devices }) = &self.cgroup {
            let directories: Vec<_> = placement.directories.iter().map(|cgroup| &cgroup.directory).collect();
            let lines = placement.acts().into_iter();
            acts.extend(
                lines.map(|act| ("cgroup", act, json!({"directories": directories}), "linux.cgroupsPath".to_owned())),
            );
            for Write { file, value, at, .. } in writes {
                let fields = json!({"file": file, "value": value});
                acts.push(("write", format!("write {file} = {value}"), fields, at.to_string()));
            }
            let lines = devices.acts().into_iter();
            acts.extend(lines.map(|act| ("devices", act, json!({}), "linux.resources.devices".to_owned())));
        }
        let groups = self.resctrl.iter().flat_map(ResctrlGroup::acts);
        acts.extend(groups.map(|(act, from)| ("resctrl", act, json!({}), from)));
        if let Some(score) = self.oom_score_adj {
            acts.push(("oom_score_adj", score.to_string(), json!({}), "process.oomScoreAdj".to_owned()));
        }
        if let Some((at, cpus)) = &self.initial_affinity {
            let act = format!("sched_setaffinity {cpus:x?}");
            acts.push(("sched_setaffinity", act, json!({"cpus": cpus}), at.to_string()));
        }
        let new = self.clone_args.new;
        acts.push(("clone", format!("clone {new}"), json!({"flags": new.0}), "linux.namespaces".to_owned()));
        for directory in self.resctrl.iter().flat_map(ResctrlGroup::joined) {
            let act = format!("move init to {}", directory.display());
            acts.push(("move", act, json!({"directory": directory}), "linux.intelRdt".to_owned()));
        }
        acts
    }

    /// The actions of the runtime process when init sends a request.
    fn answers(&self, request: Request) -> Vec<(String, Value, At)> {
        match request {
            Request::IdMaps => self.id_maps.iter().flat_map(maps).collect(),
            Request::TimeOffsets => {
                let act = |o: &TimeOffset| format!("write timens_offsets = {} {} {}", o.clock, o.secs, o.nanosecs);
                let fields = |o: &TimeOffset| json!({"clock": o.clock, "secs": o.secs, "nanosecs": o.nanosecs});
                self.time_offsets.iter().map(|offset| (act(offset), fields(offset), offset.at.clone())).collect()
            }
            Request::Hooks(_) => {
                let act = |hooks: &RuntimeHooks| run_hooks(&hooks.at, hooks.list.len());
                let fields = |hooks: &RuntimeHooks| json!({"count": hooks.list.len()});
                self.runtime_hooks.iter().map(|hooks| (act(hooks), fields(hooks), hooks.at.clone())).collect()
            }
            Request::Limits => {
                let act = |limit: &Rlimit| format!("prlimit {} {}:{}", limit.name, limit.soft, limit.hard);
                let fields = |limit: &Rlimit| json!({"resource": limit.name, "soft": limit.soft, "hard": limit.hard});
                self.limits.iter().map(|limit| (act(limit), fields(limit), limit.at.clone())).collect()
            }
            Request::Tree(slot) => match self.openings.get(slot as usize) {
                Some((Opening::Source(_, _, Some(mapped)), at)) => {
                    vec![(id_mapped(slot, mapped), json!({"slot": slot}), at.clone())]
                }
                _ => Vec::new(),
            },
            Request::NetDevices => {
                let act = |device: &NetDevice| format!("move {}, name it {}", device.name, device.inside);
                let fields = |device: &NetDevice| json!({"name": device.name, "inside": device.inside});
                self.net_devices.iter().map(|device| (act(device), fields(device), device.at.clone())).collect()
            }
            Request::Cgroup => {
                let owner = self.cgroup.iter().filter_map(|cgroup| cgroup.placement.owner.as_ref());
                let act = |uid| format!("chown cgroup to uid {uid} of the container");
                owner.map(|owner| (act(owner.uid), json!({"uid": owner.uid}), owner.at.clone())).collect()
            }
            Request::Delegate => {
                let act = |delegated: &Delegated| {
                    format!("own cgroup {} for uid {} of the container", delegated.below.display(), delegated.owner.uid)
                };
                let fields = |delegated: &Delegated| json!({"below": delegated.below, "uid": delegated.owner.uid});
                let delegated = self.cgroup.iter().filter_map(|cgroup| cgroup.placement.delegated.as_ref());
                delegated.map(|one| (act(one), fields(one), one.owner.at.clone())).collect()
            }
            Request::Scheduler => {
                let what = |attr: &SchedAttr| What::Scheduler(*attr);
                let act = |attr: &SchedAttr| (what(attr).to_string(), what(attr).fields());
                self.scheduler.iter().map(|(attr, at)| (act(attr).0, act(attr).1, at.clone())).collect()
            }
            Request::SeccompListener | Request::MapIds(_) | Request::CheckViews | Request::Kept(_) => Vec::new(),
        }
    }
}

fn id_mapped(slot: u32, mapped: &Mapped) -> String {
    let below = if mapped.reach == Reach::Tree { ", and below" } else { "" };
    match mapped.by {
        Mapper::Own => format!("idmap #{slot}{below} by the user namespace of init"),
        Mapper::Other(namespace) => format!("idmap #{slot}{below} by {namespace}"),
    }
}

fn maps(maps: &IdMaps) -> Vec<(String, Value, At)> {
    let lines = |file: &str, property: &'static str, list: &[IdMap], by: Writer| -> Vec<_> {
        let by = match by {
            Writer::Program => format!(" by the program new{}", file.replace('_', "")),
            Writer::Root | Writer::User => String::new(),
        };
        let act = |map: &IdMap| format!("write {file} = {} {} {}{by}", map.container, map.host, map.size);
        let fields =
            |map: &IdMap| json!({"file": file, "container": map.container, "host": map.host, "size": map.size});
        list.iter().enumerate().map(|(n, map)| (act(map), fields(map), At::new(property).index(n))).collect()
    };
    let mut all = lines("uid_map", "linux.uidMappings", &maps.uids, maps.uids_by);
    if maps.gids_by == Writer::User {
        all.push((
            "write setgroups = deny".to_owned(),
            json!({"file": "setgroups", "value": "deny"}),
            At::new("linux.gidMappings"),
        ));
    }
    all.extend(lines("gid_map", "linux.gidMappings", &maps.gids, maps.gids_by));
    all
}

/// `at` is the place of the list in config.json. Its last word is the name of the hooks.
pub(super) fn run_hooks(at: &At, count: usize) -> String {
    format!("run {count} {} hooks", at.as_str().rsplit('.').next().unwrap_or_default())
}

/// Number, process, action and property, in columns.
pub fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.act.chars().count()).filter(|n| *n <= 72).max().unwrap_or(0);
    let row = |(n, Line { process, act, from, .. }): (usize, &Line)| {
        format!("{:3} {process:7} {act:width$}  {from}\n", n + 1)
    };
    lines.iter().enumerate().map(row).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&table(&self.lines()))
    }
}
