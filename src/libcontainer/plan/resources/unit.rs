//! The container as a unit of systemd: its name, its slice and its properties. SPEC: config-linux.md#cgroups-path leaves
//! this form to runtimes. This is runc's: `slice:prefix:name`.

use std::path::{Path, PathBuf};

use crate::config::{At, Faults};
use crate::host::cgroups::Cgroups;

/// A unit that systemd makes for the container.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// `prefix-name.scope`, or a slice.
    pub name: String,
    /// The slice that it is in. For a slice: the slice in its `Wants`.
    pub slice: String,
    /// Which systemd manages the unit.
    pub manager: Manager,
    /// Its limits, and the properties of `org.systemd.property.*` annotations.
    pub properties: Vec<Property>,
}

/// Which systemd manages the unit.
///
/// ```
/// use libcontainer::{CgroupUse, Manager};
///
/// let cgroup = |uid: u32| CgroupUse::Unit(if uid == 0 { Manager::System } else { Manager::User });
/// assert_eq!(cgroup(1000), CgroupUse::Unit(Manager::User));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// PID 1.
    #[default]
    System,
    /// The systemd of the user.
    User,
}

/// One property of a unit (org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: PropertyValue,
    /// Whether an older systemd may not know it. If so, the request is repeated without it: the limit itself is written
    /// to its file anyway.
    pub need: Need,
}

/// Whether a property can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be set.
    Must,
    /// It is left out if systemd does not know it.
    May,
}

/// A property's value, by its D-Bus type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum PropertyValue {
    Bool(bool),
    Byte(u8),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Int64(i64),
    Uint32(u32),
    Uint64(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Texts(Vec<String>),
    /// Device and number.
    Rates(Vec<(String, u64)>),
    /// Device and its access.
    Devices(Vec<(String, String)>),
    /// An object path (`o`) or a signature (`g`).
    Name(char, String),
    /// Any other array, with the signature of its elements.
    List(String, Vec<PropertyValue>),
    /// A dictionary, with its signature.
    Dict(String, Vec<(PropertyValue, PropertyValue)>),
    Tuple(Vec<PropertyValue>),
    /// A variant inside a variant.
    Inner(Box<PropertyValue>),
}

impl std::fmt::Display for PropertyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PropertyValue::Bool(value) => write!(f, "{value}"),
            PropertyValue::Byte(value) => write!(f, "{value}"),
            PropertyValue::Int16(value) => write!(f, "{value}"),
            PropertyValue::Uint16(value) => write!(f, "{value}"),
            PropertyValue::Int32(value) => write!(f, "{value}"),
            PropertyValue::Int64(value) => write!(f, "{value}"),
            PropertyValue::Uint32(value) => write!(f, "{value}"),
            PropertyValue::Uint64(u64::MAX) => f.write_str("infinity"),
            PropertyValue::Uint64(value) => write!(f, "{value}"),
            PropertyValue::Double(value) => write!(f, "{value}"),
            PropertyValue::Inner(value) => write!(f, "<{value}>"),
            PropertyValue::Dict(_, value) => write!(f, "{value:?}"),
            PropertyValue::Tuple(value) | PropertyValue::List(_, value) => {
                f.write_str(&value.iter().map(PropertyValue::to_string).collect::<Vec<_>>().join(" "))
            }
            PropertyValue::Name(_, value) | PropertyValue::Text(value) => f.write_str(value),
            PropertyValue::Bytes(value) => write!(f, "{value:?}"),
            PropertyValue::Texts(value) => f.write_str(&value.join(" ")),
            PropertyValue::Rates(value) => f.write_str(
                &value.iter().map(|(device, rate)| format!("{device} {rate}")).collect::<Vec<_>>().join(", "),
            ),
            PropertyValue::Devices(value) => {
                f.write_str(&value.iter().map(|(device, how)| format!("{device} {how}")).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl Unit {
    /// The lines for `explain`.
    pub fn acts(&self) -> Vec<String> {
        let own = format!("systemd unit {} in {}", self.name, self.slice);
        std::iter::once(own)
            .chain(self.properties.iter().map(|p| format!("unit property {}={}", p.name, p.value)))
            .collect()
    }
}

/// The unit that `linux.cgroupsPath` names, and its directory below the root of every hierarchy.
///
/// # Errors
/// The path does not have this form, or the slice has no valid name.
pub fn unit(
    requested: Option<&Path>,
    id: &str,
    manager: Manager,
    uid: u32,
    cgroups: &Cgroups,
) -> Result<(Unit, PathBuf), Faults> {
    let at = At::new("linux.cgroupsPath");
    let text = requested.map(|path| path.to_string_lossy().into_owned()).filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| format!(":coracle:{id}"));
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        let problem =
            format!("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {text:?}");
        return Err(Faults::one(at, problem));
    };
    if name.is_empty() || name.contains('/') {
        return Err(Faults::one(at, format!("{text:?} has no name of a unit behind the second colon")));
    }
    let slice = match (slice, manager) {
        ("", Manager::System) => "system.slice",
        ("", Manager::User) => "user.slice",
        (slice, _) => slice,
    };
    let Some(below) = slice_path(slice) else {
        return Err(Faults::one(at, format!("{slice:?} is not a slice name such as system.slice or a-b.slice")));
    };
    let name = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        // Also with an empty prefix, as with runc and crun: engines compute this name.
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    let directory = match manager {
        Manager::System => below.join(&name),
        Manager::User => user_manager(uid, cgroups).join(below).join(&name),
    };
    Ok((Unit { name, slice: slice.to_owned(), manager, properties: Vec::new() }, directory))
}

