//! The steps of `restore`, as `explain --image-path` prints them: those of the runtime, and of CRIU, which makes the processes.

use serde_json::{Value, json};

use super::explain::{Line, run_hooks};
use super::finished::{Plan, PlannedCgroup, RuntimeHooks};
use super::images::{Filled, Named, containing_mount};
use super::resctrl::ResctrlGroup;
use super::resources::Write;
use super::step::What;

/// The contents of images that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumped {
    /// The number of processes.
    pub processes: usize,
    /// The names of the host's mounts, and their places in the container.
    pub external: Vec<(String, String)>,
    /// The standard streams that are replaced: the number, and the name in the images.
    pub streams: Vec<(usize, String)>,
    /// Mounts of the host that the config does not have: the name, and the path on the host.
    pub foreign: Vec<(String, String)>,
}

/// The lines, in order.
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, process: &'static str, what: &'static str, act: String, fields: Value, from: &str) {
        self.0.push(Line { process, what, act, fields, from: from.to_owned() });
    }

    fn runtime(&mut self, what: &'static str, act: impl Into<String>, fields: Value, from: &str) {
        self.add("runtime", what, act.into(), fields, from);
    }

    fn criu(&mut self, what: &'static str, act: impl Into<String>, fields: Value, from: &str) {
        self.add("criu", what, act.into(), fields, from);
    }
}

const IMAGES: &str = "Images::new";
const MOUNTS: &str = "mounts";

impl Plan {
    /// The steps of `restore` with these images. `self` is the plan of `create` for the same bundle.
    pub fn restore_lines(&self, dumped: &Dumped) -> Vec<Line> {
        let mut lines = Lines(Vec::new());
        let count = dumped.processes;
        let plural = if count == 1 { "" } else { "es" };
        lines.runtime("read", "read the images", json!({"processes": count}), IMAGES);
        self.before_criu(&mut lines);
        for joined in self.joined_namespaces() {
            let (name, path) = (joined.name, joined.path.display().to_string());
            let as_key = joined.key().map(|key| format!(" as {key}")).unwrap_or_default();
            let fields = json!({"namespace": name, "path": path, "key": joined.key()});
            lines.criu("namespace", format!("join {name} namespace {path}{as_key}"), fields, "linux.namespaces");
        }
        lines.criu("namespaces", "make the namespaces of the images", json!({}), IMAGES);
        self.in_namespaces(&mut lines);
        self.mounts_of_the_host(&mut lines, dumped);
        for (number, name) in &dumped.streams {
            let act = match name.strip_prefix("null:") {
                Some(name) => format!("replace {name} by /dev/null"),
                None => format!("replace {name} by descriptor {number} of the caller"),
            };
            lines.criu("descriptor", act, json!({"descriptor": number, "name": name}), "descriptors.json");
        }
        lines.criu("processes", format!("make {count} process{plural}"), json!({"count": count}), IMAGES);
        self.before_they_run(&mut lines);
        lines.criu("resume", "the processes run", json!({}), IMAGES);
        lines.0
    }

    fn before_criu(&self, lines: &mut Lines) {
        let points = self.mount_points();
        for (n, point) in points.iter().enumerate() {
            // CRIU fills the mount above with its contents
            if containing_mount(&points, n).is_some_and(|above| above.filled == Filled::Yes) {
                continue;
            }
            let path = format!("/{}", point.target.path.to_string_lossy());
            lines.runtime("mount point", format!("make {path} if it is missing"), json!({"path": path}), MOUNTS);
        }
        if let Some(PlannedCgroup { placement, .. }) = &self.cgroup {
            let directories: Vec<_> = placement.directories.iter().map(|cgroup| &cgroup.directory).collect();
            for act in placement.acts() {
                lines.runtime("cgroup", act, json!({"directories": directories}), "linux.cgroupsPath");
            }
        }
        for (act, from) in self.resctrl.iter().flat_map(ResctrlGroup::acts) {
            lines.runtime("resctrl", act, json!({}), &from);
        }
        lines.runtime("bind", "bind the root in a new mount namespace, for criu", json!({}), "root.path");
        if self.id_maps.is_some() {
            let act = "let the processes of the user namespace read the images (an overlay)";
            lines.runtime("overlay", act, json!({}), "linux.uidMappings");
        }
        lines.runtime("criu", "start criu in the cgroup", json!({}), IMAGES);
    }

    /// What the runtime does when the first process exists, and is empty.
    fn in_namespaces(&self, lines: &mut Lines) {
        if let Some(step) = self.init.iter().find(|step| step.what == What::Loopback) {
            lines.runtime("loopback", "bring the loopback up", json!({}), &step.from.to_string());
        }
        for RuntimeHooks { at, list, .. } in &self.runtime_hooks {
            lines.runtime("hooks", run_hooks(at, list.len()), json!({"count": list.len()}), at.as_str());
        }
    }

    fn mounts_of_the_host(&self, lines: &mut Lines, dumped: &Dumped) {
        for mount in self.host_binds() {
            let (path, name) = (mount.written_path(), mount.name(&mount.written_path()));
            // CRIU mounts only what the checkpoint had. All masked files have the same name.
            let by_name = mount.named == Named::Path;
            if !dumped.external.iter().any(|(key, there)| *there == path || by_name && *key == name) {
                continue;
            }
            let source = mount.source.display().to_string();
            let fields = json!({"path": path, "source": source, "name": name});
            lines.criu("mount", format!("bind {source} at {path}"), fields, MOUNTS);
        }
        for (name, path) in &dumped.foreign {
            let fields = json!({"path": name, "source": path, "name": name});
            lines.criu("mount", format!("bind {path} at {name}"), fields, "mounts.json");
        }
    }

    /// What the runtime does when all processes exist, and do not run yet.
    fn before_they_run(&self, lines: &mut Lines) {
        if let Some(PlannedCgroup { placement, writes, devices }) = &self.cgroup {
            for Write { file, value, at, .. } in writes {
                let fields = json!({"file": file, "value": value});
                lines.runtime("write", format!("write {file} = {value}"), fields, at.as_str());
            }
            for act in devices.acts() {
                lines.runtime("devices", act, json!({}), "linux.resources.devices");
            }
            if let Some(owner) = &placement.owner {
                let act = format!("chown cgroup to uid {} of the container", owner.uid);
                lines.runtime("chown", act, json!({"uid": owner.uid}), owner.at.as_str());
            }
        }
        lines.runtime("record", "write state.json", json!({}), IMAGES);
        let is_root = |what: &What| matches!(what, What::Finish { path, .. } if path.as_c_str() == c".");
        if let Some(step) = self.init.iter().find(|step| is_root(&step.what)) {
            lines.runtime("attributes", "make the root read-only again", json!({}), &step.from.to_string());
        }
    }
}
