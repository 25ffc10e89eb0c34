//! The config: the bytes of config.json become typed sections, and each mistake has its place. Runs in the runtime
//! process. Reads no file and does not look at the host.

mod at;
pub mod capability;
mod distance;
pub mod example;
mod fault;
mod forms;
pub mod image_config;
mod mistake;
mod names;
mod object;
mod other_file;
mod places;
mod read;
mod shape;
mod unknown_name;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use at::At;
pub use distance::{distance, is_near};
pub use fault::{Fault, Faults, Warning};
pub use names::{mention_slips, unknown_properties};
pub use object::JsonObject;
#[cfg(feature = "checkpoint")]
pub(crate) use read::{kind, not_json};

/// A parsed config.json: the sections with the types of `oci-spec`, and messages for its author.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The document.
    pub spec: Spec,
    /// Warnings.
    pub warnings: Vec<Warning>,
    /// Unknown properties whose names are almost those of properties that confine the process.
    pub slips: Vec<Warning>,
    /// Mistakes of form. The wrong pieces were removed from `spec`, so that a plan can check the rest, and all mistakes
    /// are reported together (`Config::beside`). No plan is made from such a config.
    pub faults: Faults,
}

impl Config {
    /// Removes from the plan's mistakes those that exist only because pieces of the document were removed.
    pub(crate) fn beside(&self, mut found: Faults) -> Faults {
        let torn: Vec<_> = self.faults.iter().map(|fault| fault.at.before_array()).collect();
        found.retain(|fault| !torn.iter().any(|torn| torn.touches(&fault.at)));
        found.extend(self.faults.clone());
        found
    }

    /// Many checks depend on the namespaces, and on the ids that they map. False if a mistake is in one of them.
    pub(crate) fn namespaces_are_known(&self) -> bool {
        if self.faults.is_empty() {
            return true;
        }
        let shaken = ["linux.namespaces", "linux.uidMappings", "linux.gidMappings"].map(At::new);
        !self.faults.iter().any(|fault| shaken.iter().any(|shaken| shaken.touches(&fault.at)))
    }
}

/// The supported version of the specification.
pub const SPEC_VERSION: &str = "1.3.0";

/// Parses a config.json. A valid one is read once. Only an invalid one is read again, piece by piece, and its mistakes
/// are in `Config::faults`.
///
/// # Errors
/// Nothing of it can be read, or it is another kind of file.
pub fn load(bytes: &[u8]) -> Result<Config, Faults> {
    let read = read(bytes);
    let is_one = |config: &Config| config.spec.process().is_some() || config.spec.root().is_some();
    if read.as_ref().is_ok_and(|config| config.faults.is_empty() && is_one(config)) {
        return read;
    }
    match other_file::kind(bytes) {
        Some(said) => Err(Faults::one(At::default(), said)),
        None => read,
    }
}

fn read(bytes: &[u8]) -> Result<Config, Faults> {
    let read::Readable { value: mut spec, mut warnings, slips, mut faults } =
        read::typed::<Spec>(bytes, &At::default())?;
    forget_absent_pids_limit(bytes, &mut spec);
    warnings.extend(one_process(&spec));
    if let Some(warning) = short_version(spec.version()) {
        warnings.push(warning);
    } else if let Some(problem) = version_problem(spec.version()) {
        faults.add(At::new("ociVersion"), problem);
    }
    Ok(Config { spec, warnings, slips, faults })
}

impl Config {
    /// Warnings about properties that other runtimes treat differently.
    pub fn remarks(&self) -> Vec<Warning> {
        let mut remarks = Vec::new();
        let mut remark = |at: &str, said: &str| remarks.push(Warning { at: At::new(at), said: said.to_owned() });
        let capabilities = At::new("process.capabilities");
        let torn = self.faults.iter().any(|fault| capabilities.touches(&fault.at));
        if !torn && self.spec.process().as_ref().is_some_and(|process| process.capabilities().is_none()) {
            remark("process.capabilities", "is missing: the process has no capabilities (runc since 1.3 keeps all)");
        }
        remarks
    }
}

/// With this limit, fork(2) fails. Users of other runtimes do not expect that.
fn one_process(spec: &Spec) -> Option<Warning> {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let limited = resources.is_some_and(|resources| resources.pids().is_some_and(|pids| pids.limit() == 0));
    let said = "is 0, the smallest limit: one process (runc before 1.4 and crun set no limit)".to_owned();
    limited.then(|| Warning { at: At::new("linux.resources.pids.limit"), said })
}

/// `oci-spec` reads a missing pids limit as 0, which is the smallest limit. It means: no limit (SPEC:
/// config-linux.md#pids).
fn forget_absent_pids_limit(bytes: &[u8], spec: &mut Spec) {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources.filter(|resources| resources.pids().is_some_and(|pids| pids.limit() == 0)) else {
        return;
    };
    // One property on the path to the limit at each level. All others are skipped.
    #[derive(serde::Deserialize)]
    struct Document {
        linux: Option<Linux>,
    }
    #[derive(serde::Deserialize)]
    struct Linux {
        resources: Option<Resources>,
    }
    #[derive(serde::Deserialize)]
    struct Resources {
        pids: Option<Pids>,
    }
    #[derive(serde::Deserialize)]
    struct Pids {
        limit: Option<serde::de::IgnoredAny>,
    }
    // If it cannot be read again, the limit stays.
    let Ok(text) = serde_json::from_slice::<Document>(bytes) else { return };
    let pids = text.linux.and_then(|linux| linux.resources).and_then(|resources| resources.pids);
    if pids.is_none_or(|pids| pids.limit.is_none()) {
        resources.set_pids(None);
    }
}