/// `a-b.slice` is in `a.slice` (systemd.slice(5)); `-.slice` is the root.
fn slice_path(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    if stem.contains('/') || stem.split('-').any(str::is_empty) {
        return None;
    }
    let mut path = PathBuf::new();
    let mut whole = String::new();
    for part in stem.split('-') {
        whole = if whole.is_empty() { part.to_owned() } else { format!("{whole}-{part}") };
        path.push(format!("{whole}.slice"));
    }
    Some(path)
}

/// The cgroup of the user's own systemd: `user.slice/user-1000.slice/user@1000.service`. The runtime's own cgroup names
/// the user. In a service it does not, and the runtime's uid is used. At the root of a cgroup namespace, it can only be
/// the runtime's own.
fn user_manager(uid: u32, cgroups: &Cgroups) -> PathBuf {
    let own = cgroups.v2.as_ref().map(|v2| v2.own.clone()).unwrap_or_default();
    let mut path = PathBuf::new();
    for part in own.iter().filter_map(|part| part.to_str()).filter(|part| *part != "/") {
        path.push(part);
        if let Some(uid) = part.strip_prefix("user-").and_then(|part| part.strip_suffix(".slice")) {
            path.push(format!("user@{uid}.service"));
            return path;
        }
    }
    if path.as_os_str().is_empty() {
        return path;
    }
    PathBuf::from(format!("user.slice/user-{uid}.slice/user@{uid}.service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Result<(String, String, String), String> {
        let path = Some(Path::new(path));
        unit(path, "id", Manager::System, 1000, &Cgroups::default())
            .map(|(unit, directory)| (unit.name, unit.slice, directory.display().to_string()))
            .map_err(|faults| faults.to_string())
    }

    fn owned(parts: [&str; 3]) -> Result<(String, String, String), String> {
        let [a, b, c] = parts.map(str::to_owned);
        Ok((a, b, c))
    }

    #[test]
    fn a_path_of_three_parts_names_a_unit() {
        assert_eq!(named(""), owned(["coracle-id.scope", "system.slice", "system.slice/coracle-id.scope"]));
        assert_eq!(named("a-b.slice:p:n"), owned(["p-n.scope", "a-b.slice", "a.slice/a-b.slice/p-n.scope"]));
        assert_eq!(named("system.slice::n"), owned(["-n.scope", "system.slice", "system.slice/-n.scope"]));
        assert_eq!(named("-.slice:p:n"), owned(["p-n.scope", "-.slice", "p-n.scope"]));
        assert_eq!(named("a.slice:p:a-n.slice"), owned(["a-n.slice", "a.slice", "a.slice/a-n.slice"]));
        for bad in ["/a/b", "a:b", "x:y:", "a--b.slice:p:n", "a:p:n", "-a.slice:p:n", "a.slice:p:n:m"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_users_unit_is_below_the_users_manager() {
        let v2 = crate::host::cgroups::Unified {
            mount: "/sys/fs/cgroup".into(),
            own: "/user.slice/user-1000.slice/session-3.scope".into(),
        };
        let (_, directory) = unit(None, "id", Manager::User, 1000, &Cgroups { v1: Vec::new(), v2: Some(v2) }).unwrap();
        let expected = "user.slice/user-1000.slice/user@1000.service/user.slice/coracle-id.scope";
        assert_eq!(directory, Path::new(expected));
    }
}
