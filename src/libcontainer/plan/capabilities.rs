//! Capabilities by name, as the masks that capset(2) takes. SPEC: config.md#linux-process.

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use super::step::CapabilitySets;
use crate::config::capability::{known, number};
use crate::config::{At, Warning};

/// Reads `process.capabilities`, limited to what the runtime has. Without the object, the process has no capability,
/// and its bounding set is empty. `own_bounding` is the runtime's bounding set.
pub(super) fn sets(
    requested: Option<&LinuxCapabilities>,
    at: &At,
    own_bounding: u64,
) -> (CapabilitySets, Vec<Warning>) {
    let mut warnings = Vec::new();
    let Some(requested) = requested else { return (CapabilitySets::default(), warnings) };
    let mut set = |name: &str, list: &Option<Capabilities>| {
        let mask = bits(list.as_ref());
        let beyond = mask & !own_bounding;
        if beyond != 0 {
            let said = format!("{} cannot be given: the runtime does not have it itself", names(beyond));
            warnings.push(Warning { at: at.key(name), said });
        }
        mask & own_bounding
    };
    let mut sets = CapabilitySets {
        bounding: set("bounding", requested.bounding()),
        effective: set("effective", requested.effective()),
        permitted: set("permitted", requested.permitted()),
        inheritable: set("inheritable", requested.inheritable()),
        ambient: set("ambient", requested.ambient()),
        until_exec: 0,
    };
    let unfounded = sets.ambient & !(sets.inheritable & sets.permitted);
    if unfounded != 0 {
        // Since CVE-2022-24769, engines list ambient capabilities without any inheritable ones, in every step of a
        // build. That case gets no warning.
        if sets.inheritable != 0 {
            let said = format!(
                "can't raise ambient capability {}: it must be in inheritable and permitted as well",
                names(unfounded)
            );
            warnings.push(Warning { at: at.key("ambient"), said });
        }
        sets.ambient &= !unfounded;
    }
    let impossible = sets.effective & !sets.permitted;
    if impossible != 0 {
        let said = format!("{} must be in permitted as well; left out", names(impossible));
        warnings.push(Warning { at: at.key("effective"), said });
        sets.effective &= !impossible;
    }
    (sets, warnings)
}

fn bits(list: Option<&Capabilities>) -> u64 {
    list.into_iter().flatten().filter_map(number).map(|bit| 1 << bit).sum()
}

fn names(mask: u64) -> String {
    let known = known();
    let names: Vec<_> =
        known.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, name)| name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(json: &str) -> LinuxCapabilities {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn absent_capabilities_are_empty_sets() {
        assert_eq!(sets(None, &At::new("process.capabilities"), !0), (CapabilitySets::default(), vec![]));
    }

    #[test]
    fn a_capability_that_we_lack_is_left_out_and_reported() {
        let requested = requested(r#"{"bounding":["CAP_KILL","CAP_SYS_ADMIN"],"permitted":["CAP_KILL"]}"#);
        let (sets, warnings) = sets(Some(&requested), &At::new("process.capabilities"), 1 << 5);
        assert_eq!((sets.bounding, sets.permitted), (1 << 5, 1 << 5));
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            warnings[0].to_string(),
            "process.capabilities.bounding: CAP_SYS_ADMIN cannot be given: the runtime does not have it itself"
        );
    }

    #[test]
    fn ambient_needs_inheritable_and_permitted() {
        let requested = requested(
            r#"{"ambient":["CAP_KILL","CAP_CHOWN"],"inheritable":["CAP_KILL"],"permitted":["CAP_KILL","CAP_CHOWN"]}"#,
        );
        let (sets, warnings) = sets(Some(&requested), &At::new("c"), !0);
        assert_eq!(sets.ambient, 1 << 5);
        assert_eq!(warnings.len(), 1);
    }
}