/// Parses a process object, as in `exec --process`. `at` is the place for its mistakes.
///
/// # Errors
/// All mistakes, each with its place.
pub fn load_process(bytes: &[u8], at: &At) -> Result<(Process, Vec<Warning>), Faults> {
    let object = read::typed::<Process>(bytes, at);
    let object = object.and_then(|read| read.faults.into_result((read.value, read.warnings)));
    let (process, mut warnings) = object.map_err(|faults| match other_file::instead_of_object(bytes, at) {
        Some(said) => Faults::one(at.clone(), said),
        None => faults,
    })?;
    warnings.extend(names::unknown_properties_at(bytes, at.clone()));
    Ok((process, warnings))
}

/// Parses a resources object, as in `update --resources`. Its types are checked, and its text stays. The places are
/// those of `linux.resources`. The warnings are about names that are not properties.
///
/// # Errors
/// All mistakes, each with its place; or it is another kind of file.
pub fn load_resources(bytes: &[u8]) -> Result<(Value, Vec<Warning>), Faults> {
    let at = At::new("linux.resources");
    let read = read::typed::<LinuxResources>(bytes, &at)?;
    let not_json = |error: serde_json::Error| Faults::one(at.clone(), read::not_json(&error));
    let mut value = serde_json::from_slice(bytes).map_err(not_json)?;
    if let Some(said) = other_file::instead_of_object(bytes, &at) {
        return Err(Faults::one(at, said));
    }
    forms::without_nulls(&mut value);
    let mut warnings = read.warnings;
    warnings.extend(names::unknown_properties_at(bytes, at));
    read.faults.into_result((value, warnings))
}

/// Parses the JSON object in the text of an annotation. `at` is the place for its mistakes.
///
/// # Errors
/// All mistakes, each with its place.
pub fn load_annotation<T: DeserializeOwned>(text: &str, at: &At) -> Result<T, Faults> {
    let not_json = |error: serde_json::Error| Faults::one(at.clone(), read::not_json(&error));
    let document = serde_json::from_str(text).map_err(not_json)?;
    let (_, faults) = read::all_mistakes::<T>(document, at, Faults::none())?;
    faults.into_result(())?;
    // ORDER: the document keeps only the last of two properties with one name. The type refuses the second one.
    serde_json::from_str(text).map_err(|error| Faults::one(at.clone(), error.to_string()))
}

/// A version with two numbers, such as 1.0. The specification wants three, but every runtime accepts two.
fn short_version(version: &str) -> Option<Warning> {
    let (major, minor) = version.split_once('.')?;
    let minor: u32 = minor.parse().ok()?;
    let said = format!("\"{version}\" is read as \"{version}.0\": a semantic version has three numbers");
    (matches!(major, "0" | "1") && minor < 1000).then(|| Warning { at: At::new("ociVersion"), said })
}

/// SPEC: config.md#specification-version: semantic versions. The supported major version is 1.
fn version_problem(version: &str) -> Option<String> {
    if version.is_empty() {
        return Some("is missing".to_owned());
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<_> = core.split('.').map(str::parse::<u32>).collect();
    match parts.as_slice() {
        [Ok(1), Ok(_), Ok(_)] => None,
        [Ok(0), Ok(_), Ok(_)] => None,
        [Ok(major), Ok(_), Ok(_)] => Some(format!("version {major} of the specification is not supported (only 1.x)")),
        _ => Some(format!("{version:?} is not a version such as {SPEC_VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_config_is_no_process_object() {
        let text = br#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["sh"]}}"#;
        let said = load_process(text, &At::new("process")).unwrap_err().to_string();
        assert!(said.contains("process: is a config.json: pass only its object `process`"), "{said}");
        let said = load_resources(text).unwrap_err().to_string();
        assert!(said.contains("is a config.json: pass only its object `linux.resources`"), "{said}");
        let said = load_resources(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap_err().to_string();
        assert!(said.contains("is the index of an image"), "{said}");
        // it has a property of such an object: what else it has is ignored, with a warning
        let (_, warnings) = load_resources(br#"{"ociVersion":"1.0.0","process":{},"pids":{"limit":5}}"#).unwrap();
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn versions_of_the_first_major_are_read() {
        for good in ["1.0.0", "1.3.0", "1.0.2-dev", "1.1.0+dev", "1.0.0-rc5-dev"] {
            assert_eq!(version_problem(good), None, "{good}");
        }
        for bad in ["", "invalid", "1", "1.0", "2.0.0", "1.x.0"] {
            assert!(version_problem(bad).is_some(), "{bad}");
            assert_eq!(short_version(bad).is_some(), bad == "1.0", "{bad}");
        }
    }

    #[test]
    fn an_absent_pids_limit_is_no_limit() {
        let pids = |json: &str| {
            let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"resources":{{"pids":{json}}}}}}}"#);
            let linux = load(text.as_bytes()).unwrap().spec.linux().clone().unwrap();
            linux.resources().as_ref().unwrap().pids().map(|pids| pids.limit())
        };
        assert_eq!((pids("{}"), pids(r#"{"limit":0}"#), pids(r#"{"limit":7}"#)), (None, Some(0), Some(7)));
        // A property that is given twice: the types refuse it, and the last one counts.
        assert_eq!(pids(r#"{"limit":0,"limit":0}"#), Some(0));
        // An unknown property with the same name at another level changes nothing.
        assert_eq!(pids(r#"{"limit":0}},"limit":1,"pids":{"limit":1"#), Some(0));
    }

    #[test]
    fn the_example_is_good_and_has_no_strange_names() {
        let text = example::spec(example::ExampleUser::Rootful);
        let config = load(text.as_bytes()).unwrap();
        assert_eq!(config.warnings, []);
        assert_eq!(unknown_properties(text.as_bytes()), []);
    }
}
